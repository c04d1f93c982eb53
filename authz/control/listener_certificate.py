"""What the listener for sidecars shows, and whom it demands a certificate of; renewed while it listens.

Decides when its own certificate is replaced (at half of its life) and which roots count: the control plane's own, and
the operators' where one is configured. A change holds for the next connection; what a connection may do is looked up at
each call, so an old one gains nothing.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import grpc

from authz.control.certificates import SERVER_LIFE, issue_server
from authz.enrolment.identity import pem
from authz.errors import AuthzError

if TYPE_CHECKING:
    from datetime import datetime

    from authz.clock import Clock
    from authz.control.authorities_sql import Authorities

log: Final = logging.getLogger(__name__)
LOOK_NS: Final = 30 * 1_000_000_000
"""Roots and age are looked at when a connection comes, and at most so often."""


class ListenerCertificate:
    """The server credentials of the listener for sidecars.

    Args:
        client_roots: PEM of who signs operators' certificates; may be empty.
    """

    def __init__(self, authorities: Authorities, clock: Clock, client_roots: bytes = b"") -> None:
        self._authorities = authorities
        self._monotonic_ns = clock.monotonic_ns
        self._client_roots = client_roots
        self._looking = threading.Lock()
        self._looked_ns = 0
        self._roots = b""
        self._renew_at: datetime | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """For a listener that demands a certificate of everybody.

        Raises:
            ConfigError: a stored authority's key cannot be opened.
            UnavailableError: the database cannot be used.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._changed,  # type: ignore[arg-type]  # None is "as before"; the stubs do not say so
            require_client_authentication=True,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked at each connection; None keeps what was."""
        with self._looking:
            if self._monotonic_ns() - self._looked_ns < LOOK_NS:
                return None
            try:
                is_due = self._renew_at is None or self._authorities.now() >= self._renew_at
                if not is_due and self._trusted() == self._roots:
                    self._looked_ns = self._monotonic_ns()
                    return None
                return self._configuration()
            except AuthzError as error:
                log.warning("the certificate of the listener for sidecars is not looked after: %s", error)
                return None

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        authority, now = self._authorities.signing(), self._authorities.now()
        shown = issue_server(authority, now)
        self._roots = self._trusted()
        self._renew_at = now + SERVER_LIFE / 2
        self._looked_ns = self._monotonic_ns()
        pair = (shown.key_pem, pem([shown.certificate]))
        return grpc.ssl_server_certificate_configuration([pair], self._roots + self._client_roots)

    def _trusted(self) -> bytes:
        return pem(self._authorities.roots())
