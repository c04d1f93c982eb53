"""A sidecar's membership: it joins once, renews at half of its certificate's life, and starts again from disk.

Decides when to renew and how often to try. An identity on disk is used as it is, without network: what the certificate
no longer proves, the control plane refuses by itself. Each renewal has a key of its own, and is on disk before it is
used. Must never enrol where an identity lies already: the token is good once, and the sidecar would become another one.

Trusts its folder's owner.
"""

from __future__ import annotations

import logging
import random
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1.sidecars_pb2 import EnrolResponse, RenewRequest
from authz.enrolment import control_plane
from authz.enrolment.control_plane import ControlChannel
from authz.enrolment.identity import AS_TOLD, Addresses, Identity, enrolled, new_key, renewed, request
from authz.enrolment.invitations import Invitation
from authz.errors import ConfigError, ProgramError

if TYPE_CHECKING:
    from pathlib import Path

    import grpc

    from authz.clock import Clock
    from authz.enrolment.folder import IdentityFolder
    from authz.enrolment.identity import Addresses, Identity

log: Final = logging.getLogger(__name__)
_NS: Final = 1_000_000_000
LOOK_S: Final = 60.0
"""How often the certificate's age is looked at."""
RETRY_S: Final = (5.0, 300.0)
"""After a renewal that failed: doubled from the one to the other."""


def join(
    folder: IdentityFolder,
    *,
    url: str,
    token: str,
    clock: Clock,
    roots: Path | None = None,
    addresses: Addresses = AS_TOLD,
) -> Membership:
    """The membership that lies in `folder`, else a new one by the enrolment token.

    Raises:
        ConfigError: neither an identity nor a token, or one that is damaged.
        ProgramError: the control plane refused the token, or cannot be trusted.
    """
    identity = folder.read()
    if identity is not None:
        if token:
            log.info("the sidecar %s has joined already; the enrolment token is not used", identity.sidecar)
        return Membership(identity, folder, clock, addresses)
    if not token:
        raise ConfigError(
            "this sidecar has not joined its control plane", remedy="give --enrol TOKEN, from `authz sidecars invite`"
        )
    invitation, key = Invitation.read(token), new_key()
    answer = control_plane.enrol(url, invitation.text, request(key), roots=roots)
    identity = enrolled(answer, key, invitation.fingerprint)
    folder.keep(identity)
    log.info("joined as %s for %s", identity.sidecar, ", ".join(identity.tenants) or "every tenant")
    # During a rotation there are more roots than the one that the token vouched for.
    return Membership(identity, folder, clock, addresses, is_due=len(answer.roots) > len(identity.roots))


class Membership:
    """Who this sidecar is, and its connection to the control plane. `start`, then `stop`; both once."""

    def __init__(
        self,
        identity: Identity,
        folder: IdentityFolder,
        clock: Clock,
        addresses: Addresses = AS_TOLD,
        *,
        is_due: bool = False,
    ) -> None:
        self.folder: Final = folder
        self._addresses = addresses
        self._identity = identity.at(addresses)
        self.control: Final = ControlChannel(self._identity)
        self._clock = clock
        self._is_due = is_due
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="membership", daemon=True)

    @property
    def identity(self) -> Identity:
        """As it is now; renewals replace it."""
        return self._identity

    @property
    def channel(self) -> grpc.Channel:
        """The connection with mutual TLS; ask again for each call."""
        return self.control.channel

    def start(self) -> None:
        """Keep the certificate alive, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the connection; the identity stays on disk."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.control.close()

    def left_s(self) -> float:
        """Seconds until the certificate ends; negative afterwards."""
        return (self._identity.ends - self._now()).total_seconds()

    def renew(self) -> None:
        """Take a certificate that ends later, for a key of its own.

        Raises:
            ProgramError: the control plane refused, cannot be reached, or its answer cannot be trusted.
        """
        key = new_key()
        answer = self.control.call("Renew", RenewRequest(csr=request(key)), EnrolResponse)
        identity = renewed(answer, key, self._identity)
        self.folder.keep(identity)
        self._identity = identity.at(self._addresses)
        self._is_due = False
        self.control.replace(self._identity)
        log.info("the certificate of %s was renewed", identity.sidecar)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.unix_ns() / _NS, UTC)

    def _run(self) -> None:
        wait_s, retry_s = 0.0, RETRY_S[0]
        while not self._stop.wait(wait_s):
            wait_s = LOOK_S
            if not self._is_due and self._now() < self._identity.renew_at:
                continue
            try:
                self.renew()
                retry_s = RETRY_S[0]
            except (ProgramError, ConfigError) as error:
                log.warning("the certificate was not renewed, and ends in %.0f s: %s", self.left_s(), error)
                wait_s = retry_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
                retry_s = min(2 * retry_s, RETRY_S[1])
