"""A sidecar's identity on disk, so that it starts again without network and without a second token.

Decides what lies where: `identity.pem` (key and chain, one file because they belong together), `roots.pem` and
`membership.json`. Each file is replaced whole and is its owner's alone; a looser one is refused.

Must never be shared by two sidecars. Trusts the folder's owner.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authz.enrolment.identity import Identity, RedisAccess
from authz.errors import ConfigError
from authz.secret_file import load, replace

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY: Final = "identity.pem"
ROOTS: Final = "roots.pem"
MEMBERSHIP: Final = "membership.json"


@dataclass(frozen=True, slots=True)
class IdentityFolder:
    """`DIR/sidecar/identity` of one sidecar."""

    path: Path

    def keep(self, identity: Identity) -> None:
        """Write it, durably; what was there before stays until each file is whole.

        Raises:
            ConfigError: the folder cannot be written.
        """
        membership = {
            "sidecar": identity.sidecar,
            "tenants": identity.tenants,
            "replication": identity.replication,
            "redis": {
                "url": identity.redis.url,
                "username": identity.redis.username,
                "password": identity.redis.password,
            },
        }
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.write(ROOTS, identity.roots_pem)
            self.write(MEMBERSHIP, json.dumps(membership, indent=1).encode())
            # Last: an enrolment counts once its key is kept.
            self.write(IDENTITY, identity.key_pem + identity.chain_pem)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: {error.strerror}", remedy="give a folder that this user may write"
            ) from None

    def read(self) -> Identity | None:
        """What was kept; None where nothing was.

        Raises:
            ConfigError: a file is damaged, or readable by others.
        """
        if not (self.path / IDENTITY).exists():
            return None
        try:
            return _identity(*(load(self.path / name, size_bytes=0) for name in (IDENTITY, ROOTS, MEMBERSHIP)))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{self.path} holds no identity", remedy="remove it and enrol the sidecar again"
            ) from None

    def write(self, name: str, octets: bytes) -> None:
        """One file of the folder, replaced whole.

        Raises:
            OSError: it cannot be written.
        """
        replace(self.path / name, octets)


def _identity(pem: bytes, roots: bytes, membership: bytes) -> Identity:
    told: dict[str, Any] = json.loads(membership)
    key = load_pem_private_key(pem, password=None)
    certificates = tuple(x509.load_pem_x509_certificates(pem))
    if not isinstance(key, EllipticCurvePrivateKey) or certificates[0].public_key() != key.public_key():
        raise ValueError("the key and its certificate do not belong together")
    return Identity(
        sidecar=told["sidecar"],
        tenants=tuple(told["tenants"]),
        key=key,
        certificates=certificates,
        roots=tuple(x509.load_pem_x509_certificates(roots)),
        replication=told["replication"],
        redis=RedisAccess(**told["redis"]),
    )
