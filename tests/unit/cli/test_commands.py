"""What holds for every command: help, choices, variables, streams and exit codes (contracts §2)."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from authz.cli import COMMANDS, load
from authz.cli.serve import SETTINGS, configuration
from authz.errors import BundleError, ConfigError, PolicyError, ProgramError, UnavailableError
from authz.native import EngineError, NativeError

if TYPE_CHECKING:
    from pathlib import Path

    from authz.errors import AuthzError
    from tests.unit.cli.conftest import Run

NAMES = tuple(COMMANDS)


def commands() -> dict[str, Any]:
    """Every command by its whole name, those within a group too."""
    found = {}
    for name in NAMES:
        command = load(name)
        inner = getattr(command, "commands", {})
        found.update({f"{name} {each}": inner[each] for each in inner} or {name: command})
    return found


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples_line_by_line(run: Run, name: str) -> None:
    words = name.split()
    helped = run(*words, "--help")
    assert (helped.code, helped.err) == (0, "")
    _, _, examples = helped.out.partition("Examples:")
    lines = [line for line in examples.splitlines() if line.strip()]
    assert lines
    assert all(line.startswith("    ") for line in lines)
    assert any(line.split()[: len(words) + 1] == ["authz", *words] for line in lines)


@pytest.mark.parametrize("words", [[], *([name] for name in NAMES if hasattr(load(name), "commands"))])
def test_what_a_list_of_commands_says_of_each_is_whole(run: Run, words: list[str]) -> None:
    listed = run(*words, "--help").out.partition("Commands:")[2].partition("Examples:")[0]
    assert listed.strip()
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


def examples() -> list[str]:
    """Every line of every help page that begins a command of ours."""
    found: list[str] = []
    for command in [*map(load, NAMES), *commands().values()]:
        found += [line.strip() for line in (command.epilog or "").splitlines() if line.strip().startswith("authz ")]
    return sorted(set(found))


@pytest.mark.parametrize("example", examples())
def test_every_example_of_the_help_is_understood(example: str) -> None:
    words = shlex.split(example.partition(" | ")[0].partition(" > ")[0])[1:]
    name = max((each for each in NAMES if words[: len(each.split())] == each.split()), key=len)
    words = words[len(name.split()) :]
    command = load(name)
    inner = getattr(command, "commands", {})
    if words and words[0] in inner:
        command, words = inner[words[0]], words[1:]
    command.make_context(name, words)


def test_the_list_of_commands_imports_none_of_them() -> None:
    program = (
        "import sys\nfrom authz.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(name for name in sys.modules if name.startswith(('authz.', 'grpc', 'opentelemetry', 'rich.'))))"
    )
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert listed.splitlines()[-1] == "['authz.cli', 'authz.errors']"


SERVING = ("grpc", "opentelemetry", "redis", "sqlalchemy", "starlette", "uvicorn")


@pytest.mark.parametrize("name", ["serve", "control", "kill", "lift", "kills", "agents", "token"])
def test_help_loads_nothing_that_serves(name: str) -> None:
    program = (
        f"import sys\nfrom authz.cli import load\nload({name!r})\n"
        f"print(sorted({{each.partition('.')[0] for each in sys.modules}} & {{*{SERVING!r}}}))"
    )
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert listed.strip() == "[]"


def test_the_version_is_one_line(run: Run) -> None:
    shown = run("--version")
    assert (shown.code, shown.out.split()[0], shown.out.count("\n")) == (0, "authz", 1)


def test_the_versions_inside_are_named(run: Run) -> None:
    versions = run("version", "--output", "json").document()
    assert versions.keys() == {"authz", "opa", "abi", "go", "python", "envoy"}
    assert all(versions.values())
    assert versions["opa"] in run("version").out


def test_a_command_that_is_not_there_is_a_usage_error_with_the_nearest(run: Run) -> None:
    wrong = run("decde")
    assert (wrong.code, wrong.out) == (2, "")
    assert "decide" in wrong.err


@pytest.mark.parametrize(("name", "command"), list(commands().items()))
def test_every_flag_has_its_variable(name: str, command: Any) -> None:
    context = command.make_context(name, [], resilient_parsing=True)
    for option in command.params:
        if option.param_type_name != "option" or option.name == "help":
            continue
        flag = option.opts[0]
        assert flag.startswith("--"), flag
        variable = "AUTHZ_" + flag[2:].upper().replace("-", "_")
        assert variable in (option.envvar, f"{context.auto_envvar_prefix}_{option.name.upper()}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--contract", "other"),
        ("serve", "--transport", "udp"),
        ("serve", "--audit-sync", "maybe"),
        ("serve", "--record-inputs", "all"),
        ("serve", "--log-level", "loud"),
        ("serve", "--output", "xml"),
        ("serve", "--polcy", "x"),
        ("doctor", "--polcy", "x"),
        ("lint", "--contract", "other", "."),
        ("lint",),
        ("test", "--output", "xml"),
        ("decide", "--policy", "."),
        ("token", "--agent", "a"),
        ("token", "--agent", "a", "--tenant", "t", "--ttl", "901"),
        ("version", "--output", "xml"),
    ],
)
def test_a_usage_error_exits_2_and_prints_nothing_on_stdout(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.out == "" or arguments == ("lint",)


def test_a_wrong_choice_names_the_right_ones(run: Run) -> None:
    assert "'agent', 'envoy'" in run("serve", "--contract", "other").err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError, 2),
        (UnavailableError, 3),
        (ProgramError, 3),
        (NativeError, 3),
        (EngineError, 1),
        (BundleError, 1),
        (PolicyError, 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: type[AuthzError], code: int) -> None:
    assert error.exit_code == code


def served(arguments: list[str]) -> Any:
    return configuration(load("serve").make_context("serve", arguments).params)


SETTING = {"listen": "127.0.0.1:{}", "diagnostics": "127.0.0.1:{}"}


@pytest.mark.parametrize("flag", sorted(SETTINGS.keys() & SETTING.keys()))
def test_a_flag_counts_before_its_variable_before_the_file_before_the_default(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, _, key = SETTINGS[flag].partition(".")
    file = tmp_path / "authz.yaml"
    file.write_text(f"version: 1\n{group}: {{{key}: '{SETTING[flag].format(1)}'}}\n")

    def setting(arguments: list[str]) -> str:
        return str(getattr(getattr(served(arguments), group), key))

    default = setting([])
    assert setting(["--config", str(file)]) == SETTING[flag].format(1) != default
    monkeypatch.setenv(f"AUTHZ_{flag.upper()}", SETTING[flag].format(2))
    assert setting(["--config", str(file)]) == SETTING[flag].format(2)
    assert setting(["--config", str(file), f"--{flag}", SETTING[flag].format(3)]) == SETTING[flag].format(3)


@pytest.mark.parametrize(
    ("flag", "given", "value"),
    [
        ("policy", "/a", "(PosixPath('/a'),)"),
        ("contract", "envoy", "envoy"),
        ("entrypoint", "a/b", "a/b"),
        ("server", "bank", "bank"),
        ("opa-url", "http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("transport", "grpcio", "grpcio"),
        ("audit-dir", "/a", "/a"),
        ("audit-sync", "none", "none"),
        ("record-inputs", "off", "off"),
        ("revocation", "none", "none"),
        ("otlp-endpoint", "http://127.0.0.1:2", "http://127.0.0.1:2"),
        ("traces", "/t", "/t"),
        ("log-level", "debug", "debug"),
    ],
)
def test_every_flag_reaches_its_setting(flag: str, given: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group, _, key = SETTINGS[flag.replace("-", "_")].partition(".")
    by_flag = served([f"--{flag}", given])
    monkeypatch.setenv("AUTHZ_" + flag.upper().replace("-", "_"), given)
    by_variable = served([])
    assert str(getattr(getattr(by_flag, group), key)) == value
    assert by_variable == by_flag


def test_the_issuer_s_flags_are_one_issuer() -> None:
    (issuer,) = served(["--issuer", "i", "--audience", "a", "--jwks", "k.json", "--jwt-typ", "JWT"]).issuers
    assert (issuer.issuer, issuer.audience, issuer.jwks, issuer.typ) == ("i", "a", "k.json", "JWT")


@pytest.mark.parametrize("missing", ["issuer", "audience", "jwks"])
def test_a_part_of_an_issuer_is_refused(run: Run, missing: str) -> None:
    named = {"issuer": "i", "audience": "a", "jwks": "k.json"}
    ended = run("serve", *(part for flag, value in named.items() if flag != missing for part in (f"--{flag}", value)))
    assert (ended.code, f"--{missing} is missing" in ended.err) == (2, True)


def test_the_mode_of_a_socket_is_octal(run: Run) -> None:
    assert served(["--socket-mode", "0600"]).listen.socket_mode == 0o600
    assert run("serve", "--socket-mode", "rw").code == 2


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("polcy: {}", "did you mean `policy`?"),
        ("policy: {entrypont: a}", "did you mean `entrypoint`?"),
        ("listen: {check: 0.0.0.0:1}", "listen"),
        ("limits: {deadline_s: -1}", "limits.deadline_s"),
        ("version: 2", "version"),
        ("policy: {}\npolicy: {}", "set twice"),
        ("[", "not YAML"),
    ],
)
def test_a_configuration_error_names_file_and_key(run: Run, tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "authz.yaml"
    file.write_text(text)
    ended = run("serve", "--config", file)
    assert (ended.code, ended.out) == (2, "")
    assert named in ended.err
    assert str(file) in ended.err


def test_a_configuration_without_trust_says_what_to_give(run: Run) -> None:
    ended = run("serve", "--policy", "bundles/starter")
    assert ended.code == 2
    assert "--jwks, --issuer and --audience" in ended.err


def test_opa_s_configuration_is_read_and_flags_stand_above_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "opa.yaml"
    file.write_text("plugins: {envoy_ext_authz_grpc: {addr: '127.0.0.1:7', path: a/b}}\n")
    assert served(["--opa-config", str(file)]).policy.entrypoint == "a/b"
    assert served(["--opa-config", str(file), "--entrypoint", "c/d"]).policy.entrypoint == "c/d"
    file.write_text("plugins: {envoy_ext_authz_grpc: {addr: 7}}\n")
    ended = run("serve", "--opa-config", file)
    assert (ended.code, str(file) in ended.err, "addr" in ended.err) == (2, True, True)
    assert run("serve", "--opa-config", tmp_path / "nowhere").code == 2
