"""The compact serialisation of one signed token (RFC 7515 section 7.1).

Decides whether a string is three canonical parts with a header that holds nothing but `alg`, `kid` and `typ`.
Must never follow what a header points at: keys come from configuration, so `jku`, `x5u`, `jwk` and `x5c` are
refused, not read (D4), and so is `crit` in any form (D6). A DPoP proof alone brings its own key, and counts for
nothing until a token names that key's thumbprint. Trusts nothing; no signature has been checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.encoding import decode_base64url, decode_json_object
from authz.errors import InvalidRequestError
from authz.identity.keys import ALGORITHMS, MAX_KID_LENGTH
from authz.reasons import TOKEN_ALG, TOKEN_CLAIMS, TOKEN_HEADER, TOKEN_MALFORMED

if TYPE_CHECKING:
    from authz.model import JsonObject, JsonValue
    from authz.reasons import Reason

PARAMETERS: Final = frozenset({"alg", "kid", "typ"})
PROOF_PARAMETERS: Final = frozenset({"alg", "jwk", "typ"})
"""RFC 9449 section 4.2."""
_PARTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Jws:
    """A token taken apart. Everything in it is the sender's word until `signature` verifies over `signed`."""

    algorithm: str
    kid: str | None
    typ: str
    claims: JsonObject
    signed: bytes
    signature: bytes
    jwk: JsonValue = None
    """The key of a DPoP proof, as its header says."""


def parse(token: str, parameters: frozenset[str] = PARAMETERS) -> Jws:
    """Take `token` apart, whose header holds nothing but `parameters`; the caller has bounded its length.

    Raises:
        InvalidRequestError: `TOKEN_MALFORMED`, `TOKEN_HEADER`, `TOKEN_ALG`, or `TOKEN_CLAIMS` for a payload that is
            not a strict JSON object.
    """
    parts = token.split(".")
    if len(parts) != _PARTS:
        # Five parts are an encrypted token, four are nobody's: both are named for what they try (D6).
        raise InvalidRequestError(TOKEN_HEADER if len(parts) > _PARTS else TOKEN_MALFORMED, "not three parts")
    header = _object(parts[0], TOKEN_HEADER)
    if not header.keys() <= parameters:
        raise InvalidRequestError(TOKEN_HEADER)
    algorithm = header.get("alg")
    # An empty signature is `none` under another name (D1).
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or not parts[2]:
        raise InvalidRequestError(TOKEN_ALG)
    return Jws(
        algorithm=algorithm,
        kid=_kid(header),
        typ=_typ(header),
        claims=_object(parts[1], TOKEN_CLAIMS),
        signed=token[: token.rindex(".")].encode("ascii"),
        signature=_decode(parts[2]),
        jwk=header.get("jwk"),
    )


def _decode(part: str) -> bytes:
    try:
        return decode_base64url(part)
    except ValueError as error:
        raise InvalidRequestError(TOKEN_MALFORMED, str(error)) from None


def _object(part: str, reason: Reason) -> JsonObject:
    octets = _decode(part)
    try:
        return decode_json_object(octets)
    except ValueError as error:
        raise InvalidRequestError(reason, str(error)) from None


def _kid(header: JsonObject) -> str | None:
    kid = header.get("kid")
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_LENGTH):
        raise InvalidRequestError(TOKEN_HEADER, "kid is not a short string")
    return kid if isinstance(kid, str) else None


def _typ(header: JsonObject) -> str:
    typ = header.get("typ", "")
    if not isinstance(typ, str):
        raise InvalidRequestError(TOKEN_HEADER, "typ is not a string")
    return typ
