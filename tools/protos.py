"""Write `authz/_gen`: message classes alone, of our own services (`protos/`) and of Envoy's that we serve.

Envoy's stand here because the one distribution that has them, xds-protos, also writes old modules over those of
opentelemetry-proto: which of the two an installation ends with is chance. Their descriptors are read from its wheel,
pinned in requirements/protos.txt, and imported beneath `authz._gen`, so that no top-level package is claimed.

Run as `make protos`. `tests/unit/test_protos.py` fails where the result differs from what stands.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from grpc_tools import protoc

ROOT: Final = Path(__file__).resolve().parent.parent
PROTOS: Final = ROOT / "protos"
GENERATED: Final = ROOT / "authz" / "_gen"
PINNED: Final = ROOT / "requirements" / "protos.txt"
UV: Final = Path(sys.executable).with_name("uv")

COLLECT: Final = """
import sys
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from authz._gen.envoy.service.auth.v3 import external_auth_pb2
from authz._gen.envoy.service.ext_proc.v3 import external_processor_pb2
from authz._gen.envoy.type.v3 import http_status_pb2

found = {}
def collect(file):
    for needed in file.dependencies:
        collect(needed)
    found[file.name] = file
for module in (external_auth_pb2, external_processor_pb2, http_status_pb2):
    collect(module.DESCRIPTOR)
descriptors = FileDescriptorSet()
for file in found.values():
    file.CopyToProto(descriptors.file.add())
sys.stdout.buffer.write(descriptors.SerializeToString())
"""
"""Prints the descriptors of what Envoy asks us and of what that needs, each after what it needs."""

OWNED: Final = ("envoy", "udpa", "validate", "xds")
"""Top-level packages of Envoy's messages; google.* have distributions of their own."""
IMPORT: Final = re.compile(rf"^(from |import )(?=(?:{'|'.join(OWNED)})[. ])", re.MULTILINE)


def generate(target: Path) -> None:
    """Compile every proto into `target`, as packages.

    Raises:
        SystemExit: protoc refuses one; it has said why on stderr.
        subprocess.CalledProcessError: Envoy's descriptors cannot be had.
    """
    sources = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    _compile(target, [f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}"], sources)
    with tempfile.TemporaryDirectory() as scratch:
        descriptors = Path(scratch) / "envoy.binpb"
        descriptors.write_bytes(envoy_descriptors(Path(scratch) / "wheel"))
        _compile(target, [f"--descriptor_set_in={descriptors}"], _owned(descriptors.read_bytes()))
    for module in (path for package in OWNED for path in (target / package).rglob("*.py*")):
        module.write_text(IMPORT.sub(_beneath, module.read_text()))
    for folder in {target, *(path.parent for path in target.rglob("*_pb2.py"))}:
        while folder.is_relative_to(target):
            (folder / "__init__.py").touch()
            folder = folder.parent  # noqa: PLW2901 - upwards to the target


def envoy_descriptors(folder: Path) -> bytes:
    """A `FileDescriptorSet` of Envoy's messages, from the pinned wheel, which is laid in `folder`."""
    asked = ("--quiet", "--no-deps", "--require-hashes", "--python", sys.executable, "--target", folder)
    subprocess.run([UV, "pip", "install", *asked, "-r", PINNED], check=True)
    told = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", COLLECT], check=True, stdout=subprocess.PIPE, env=told).stdout


def _owned(descriptors: bytes) -> list[str]:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415

    names = [file.name for file in FileDescriptorSet.FromString(descriptors).file]
    return sorted(name for name in names if name.partition("/")[0] in OWNED)


def _compile(target: Path, places: list[str], sources: list[str]) -> None:
    if status := protoc.main(["protoc", *places, f"--python_out={target}", f"--pyi_out={target}", *sources]):
        sys.exit(status)


def _beneath(found: re.Match[str]) -> str:
    return f"{found[1]}authz._gen."


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
