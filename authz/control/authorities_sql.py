"""The control plane's certificate authorities in the database, their keys sealed.

Decides that there is always one that signs, and that the next is there in time: whoever asks adds what is due. Of two
instances that add at once, one wins by the row's number and both use what it made.
Must never write a key that is not sealed, nor one for another authority's certificate.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from sqlalchemy import BigInteger, Column, LargeBinary, Table, insert, select
from sqlalchemy.exc import IntegrityError

from authz.control.certificates import Authority, alive, signing, successor
from authz.database import METADATA
from authz.enrolment.names import fingerprint
from authz.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Row

    from authz.database import Database
    from authz.sealing import Sealer

AUTHORITIES: Final = Table(
    "authorities",
    METADATA,
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("signs_from_ns", BigInteger, nullable=False),
)
_NS: Final = 1_000_000_000


class Authorities:
    """Who signs, and who is trusted."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        # A row never changes: what was opened once need not be opened again.
        self._opened: dict[int, Authority] = {}

    def now(self) -> datetime:
        """The time that certificates are made by, UTC."""
        with self._database.read() as connection:
            return _instant(self._database.now_ns(connection))

    def signing(self) -> Authority:
        """The authority that signs now.

        Raises:
            ConfigError: a stored key cannot be opened.
            UnavailableError: the database cannot be used.
        """
        return signing(self._up_to_date(), self.now())

    def roots(self) -> list[x509.Certificate]:
        """Those whose signatures are taken, including one that does not sign yet."""
        return [authority.certificate for authority in alive(self._up_to_date(), self.now())]

    def _up_to_date(self) -> list[Authority]:
        kept, now = self._read(), self.now()
        if (due := successor(list(kept.values()), now)) is None:
            return list(kept.values())
        generation = max(kept, default=0) + 1
        with suppress(IntegrityError):  # another instance was first
            self._add(generation, due)
        return list(self._read().values())

    def _read(self) -> dict[int, Authority]:
        with self._database.read() as connection:
            rows = connection.execute(select(AUTHORITIES)).all()
        return {row.generation: self._open(row) for row in rows}

    def _open(self, row: Row[Any]) -> Authority:
        if (opened := self._opened.get(row.generation)) is not None:
            return opened
        certificate = x509.load_der_x509_certificate(row.certificate)
        key = load_der_private_key(self._sealer.unseal(row.sealed_key, _purpose(certificate)), password=None)
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError("a stored certificate authority's key is not its own")
        authority = Authority(certificate=certificate, key=key, signs_from=_instant(row.signs_from_ns))
        self._opened[row.generation] = authority
        return authority

    def _add(self, generation: int, authority: Authority) -> None:
        key = authority.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        row = {
            "generation": generation,
            "certificate": authority.certificate.public_bytes(Encoding.DER),
            "sealed_key": self._sealer.seal(key, _purpose(authority.certificate)),
            "signs_from_ns": int(authority.signs_from.timestamp()) * _NS,
        }
        with self._database.write() as connection:
            connection.execute(insert(AUTHORITIES).values(row))


def _purpose(certificate: x509.Certificate) -> str:
    return f"certificate authority {fingerprint(certificate).hex()}"


def _instant(unix_ns: int) -> datetime:
    return datetime.fromtimestamp(unix_ns // _NS, UTC)
