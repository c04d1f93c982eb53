"""Masking: a record keeps the shape of what was judged, and none of its secrets.

Decides which values of a JSON document are replaced, and by what: `[MASKED:<class>:hmac-sha256:<digest>]`. Only the
matched stretch of a text is replaced, so the rest stays readable. The digest is keyed per installation: its owner can
tell that two masked values are equal, and nobody without the key can try all card numbers.

Must never parse what holds nothing to mask: the usual document costs one scan. Must never let a document pass
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
from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

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

Pointers: TypeAlias = tuple[str, ...]


class _BeyondLimitsError(Exception):
    """The document has too many masks or levels to be masked value by value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masker:
    """Masks documents under one key.

    Raises:
        ConfigError: the key is shorter than `KEY_BYTES`.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < KEY_BYTES:
            raise ConfigError(f"the masking key has under {KEY_BYTES} bytes", remedy="let `authz serve` make one")

    def mask(self, document: bytes, *, keep: Collection[str] = ()) -> tuple[bytes, Pointers]:
        """The JSON with secrets replaced, and RFC 6901 pointers to the places, valid in what is returned.

        Args:
            document: a JSON object with member names of our own.
            keep: pointers to what stays as it is: a caller's verified name may be an e-mail address.
        """
        if not detectors.suspicious(document):
            return document, ()
        try:
            members = orjson.loads(document)
        except orjson.JSONDecodeError:
            # What orjson refuses (deeper than 1024 levels, lone surrogates) cannot be walked, so none of it is kept.
            return orjson.dumps({"unreadable": self.marker("document", document)}), ("/unreadable",)
        pointers: list[str] = []
        masked, effort = {}, Effort(MOST_CANDIDATES)
        for name, value in members.items():
            walk = _Walk(self, frozenset(keep), effort=effort)
            try:
                masked[name] = walk.value(value, _pointer("", name), secret=False, depth=0)
                pointers += walk.pointers
            except _BeyondLimitsError:
                masked[name] = self.marker("document", document)
                pointers.append(_pointer("", name))
        return (orjson.dumps(masked), tuple(pointers)) if pointers else (document, ())

    def marker(self, kind: str, value: bytes) -> str:
        """What stands in the record for `value`."""
        digest = hmac.digest(self.key, value, hashlib.sha256).hex()[:DIGEST_CHARACTERS]
        return f"[MASKED:{kind}:hmac-sha256:{digest}]"

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


def _pointer(at: str, name: str) -> str:
    return f"{at}/{name.replace('~', '~0').replace('/', '~1')}"


@dataclass(slots=True)
class _Walk:
    """One pass over one document, collecting where something was replaced."""

    masker: Masker
    keep: frozenset[str] = frozenset()
    pointers: list[str] = field(default_factory=list)
    effort: Effort = field(default_factory=lambda: Effort(MOST_CANDIDATES))

    def value(self, value: JsonValue, at: str, *, secret: bool, depth: int) -> JsonValue:
        if at in self.keep:
            return value
        if depth > DEEPEST or len(self.pointers) > MOST_MASKS:
            raise _BeyondLimitsError
        if isinstance(value, dict):
            return self._object(value, at, secret=secret, depth=depth)
        if isinstance(value, list):
            return [self.value(item, f"{at}/{i}", secret=secret, depth=depth + 1) for i, item in enumerate(value)]
        if isinstance(value, str) and value:
            masked = self.masker.marker("secret", value.encode()) if secret else self._text(value, depth)
            return self._replace(value, masked, at)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(value, at, secret=secret)
        return value

    def _object(self, members: JsonObject, at: str, *, secret: bool, depth: int) -> JsonObject:
        masked: JsonObject = {}
        for key, member in members.items():
            traits = detectors.key_traits(key)
            name = self.masker.text(key, self.effort) if traits.suspicious else key
            # The pointer is made of the masked key: a key that is a secret must not stand in the list of masks.
            pointer = _pointer(at, name)
            if name != key:
                self.pointers.append(pointer)
            if key in {"rawBody", "raw_body"} and isinstance(member, str):
                # base64 shows no pattern; contract `envoy` has the same bytes under parsed_body.
                masked[name] = self._replace(member, self.masker.marker("encoded_body", member.encode()), pointer)
                continue
            masked[name] = self.value(member, pointer, secret=secret or traits.names_secret, depth=depth + 1)
        return masked

    def _number(self, number: float, at: str, *, secret: bool) -> JsonValue:
        """A card number may come as a number; `4111111111111111.0` is the same one."""
        whole = number % 1 == 0
        digits = str(int(number) if whole else number)
        if secret:
            return self._replace(number, self.masker.marker("secret", digits.encode()), at)
        masked = self.masker.text(digits, self.effort) if whole else digits
        return number if masked == digits else self._replace(number, masked, at)

    def _text(self, text: str, depth: int) -> str:
        """A text that is itself JSON (a body inside a document) is masked by its own keys and without its escapes."""
        if text.lstrip()[:1] in {"{", "["}:
            try:
                nested = orjson.loads(text)
            except orjson.JSONDecodeError:
                return self.masker.text(text, self.effort)
            inner = _Walk(self.masker, effort=self.effort)
            # Depth goes on counting: documents in documents must not add up to a deep recursion.
            masked = inner.value(nested, "", secret=False, depth=depth + 1)
            if inner.pointers:
                return orjson.dumps(masked).decode()
        return self.masker.text(text, self.effort)

    def _replace(self, old: JsonValue, new: JsonValue, at: str) -> JsonValue:
        if new != old:
            self.pointers.append(at)
        return new
