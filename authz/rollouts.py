"""What a sidecar runs to take part in rollouts: it is told what answers whom, opens it, and tells what it found.

Decides when to ask (each second, and at once when the trip wire acted), which directives are taken (signed by their
scope's key, and newer than the one before), and that one takes effect only once what it needs is open: a candidate that
cannot be opened here answers nobody here. What is in force is kept on disk, so that a restart without network goes on
as before, and what tripped stays out. Must never undo by itself what was told, but for the trip wire; nor end because
the control plane is silent.

Trusts its membership, and its state folder's owner.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.clock import random_hex
from authz.errors import BundleError, ProgramError, UnavailableError
from authz.model import PLATFORM
from authz.policy import directive, durable, findings
from authz.policy.cohorts import CohortPolicies, Enacted
from authz.policy.comparison import Comparison
from authz.policy.directive import Mode, Statement
from authz.policy.revisions import Revisions
from authz.policy.tenants import of_platform, of_tenant
from authz.policy.trust import Candidate
from authz.telemetry import names
from authz.telemetry.metrics import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from authz.clock import Clock
    from authz.config import Config
    from authz.enrolment.membership import Membership
    from authz.model import Decision
    from authz.policy.activation import Activation, Opened
    from authz.policy.directive import Directive

log: Final = logging.getLogger(__name__)
ASK_S: Final = 1.0
"""How often what was found is told and what is to be done is asked."""
AGAIN_NS: Final = 4 * 10**9
"""What did not change is told again so often while a rollout is under way."""
FOLDER: Final = "rollouts"
MAX_TOLD: Final = 4
"""Windows that one report holds."""
NOT_ITS_OWN: Final = "BUNDLE_TENANT"
"""Said of a rollout for a tenant that is judged by the platform's policy alone."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One policy of the sidecar, what answers in its place, and what was compared with it."""

    activation: Activation
    policies: CohortPolicies
    comparison: Comparison
    open: dict[str, Opened] = field(default_factory=dict)
    """Warm revisions, by digest."""


class Rollouts:
    """The rollouts of one sidecar. `begin` before anything answers; `start`, then `stop`; both once.

    Args:
        activation: of the policy that judges every call.
        tenants: of tenants' own policies beside it. Where there are any, a tenant's rollouts are of its own policy
            alone and the platform's of the platform's; else all rollouts are of the one policy.
    """

    def __init__(
        self,
        config: Config,
        membership: Membership,
        activation: Activation,
        clock: Clock,
        *,
        tenants: Mapping[str, Activation] = MappingProxyType({}),
        is_crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        policy = config.policy
        self._pin: Final = policy.pin
        self._folder: Final[Path] = membership.folder.path.parent / FOLDER
        self._membership = membership
        self._revisions = revisions(config, self._folder / "archives", PulledBlobs(membership, policy.bundle_bytes))
        self._wanted = threading.Event()
        compares = functools.partial(
            Comparison,
            clock=clock,
            evaluation_s=policy.evaluation_s,
            share=policy.compare,
            tripped=self._wanted.set,
            is_crowded=is_crowded,
        )

        def part(activation: Activation) -> _Part:
            policies = CohortPolicies(activation)
            return _Part(activation, policies, compares(policies))

        self._platform = part(activation)
        self._tenants = {tenant: part(own) for tenant, own in tenants.items()}
        self.policies: Final = self._platform.policies
        self._run_id = random_hex()[:16]
        self._keys: dict[str, dict[str, Ed25519PublicKey]] = {}
        self._refused: dict[tuple[str, str, int], str] = {}
        self._told: dict[str, Directive] = {}
        self._said: dict[str, tuple[pb.RolloutReport, int]] = {}
        self._monotonic_ns = clock.monotonic_ns
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)

    def begin(self) -> None:
        """Put in force what was before, from disk alone."""
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() and not self._pin else ():
            try:
                kept = orjson.loads(path.read_bytes())
                told = directive.recalled(kept["body"].encode())
                self._enact(told, tripped=str(kept["tripped"]))
            except (OSError, ValueError, KeyError, BundleError, UnavailableError) as error:
                log.error("what was in force before is not used: %s: %s", path, error)  # noqa: TRY400

    def start(self) -> None:
        """Begin to ask and to compare."""
        for comparison in self.comparisons:
            comparison.start()
        self._thread.start()

    def stop(self) -> None:
        """End both; what is in force stays on disk."""
        self._stop.set()
        self._wanted.set()
        self._thread.join()
        for comparison in self.comparisons:
            comparison.stop()

    @property
    def comparisons(self) -> list[Comparison]:
        """The platform's, then the tenants'."""
        return [part.comparison for part in self._parts()]

    @property
    def tenants(self) -> dict[str, CohortPolicies]:
        """Tenants' own policies, by tenant."""
        return {tenant: part.policies for tenant, part in self._tenants.items()}

    def _parts(self) -> list[_Part]:
        return [self._platform, *self._tenants.values()]

    def _part(self, scope: str) -> _Part | None:
        """Whose rollouts a scope's are; None for a tenant that has no policy of its own here."""
        return self._tenants.get(scope) if self._tenants and scope != PLATFORM else self._platform

    def _enacted(self, scope: str) -> Enacted | None:
        part = self._part(scope)
        return part.policies.enacted.get(scope) if part else None

    def observe(self, decision: Decision) -> None:
        """Count a decision for each policy that had a part in it; never waits."""
        if not self._tenants:
            self._platform.comparison.observe(decision)
            return
        self._platform.comparison.observe(of_platform(decision))
        own = of_tenant(decision)
        part = self._tenants.get(own.principal.tenant) if own and own.principal else None
        if own is not None and part is not None:
            part.comparison.observe(own)

    def readings(self) -> list[Reading]:
        """For the metrics."""
        counts = {
            "agree": sum(each.agreed for each in self.comparisons),
            "disagree": sum(each.disagreed for each in self.comparisons),
            "shed": sum(each.shed for each in self.comparisons),
        }
        tripped = sum(bool(enacted.tripped) for part in self._parts() for enacted in part.policies.enacted.values())
        return [
            *(Reading(names.ROLLOUT_COMPARED, count, (outcome,)) for outcome, count in counts.items()),
            Reading(names.ROLLOUT_TRIPPED, tripped),
        ]

    def once(self) -> None:
        """Tell what was found, and take what is told.

        Raises:
            ProgramError: the control plane refused, or was not reached.
        """
        due = [report for report in map(self._report, self._told.values()) if self._is_due(report)]
        request = pb.ReportRolloutsRequest(reports=due)
        answer = self._membership.control.call("ReportRollouts", request, pb.ReportRolloutsResponse)
        self._said |= {report.tenant: (report, self._monotonic_ns()) for report in due}
        for signed in answer.directives:
            statement = Statement(body=signed.body, signature=signed.signature, kid=signed.kid)
            try:
                self.take(self._read(statement))
            except BundleError as error:
                log.error("%s", error)  # noqa: TRY400 - what a directive says wrong is no fault of ours
        self._keep_trips()

    def _is_due(self, report: pb.RolloutReport) -> bool:
        """News; and what is under way now and again, so that the control plane knows who follows it."""
        said, said_ns = self._said.get(report.tenant, (None, 0))
        under_way = self._told[report.tenant].mode is not Mode.BASELINE
        return report != said or (under_way and self._monotonic_ns() - said_ns >= AGAIN_NS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.once()
            except (ProgramError, UnavailableError) as error:
                log.debug("rollouts stand as they are: %s", error)
            self._wanted.wait(ASK_S)
            self._wanted.clear()

    def _read(self, statement: Statement) -> Directive:
        scope = directive.claimed_scope(statement)
        if statement.kid not in self._keys.get(scope, {}):
            trust = self._membership.control.call("ReadTrust", pb.ReadTrustRequest(), pb.Trust)
            self._keys = {
                stream.stream: {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in stream.keys}
                for stream in trust.streams
            }
        return directive.read(statement, scope, self._keys.get(scope, {}))

    def take(self, told: Directive) -> None:
        """A newer directive; and one that could not take effect yet, again. A service that is pinned only notes it."""
        before = self._told.get(told.scope)
        if self._pin:
            if before is None or directive.follows(told, before):
                self._told[told.scope] = told
            return
        now = self._enacted(told.scope)
        is_whole = now is not None and now.directive == told and (now.candidate is not None or not _needs(told))
        if before == told and (is_whole or (told.scope, told.candidate, told.version) in self._refused):
            return
        if not (before == told or directive.follows(told, before)):
            return
        tripped = now.tripped if now is not None and now.directive.rollout == told.rollout else ""
        self._enact(told, tripped=tripped)

    def _enact(self, told: Directive, *, tripped: str = "") -> None:
        """Open what it needs, then put it in force; without its serving revision, what answered before goes on."""
        if told.scope not in self._told or self._told[told.scope] != told:
            log.info("rollout %s of `%s`: %s, version %d", told.rollout, told.scope, told.wave, told.version)
        self._told[told.scope] = told
        part = self._part(told.scope)
        if part is None:  # else a tenant's candidate would answer in the place of the platform's policy
            self._refused[told.scope, told.candidate, told.version] = NOT_ITS_OWN
            log.error("rollout %s: tenant `%s` has no policy of its own here", told.rollout, told.scope)
            return
        baseline = self._opened(part, told, told.baseline) if told.baseline else None
        if told.baseline and baseline is None:
            return
        candidate = self._opened(part, told, told.candidate, against=baseline) if _needs(told) else None
        enacted = Enacted(directive=told, baseline=baseline, candidate=candidate, tripped=tripped)
        if told.mode is Mode.ENFORCED and candidate is None and not tripped:
            return
        part.policies.enact(enacted)
        for digest in part.open.keys() - self._named():
            del part.open[digest]
        self._store(told, tripped)

    def _named(self) -> set[str]:
        """Every digest that some directive names: the one before stays warm as long."""
        return {digest for told in self._told.values() for digest in (told.baseline, told.candidate)}

    def _opened(self, part: _Part, told: Directive, digest: str, against: Opened | None = None) -> Opened | None:
        """A warm revision; None where it cannot be opened, with why it was refused."""
        if digest in part.open:
            return part.open[digest]
        source = self._revisions.source(told.scope, digest)
        if source is None:
            log.warning("sha256:%s is not to be had yet", digest[:12])
            return None
        try:
            opened = part.activation.open(source, must_deny=against.golden if against else part.activation.golden)
        except BundleError as error:
            self._refused[told.scope, digest, told.version] = error.code
            log.error("sha256:%s is refused: %s", digest[:12], error)  # noqa: TRY400
            return None
        part.open[digest] = opened
        return opened

    def _report(self, told: Directive) -> pb.RolloutReport:
        part, enacted = self._part(told.scope), self._enacted(told.scope)
        current = enacted if enacted is not None and enacted.directive == told else None
        digests = (told.candidate, told.baseline)
        codes = (self._refused.get((told.scope, digest, told.version)) for digest in digests)
        refused = next(filter(None, codes), None)
        is_golden = refused == "BUNDLE_GOLDEN"
        return pb.RolloutReport(
            tenant=told.scope,
            rollout=told.rollout,
            version=told.version,
            ready=current is not None and (current.candidate is not None or not _needs(told)) and not current.tripped,
            refused="" if is_golden else refused or "",
            golden=refused if is_golden else "",
            tripped=enacted.tripped if enacted is not None and enacted.directive.rollout == told.rollout else "",
            pinned=self._pin,
            findings=[
                pb.RolloutFindings(
                    stage_since_ns=since_ns, run=self._run_id, window=number, counted=findings.encode(found)
                )
                for since_ns, number, found in (part.comparison.findings(told.scope)[-MAX_TOLD:] if part else ())
            ],
        )

    def _keep_trips(self) -> None:
        for enacted in (each for part in self._parts() for each in part.policies.enacted.values()):
            if enacted.tripped:
                self._store(enacted.directive, enacted.tripped)

    def _store(self, told: Directive, tripped: str) -> None:
        path = self._folder / f"{hashlib.sha256(told.scope.encode()).hexdigest()[:16]}.json"
        content = orjson.dumps({"body": directive.encode(told).decode(), "tripped": tripped}).decode()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                durable.write(path, content)
        except OSError as error:
            log.error("what is in force could not be kept: %s", error.strerror)  # noqa: TRY400


def _needs(told: Directive) -> bool:
    """Whether the candidate must be open for it."""
    return told.mode is not Mode.BASELINE


class PulledBlobs:
    """Archives that the control plane has."""

    def __init__(self, membership: Membership, most_bytes: int) -> None:
        self._membership = membership
        self._most_bytes = most_bytes

    def read(self, scope: str, digest: str) -> Candidate | None:
        """An archive that the scope's rollout names; None where it is not published."""
        content, beside, position = bytearray(), b"", 0
        try:
            while len(content) <= self._most_bytes:
                request = pb.PullCandidateRequest(tenant=scope, sha256=digest, position=position)
                piece = self._membership.control.call("PullCandidate", request, pb.PullCandidateResponse)
                if not piece.content:
                    break
                content += piece.content
                position += 1
                beside = beside or piece.cosignatures
        except ProgramError as error:
            log.debug("sha256:%s: %s", digest[:12], error)
            return None
        return Candidate(path="", archive=bytes(content), cosignatures=beside or None) if content else None


def revisions(config: Config, folder: Path | None, remote: PulledBlobs | None = None) -> Revisions:
    """The archives that this service may be told of."""
    policy = config.policy
    configured = policy.paths[0].resolve() if policy.has_archive else None
    return Revisions(
        folder,
        candidates=policy.candidates,
        configured=configured,
        contract=policy.contract,
        most_bytes=policy.bundle_bytes,
        remote=remote,
    )
