"""Makes the files of a bundle from its sources: what is served and nothing else, in one form.

Decides what belongs in a bundle: modules without their tests, data as JSON, the golden set, decision tables, the policy
library where a module uses it, and a manifest that says all that trust asks for. The same sources and the same manifest
give the same files. Must never guess what data means: a data file is read by the engine that will serve it, so that its
YAML has one reading. Trusts the author's folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from authz.errors import BundleError, ConfigError
from authz.policy import archive, rates
from authz.policy.engine import PolicySource
from authz.policy.manifest import MANIFEST, read_manifest
from authz.policy.signature import canonical, json_object
from authz.policy.sources import TABLES, files_below
from authz.policy.trust import GOLDEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from authz.policy.engine import Engine

_MODULE: Final = ".rego"
_TEST: Final = "_test.rego"
_DATA: Final = ("data.json", "data.yaml", "data.yml")
_LIBRARY: Final = "authzlib"
_RATES: Final = rates.PATH[-1].encode()
_READ_S: Final = 5.0
_PLACE: Final = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """A bundle's folder, the library beside it, and what is declared over the folder's manifest."""

    folder: Path
    library: Path | None = None
    contract: Literal["agent", "envoy"] = "agent"
    revision: str = ""
    declared: Mapping[str, Any] = field(default_factory=dict)
    """Members of `metadata.authz`."""


def build(sources: Sources, engine: Engine) -> dict[str, bytes]:
    """The files of a bundle, unsigned.

    Raises:
        ConfigError: the folder is no bundle's, or two files would be one.
        BundleError: BUNDLE_MANIFEST when the manifest lacks something; BUNDLE_JSON or BUNDLE_INVALID for a file that
            cannot be read; BUNDLE_INPUT for rules that read a rate which is not counted.
    """
    files = dict(_content(sources.folder, engine))
    if not any(path.endswith(_MODULE) for path in files):
        raise ConfigError(f"{sources.folder} holds no module", remedy="give the folder of one bundle")
    library = dict(_library(sources.library)) if sources.library and _uses_library(files) else {}
    read = _rates({**library, **files}, engine) if sources.contract == "agent" else []
    manifest = _manifest(sources, needs_library=bool(library), requires=read)
    read_manifest(manifest)
    return {**library, **files, MANIFEST: manifest}


def _content(folder: Path, engine: Engine) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    for file in files_below(folder):
        place = file.relative_to(folder).as_posix()
        content = file.read_bytes()
        if file.name in _DATA:
            place = place.removesuffix(file.name) + _DATA[0]
            content = canonical(_as_json(file.name, content, engine))
        elif not _belongs(place):
            continue
        if place in seen:
            raise ConfigError(f"{folder}: two files would be {place}", remedy="keep one data file in a folder")
        seen.add(place)
        yield place, content


def _belongs(place: str) -> bool:
    is_module = place.endswith(_MODULE) and not place.endswith(_TEST)
    is_table = place.rpartition("/")[0].rpartition("/")[2] == "tests" and place.endswith(TABLES)
    return is_module or is_table or place == GOLDEN


def _as_json(name: str, content: bytes, engine: Engine) -> bytes:
    """A data file's value as the engine reads it."""
    if name == _DATA[0]:
        return content
    with engine.open(PolicySource(archive=archive.write({f"{_PLACE}/{name}": content}))) as policy:
        value = policy.query(_PLACE).evaluate(b"{}", _READ_S)
    if value is None:
        raise BundleError(f"{name} holds nothing", code="BUNDLE_JSON")
    return value


def _uses_library(files: Mapping[str, bytes]) -> bool:
    vendored = any(path.startswith(f"{_LIBRARY}/") for path in files)
    return not vendored and any(_LIBRARY.encode() in files[path] for path in files if path.endswith(_MODULE))


def _library(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in files_below(folder):
        if file.suffix == _MODULE and not file.name.endswith(_TEST):
            yield file.relative_to(folder).as_posix(), file.read_bytes()


def _rates(files: Mapping[str, bytes], engine: Engine) -> list[str]:
    """What the rules read of how often something happened: a service that does not count it is not to serve them."""
    modules = {path: content for path, content in files.items() if path.endswith(_MODULE)}
    if not any(_RATES in content for content in modules.values()):
        return []
    with engine.open(PolicySource(archive=archive.write(modules))) as policy:
        return [*map(rates.written, rates.asked(policy.input_paths, {}))]


def declared_by(folder: Path) -> dict[str, Any]:
    """What the folder's own manifest declares in `metadata.authz`.

    Raises:
        BundleError: BUNDLE_MANIFEST when it cannot be read.
    """
    return _declared(_document(folder))


def _document(folder: Path) -> dict[str, Any]:
    try:
        return json_object((folder / MANIFEST).read_bytes(), "BUNDLE_MANIFEST")
    except FileNotFoundError:
        return {}


def _declared(document: dict[str, Any]) -> dict[str, Any]:
    metadata = document.setdefault("metadata", {})
    declared = metadata.setdefault("authz", {}) if isinstance(metadata, dict) else None
    if not isinstance(declared, dict):
        raise BundleError(".manifest: metadata.authz is not an object", code="BUNDLE_MANIFEST")
    return declared


def _manifest(sources: Sources, *, needs_library: bool, requires: Iterable[str]) -> bytes:
    document = _document(sources.folder)
    declared = _declared(document)
    declared |= sources.declared
    said = declared.get("requires_input", [])
    if isinstance(said, list) and (missing := [path for path in requires if path not in said]):
        declared["requires_input"] = [*said, *missing]
    document["revision"] = sources.revision or document.get("revision") or _revision(declared)
    document.setdefault("rego_version", 1)
    roots = document.get("roots")
    if needs_library and isinstance(roots, list) and "" not in roots:
        document["roots"] = sorted({*roots, _LIBRARY})
    return canonical(orjson.dumps(document))


def _revision(declared: Mapping[str, Any]) -> str:
    return f"{declared.get('bundle_id', '')}-{declared.get('sequence', '')}"
