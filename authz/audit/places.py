"""Where suspicious texts stand in a document, found without looking at every text by itself.

Decides whether a document is plain enough for that: no escape in it, few places, all of them values that are texts.
Must never pass by a text that `detectors.find` would find something in; what it is not sure of it leaves to the walk
(`masking`). Trusts that the document is JSON written without spaces, as orjson and OPA do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import orjson

from authz.audit import detectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import JsonValue

Path: TypeAlias = tuple[str | int, ...]

MOST_PLACES: Final = 8
"""With more, the walk is as fast."""
MOST_CONTAINERS: Final = 64
"""With more, the document may be deep."""
_NEEDS_A_WALK: Final = frozenset({"secret", detectors.DISGUISE})
"""A secret is known by its member's name; a disguise may hide anything."""


class Place(NamedTuple):
    """Bytes `start` to `end` of a document are the text at `path`, without its quotes."""

    start: int
    end: int
    path: Path


def places(document: bytes, kinds: frozenset[str]) -> list[Place] | None:
    """The texts that hold something suspicious, in order; None where only the walk can tell.

    Args:
        document: a JSON object.
        kinds: what `detectors.kinds` sees in it.
    """
    # Without a backslash every quote begins or ends a text, and no text is JSON with texts in it.
    if b"\\" in document or not kinds.isdisjoint(_NEEDS_A_WALK):
        return None
    if document.count(b"[") + document.count(b"{") > MOST_CONTAINERS:
        return None
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError:
        return None
    spans: list[tuple[int, int]] = []
    end = 0
    while (seen := detectors.next_suspect(document, end)) is not None:
        # No pattern that is left here spans a quote but one at its very beginning: its last byte is in the text.
        start = document.rfind(b'"', 0, seen) + 1
        end = document.find(b'"', seen)
        if document[start:end].decode().lstrip()[:1] in ("[", "{") or len(spans) >= MOST_PLACES:
            return None
        spans.append((start, end))
    return _located(document, parsed, spans)


def _located(document: bytes, parsed: JsonValue, spans: list[tuple[int, int]]) -> list[Place] | None:
    texts = enumerate(_texts(parsed, ()))
    found, passed, counted = [], 0, 0
    for start, end in spans:
        quotes = document.count(b'"', counted, start)
        counted, passed = start, passed + quotes
        # A value outside of quotes has an even number of them before it.
        path = next((path for number, path in texts if number == passed // 2), None) if passed % 2 else None
        if path is None:
            return None
        found.append(Place(start, end, path))
    return found


def _texts(value: JsonValue, at: Path) -> Iterator[Path | None]:
    """The path of each text in the order of the document; None for one that is a name."""
    if isinstance(value, str):
        yield at
    elif isinstance(value, dict):
        for name, member in value.items():
            yield None
            if isinstance(member, str):
                yield (*at, name)
            elif isinstance(member, dict | list):
                yield from _texts(member, (*at, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*at, index))
