"""The pipelines that a policy's repository gets name commands that there are, and run green on a playbook."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from authz import __version__
from authz.authoring import pipelines, playbooks
from authz.cli import load
from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKFLOW, HOOKS = ".github/workflows/policy.yaml", ".pre-commit-config.yaml"
OURS = Path(__file__).resolve().parents[3] / ".github" / "workflows" / "ci.yml"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    playbooks.add("high-value-payment", tmp_path / "policy")
    pipelines.add(tmp_path, "policy")
    return tmp_path


def commands(repository: Path) -> Iterator[list[str]]:
    """Every command of ours in both files, with the workflow's variables in their places."""
    workflow = yaml.safe_load((repository / WORKFLOW).read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    scripts = [line for step in steps for line in step.get("run", "").splitlines()]
    hooks = yaml.safe_load((repository / HOOKS).read_text())["repos"][0]["hooks"]
    for script in (*scripts, *(hook["entry"] for hook in hooks)):
        if script.startswith("authz "):
            named = re.sub(r"\$MIN_COVERAGE|\$GITHUB_RUN_NUMBER", "1", script.partition(" | ")[0])
            yield shlex.split(named.replace("$POLICY", "policy"))[1:]


def test_every_command_of_the_pipelines_is_one(repository: Path) -> None:
    found = list(commands(repository))
    for name, *words in found:
        command = load(name)
        command.make_context(name, words)
    assert {words[0] for words in found} == {"policy", "lint", "test", "bundle"}


def test_actions_are_pinned_as_our_own_are(repository: Path) -> None:
    used = set(re.findall(r"uses: (\S+)", (repository / WORKFLOW).read_text()))
    assert used
    assert used <= set(re.findall(r"uses: (\S+)", OURS.read_text()))


def test_a_workflow_reads_only_and_is_of_this_version(repository: Path) -> None:
    text = (repository / WORKFLOW).read_text()
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert f"pip install authz=={__version__}" in text
    assert "@POLICY@" not in text + (repository / HOOKS).read_text()


def test_a_policy_without_yaml_has_no_hook_that_compiles(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    pipelines.add(tmp_path, "policy")
    hooks = yaml.safe_load((tmp_path / HOOKS).read_text())["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["authz-lint", "authz-test"]


def test_a_file_that_exists_stays(repository: Path) -> None:
    with pytest.raises(ConfigError, match="exists and stays"):
        pipelines.add(repository, "policy")


@pytest.mark.parametrize("name", ["nowhere", "../policy", "$(id)", "a b", ""])
def test_a_folder_that_is_none_or_a_shell_would_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is no folder of"):
        pipelines.add(tmp_path, name)
