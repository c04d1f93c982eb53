"""What a bundle says of itself: `.manifest`, and `metadata.authz` in it (contracts §10).

Decides whether a manifest can be understood whole. A member of `metadata.authz` that is not known is refused, because a
demand that is not understood is not met. Must never fill in what decides about trust: without a sequence or an expiry
there is no bundle to trust. Trusts nothing here; the bytes are known to be signed when `trust` reads them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from authz.errors import BundleError
from authz.policy.signature import json_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import JsonObject, JsonValue

MANIFEST: Final = ".manifest"
MAX_SEQUENCE: Final = 2**53 - 1
"""The last integer that every reader of JSON holds exactly (RFC 7493)."""

_KNOWN: Final = frozenset(
    {
        "bundle_id",
        "sequence",
        "change_id",
        "created_at",
        "expires_at",
        "min_engine",
        "requires_input",
        "tenants",
    }
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION: Final = re.compile(r"\d{1,6}(?:\.\d{1,6}){0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One bundle's identity, life and demands. Times are nanoseconds since the epoch."""

    revision: str
    bundle_id: str
    sequence: int
    change_id: str
    created_ns: int
    expires_ns: int
    min_engine: str
    requires_input: tuple[str, ...]
    tenants: tuple[str, ...]


def read_manifest(content: bytes) -> Manifest:
    """The manifest of a bundle that asks to be trusted.

    Raises:
        BundleError: BUNDLE_MANIFEST, naming the member; BUNDLE_FAST_FORWARD for a last sequence (F6).
    """
    document = json_object(content, "BUNDLE_MANIFEST")
    metadata = document.get("metadata")
    declared = metadata.get("authz") if isinstance(metadata, dict) else None
    if not isinstance(declared, dict):
        raise _refused("metadata.authz", "is missing")
    if unknown := sorted(declared.keys() - _KNOWN):
        raise _refused(f"metadata.authz.{unknown[0]}", "is not known to this version")
    bundle_id = _text(declared, "bundle_id")
    if not _NAME.fullmatch(bundle_id):
        raise _refused("metadata.authz.bundle_id", "is not a name of letters, digits, `.`, `_`, `-`")
    sequence = _sequence(declared.get("sequence"))
    created_ns, expires_ns = (moment(_text(declared, name), name) for name in ("created_at", "expires_at"))
    if expires_ns <= created_ns:
        raise _refused("metadata.authz.expires_at", "is not after created_at")
    return Manifest(
        revision=_text(document, "revision"),
        bundle_id=bundle_id,
        sequence=sequence,
        change_id=_text(declared, "change_id", ""),
        created_ns=created_ns,
        expires_ns=expires_ns,
        min_engine=_version(_text(declared, "min_engine", "")),
        requires_input=tuple(_texts(declared, "requires_input")),
        tenants=tuple(_texts(declared, "tenants")),
    )


def moment(text: str, name: str) -> int:
    """A time in RFC 3339, in nanoseconds since the epoch.

    Raises:
        BundleError: BUNDLE_MANIFEST when it is none, or has no offset.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise _refused(name, "is not a time such as 2026-01-31T12:00:00Z")
    return round(read.timestamp()) * 10**9


def written(unix_ns: int) -> str:
    """A time as manifests and statements have it: RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(unix_ns // 10**9, UTC).isoformat().removesuffix("+00:00") + "Z"


def version(text: str) -> tuple[int, ...]:
    """A version such as 1.22.0 for comparison; what follows a hyphen is left out."""
    return tuple(map(int, text.partition("-")[0].split(".")))


def _version(text: str) -> str:
    if text and not _VERSION.fullmatch(text):
        raise _refused("metadata.authz.min_engine", "is not a version such as 1.22.0")
    return text


def _sequence(value: JsonValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused("metadata.authz.sequence", "is not a positive integer")
    if value >= MAX_SEQUENCE:
        raise BundleError("the sequence leaves no next one", code="BUNDLE_FAST_FORWARD")
    return value


def _text(document: JsonObject, name: str, default: str | None = None) -> str:
    value = document.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise _refused(name, "is missing or not text")
    return value


def _texts(document: JsonObject, name: str) -> Iterator[str]:
    values = document.get(name, [])
    if not isinstance(values, list):
        raise _refused(name, "is not a list")
    for value in values:
        if not isinstance(value, str) or not value:
            raise _refused(name, "holds something that is not text")
        yield value


def _refused(name: str, how: str) -> BundleError:
    return BundleError(f".manifest: {name} {how}", code="BUNDLE_MANIFEST")
