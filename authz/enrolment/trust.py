"""Whose tokens the control plane says to take: its issuer and keys, with the last known copy on disk.

Decides what a sidecar knows before the control plane answers: the copy, with the age it has by now. Keys are used by
the rules of `jwks_source`, which count that age: a copy that is too old is none, and so is one from the future, since
a clock that was set back must not make old keys young.
Trusts the control plane, and the folder's owner.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1.sidecars_pb2 import ReadTrustRequest, Trust
from authz.enrolment.control_plane import PAUSE_S, REACH_S
from authz.errors import ConfigError, ProgramError
from authz.secret_file import load

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.enrolment.membership import Membership

log: Final = logging.getLogger(__name__)
COPY: Final = "trust.json"
KEEP_NS: Final = 60 * 1_000_000_000
"""The copy on disk is at most so much older than what is in memory."""
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the control plane said of its tokens."""

    issuer: str
    jwks: bytes
    age_s: float
    """Since it was read; infinite where nobody can say."""


class TrustedKeys:
    """The control plane's JWK Set, as a document that `JwksSource` reads."""

    def __init__(self, membership: Membership, clock: Clock) -> None:
        self._membership = membership
        self._unix_ns = clock.unix_ns
        self._monotonic_ns = clock.monotonic_ns
        self._kept: tuple[str, str, int] = ("", "", 0)

    def __call__(self) -> bytes:
        """Ask the control plane.

        Raises:
            OSError: it cannot be asked.
            ValueError: it publishes no keys.
        """
        return self.read().jwks

    def read(self) -> Published:
        """The same, with the issuer's name.

        Raises:
            OSError: it cannot be asked.
            ValueError: it publishes no keys.
        """
        try:
            trust = self._membership.control.call("ReadTrust", ReadTrustRequest(), Trust)
        except ProgramError as error:
            raise ConnectionError(str(error)) from None
        if not trust.jwks or not trust.issuer:
            raise ValueError("the control plane publishes no keys")
        self._keep(trust.issuer, trust.jwks)
        return Published(issuer=trust.issuer, jwks=trust.jwks.encode(), age_s=0.0)

    def published(self) -> Published:
        """What the control plane says, else what it last said; where it said nothing yet, it is waited for.

        Raises:
            ProgramError: neither is known, also after a while.
        """
        until_ns = self._monotonic_ns() + int(REACH_S * _NS)
        while True:
            try:
                return self.read()
            except (OSError, ValueError) as error:
                known, why = self.last_known(), str(error)
            if known is not None:
                log.warning("%s; its keys of %.0f s ago are used", why, known.age_s)
                return known
            if self._monotonic_ns() > until_ns:
                remedy = "start the control plane, or configure `issuers`"
                raise ProgramError(f"nobody's tokens could be taken: {why}", remedy=remedy)
            time.sleep(PAUSE_S)

    def last_known(self) -> Published | None:
        """What was read before this start; None where nothing was, or it is damaged."""
        try:
            document = json.loads(load(self._membership.folder.path / COPY, size_bytes=0))
            issuer, jwks, read_ns = str(document["issuer"]), str(document["jwks"]), int(document["read_ns"])
        except (ConfigError, ValueError, KeyError, TypeError):
            return None
        age_ns = self._unix_ns() - read_ns
        return Published(issuer=issuer, jwks=jwks.encode(), age_s=age_ns / _NS if age_ns >= 0 else math.inf)

    def _keep(self, issuer: str, jwks: str) -> None:
        now_ns = self._unix_ns()
        if self._kept[:2] == (issuer, jwks) and 0 <= now_ns - self._kept[2] < KEEP_NS:
            return
        try:
            self._membership.folder.write(
                COPY, json.dumps({"issuer": issuer, "jwks": jwks, "read_ns": now_ns}).encode()
            )
        except OSError as error:
            log.warning("the keys could not be kept for a restart without network: %s", error.strerror)
            return
        self._kept = (issuer, jwks, now_ns)
