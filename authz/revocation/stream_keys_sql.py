"""The signing keys of streams: one for each tenant and one for the platform, made when the stream begins.

Decides which key signs a stream and which ones sidecars are told to trust. A private key is sealed before it is
stored, for its stream and kid alone, so that a row moved to another tenant opens nothing; it is opened in the process
that signs and never leaves it. Must never hand one stream's key to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, insert, select

from authz.database import METADATA
from authz.revocation.entries import thumbprint

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from authz.database import Database
    from authz.revocation.ledger_sql import Ledger
    from authz.sealing import Sealer

STREAM_KEYS: Final = Table(
    "stream_keys",
    METADATA,
    Column("stream", Text, primary_key=True),
    Column("kid", Text, primary_key=True),
    Column("created_ns", BigInteger, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
)


class StreamKeys:
    """The keys of one database's streams. Safe to use from any number of threads."""

    def __init__(self, database: Database, ledger: Ledger, sealer: Sealer) -> None:
        self._database = database
        self._ledger = ledger
        self._sealer = sealer
        # A stream's key never changes, so an opened one stays good.
        self._opened: dict[str, Ed25519PrivateKey] = {}

    def signer(self, stream: str) -> Ed25519PrivateKey:
        """The key that signs `stream`, made on first use together with the stream.

        Raises:
            UnavailableError: the database cannot be used.
            ConfigError: the stored key was sealed with another key-encryption key.
        """
        key = self._opened.get(stream)
        if key is None:
            with self._database.read() as connection:
                row = _newest(connection, stream)
            kid, sealed = row or self._made(stream)
            key = Ed25519PrivateKey.from_private_bytes(self._sealer.unseal(sealed, _purpose(stream, kid)))
            self._opened[stream] = key
        return key

    def trusted(self, stream: str) -> dict[str, bytes]:
        """Raw public keys by kid: whose signatures hold on `stream`. Made with the stream if need be.

        Raises:
            UnavailableError: the database cannot be used.
        """
        with self._database.read() as connection:
            found = _public(connection, stream)
        if not found:
            self._made(stream)
            with self._database.read() as connection:
                found = _public(connection, stream)
        return found

    def public(self, stream: str) -> dict[str, Ed25519PublicKey]:
        """The same, ready to verify with."""
        return {kid: Ed25519PublicKey.from_public_bytes(raw) for kid, raw in self.trusted(stream).items()}

    def _made(self, stream: str) -> tuple[str, bytes]:
        with self._database.write() as connection:
            # Of two that make the first key at once, the second waits here and then finds it.
            self._ledger.open(connection, stream)
            if row := _newest(connection, stream):
                return row
            key = Ed25519PrivateKey.generate()
            kid = thumbprint(key.public_key())
            sealed = self._sealer.seal(key.private_bytes_raw(), _purpose(stream, kid))
            values = {
                "stream": stream,
                "kid": kid,
                "created_ns": self._database.now_ns(connection),
                "public_key": key.public_key().public_bytes_raw(),
                "sealed_key": sealed,
            }
            connection.execute(insert(STREAM_KEYS), values)
        return kid, sealed


def _newest(connection: Connection, stream: str) -> tuple[str, bytes] | None:
    found = select(STREAM_KEYS).where(STREAM_KEYS.c.stream == stream).order_by(STREAM_KEYS.c.created_ns.desc()).limit(1)
    row = connection.execute(found).one_or_none()
    return (row.kid, bytes(row.sealed_key)) if row else None


def _public(connection: Connection, stream: str) -> dict[str, bytes]:
    found = select(STREAM_KEYS.c.kid, STREAM_KEYS.c.public_key).where(STREAM_KEYS.c.stream == stream)
    return {row.kid: bytes(row.public_key) for row in connection.execute(found)}


def _purpose(stream: str, kid: str) -> str:
    return f"stream-key:{kid}:{stream}"
