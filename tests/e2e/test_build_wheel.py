"""The distributions as a user gets them: built from the tree, installed where nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import get_args

import grpc
import pytest

from authz import __version__
from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from authz.resources import Folder
from tests.e2e.serving import ask

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=240).stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution, and the wheel made from it: so the first holds all that the second needs."""
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the locked run time and the wheel, and nothing of the tree."""
    venv = tmp_path_factory.mktemp("empty") / "venv"
    python = venv / "bin/python"
    run(UV, "venv", "--python", sys.executable, venv)
    run(UV, "pip", "sync", "--python", python, "--require-hashes", ROOT / "requirements/runtime.txt")
    run(UV, "pip", "install", "--python", python, "--no-deps", wheel)
    return venv / "bin"


def test_the_wheel_says_that_it_depends_on_the_platform_and_on_no_version_of_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"authz-{__version__}.dist-info/WHEEL").decode()
    assert "Root-Is-Purelib: false" in metadata
    assert wheel.name.startswith(f"authz-{__version__}-py3-none-")
    assert not wheel.name.endswith(("-any.whl", f"none-linux_{wheel.stem.rpartition('_')[2]}.whl"))


def test_the_wheel_holds_the_extension_and_what_commands_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len([name for name in names if name.startswith("authz/_native.")]) == 1
    for folder in get_args(Folder):
        assert [name for name in names if name.startswith(f"authz/_share/{folder}/")], folder


def test_the_wheel_holds_nothing_beside_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert tops == {"authz", f"authz-{__version__}.dist-info"}


def test_the_source_distribution_holds_no_built_file(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = archive.getnames()
    assert f"authz-{__version__}/native/go.sum" in names
    assert [name for name in names if "/_native." in name or "/.venv" in name or name.endswith(".pyc")] == []


def test_no_two_distributions_that_ship_own_one_file(installed: Path) -> None:
    owners = """if True:
        from collections import defaultdict
        from importlib.metadata import distributions
        owners = defaultdict(set)
        for distribution in distributions():
            for file in distribution.files:
                owners[str(file)].add(distribution.name)
        print({file: names for file, names in owners.items() if len(names) > 1})
    """
    assert run(installed / "python", "-c", owners, cwd=installed).strip() == "{}"


def test_an_installed_wheel_runs_with_its_extension_and_its_folders(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "authz", "--version", cwd=tmp_path) == f"authz {__version__}\n"
    found = "from authz.resources import shared; print(shared('rego'), shared('envoy'), shared('bundles/starter'))"
    assert run(installed / "python", "-c", found, cwd=tmp_path).count("/site-packages/authz/_share/") == 3


def test_an_installed_wheel_writes_checks_and_tests_a_policy(installed: Path, tmp_path: Path) -> None:
    run(installed / "authz", "init", "policy", cwd=tmp_path)
    assert run(installed / "authz", "lint", "policy", cwd=tmp_path) == "0 errors, 0 warnings\n"
    assert run(installed / "authz", "test", "policy", cwd=tmp_path).endswith("passed\n")


@pytest.mark.parametrize(("allow", "rpc_code"), [("true", 0), ("false", 7)])
def test_an_installed_wheel_serves_decisions(installed: Path, tmp_path: Path, allow: str, rpc_code: int) -> None:
    policy = tmp_path / "policy.rego"
    policy.write_text(f"package envoy.authz\n\nallow := {allow}\n")
    asked = ("--contract", "envoy", "--entrypoint", "envoy/authz/allow", "--policy", str(policy))
    places = ("--listen", "127.0.0.1:0", "--diagnostics", "127.0.0.1:0", "--audit-dir", str(tmp_path / "records"))
    command = [str(installed / "authz"), "serve", *asked, *places, "--output", "json"]
    request = CheckRequest()
    request.attributes.request.http.method = "GET"
    request.attributes.request.http.path = "/"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout
            with grpc.insecure_channel(json.loads(serving.stdout.readline())["check"]) as channel:
                assert ask(channel, request).status.code == rpc_code
        finally:
            serving.terminate()
        assert serving.wait(timeout=30) == 0
