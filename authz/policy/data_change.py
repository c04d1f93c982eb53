"""What changed from one JSON document to the next: as OPA's patch operations, and as splices of its canonical text.

Decides how little says it: members that came and went, elements between those that stay, and values in the place of
values. Whoever applies operations parses the document first; whoever applies splices need not, and
copies its text once. Both lead to the same document. Must never show one a change that the other does not see. Pure.

Sources: OPA's manual, "Delta Bundle Patch Operations"; RFC 6901 for paths, which OPA reads as parts of a URL besides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from authz.errors import BundleError
from authz.policy.archive import gathered
from authz.policy.signature import canonical_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.model import JsonObject

DataPath: TypeAlias = tuple[str, ...]
"""Names from the top of OPA's data."""
Splice: TypeAlias = tuple[int, int, bytes]
"""From and up to which byte of a text, and what comes in their place."""

# Beside letters, digits, `_.-~`: OPA holds the written path to the roots.
_PLAIN: Final = "@=+"


@dataclass(frozen=True, slots=True)
class Change:
    """One document's: OPA's operations, in their order, and splices, in the order of its text."""

    operations: list[JsonObject] = field(default_factory=list)
    splices: list[Splice] = field(default_factory=list)

    def value(self, path: DataPath, before: Any, after: Any, at: int) -> int:  # noqa: ANN401 - any JSON value
        """Note how a value changed; `at` is where it begins in the text. Returns where it ends."""
        was, now = canonical_text(before), canonical_text(after)
        if was != now:
            # OPA trims its paths: a name that is empty has none.
            if isinstance(before, dict) and isinstance(after, dict) and "" not in before.keys() | after.keys():
                self._members(path, before, after, at + 1)
            elif isinstance(before, list) and isinstance(after, list):
                self._elements(path, before, after, at + 1)
            else:
                self._operation("replace", path, after)
                self.splices.append((at, at + len(was), now))
        return at + len(was)

    def _members(self, path: DataPath, before: dict[str, Any], after: dict[str, Any], start: int) -> None:
        gone: list[bytes] = []
        new: list[bytes] = []
        is_first = True
        for name in sorted(before.keys() | after.keys()):
            key = canonical_text(name) + b":"
            if name not in after:
                self._operation("remove", (*path, name))
                gone.append(key + canonical_text(before[name]))
            elif name not in before:
                self._operation("upsert", (*path, name), after[name])
                new.append(key + canonical_text(after[name]))
            else:
                start = self._gap(start, gone, new, is_first=is_first, is_last=False) + (not is_first)
                start = self.value((*path, name), before[name], after[name], start + len(key))
                gone, new, is_first = [], [], False
        self._gap(start, gone, new, is_first=is_first, is_last=True)

    def _elements(self, path: DataPath, before: list[Any], after: list[Any], start: int) -> None:
        """Each run between two that stay changes in its place, or gives way. OPA counts as the list is by then."""
        was, now = [canonical_text(each) for each in before], [canonical_text(each) for each in after]
        begins = list(accumulate((len(text) + 1 for text in was), initial=start))
        for kind, first, end, new_first, new_end in SequenceMatcher(None, was, now).get_opcodes():
            gone, new = was[first:end], now[new_first:new_end]
            if kind != "equal" and len(gone) == len(new):
                for old, index in zip(range(first, end), range(new_first, new_end), strict=True):
                    self.value((*path, str(index)), before[old], after[index], begins[old])
            elif kind != "equal":
                for _ in gone:
                    self._operation("remove", (*path, str(new_first)))
                for index in range(new_first, new_end):
                    self._operation("upsert", (*path, str(index)), after[index])
                self._gap(begins[first] - (first > 0), gone, new, is_first=first == 0, is_last=end == len(was))

    def _gap(self, start: int, gone: Sequence[bytes], new: Sequence[bytes], *, is_first: bool, is_last: bool) -> int:
        """Put what is new in the place of what is gone, from the end of what stays before. Returns where it ends."""
        was, now = (_between(parts, is_first=is_first, is_last=is_last) for parts in (gone, new))
        if was != now:
            self.splices.append((start, start + len(was), now))
        return start + len(was)

    def _operation(self, name: str, path: DataPath, *value: Any) -> None:  # noqa: ANN401 - any JSON value
        told: JsonObject = {"op": name, "path": "/" + "/".join(map(escaped, path))}
        self.operations.append(told | ({"value": value[0]} if value else {}))


def _between(parts: Sequence[bytes], *, is_first: bool, is_last: bool) -> bytes:
    """Members or elements with the commas that come and go with them: those before, or where none is before, after."""
    if is_first and is_last:
        return b",".join(parts)
    return b"".join(part + b"," if is_first else b"," + part for part in parts)


def spliced(content: bytes, splices: Sequence[Splice], most_bytes: int) -> bytes:
    """The text that splices make of another.

    Raises:
        BundleError: BUNDLE_DELTA where they are not in their order; BUNDLE_SIZE over the bound.
    """
    whole, position = memoryview(content), 0
    parts: list[bytes | memoryview] = []
    for start, end, text in splices:
        if not position <= start <= end <= len(content):
            raise BundleError("no delta: its splices are not in their order", code="BUNDLE_DELTA")
        parts += [whole[position:start], text]
        position = end
    parts.append(whole[position:])
    if sum(map(len, parts)) > most_bytes:
        raise BundleError(f"a file is over {most_bytes} bytes", code="BUNDLE_SIZE")
    return gathered(parts)


def escaped(name: str) -> str:
    """A name as OPA reads it in a path: escaped as in a JSON pointer (RFC 6901), and then as in a URL."""
    return quote(name.replace("~", "~0").replace("/", "~1"), safe=_PLAIN)
