"""Write `authz/_gen` from `protos/`: message classes alone, for services are served from their descriptors.

Run as `make protos`. `tests/unit/test_protos.py` fails where the two differ.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from grpc_tools import protoc

ROOT: Final = Path(__file__).resolve().parent.parent
PROTOS: Final = ROOT / "protos"
GENERATED: Final = ROOT / "authz" / "_gen"


def generate(target: Path) -> None:
    """Compile every proto into `target`, as packages.

    Raises:
        SystemExit: protoc refuses one; it has said why on stderr.
    """
    sources = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    well_known = str(files("grpc_tools") / "_proto")
    options = [f"-I{PROTOS}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}"]
    if status := protoc.main(["protoc", *options, *sources]):
        sys.exit(status)
    for folder in {target, *(path.parent for path in target.rglob("*_pb2.py"))}:
        while folder.is_relative_to(target):
            (folder / "__init__.py").touch()
            folder = folder.parent  # noqa: PLW2901 - upwards to the target


def main() -> None:
    """Replace what stands in `authz/_gen`."""
    with tempfile.TemporaryDirectory(dir=GENERATED.parent) as draft:
        generate(Path(draft))
        for stale in [*GENERATED.rglob("*.py"), *GENERATED.rglob("*.pyi")]:
            stale.unlink()
        for path in Path(draft).rglob("*.py*"):
            goal = GENERATED / path.relative_to(draft)
            goal.parent.mkdir(parents=True, exist_ok=True)
            path.replace(goal)


if __name__ == "__main__":
    main()
