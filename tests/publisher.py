"""A publisher of bundles whose state a test bends: it signs what is asked of it, rightly or wrongly."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from authz.policy import archive
from authz.policy.manifest import written
from authz.policy.pinned import Freshness, Signers, Trust
from authz.policy.signature import read_public_key, sign, signed_form
from authz.policy.statements import ROLLBACK, TIMESTAMP, Rollback, Timestamp
from authz.policy.trust import SIGNATURES, Candidate, Seen, content_digest, hashes, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from authz.policy.signature import Key
    from authz.policy.trust import Verified

NOW_NS = 1_800_000_000 * 10**9
DAY_NS = 86_400 * 10**9
POLICY = b'package authz\n\ndecision := {"effect": "deny", "reason": "nobody"}\n'


def pem(private: EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(private: EllipticCurvePrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Signer:
    """Somebody with a key."""

    name: str
    private: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))

    @property
    def key(self) -> Key:
        return read_public_key(self.name, public_pem(self.private))

    def token(self, payload: dict[str, Any], **header: str) -> str:
        return sign(payload, self.private, **({"kid": self.name} | header))


RELEASE, SECURITY, TIME, STRANGER = Signer("release"), Signer("security"), Signer("time"), Signer("stranger")


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """One bundle and how it is signed; `replace` it to bend it."""

    sequence: int = 10
    declared: Mapping[str, Any] = field(default_factory=dict)
    """Laid over `metadata.authz`; None takes a member away."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Laid over the files."""
    signer: Signer = RELEASE
    roots: tuple[str, ...] = ("authz",)

    def bent(self, **changes: Any) -> Publisher:
        return replace(self, **changes)

    def content(self) -> dict[str, bytes]:
        declared = {
            "bundle_id": "payments",
            "sequence": self.sequence,
            "created_at": written(NOW_NS - DAY_NS),
            "expires_at": written(NOW_NS + 30 * DAY_NS),
            **self.declared,
        }
        manifest = {
            "revision": f"payments-{self.sequence}",
            "roots": list(self.roots),
            "metadata": {"authz": {name: value for name, value in declared.items() if value is not None}},
        }
        written_files = {".manifest": orjson.dumps(manifest), "policy.rego": POLICY, **self.files}
        return {path: signed_form(path, content) for path, content in written_files.items()}

    def digest(self) -> str:
        return content_digest(self.content())

    def payload(self) -> dict[str, Any]:
        return {"files": hashes(self.content())}

    def packed(self, *tokens: str) -> bytes:
        """The archive with these signatures; by default the right one."""
        signatures = orjson.dumps({"signatures": list(tokens or [self.signer.token(self.payload())])})
        return archive.write(self.content() | {SIGNATURES: signatures})

    def unsigned(self) -> bytes:
        return archive.write(self.content())

    def candidate(self, *tokens: str, **beside: Any) -> Candidate:
        return Candidate(**({"path": "bundles/payments.tar.gz", "archive": self.packed(*tokens)} | beside))

    def cosigned(self, *signers: Signer) -> bytes:
        return orjson.dumps({"signatures": [signer.token(self.payload()) for signer in signers]})

    def rollback(self, *signers: Signer, typ: str = ROLLBACK, **claims: Any) -> bytes:
        """The statement that this bundle is to be taken again."""
        told: dict[str, Any] = {
            "bundle_id": "payments",
            "sequence": self.sequence,
            "digest": self.digest(),
            "supersedes": self.sequence + 2,
            "counter": self.sequence + 2,
            "reason": "it denied everything",
            "issued_ns": NOW_NS,
            "expires_ns": NOW_NS + DAY_NS,
        }
        statement = Rollback(**(told | claims))
        return orjson.dumps(
            {"signatures": [signer.token(statement.claims, typ=typ) for signer in signers or (self.signer,)]}
        )

    def timestamp(self, *, signer: Signer = TIME, typ: str = TIMESTAMP, **claims: Any) -> bytes:
        """The statement that this bundle is the newest."""
        told: dict[str, Any] = {
            "bundle_id": "payments",
            "sequence": self.sequence,
            "digest": self.digest(),
            "issued_ns": NOW_NS,
            "expires_ns": NOW_NS + DAY_NS,
        }
        return orjson.dumps({"signatures": [signer.token(Timestamp(**(told | claims)).claims, typ=typ)]})


def trust(*signers: Signer, threshold: int = 1, fresh: bool = False, **pins: Any) -> Trust:
    """These keys pinned for everything; by default the one release key."""
    named = signers or (RELEASE,)
    entry = Signers(keys=tuple(signer.name for signer in named), threshold=threshold)
    keys = {signer.name: signer.key for signer in (*named, TIME)}
    freshness = Freshness(keys=("time",), max_age_s=3600) if fresh else None
    return Trust(**({"keys": keys, "signers": (entry,), "freshness": freshness} | pins))


def taken(candidate: Candidate, pins: Trust | None = None, seen: Seen | None = None, **options: Any) -> Verified:
    """What becomes of a candidate on a service that remembers `seen`."""
    return verify(candidate, pins or trust(), seen or Seen(), **({"now_ns": NOW_NS} | options))
