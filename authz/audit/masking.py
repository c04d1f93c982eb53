"""Masking: a record keeps the shape of what was judged, and none of its secrets.

Decides which values of a JSON document are replaced, and by what: `[MASKED:<class>:hmac-sha256:<digest>]`. Only the
matched stretch of a text is replaced, so the rest stays readable. The digest is keyed per installation: its owner can
tell that two masked values are equal, and nobody without the key can try all card numbers.

Must never parse what holds nothing to mask: the usual document costs one scan. Where a few texts do, only those are
looked at (`places`); any other document is walked, text by text. Must never let a document pass
unmasked because it is large, deep or odd: past its limits whole texts, then whole members, are replaced.

Trusts that documents are JSON written by orjson or by OPA. Pure; the key is given.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

from authz.audit import detectors
from authz.audit.detectors import Effort, ExhaustedError
from authz.audit.places import places
from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

    from authz.audit.places import Path, Place
    from authz.model import JsonObject, JsonValue

KEY_BYTES: Final = 32
"""Least length of the key: as long as the hash (RFC 2104 section 3)."""
DIGEST_CHARACTERS: Final = 16
"""64 bits of the digest: equal values meet, and no two of 10^6 masked values do by chance (p < 10^-7)."""
MOST_CANDIDATES: Final = 500
"""Stretches looked at in one document, 40 ms at worst; after them a text with anything suspicious is replaced whole."""
MOST_MASKS: Final = 2_000
"""Past so many a member of the document is replaced whole: the list of masks would be longer than what it masks."""
DEEPEST: Final = 128
"""Levels walked; the strict parser takes fewer, a document of contract `envoy` may have more."""

PRUNED_LEVELS: Final = 8
"""Levels at which a part without secrets is passed by whole; deeper, looking again at each level would add up."""
SHORTEST_TEXT: Final = 6
"""Characters; `a@b.co` is the shortest text that a detector takes."""
_ENCODED: Final = ("rawBody", "raw_body")
"""Where contract `envoy` has a body in base64."""

Pointers: TypeAlias = tuple[str, ...]


class _BeyondLimitsError(Exception):
    """The document has too many masks or levels to be masked value by value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A member that is secret for certain, and the pointer to where it stands."""

    name: str
    value: str = field(repr=False)
    kind: str
    pointer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Masker:
    """Masks documents under one key.

    Raises:
        ConfigError: the key is shorter than `KEY_BYTES`.
    """

    key: bytes = field(repr=False)
    _keyed: hmac.HMAC = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.key) < KEY_BYTES:
            raise ConfigError(f"the masking key has under {KEY_BYTES} bytes", remedy="let `authz serve` make one")
        object.__setattr__(self, "_keyed", hmac.new(self.key, digestmod=hashlib.sha256))

    def mask(
        self, document: bytes, *, keep: Collection[Path] = (), known: Collection[Known] = ()
    ) -> tuple[bytes, Pointers]:
        """The JSON with secrets replaced, and RFC 6901 pointers to the places, valid in what is returned.

        Args:
            document: a JSON object with member names of our own.
            keep: paths of what stays as it is: a caller's verified name may be an e-mail address.
            known: what would be found anyway; where there is nothing else, the document is not walked.
        """
        cut, held = _cut(document, known)
        seen = detectors.kinds(cut)
        if not seen:
            for stub, one in held.items():
                cut = cut.replace(stub, _member(one.name, self.marker(one.kind, one.value.encode())))
            return cut, tuple(one.pointer for one in held.values())
        found = None if held else places(document, seen)
        return self._walked(document, keep) if found is None else self._spliced(document, found, keep)

    def _spliced(self, document: bytes, found: list[Place], keep: Collection[Path]) -> tuple[bytes, Pointers]:
        """The document with the texts at these places replaced."""
        parts, pointers, position, effort = [], [], 0, Effort(MOST_CANDIDATES)
        for start, end, path in found:
            text = document[start:end].decode()
            masked = self.text(text, effort)
            if masked == text or any(path[: len(kept)] == kept for kept in keep):
                continue
            parts += [document[position:start], masked.encode()]
            pointers.append(_pointer(path))
            position = end
        return b"".join([*parts, document[position:]]), tuple(pointers)

    def _walked(self, document: bytes, keep: Collection[Path]) -> tuple[bytes, Pointers]:
        try:
            members = orjson.loads(document)
        except orjson.JSONDecodeError:
            # What orjson refuses (deeper than 1024 levels, lone surrogates) cannot be walked, so none of it is kept.
            return orjson.dumps({"unreadable": self.marker("document", document)}), ("/unreadable",)
        pointers: list[str] = []
        masked, effort = {}, Effort(MOST_CANDIDATES)
        for name, value in members.items():
            walk = _Walk(self, keep, effort=effort)
            try:
                masked[name] = walk.value(value, (name,), secret=False, depth=0)
                pointers += walk.pointers
            except _BeyondLimitsError:
                masked[name] = self.marker("document", document)
                pointers.append(_pointer((name,)))
        return (orjson.dumps(masked), tuple(pointers)) if pointers else (document, ())

    def marker(self, kind: str, value: bytes) -> str:
        """What stands in the record for `value`."""
        keyed = self._keyed.copy()
        keyed.update(value)
        return f"[MASKED:{kind}:hmac-sha256:{keyed.hexdigest()[:DIGEST_CHARACTERS]}]"

    def text(self, text: str, effort: Effort | None = None) -> str:
        """One text with its secrets replaced, or all of it once `effort` is spent."""
        encoded = text.encode()
        try:
            found = detectors.find(encoded, effort or Effort(MOST_CANDIDATES))
        except ExhaustedError:
            return self.marker("text", encoded)
        if not found:
            return text
        parts, position = [], 0
        for span in found:
            parts += [encoded[position : span.start], self.marker(span.kind, encoded[span.start : span.end]).encode()]
            position = span.end
        return b"".join([*parts, encoded[position:]]).decode()


def _member(name: str, value: str) -> bytes:
    return orjson.dumps({name: value})[1:-1]


def _cut(document: bytes, known: Collection[Known]) -> tuple[bytes, dict[bytes, Known]]:
    """The document with a stub for each known member that stands in it exactly once.

    A stub begins with a byte that JSON cannot hold, so nobody can have written one. A member that stands there twice
    is left to the walk, which finds both.
    """
    held: dict[bytes, Known] = {}
    for one in known:
        member = _member(one.name, one.value)
        if document.count(member) == 1:
            stub = b"\x00%d\x00" % len(held)
            document = document.replace(member, stub)
            held[stub] = one
    return document, held


def _pointer(path: Path) -> str:
    """RFC 6901 section 3. Made only for what was masked: most members never need one."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _plain(value: JsonValue) -> bool:
    """Whether a part of a document holds nothing to mask: one scan instead of one for each text in it."""
    try:
        return not detectors.suspicious(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return False  # deeper than orjson writes; the walk will refuse it


@dataclass(slots=True)
class _Walk:
    """One pass over one document, collecting where something was replaced."""

    masker: Masker
    keep: Collection[Path] = ()
    pointers: list[str] = field(default_factory=list)
    effort: Effort = field(default_factory=lambda: Effort(MOST_CANDIDATES))

    def value(self, value: JsonValue, at: Path, *, secret: bool, depth: int) -> JsonValue:
        if depth > DEEPEST or len(self.pointers) > MOST_MASKS:
            raise _BeyondLimitsError
        match value:
            case dict() | list():
                return self._container(value, at, secret=secret, depth=depth)
            case str():
                return self._string(value, at, secret=secret, depth=depth)
            case None | bool():
                return value
            case _:
                return self._number(value, at, secret=secret)

    def _container(
        self, value: JsonObject | list[JsonValue], at: Path, *, secret: bool, depth: int
    ) -> JsonObject | list[JsonValue]:
        if not value or at in self.keep or (not secret and depth <= PRUNED_LEVELS and _plain(value)):
            return value
        if isinstance(value, dict):
            return self._object(value, at, secret=secret, depth=depth)
        return [self.value(item, (*at, index), secret=secret, depth=depth + 1) for index, item in enumerate(value)]

    def _object(self, members: JsonObject, at: Path, *, secret: bool, depth: int) -> JsonObject:
        masked: JsonObject = {}
        for key, member in members.items():
            traits = detectors.key_traits(key)
            name = self.masker.text(key, self.effort) if traits.suspicious else key
            # The pointer is made of the masked key: a key that is a secret must not stand in the list of masks.
            place = (*at, name)
            if name != key:
                self.pointers.append(_pointer(place))
            if key in _ENCODED and isinstance(member, str):
                # base64 shows no pattern; contract `envoy` has the same bytes under parsed_body.
                masked[name] = self._replace(member, self.masker.marker("encoded_body", member.encode()), place)
                continue
            masked[name] = self.value(member, place, secret=secret or traits.names_secret, depth=depth + 1)
        return masked

    def _number(self, number: float, at: Path, *, secret: bool) -> JsonValue:
        """A card number may come as a number; `4111111111111111.0` is the same one."""
        whole = number % 1 == 0
        digits = str(int(number) if whole else number)
        if secret:
            return self._replace(number, self.masker.marker("secret", digits.encode()), at)
        if not whole or len(digits) < detectors.SHORTEST_CARD:
            return number
        masked = self.masker.text(digits, self.effort)
        return number if masked == digits else self._replace(number, masked, at)

    def _string(self, text: str, at: Path, *, secret: bool, depth: int) -> str:
        if secret and text:
            masked = self.masker.marker("secret", text.encode())
        elif len(text) < SHORTEST_TEXT or not detectors.suspicious(text.encode()):
            return text
        else:
            masked = self._nested(text, depth) or self.masker.text(text, self.effort)
        if masked != text:
            self.pointers.append(_pointer(at))
        return masked

    def _nested(self, text: str, depth: int) -> str:
        """A text that is itself JSON (a body inside a document), masked by its own keys and without its escapes.

        Empty where it is no JSON or holds nothing to mask; what it repeats (two equal keys) is then looked at as text.
        """
        if text.lstrip()[:1] not in {"{", "["}:
            return ""
        try:
            nested = orjson.loads(text)
        except orjson.JSONDecodeError:
            return ""
        inner = _Walk(self.masker, effort=self.effort)
        # Depth goes on counting: documents in documents must not add up to a deep recursion.
        masked = inner.value(nested, (), secret=False, depth=depth + 1)
        return orjson.dumps(masked).decode() if inner.pointers else ""

    def _replace(self, old: JsonValue, new: JsonValue, at: Path) -> JsonValue:
        if new != old:
            self.pointers.append(_pointer(at))
        return new
