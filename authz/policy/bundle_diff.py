"""What differs between two bundles: files, rules, the manifest, and the shape of data.

Decides nothing about trust and shows no data: a data value may be somebody's name, so that only its place, its kind and
its size are told. Rules are found by their heads as `opa fmt` lays modules out. Trusts neither bundle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from authz.policy.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_DATA: Final = "data.json"
_HEAD: Final = re.compile(r"(?:default )?([A-Za-z_][\w.]*)")
_NOT_RULES: Final = ("package ", "import ", "#", "}", ")", "]", "\t", " ")
_KINDS: Final = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Places that only the second has, that only the first has, and that both have but differently."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, Changes]:
    """What changed, by kind: `files`, `rules`, `manifest`, `data`. Files are in their signed form."""
    kinds: dict[str, Callable[[Mapping[str, bytes]], Mapping[str, object]]] = {
        "files": lambda files: files,
        "rules": _rules,
        "manifest": _manifest,
        "data": _shape,
    }
    return {kind: _changes(view(before), view(after)) for kind, view in kinds.items()}


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> Changes:
    both = before.keys() & after.keys()
    return Changes(
        added=tuple(sorted(after.keys() - both)),
        removed=tuple(sorted(before.keys() - both)),
        changed=tuple(
            _told(place, before[place], after[place]) for place in sorted(both) if before[place] != after[place]
        ),
    )


def _told(place: str, before: object, after: object) -> str:
    """A place, with what it was and is where that is short."""
    short = isinstance(before, str) and isinstance(after, str) and "\n" not in before + after
    return f"{place}: {before} -> {after}" if short else place


def _rules(files: Mapping[str, bytes]) -> dict[str, list[str]]:
    """The text of each rule by its name; a rule may have several parts."""
    found: dict[str, list[str]] = {}
    for path in sorted(files):
        if path.endswith(".rego"):
            for name, text in _parts(files[path].decode("utf-8", "replace")):
                found.setdefault(name, []).append(text)
    return {name: sorted(texts) for name, texts in found.items()}


def _parts(module: str) -> Iterator[tuple[str, str]]:
    package, name, lines = "", "", [""]
    for line in module.splitlines():
        if line.startswith("package "):
            package = line.split()[1]
        if line and not line.startswith(_NOT_RULES) and (head := _HEAD.match(line)):
            if name:
                yield name, "\n".join(lines)
            name, lines = f"data.{package}.{head[1]}", []
        if line.strip() and not line.startswith(("#", "package ", "import ")):
            lines.append(line)
    if name:
        yield name, "\n".join(lines)


def _manifest(files: Mapping[str, bytes]) -> dict[str, str]:
    return dict(_leaves(orjson.loads(files.get(MANIFEST, b"{}"))))


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        for key in value:
            yield from _leaves(value[key], f"{place}.{key}" if place else key)
    else:
        yield place, orjson.dumps(value).decode()


def _shape(files: Mapping[str, bytes]) -> dict[str, str]:
    """The kind and size of each place in data."""
    found: dict[str, str] = {}
    for path in files:
        if path.rpartition("/")[2] == _DATA:
            folder = path.removesuffix(_DATA).strip("/").replace("/", ".")
            found |= dict(_places(orjson.loads(files[path]), f"data.{folder}" if folder else "data"))
    return found


def _places(value: Any, place: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    kind = _KINDS.get(type(value), "number")
    yield place, f"{kind} of {len(value)}" if isinstance(value, dict | list) else kind
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], f"{place}.{key}")
    elif isinstance(value, list):
        # An array's elements are one place: their kinds together are its shape.
        kinds = sorted({found for each in value for found in _places(each, f"{place}[]")})
        for inner in {where for where, _ in kinds}:
            yield inner, " or ".join(what for where, what in kinds if where == inner)
