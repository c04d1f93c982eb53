"""Who is calling: an operator by a credential, a token or a certificate, or a sidecar by its certificate.

Decides identity alone, from the database each time, so that an operator who was removed is refused at the next call.
Exactly one proof counts: a bearer credential where one is shown, else the certificate that the listener verified. What
does not hold is refused, never passed over for the other proof. Must never repeat what was shown.

Trusts the listener's word on certificates, and the issuers that are configured for operators.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography import x509

from authz.control.callers import Caller, Kind
from authz.control.refusals import Code, RefusedError
from authz.enrolment.names import SIDECAR_PREFIX, alternative_names
from authz.errors import DenialError
from authz.reasons import CONTROL_EXPIRED, CONTROL_UNAUTHENTICATED

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.clock import Clock
    from authz.control.operator_tokens import OperatorTokens
    from authz.control.operators_sql import Operator, Operators

log: Final = logging.getLogger(__name__)
CREDENTIAL_PREFIX: Final = "authz_operator_"
"""So that scanners for secrets know one when they see it."""
MAX_BEARER: Final = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a caller shows of itself.

    Args:
        authorization: values of the `authorization` header or metadata, each.
        certificate: PEM of the client certificate that the listener verified.
    """

    authorization: tuple[str, ...] = ()
    certificate: bytes | None = None


class Authentication:
    """Knows operators and sidecars.

    Args:
        tokens: verifies tokens of the operators' issuers; None where none is configured.
        sidecar: the sidecar that a verified certificate stands for, or None where it is nobody's. It raises
            `RefusedError` for one that was removed.
    """

    def __init__(
        self,
        operators: Operators,
        clock: Clock,
        *,
        tokens: OperatorTokens | None = None,
        sidecar: Callable[[x509.Certificate], Caller | None] = lambda _: None,
    ) -> None:
        self._operators = operators
        self._unix_ns = clock.unix_ns
        self._tokens = tokens
        self._sidecar = sidecar

    def caller(self, presented: Presented) -> Caller:
        """Who shows this.

        Raises:
            RefusedError: UNAUTHENTICATED.
            UnavailableError: the database cannot be asked.
        """
        if presented.authorization:
            return self._operator(self._by_bearer(_bearer(presented.authorization)))
        if presented.certificate is not None:
            return self._by_certificate(x509.load_pem_x509_certificate(presented.certificate))
        raise _unknown()

    def _by_bearer(self, token: str) -> Operator | None:
        if token.startswith(CREDENTIAL_PREFIX):
            return self._operators.by_credential(credential_sha256(token))
        if self._tokens is None:
            return None
        try:
            issuer, subject = self._tokens.verify(token)
        except DenialError as error:
            raise RefusedError(Code.UNAUTHENTICATED, error.reason) from None
        return self._operators.by_subject(issuer, subject)

    def _by_certificate(self, certificate: x509.Certificate) -> Caller:
        if (sidecar := self._sidecar(certificate)) is not None:
            return sidecar
        return self._operator(self._operators.by_certificate(_names(certificate)))

    def _operator(self, operator: Operator | None) -> Caller:
        if operator is None:
            raise _unknown()
        if operator.expires_at_ns is not None and operator.expires_at_ns <= self._unix_ns():
            raise RefusedError(Code.UNAUTHENTICATED, CONTROL_EXPIRED)
        return Caller(kind=Kind.OPERATOR, id=operator.id, grants=operator.grants, automatic=operator.automatic)


def credential_sha256(credential: str) -> str:
    """What is kept of a credential."""
    return sha256(credential.encode()).hexdigest()


def _bearer(values: tuple[str, ...]) -> str:
    """The one credential (RFC 6750 §2.1)."""
    if len(values) != 1 or len(values[0]) > MAX_BEARER:
        raise _unknown()
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token.isascii() or not token or " " in token:
        raise _unknown()
    return token


def _names(certificate: x509.Certificate) -> list[str]:
    """Names that may stand for an operator; a sidecar's never does, whoever signed the certificate."""
    try:
        return [name for name in alternative_names(certificate) if not name.startswith(SIDECAR_PREFIX)]
    except ValueError:
        return []


def _unknown() -> RefusedError:
    return RefusedError(Code.UNAUTHENTICATED, CONTROL_UNAUTHENTICATED)
