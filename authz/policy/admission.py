"""The shell around trust: from an archive that somebody put there to one that the engine may open.

Decides nothing about trust, which is `trust`'s alone. It reads what was seen before, gives the engine the bytes that
were signed and no others, and remembers what came of it: a bundle that answers moves the counter, one that failed after
it was verified is quarantined by the digest of its files. Must never let what is not verified reach the engine, nor
write because of what nobody signed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from authz.errors import BundleError, ConfigError
from authz.model import PLATFORM
from authz.policy import archive
from authz.policy.data_guard import hold_data
from authz.policy.input_fields import input_fields
from authz.policy.pinned import Freshness, Signers, Trust
from authz.policy.seen_file import Forgetful, SeenFile
from authz.policy.signature import read_public_key
from authz.policy.trust import REMEMBERED, verify

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from authz.clock import Clock
    from authz.config import BundleTrust, Policy
    from authz.policy.engine import PolicySource
    from authz.policy.trust import Seen, Verified

# What failed for another reason than the bundle's own may hold the next time, or in the next release.
_NOT_ITS_FAULT: Final = frozenset({"BUNDLE_STATE", "BUNDLE_POISON", "BUNDLE_TIMEOUT", "BUNDLE_INPUT"})


class Memory(Protocol):
    """What was seen before."""

    def read(self) -> Seen:
        """What is remembered.

        Raises:
            BundleError: BUNDLE_STATE.
        """
        ...

    def write(self, seen: Seen) -> None:
        """Remember.

        Raises:
            BundleError: BUNDLE_STATE.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A verified bundle, and the source that the engine may open."""

    verified: Verified
    source: PolicySource


class Admission:
    """Verifies candidates of one service. Not thread-safe: activations take turns."""

    def __init__(self, trust: Trust, memory: Memory, clock: Clock) -> None:
        self._trust = trust
        self._memory = memory
        self._clock = clock

    def admit(self, source: PolicySource, *, returning: bool = False) -> Admitted:
        """Verify a candidate.

        Raises:
            BundleError: with the reason of `trust.verify`; BUNDLE_UNSIGNED for what is no archive, since nothing else
                can be signed.
        """
        if source.candidate is None:
            raise BundleError("keys are pinned, and this is no bundle archive", code="BUNDLE_UNSIGNED")
        verified = verify(
            source.candidate, self._trust, self._memory.read(), now_ns=self._clock.unix_ns(), returning=returning
        )
        # Written anew: no other reader can find more in these bytes than was verified (F2).
        opened = archive.write(verified.files, level=archive.STORED)
        return Admitted(verified=verified, source=replace(source, archive=opened, candidate=None))

    def admit_named(self, source: PolicySource) -> Admitted:
        """Verify a candidate that a rollout names: a newer one, or one that served here before.

        Raises:
            BundleError: as for `admit`.
        """
        try:
            return self.admit(source)
        except BundleError as error:
            if error.code != "BUNDLE_REGRESSION":
                raise
            return self.admit(source, returning=True)

    def served(self, admitted: Admitted) -> None:
        """Remember that it may return. The counter stays: it bounds what is fetched.

        Raises:
            BundleError: BUNDLE_STATE; then it must not answer.
        """
        seen, digest = self._memory.read(), admitted.verified.digest
        if digest not in seen.activated:
            self._memory.write(replace(seen, activated=(*seen.activated, digest)[-REMEMBERED:]))

    def hold(self, verified: Verified, serving: Verified) -> None:
        """Hold a candidate's data to the data that serves. An older one comes by a signed statement, and is not held.

        Raises:
            BundleError: BUNDLE_SHRINK, BUNDLE_SHAPE. It is not quarantined: the operator may allow it.
        """
        if verified.manifest.sequence > serving.manifest.sequence:
            hold_data(serving.files, verified.files, share=self._trust.data_loss)

    def activated(self, admitted: Admitted) -> None:
        """Count a bundle, before it answers.

        Raises:
            BundleError: BUNDLE_STATE; then it must not answer.
        """
        seen = admitted.verified.seen
        if seen != self._memory.read():
            self._memory.write(seen)

    def failed(self, admitted: Admitted, error: BundleError) -> None:
        """Quarantine a verified bundle that cannot serve, for a reason that lies in its files.

        Raises:
            BundleError: BUNDLE_STATE.
        """
        if error.code not in _NOT_ITS_FAULT:
            self._memory.write(self._memory.read().quarantine(admitted.verified.digest, error.code))

    def quarantined(self) -> Mapping[str, str]:
        """Digests of bundles that are never tried again, each with its code; empty where that cannot be read."""
        try:
            return self._memory.read().quarantined
        except BundleError:
            return {}

    def standing(self, verified: Verified) -> BundleError | None:
        """Why a bundle in service may not serve on, or not for long; None while nothing is against it."""
        now_ns = self._clock.unix_ns()
        if now_ns >= verified.manifest.expires_ns:
            return BundleError("the bundle in service has expired", code="BUNDLE_EXPIRED")
        if verified.fresh_until_ns is not None and now_ns > verified.fresh_until_ns:
            return BundleError("nobody has said of late that the bundle is the newest", code="BUNDLE_STALE")
        return None

    def has_expired(self, verified: Verified) -> bool:
        """Whether a bundle in service may answer no more. Called for each decision."""
        return self._clock.unix_ns() >= verified.manifest.expires_ns


def admission(
    policy: Policy, *, engine: str, folder: Path | None, clock: Clock, tenant: str = PLATFORM
) -> Admission | None:
    """What verifies the bundles of a service; None where no key is pinned.

    Args:
        policy: its settings.
        tenant: whose own bundle it is, beside the platform's.
        engine: OPA's version.
        folder: of its state; None remembers nothing, for those who only look.
        clock: tells when bundles expire.

    Raises:
        ConfigError: see `pinned`.
    """
    if policy.trust is None:
        return None
    trust = pinned(policy.trust, engine=engine, input_fields=input_fields(policy.contract))
    trust = replace(trust, bounds=archive.bounds(policy.bundle_bytes))
    if tenant:
        trust = trust.of_tenant(tenant)
    elif policy.tenant_bundles:
        trust = trust.of_platform(bundle.tenant for bundle in policy.tenant_bundles)
    return Admission(trust, SeenFile(folder) if folder else Forgetful(), clock)


def pinned(settings: BundleTrust, *, engine: str, input_fields: Container[str] | None) -> Trust:
    """What is pinned, with the keys read from their files.

    Raises:
        ConfigError: a key cannot be read or used, or the pins make no sense together.
    """
    freshness = settings.freshness
    keys = {name: read_public_key(name, _read(key)) for name, key in settings.keys.items()}
    others = tuple(name for name in keys if freshness is None or name not in freshness.keys)
    signers = tuple(
        Signers(
            keys=entry.keys,
            threshold=entry.threshold,
            bundle_id=entry.bundle_id,
            path=entry.path,
            tenants=entry.tenants,
        )
        for entry in settings.signers
    )
    return Trust(
        keys=keys,
        signers=signers or (Signers(keys=others),),
        freshness=Freshness(keys=freshness.keys, max_age_s=freshness.max_age_s) if freshness else None,
        scope=settings.scope,
        tenants=settings.tenants,
        engine=engine,
        input_fields=input_fields,
        max_step=settings.max_step,
        data_loss=settings.data_loss,
    )


def _read(path: Path | str) -> bytes:
    if isinstance(path, str):
        return path.encode()
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="pin a public key that this user may read") from error
