"""What a sidecar runs to follow its published bundles: where each is read, and whom that is told.

Decides which adapter reads a source, and when the control plane hears of it: at each change, and now and again, so that
it knows what is in use. A report that does not arrive is made again with the next look. Must never load a client that
this source does not need. Trusts its membership.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.errors import ConfigError, ProgramError
from authz.policy.fetching import Fetcher, Pace
from authz.policy.manifest import written
from authz.policy.origin_control import ControlOrigin
from authz.policy.origin_file import FileOrigin
from authz.policy.origin_http import HttpOrigin
from authz.policy.registry import Place
from authz.reasons import POLICY_TENANT_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.clock import Clock
    from authz.config import Policy, PublishedBundle
    from authz.enrolment.membership import Membership
    from authz.model import Principal
    from authz.policy.activation import Activation
    from authz.policy.fetching import Fetching
    from authz.policy.origin import Origin
    from authz.policy.s3 import S3Signer

log: Final = logging.getLogger(__name__)
HEARD_NS: Final = 600 * 10**9
"""An origin that was not heard for so long is down: longer than a question may be held, and a pause after it."""
REPORT_NS: Final = 60 * 10**9
"""What stands is said again so often."""


class TenantBundles:
    """Tenants' own bundles. Each is followed, judged, opened and remembered by itself, and fails alone.

    `begin`, then `start` and `stop`; each once.

    Args:
        followed: by tenant, what its bundle is activated by, and what follows it.
    """

    def __init__(self, followed: Mapping[str, tuple[Activation, Fetcher]], clock: Clock) -> None:
        self._followed = followed
        self._clock = clock

    @property
    def activations(self) -> dict[str, Activation]:
        """By tenant."""
        return {tenant: activation for tenant, (activation, _) in self._followed.items()}

    def begin(self) -> None:
        """Serve from the disk what is there."""
        for _, follows in self._followed.values():
            follows.begin()

    def start(self) -> None:
        """Follow all of them."""
        for _, follows in self._followed.values():
            follows.start()

    def stop(self) -> None:
        """End."""
        for _, follows in self._followed.values():
            follows.stop()

    def degraded(self) -> dict[str, str]:
        """What is not well, by part: a code each. A tenant whose bundle is not here is denied."""
        found = {}
        for tenant, (activation, follows) in self._followed.items():
            code = failing(activation, follows)
            if not activation.revision.revision:
                code = POLICY_TENANT_UNAVAILABLE.code
            if code:
                found[f"policy of {tenant}"] = code
        return found

    def standing(self) -> dict[str, object]:
        """Which policy answers for each tenant, where it comes from, and what was refused."""
        return {
            tenant: standing(activation) | {"source": followed(follows.state, self._clock)}
            for tenant, (activation, follows) in self._followed.items()
        }

    def is_current(self, tenant: str) -> bool:
        """As `is_current`; a tenant without a bundle has none that could be old."""
        found = self._followed.get(tenant)
        return found is None or is_current(found[1], found[0], self._clock)


def failing(activation: Activation, follows: Fetcher | None) -> str:
    """Why what is published is not what answers, or will not for long, as a code; empty when all is well."""
    if refused := activation.last_failure:
        return refused.code
    return "BUNDLE_FETCH" if follows is not None and follows.state.unreachable else ""


def fetcher(
    bundle: PublishedBundle, policy: Policy, activation: Activation, membership: Membership | None, clock: Clock
) -> Fetcher:
    """What follows a published bundle.

    Raises:
        ConfigError: a source that cannot be used.
    """
    reporter = Reporter(bundle, membership, clock) if membership else None
    return Fetcher(
        origin(bundle, membership, clock, archive_bytes=policy.bundle_bytes),
        activation,
        clock,
        Pace(poll_s=bundle.poll_s, wait_s=bundle.wait_s),
        contract=policy.contract,
        told=reporter.tell if reporter else lambda _: None,
    )


def origin(bundle: PublishedBundle, membership: Membership | None, clock: Clock, *, archive_bytes: int) -> Origin:
    """What reads a source.

    Raises:
        ConfigError: the source cannot be used.
    """
    if bundle.source == "control":
        if membership is None:
            raise ConfigError("this sidecar belongs to no control plane", remedy="give --control")
        place = Place(tenant=bundle.tenant, name=bundle.name)
        return ControlOrigin(place, lambda: membership.channel, clock, archive_bytes=archive_bytes)
    if bundle.source.startswith("file:"):
        return FileOrigin(Path(unquote(urlsplit(bundle.source).path)), archive_bytes=archive_bytes)
    token = _token(bundle)
    if bundle.s3_region:
        sign = s3_signer(bundle.s3_region, bundle.token_file)
        return HttpOrigin(bundle.source, clock, sign=sign, roots=bundle.roots, archive_bytes=archive_bytes)
    if bundle.source.startswith("oci:"):
        from authz.policy.oci import OciOrigin  # noqa: PLC0415 - an extra: most never need it

        return OciOrigin(bundle.source, clock, token=token, roots=bundle.roots, archive_bytes=archive_bytes)
    client = (bundle.client.certificate, bundle.client.key) if bundle.client else None
    return HttpOrigin(bundle.source, clock, token=token, client=client, roots=bundle.roots, archive_bytes=archive_bytes)


def _token(bundle: PublishedBundle) -> Callable[[], str] | None:
    if bundle.token_file:
        return functools.partial(read_token, bundle.token_file)
    return bundle.token.get_secret_value if bundle.token.get_secret_value() else None


def s3_signer(region: str, file: Path | None) -> S3Signer:
    """What signs requests to an object store: by the credentials in a file, else by the environment's.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from authz.policy.s3 import S3Signer, from_environment  # noqa: PLC0415 - an extra: most never need it
    except ImportError:
        raise ConfigError("requests to S3 need the extra `s3`", remedy="pip install 'authz[s3]'") from None
    return S3Signer(region, functools.partial(read_token, file) if file else lambda: from_environment(os.environ))


def read_token(file: Path) -> str:
    """A bearer token.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    return file.read_text(encoding="ascii").strip()


def is_current(fetcher: Fetcher, activation: Activation, clock: Clock) -> bool:
    """Whether the origin was heard lately, or the bundle is in the first half of its life (failure matrix §3).

    Asked for each destructive call.
    """
    heard_ns = fetcher.state.heard_ns
    if heard_ns is not None and clock.monotonic_ns() - heard_ns <= HEARD_NS:
        return True
    verified = activation.verified
    if verified is None:
        return False
    life = verified.manifest
    return clock.unix_ns() < life.created_ns + (life.expires_ns - life.created_ns) // 2


def are_current(
    platform: tuple[Activation, Fetcher] | None, tenants: TenantBundles | None, clock: Clock
) -> Callable[[Principal], bool]:
    """Asks of each caller whether the platform's bundle is current, where one is followed, and the tenant's own."""

    def asked(principal: Principal) -> bool:
        is_one = platform is None or is_current(platform[1], platform[0], clock)
        return is_one and (tenants is None or tenants.is_current(principal.tenant))

    return asked


def standing(activation: Activation) -> dict[str, object]:
    """Which policy answers and what was refused, for whoever looks at a running sidecar."""
    revision, verified, failure = activation.revision, activation.verified, activation.last_failure
    return {
        "revision": revision.revision,
        "bundle_id": revision.bundle_id,
        "change_id": revision.change_id,
        "digest": verified.digest if verified else "",
        "sequence": verified.manifest.sequence if verified else None,
        "expires_at": written(verified.manifest.expires_ns) if verified else "",
        "signed_by": ", ".join(verified.signed_by) if verified else "",
        "failure": str(failure) if failure else "",
        "quarantined": dict(activation.quarantined),
    }


def followed(fetching: Fetching, clock: Clock) -> dict[str, object]:
    """How a published bundle is followed."""
    heard_s = None if fetching.heard_ns is None else round((clock.monotonic_ns() - fetching.heard_ns) / 1e9)
    return {
        "path": fetching.path,
        "sha256": fetching.serving,
        "refused": fetching.refused,
        "code": fetching.code,
        "why": fetching.why,
        "unreachable": fetching.unreachable,
        "heard_s_ago": heard_s,
    }


class Reporter:
    """Tells the control plane what answers here, and what was refused. Used by one thread."""

    def __init__(self, bundle: PublishedBundle, membership: Membership, clock: Clock) -> None:
        self._tenant = bundle.tenant
        self._name = bundle.name or bundle.source
        self._call: Callable[[pb.ReportBundlesRequest], object] = lambda request: membership.control.call(
            "ReportBundles", request, pb.ReportBundlesResponse
        )
        self._monotonic_ns = clock.monotonic_ns
        self._said: tuple[pb.BundleState, int] | None = None

    def tell(self, fetching: Fetching) -> None:
        """Say how it stands, unless it was said lately."""
        state = pb.BundleState(
            tenant=self._tenant,
            name=self._name,
            sha256=fetching.serving,
            refused=fetching.refused,
            code=fetching.code,
        )
        now_ns = self._monotonic_ns()
        if self._said and self._said[0] == state and now_ns - self._said[1] < REPORT_NS:
            return
        try:
            self._call(pb.ReportBundlesRequest(bundles=[state]))
        except ProgramError as error:
            log.debug("the control plane was not told of the bundle: %s", error)
        else:
            self._said = (state, now_ns)
