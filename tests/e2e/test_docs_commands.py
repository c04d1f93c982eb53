"""The documents, typed as they stand: each `console` block is run, and must print what it shows, if it shows anything.

A block that names a file (`rego policy.rego`) makes it. The working folder of a page holds those files and the
repository's folders. `...` in what is shown stands for anything. A program that serves is left running for the rest of
its page. Blocks in `sh` are an operator's own: they name a place that no test has, and are listed with the reason.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
BUNDLES = [ROOT / "bundles" / name / "README.md" for name in ("starter", "envoy-compat")]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *BUNDLES])
FOLDERS = ("bundles", "envoy", "rego", "tests/cases")
COMMAND_S = 90.0
STOP_S = 20.0
BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SERVES = ("authz serve ", "authz up ", "authz control")
ID = re.compile(r"kill-[0-9a-f]{16}")
ALIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DEFAULT_ADDRESS = "127.0.0.1:10000"

RUN_AS = {"make demo": "authz demo"}
"""make only brings `.venv` up to date first."""
NOT_RUN = {
    "make test": "it is what runs this test",
    "authz doctor --config authz.yaml": "the file names places of an installation",
    "authz serve --config authz.yaml": "the file names places of an installation; tests/unit/test_docs.py loads it",
    "opa test --bundle --bench rego bundles/starter": "a benchmark: it takes minutes and asserts nothing",
}
# The first word of each line in an `sh` block.
OPERATORS = {
    "authz": "reads the installed policy",
    "chronyc": "needs the host's time service",
    "curl": "asks a service that is running elsewhere",
    "df": "looks at the records' disk",
    "dmesg": "needs the host's kernel log",
    "grep": "reads the installation's records",
    "ls": "looks at the installation's keys",
    "opa": "serves, or signs with the installation's key; tests/contracts/test_opa_bundles.py runs both",
    "timedatectl": "needs the host's time service",
}


@dataclass
class Example:
    """One command and the output that the page shows."""

    command: str
    shown: str = ""


@dataclass
class Session:
    """The folder and the running programs of one page."""

    folder: Path
    programs: list[subprocess.Popen[str]] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)
    """Ids that a page shows, and those that were made here in their places."""

    def as_made(self, text: str) -> str:
        for shown, made in self.made.items():
            text = text.replace(shown, made)
        return text

    def learn(self, shown: str, printed: str) -> None:
        self.made.update(zip(ID.findall(shown), ID.findall(printed), strict=False))

    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}
        return own | {
            "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
            "XDG_STATE_HOME": str(self.folder / "state"),
            "AUTHZ_LISTEN": "127.0.0.1:0",
            "AUTHZ_DIAGNOSTICS": "127.0.0.1:0",
            "AUTHZ_GRPC": "127.0.0.1:0",
            "AUTHZ_HTTP": "127.0.0.1:0",
            "AUTHZ_REPLICATION": "127.0.0.1:0",
            "COLUMNS": "120",
        }

    def start(self, command: list[str]) -> str:
        """Run a program that serves; returns the line that says it does."""
        with (self.folder / "log").open("a") as log:
            program = subprocess.Popen(
                command, cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.programs.append(program)
        return program.stdout.readline() if program.stdout else ""

    def run(self, command: list[str]) -> str:
        """Run a command that ends; returns what it prints."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        # The answer of `decide` may well be no.
        assert done.returncode in ((0, 1) if command[:2] == ["authz", "decide"] else (0,)), done.stdout + done.stderr
        return done.stdout

    def stop(self) -> list[int]:
        for program in self.programs:
            program.send_signal(signal.SIGINT)
            program.communicate(timeout=STOP_S)
        return [program.returncode for program in self.programs]


@contextmanager
def session(folder: Path) -> Iterator[Session]:
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name)
    opened = Session(folder)
    try:
        yield opened
    finally:
        codes = opened.stop()
    assert codes == [0] * len(codes), (folder / "log").read_text()


def examples(text: str) -> list[Example]:
    found: list[Example] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Example(line.removeprefix("$ ")))
        else:
            found[-1].shown += f"{line}\n"
    return found


def blocks(page: Path) -> list[re.Match[str]]:
    return list(BLOCK.finditer(page.read_text()))


def commands(page: Path) -> list[Example]:
    return [example for block in blocks(page) if block["language"] == "console" for example in examples(block["text"])]


def make_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block["file"]:
            file = folder / block["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block["text"])


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
@pytest.mark.timeout(180)
def test_a_page_shows_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    make_files(page, tmp_path)
    with session(tmp_path) as opened:
        for example in commands(page):
            if example.command in NOT_RUN:
                continue
            command = shlex.split(opened.as_made(RUN_AS.get(example.command, example.command)).removesuffix("&"))
            serves = example.command.startswith(SERVES)
            printed = opened.start(command) if serves else opened.run(command)
            opened.learn(example.shown, printed)
            shown = opened.as_made(example.shown.replace(DEFAULT_ADDRESS, "127.0.0.1:..."))
            assert printed or not serves, (tmp_path / "log").read_text()
            if shown:
                assert doctest.OutputChecker().check_output(shown, printed, ALIKE), f"{example.command}\n{printed}"


def test_what_is_not_run_is_still_shown_somewhere() -> None:
    shown = {example.command for page in PAGES for example in commands(page)}
    assert NOT_RUN.keys() - shown == set()


def test_operators_own_commands_are_listed_with_the_reason() -> None:
    texts = [block["text"] for page in PAGES for block in blocks(page) if block["language"] == "sh"]
    first_words = {line.split()[0] for text in texts for line in text.replace("\\\n", "").splitlines()}
    assert first_words == OPERATORS.keys()


def test_no_command_hides_in_a_block_without_a_language() -> None:
    bare = re.compile(r"^```\n(?:authz|make|opa|\$) ", re.MULTILINE)
    assert [page.relative_to(ROOT).as_posix() for page in PAGES if bare.search(page.read_text())] == []
