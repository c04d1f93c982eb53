"""What would keep an installation from serving, found without serving.

Decides, part by part, whether a service with this configuration would start, answer and record, and what an operator
should know although it would: modes that trust more than they must, and kinds of protection that are off. Must never
change anything, show a token or a key, or count a part it could not look at as good.

Trusts the configuration's owner. Figures: `failure-matrix` (records stop at 95 % of the disk).
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from authz._gen.authz.control.v1.sidecars_pb2 import ReadTrustRequest, Trust
from authz.config import UpstreamAuth
from authz.edge.upstream import UpstreamCredentials
from authz.enrolment.folder import IdentityFolder
from authz.enrolment.identity import Addresses
from authz.enrolment.membership import Membership
from authz.enrolment.trust import TrustedKeys
from authz.errors import AuthzError, ConfigError, DenialError, ProgramError, UnavailableError
from authz.following import FOLDER as KILLS
from authz.identity import development_issuer
from authz.identity.clock_guard import ClockGuard
from authz.identity.jwks_source import open_jwks
from authz.identity.tokens import TokenVerifier, TrustedIssuer
from authz.model import PLATFORM
from authz.native import Library, NativeError
from authz.native.boundary import ABI_VERSION
from authz.policy.engine import PolicySource
from authz.policy.trust import Candidate
from authz.proxy.programs import TESTED_ENVOY, find_envoy, line_of
from authz.revocation.follower import Follower
from authz.wiring import last_good, policy_activation, policy_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.clock import Clock
    from authz.config import Config, Issuer, PublishedBundle

TESTED_PYTHON: Final = ((3, 11), (3, 13))
FULLEST: Final = 0.95
"""Part of the disk after which no allow is answered."""
SLOW_SYNC_S: Final = 0.02
"""A sync that takes longer eats a sixth of the deadline of each allow."""
STEP_S: Final = 5.0
PROBE_S: Final = 2.0


class State(StrEnum):
    """What a part means for serving."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


CONTROL: Final = "control plane"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part as it was found."""

    name: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is examined. `token` is tried on the issuers; `envoy` is the program, where it is named."""

    config: Config
    clock: Clock
    token: str = ""
    envoy: Path | None = None


def examine(subject: Subject) -> Iterator[Part]:
    """Every part, in the order in which a service would need them."""
    for look in _LOOKS:
        try:
            yield from look(subject)
        except (UnavailableError, NativeError, ProgramError) as error:
            yield _failed(look, State.UNAVAILABLE, error)
        except AuthzError as error:
            yield _failed(look, State.FAILED, error)


def _failed(look: Callable[..., object], state: State, error: AuthzError) -> Part:
    found = "; ".join([str(error), *map(str, error.problems)])
    return Part(name=look.__name__.strip("_"), state=state, found=found, remedy=error.remedy)


def _ok(name: str, found: str) -> Part:
    return Part(name=name, state=State.OK, found=found)


def _warning(name: str, found: str, remedy: str = "") -> Part:
    return Part(name=name, state=State.WARNING, found=found, remedy=remedy)


def _python(_: Subject) -> Iterator[Part]:
    lowest, highest = TESTED_PYTHON
    version = ".".join(map(str, sys.version_info[:3]))
    if not lowest <= sys.version_info[:2] <= highest:
        raise ConfigError(f"Python {version} is not tested", remedy="use Python 3.11, 3.12 or 3.13")
    yield _ok("python", version)


def _library(_: Subject) -> Iterator[Part]:
    inside = Library.load().versions()
    yield _ok("library", f"ABI {ABI_VERSION}, OPA {inside['opa']}, Go {inside['go']}")


def _configuration(subject: Subject) -> Iterator[Part]:
    subject.config.verify()
    UpstreamCredentials(subject.config.routes, subject.clock)
    yield _ok("configuration", f"contract {subject.config.policy.contract}, {len(subject.config.routes)} routes")


def _policy(subject: Subject) -> Iterator[Part]:
    config = subject.config
    if config.policy.bundles:
        for bundle in config.policy.bundles:
            yield from _published(config, bundle)
        return
    if not config.policy.paths and not config.policy.opa_url:
        return  # the configuration's fault, which is told above
    source, crashes = policy_source(config), last_good(config)
    if crashes is not None and crashes.is_poison(source):
        raise ConfigError(
            "BUNDLE_POISON: this policy ended the service again and again, and is not opened",
            remedy="change it; until then the service answers with the last good one",
        )
    active = policy_activation(config, Library.load()).activate(source)
    yield _ok("policy", f"{config.policy.rule} of revision {active.revision.revision} answers")
    yield from (_warning("policy", warning) for warning in active.policy.warnings)


def _published(config: Config, bundle: PublishedBundle) -> Iterator[Part]:
    """What a start without network would serve."""
    crashes = last_good(config, bundle)
    path = f"{bundle.tenant}/{bundle.name}".lstrip("/") if bundle.name else bundle.source
    nothing = PolicySource(candidate=Candidate(path=path, archive=b""), contract=config.policy.contract)
    kept = crashes.recall(nothing) if crashes else None
    if kept is None:
        yield _warning("policy", f"no copy of {path} is kept here yet", "it comes with the first start")
        return
    tenant = bundle.tenant if bundle in config.policy.tenant_bundles else PLATFORM
    active = policy_activation(config, Library.load(), tenant=tenant).activate(kept)
    yield _ok("policy", f"{config.policy.rule} of revision {active.revision.revision} is kept here of {path}")


def _keys(subject: Subject) -> Iterator[Part]:
    for issuer in subject.config.issuers:
        source = open_jwks(issuer, clock=subject.clock, limits=subject.config.limits)
        source.refresh()
        state = source.state()
        if state.keys == 0:
            raise ConfigError(f"none of {issuer.issuer} can be used", remedy="publish keys for EdDSA, ES256 or RSA")
        yield _ok("keys", f"{state.keys} of {issuer.issuer}, read now")
        for rejected in state.rejected:
            yield _warning("keys", f"a key of {issuer.issuer} is not used: {rejected}", "publish keys that can be used")


def _token(subject: Subject) -> Iterator[Part]:
    config, clock = subject.config, subject.clock
    if not config.issuers:
        return
    token = subject.token or next(filter(None, map(_development_token, config.issuers)), "")
    if not token:
        yield _ok("token", "none was given to try (--token-file)")
        return
    sources = [open_jwks(issuer, clock=clock, limits=config.limits) for issuer in config.issuers]
    for source in sources:
        source.refresh()
    trusted = [TrustedIssuer(issuer=i, keys=k) for i, k in zip(config.issuers, sources, strict=True)]
    try:
        principal = TokenVerifier(trusted, clock=ClockGuard(clock), limits=config.limits).verify(token)
    except DenialError as error:
        raise ConfigError(f"refused: {error}", remedy=error.reason.next_step) from error
    yield _ok("token", f"accepted: agent {principal.agent} of tenant {principal.tenant}")


def _development_token(issuer: Issuer) -> str:
    if issuer.issuer != development_issuer.ISSUER:
        return ""
    signer = development_issuer.read_issuer(Path(issuer.jwks).parent, audience=issuer.audience)
    return signer.mint(agent="doctor", tenant=(issuer.tenants or ("doctor",))[0], ttl_s=60) if signer else ""


def _records(subject: Subject) -> Iterator[Part]:
    audit = subject.config.audit
    if audit.directory is None:
        yield _warning("records", "no record is kept", "set audit.directory (--audit-dir)")
        return
    folder = next(
        place for place in (audit.directory.absolute(), *audit.directory.absolute().parents) if place.exists()
    )
    took_s = _synced(folder)
    disk = shutil.disk_usage(folder)
    if disk.used / disk.total > FULLEST or disk.free < audit.segment_bytes:
        raise ConfigError(
            f"{folder}: {disk.free >> 20} MiB are left", remedy="free space: without a record nothing is allowed"
        )
    yield _ok(
        "records", f"{audit.directory}: a record is synced in {took_s * 1000:.1f} ms, {disk.free >> 30} GiB are free"
    )
    if took_s > SLOW_SYNC_S:
        yield _warning("records", f"a sync takes {took_s * 1000:.0f} ms of each allow's deadline", "use a faster disk")
    if audit.sync == "none":
        yield _warning("records", "an allow does not wait for its record", "set audit.sync to `group`")


def _synced(folder: Path) -> float:
    """Seconds that it takes to write a file there and sync it."""
    started = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 1024)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}", remedy="give a folder that this user may write") from error
    return time.perf_counter() - started


def _listen(subject: Subject) -> Iterator[Part]:
    listen = subject.config.listen
    if listen.diagnostics and _is_ours(listen.diagnostics):
        yield _ok("listen", f"authz runs here already: {listen.diagnostics} answers")
        return
    yield _address("listen", listen.check)
    if listen.diagnostics:
        yield _address("diagnostics", listen.diagnostics)
    else:
        yield _warning("diagnostics", "switched off: no metrics and no probes", "set listen.diagnostics")


def _address(name: str, address: str) -> Part:
    if address.startswith("unix:"):
        return _socket(name, address)
    host, _, port = address.rpartition(":")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host.strip("[]"), int(port)), family=family):
            return _ok(name, f"{address} is free")
    except OSError as error:
        raise ConfigError(
            f"{address}: {error.strerror}", remedy="stop what listens there, or choose another address"
        ) from error


def _socket(name: str, address: str) -> Part:
    if address.startswith("unix://@"):
        return _ok(name, f"{address} is abstract: it needs no file")
    folder = Path(address.removeprefix("unix:").removeprefix("//")).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be written to", remedy="make it, for this user")
    return _ok(name, f"{address} can be made")


def _is_ours(address: str) -> bool:
    """Whether the diagnostics of a running authz answer there."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PROBE_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().headers.get("server", "").strip() == "authz"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _clock(subject: Subject) -> Iterator[Part]:
    now_s = subject.clock.unix_ns() / 1e9
    written = [path.stat().st_mtime for path in _witnesses(subject.config)]
    if written and max(written) - now_s > STEP_S:
        raise ConfigError(
            f"the clock stands {max(written) - now_s:.0f} s before files that were written under it",
            remedy="set the clock: tokens are judged by it",
        )
    yield _ok("clock", "no step back is seen")


def _witnesses(config: Config) -> Iterator[Path]:
    """Files whose times a clock that ran on must have passed."""
    yield Path(__file__)
    if config.audit.directory is not None and config.audit.directory.is_dir():
        yield from config.audit.directory.glob("decisions-*.jsonl")
    yield from (
        Path(issuer.jwks) for issuer in config.issuers if "://" not in issuer.jwks and Path(issuer.jwks).exists()
    )


def _control(subject: Subject) -> Iterator[Part]:
    """Whether this sidecar is a member of its control plane, and how long it stays one."""
    control = subject.config.control
    if not control.url or control.state is None:
        return
    identity = IdentityFolder(control.state / "identity").read()
    if identity is None:
        invited = "the enrolment token is used at the start" if control.enrol.get_secret_value() else ""
        if not invited:
            raise ConfigError("this sidecar has not joined its control plane", remedy="give --enrol TOKEN")
        yield _ok(CONTROL, invited)
        return
    addresses = Addresses(replication=control.replication, redis=control.redis)
    member = Membership(identity, IdentityFolder(control.state / "identity"), subject.clock, addresses)
    try:
        yield from _member(member, TrustedKeys(member, subject.clock))
    finally:
        member.stop()


def _member(member: Membership, keys: TrustedKeys) -> Iterator[Part]:
    name = f"{member.identity.sidecar}, for {', '.join(member.identity.tenants) or 'every tenant'}"
    if member.left_s() <= 0:
        raise ConfigError(
            f"{name}: its certificate has ended", remedy="remove the identity and invite the sidecar again"
        )
    yield _ok(CONTROL, f"{name}; the certificate lives {member.left_s() / 3600:.1f} h more")
    try:
        member.control.call("ReadTrust", ReadTrustRequest(), Trust)
    except ProgramError as error:
        known = keys.last_known()
        kept = f"its keys of {known.age_s:.0f} s ago are kept" if known else "none of its keys are kept"
        yield _warning(CONTROL, f"{error}; {kept}", "start the control plane; if it refuses, invite the sidecar again")


def _revocation(subject: Subject) -> Iterator[Part]:
    revocation, control = subject.config.revocation, subject.config.control
    if revocation.source == "none":
        yield _warning(
            "revocation", "none: no agent, token or tool can be killed; what is granted lasts as long as its token"
        )
        return
    folder = (control.state or Path()) / KILLS
    if control.state is None or not folder.exists():
        yield _warning("revocation", f"{revocation.mode}: no kills are kept here yet", "they come with the first start")
        return
    kept = Follower(folder, subject.clock, reads_s=revocation.stale_reads_s)
    kept.recall()
    age_s = kept.oldest_s()
    if age_s > revocation.stale_reads_s:
        yield _warning(
            "revocation",
            f"{revocation.mode}: a start without network would serve nothing: the kills kept here are too old",
            "see `/readyz` of the running service",
        )
    else:
        yield _ok("revocation", f"{revocation.mode}: {kept.kills()} kills, kept {age_s:.0f} s ago")


def _envoy(subject: Subject) -> Iterator[Part]:
    try:
        program = find_envoy(subject.envoy)
    except ProgramError as error:
        yield _warning("envoy", f"{error}; `authz up` needs it here, `authz serve` somewhere else", error.remedy)
        return
    line = line_of(program)
    if line != TESTED_ENVOY:
        yield _warning("envoy", f"{program}: {line or 'unknown version'}", f"tested with {TESTED_ENVOY}")
    else:
        yield _ok("envoy", f"{program}: {line}")


def _trust(subject: Subject) -> Iterator[Part]:
    """Modes that trust more than they must."""
    config = subject.config
    risks = {
        "listen.insecure_plaintext: who is on that network may forge checks": config.listen.insecure_plaintext,
        "policy.dry_run: no denial of the policy is enforced": config.policy.dry_run,
        "telemetry.log_level debug: what policies print is logged": config.telemetry.log_level == "debug",
    }
    for route in config.routes:
        risks[
            f"routes {route.path or route.path_prefix}: upstream_auth `pass` hands the caller's token to the tool"
        ] = not isinstance(route.upstream_auth, UpstreamAuth) and route.upstream_auth == "pass"
    for issuer in config.issuers:
        risks[f"issuer {issuer.issuer} is for development: who reads its key is anybody"] = (
            issuer.issuer == development_issuer.ISSUER
        )
    yield from (_warning("trust", risk) for risk, taken in risks.items() if taken)


_LOOKS: Final = (
    _python,
    _library,
    _configuration,
    _policy,
    _keys,
    _token,
    _records,
    _listen,
    _clock,
    _control,
    _revocation,
    _envoy,
    _trust,
)
