"""Signed statements about bundles: that an older one is to be taken again, and which one is the newest.

Decides the shape of both; who may make them and what follows from them is `trust`'s. Each kind has a `typ` of its own,
so that a signature made for one purpose proves nothing for another. A statement's file has the form of OPA's
`.signatures.json`: several signers sign the same claims. Must never take a statement that lasts for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from authz.errors import BundleError
from authz.policy.manifest import moment, written
from authz.policy.signature import json_object, parse, verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from authz.model import JsonObject
    from authz.policy.signature import Key

ROLLBACK: Final = "authz-rollback+jwt"
TIMESTAMP: Final = "authz-timestamp+jwt"
MAX_TOKENS: Final = 16
DEFAULT_PLUGIN: Final = "_default"
"""What `opa build` calls the only verifier that OPA brings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """The bundle `digest` of an older sequence is to be taken again. Times are nanoseconds since the epoch."""

    bundle_id: str
    sequence: int
    digest: str
    supersedes: int
    """The newest sequence that its signers knew of; a service that has seen a newer one does not go back (replay)."""
    counter: int
    """Where the counter stands afterwards: `supersedes`, or lower to recover from a sequence that ran away (F6)."""
    reason: str
    issued_ns: int
    expires_ns: int

    @property
    def claims(self) -> JsonObject:
        """What is signed."""
        return _claims(self) | {
            "supersedes": self.supersedes,
            "counter": self.counter,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamp:
    """When it was issued, the bundle `digest` was the newest. Times are nanoseconds since the epoch."""

    bundle_id: str
    sequence: int
    digest: str
    issued_ns: int
    expires_ns: int

    @property
    def claims(self) -> JsonObject:
        """What is signed."""
        return _claims(self)


def tokens(document: bytes) -> list[str]:
    """The tokens of a file in the form of `.signatures.json`.

    Raises:
        BundleError: BUNDLE_SIGNATURE for another form; a `plugin` but OPA's own names a verifier that is not here.
    """
    listed = json_object(document, "BUNDLE_SIGNATURE")
    found = listed.get("signatures", [])
    texts = [token for token in found if isinstance(token, str)] if isinstance(found, list) else []
    plugin = listed.get("plugin", DEFAULT_PLUGIN)
    known = listed.keys() <= {"signatures", "plugin"} and plugin == DEFAULT_PLUGIN
    if not known or texts != found or len(texts) > MAX_TOKENS:
        raise BundleError("not a list of signatures alone", code="BUNDLE_SIGNATURE")
    return texts


def read_rollback(document: bytes, keys: Sequence[Key], threshold: int) -> Rollback:
    """A rollback statement that enough of these keys have signed.

    Raises:
        BundleError: BUNDLE_STATEMENT.
    """
    claims = _signed(document, ROLLBACK, keys, threshold)
    return Rollback(
        **_common(claims),
        supersedes=_whole(claims, "supersedes"),
        counter=_whole(claims, "counter"),
        reason=_text(claims, "reason"),
    )


def read_timestamp(document: bytes, keys: Sequence[Key]) -> Timestamp:
    """A freshness statement that one of these keys has signed.

    Raises:
        BundleError: BUNDLE_STATEMENT.
    """
    return Timestamp(**_common(_signed(document, TIMESTAMP, keys, 1)))


def _claims(statement: Rollback | Timestamp) -> JsonObject:
    return {
        "bundle_id": statement.bundle_id,
        "sequence": statement.sequence,
        "digest": statement.digest,
        "issued_at": written(statement.issued_ns),
        "expires_at": written(statement.expires_ns),
    }


def _signed(document: bytes, typ: str, keys: Iterable[Key], threshold: int) -> JsonObject:
    """The claims that all signatures agree on."""
    signers: set[str] = set()
    claims: JsonObject | None = None
    pinned = list(keys)
    try:
        for token in map(parse, tokens(document)):
            if token.typ != typ:
                raise _refused("it was signed for another purpose")
            signers.add(verify(token, pinned).fingerprint)
            if claims not in (None, token.payload):
                raise _refused("its signatures are not over the same claims")
            claims = token.payload
    except BundleError as error:
        raise error if error.code == "BUNDLE_STATEMENT" else _refused(str(error)) from error
    if claims is None or len(signers) < threshold:
        raise _refused(f"{len(signers)} of {threshold} signatures")
    return claims


def _common(claims: JsonObject) -> dict[str, Any]:
    return {
        "bundle_id": _text(claims, "bundle_id"),
        "sequence": _whole(claims, "sequence"),
        "digest": _text(claims, "digest"),
        "issued_ns": _moment(claims, "issued_at"),
        "expires_ns": _moment(claims, "expires_at"),
    }


def _moment(claims: JsonObject, name: str) -> int:
    try:
        return moment(_text(claims, name), name)
    except BundleError as error:
        raise _refused(f"`{name}` is not a time") from error


def _whole(claims: JsonObject, name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused(f"`{name}` is not a positive integer")
    return value


def _text(claims: JsonObject, name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise _refused(f"`{name}` is not text")
    return value


def _refused(how: str) -> BundleError:
    return BundleError(f"a statement is refused: {how}", code="BUNDLE_STATEMENT")
