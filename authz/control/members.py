"""Sidecars as members of this control plane: invited, enrolled, renewed, known by their certificates, removed.

Decides who becomes a member and what a member is told. An invitation is taken before anything is signed; what was asked
for in a request has no part in the certificate. A certificate is a sidecar's only if this control plane's authority
signed it, whatever other authority the listener trusts for operators, and only while the database has the sidecar: one
that was removed is refused at its next call. Must never sign for an id that it did not make.

Trusts the listener to have checked that the caller holds the certificate's key, and that it has not ended.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from authz._gen.authz.control.v1.sidecars_pb2 import EnrolResponse, Redis
from authz.control.callers import ALL_TENANTS, Caller, Kind
from authz.control.certificates import SIDECAR_LIFE, issue_sidecar, read_request
from authz.control.redis_accounts import username
from authz.control.refusals import Code, RefusedError, malformed
from authz.enrolment.identity import is_issued_by
from authz.enrolment.invitations import Invitation
from authz.enrolment.names import alternative_names, fingerprint, sidecar_named
from authz.errors import ConfigError
from authz.reasons import ENROLMENT_REFUSED, SIDECAR_REMOVED, SIDECAR_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from authz.control.authorities_sql import Authorities
    from authz.control.redis_accounts import RedisAccounts
    from authz.control.sidecars_sql import Sidecar, Sidecars

NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_UNNAMED: Final = "sidecar"
_PASSWORD_BYTES: Final = 32
_LIFE_NS: Final = int(SIDECAR_LIFE.total_seconds()) * 1_000_000_000


class Members:
    """Who has joined.

    Args:
        accounts: at Redis; None where there is none.
        redis_url: what sidecars are told of Redis, without user and password.
        replication: HOST:PORT of the listener for sidecars.
        random: so many random bytes.
        begin: opens the streams of these tenants, so that their sidecars have heartbeats before the first kill.
    """

    def __init__(
        self,
        sidecars: Sidecars,
        authorities: Authorities,
        *,
        accounts: RedisAccounts | None,
        redis_url: str,
        replication: Callable[[], str],
        random: Callable[[int], bytes],
        begin: Callable[[Collection[str]], None],
    ) -> None:
        self._sidecars = sidecars
        self._authorities = authorities
        self._accounts = accounts
        self._redis_url = redis_url
        self._replication = replication
        self._random = random
        self._begin = begin

    def invite(self, name: str, tenants: Sequence[str], life: timedelta) -> tuple[str, int]:
        """An enrolment token for these tenants, or with none for all; and when it ends, in nanoseconds.

        Raises:
            RefusedError: the name is none.
        """
        if name and not NAME.fullmatch(name):
            raise malformed("name is not 1 to 40 lower-case letters, digits and -")
        pinned = fingerprint(self._authorities.signing().certificate)
        invitation = Invitation.new(pinned, self._random)
        ends_ns = self._sidecars.invite(
            invitation.secret_sha256,
            name=name,
            tenants=tenants,
            fingerprint=pinned.hex(),
            life_ns=int(life.total_seconds() * 1_000_000_000),
        )
        return invitation.text, ends_ns

    def enrol(self, token: str, csr: bytes) -> EnrolResponse:
        """A membership for whoever holds the token, which is used up.

        Raises:
            RefusedError: the token is unknown, used or over; or the request is none, and then the token stays good.
        """
        key = _requested(csr)
        try:
            invitation = Invitation.read(token)
        except ConfigError:
            raise RefusedError(Code.PERMISSION_DENIED, ENROLMENT_REFUSED) from None
        password = self._random(_PASSWORD_BYTES).hex()
        sidecar = self._sidecars.enrol(
            invitation.secret_sha256,
            fingerprint=fingerprint(self._authorities.signing().certificate).hex(),
            new_id=self._new_id,
            password_sha256=hashlib.sha256(password.encode()).hexdigest(),
            life_ns=_LIFE_NS,
        )
        if sidecar is None:
            raise RefusedError(Code.PERMISSION_DENIED, ENROLMENT_REFUSED)
        self._begin(sidecar.tenants)
        answer = self._certified(sidecar, key)
        if self._accounts is not None:
            self._accounts.follow()
            answer.redis.CopyFrom(Redis(url=self._redis_url, username=username(sidecar.id), password=password))
        return answer

    def renew(self, identity: str, csr: bytes) -> EnrolResponse:
        """A certificate that ends later; its account at Redis stays as it is.

        Raises:
            RefusedError: the request is none, or the sidecar was removed.
        """
        key = _requested(csr)
        sidecar = self._present(identity)
        self._sidecars.renewed(identity, _LIFE_NS)
        return self._certified(sidecar, key)

    def remove(self, identity: str) -> Sidecar:
        """Refuse it from now on, here and at Redis.

        Raises:
            RefusedError: NOT_FOUND.
        """
        removed = self._sidecars.remove(identity)
        if removed is None:
            raise RefusedError(Code.NOT_FOUND, SIDECAR_UNKNOWN)
        if self._accounts is not None:
            self._accounts.follow()
        return removed

    def caller(self, certificate: x509.Certificate) -> Caller | None:
        """The sidecar that a verified certificate stands for; None where it is nobody of ours.

        Raises:
            RefusedError: UNAUTHENTICATED, it was removed.
        """
        identity = sidecar_named(alternative_names(certificate))
        if identity is None or not self._is_ours(certificate):
            return None
        sidecar = self._present(identity)
        return Caller(kind=Kind.SIDECAR, id=sidecar.id, tenants=frozenset(sidecar.tenants or (ALL_TENANTS,)))

    def _present(self, identity: str) -> Sidecar:
        sidecar = self._sidecars.find(identity)
        if sidecar is None:
            raise RefusedError(Code.UNAUTHENTICATED, SIDECAR_REMOVED)
        return sidecar

    def _is_ours(self, certificate: x509.Certificate) -> bool:
        return any(is_issued_by(certificate, root) for root in self._authorities.roots())

    def _certified(self, sidecar: Sidecar, key: EllipticCurvePublicKey) -> EnrolResponse:
        authority, now = self._authorities.signing(), self._authorities.now()
        leaf = issue_sidecar(authority, key, sidecar.id, now)
        return EnrolResponse(
            sidecar=sidecar.id,
            tenants=sidecar.tenants,
            certificates=[leaf.public_bytes(Encoding.DER)],
            roots=[root.public_bytes(Encoding.DER) for root in self._authorities.roots()],
            replication=self._replication(),
        )

    def _new_id(self, name: str) -> str:
        return f"{name or _UNNAMED}-{self._random(6).hex()}"


def _requested(csr: bytes) -> EllipticCurvePublicKey:
    try:
        return read_request(csr)
    except ValueError as error:
        raise malformed(str(error)) from None
