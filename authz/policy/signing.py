"""Signs bundles and statements about them, on the publisher's side.

Decides what is signed: the digests of an archive's files, in OPA's form, so that `opa run --verification-key` takes the
signature. A further signature is the same token by another key, and lies beside the archive. Must never sign an archive
that `trust` would not read, nor write a private key anywhere but where it was asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from authz.errors import BundleError
from authz.policy import archive as archives
from authz.policy.manifest import MANIFEST, read_manifest
from authz.policy.signature import parse, sign
from authz.policy.statements import ROLLBACK, TIMESTAMP, Rollback, Timestamp, tokens
from authz.policy.trust import SIGNATURES, content, content_digest, hashes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from authz.model import JsonObject


class Signer(NamedTuple):
    """A private key and what verifiers call it."""

    private: EllipticCurvePrivateKey
    name: str


class KeyPair(NamedTuple):
    """A new key, in PEM."""

    private: bytes
    public: bytes


def new_key() -> KeyPair:
    """A key for ES256."""
    private = generate_private_key(SECP256R1())
    return KeyPair(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def sign_archive(archive: bytes, signer: Signer, scope: str = "") -> bytes:
    """The archive with this signature, in place of the one it may have.

    Raises:
        BundleError: the archive cannot be read safely.
    """
    files = content(archives.read(archive))
    return archives.write(files | {SIGNATURES: _document([_bundle_token(files, signer, scope)])})


def cosign(archive: bytes, signer: Signer, scope: str = "", existing: bytes | None = None) -> bytes:
    """What lies beside an archive: the further signatures it had, and this one.

    Raises:
        BundleError: the archive or what lies beside it cannot be read.
    """
    token = _bundle_token(content(archives.read(archive)), signer, scope)
    return _document([*(known for known in _known(existing) if known != token), token])


def sign_statement(statement: Rollback | Timestamp, signer: Signer) -> bytes:
    """A signed statement."""
    typ = ROLLBACK if isinstance(statement, Rollback) else TIMESTAMP
    return _document([sign(statement.claims, signer.private, kid=signer.name, typ=typ)])


def cosign_statement(document: bytes, signer: Signer) -> bytes:
    """A statement with one more signature over the same claims.

    Raises:
        BundleError: BUNDLE_SIGNATURE when it cannot be read.
    """
    known = _known(document)
    first = parse(known[0]) if known else None
    if first is None or first.typ not in {ROLLBACK, TIMESTAMP}:
        raise BundleError("not a statement", code="BUNDLE_SIGNATURE")
    token = sign(first.payload, signer.private, kid=signer.name, typ=first.typ)
    return _document([*(each for each in known if each != token), token])


def state_rollback(
    archive: bytes, *, supersedes: int, counter: int, reason: str, issued_ns: int, hours: float
) -> Rollback:
    """That this archive is to be taken again.

    Raises:
        BundleError: the archive or its manifest cannot be read.
    """
    return Rollback(**_about(archive, issued_ns, hours), supersedes=supersedes, counter=counter, reason=reason)


def state_newest(archive: bytes, *, issued_ns: int, hours: float) -> Timestamp:
    """That this archive is the newest.

    Raises:
        BundleError: the archive or its manifest cannot be read.
    """
    return Timestamp(**_about(archive, issued_ns, hours))


def _about(archive: bytes, issued_ns: int, hours: float) -> dict[str, Any]:
    files = content(archives.read(archive))
    manifest = read_manifest(files.get(MANIFEST, b""))
    return {
        "bundle_id": manifest.bundle_id,
        "sequence": manifest.sequence,
        "digest": content_digest(files),
        "issued_ns": issued_ns,
        "expires_ns": issued_ns + round(hours * 3600) * 10**9,
    }


def _bundle_token(files: dict[str, bytes], signer: Signer, scope: str) -> str:
    payload: JsonObject = {"files": hashes(files)} | ({"scope": scope} if scope else {})
    return sign(payload, signer.private, kid=signer.name)


def _known(existing: bytes | None) -> list[str]:
    return tokens(existing) if existing else []


def _document(listed: list[str]) -> bytes:
    return orjson.dumps({"signatures": listed}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
