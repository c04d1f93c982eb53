"""Which policy revision answers now, and how a new one takes its place.

Decides in two phases: a candidate is verified where keys are pinned, opened, its entrypoint prepared, probed with a
stranger's call, and held to its golden deny set; only then is one pointer swapped. A candidate that fails anywhere
changes nothing: the active revision goes on, and the failure is kept for the probes. No call sees two revisions,
because a decision takes the pointer once. Must never activate what it could not probe, nor open again what crashed this
service (F15) or failed here before (F12), nor answer from a bundle that has expired (F5).

Trusts its engine adapter, and `admission` for where a bundle came from.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from authz.errors import BundleError, PolicyError, UnavailableError
from authz.model import NO_REVISION, Check, Principal, Revision, Tool, ToolCall
from authz.model import Protocol as Speaks
from authz.policy import archive, rates
from authz.policy.agent_input import NO_FACTS, input_document
from authz.policy.golden import check_golden
from authz.policy.trust import GOLDEN
from authz.reasons import POLICY_TIMEOUT, POLICY_UNAVAILABLE, POLICY_UNDEFINED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.model import Rate, Verdict
    from authz.policy.admission import Admission, Admitted
    from authz.policy.engine import Engine, Policy, PolicySource, Query
    from authz.policy.last_good import LastGood
    from authz.policy.trust import Verified

    Interpret = Callable[[bytes | None], Verdict]

log: Final = logging.getLogger(__name__)
HANDSHAKE: Final = "authz/handshake"
SHORT_DIGEST: Final = 12
PROBE_S: Final = 1.0
"""A first evaluation may warm caches; past this the candidate would time out in service too."""

STRANGER: Final = Principal(issuer="probe", tenant="probe", agent="probe", subject="probe")
PROBE: Final = input_document(
    Check(),
    STRANGER,
    ToolCall(tool=Tool(server="probe", name="probe", protocol=Speaks.MCP, method="tools/call")),
    NO_FACTS,
    (),
)
"""A call by nobody of nothing: any policy must be able to say something about it, if only that it is undefined."""


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class ActivePolicy:
    """One revision, ready to answer. What the engine holds for it is freed once no call holds it any more."""

    revision: Revision
    decision: Query
    handshake: Query | None
    interpret: Callable[[bytes | None], Verdict]
    reads_results: bool
    reads_truncated_body: bool
    policy: Policy
    rates: tuple[Rate, ...] = ()
    """What it asks how often it happened."""
    origin: ActivePolicy | None = None
    """The one that this is another name of: it must live as long."""
    result_judge: ActivePolicy | None = None
    """Who is asked about results, where that is another: of two that answer together, the one that reads them."""

    def named(self, revision: Revision) -> ActivePolicy:
        """The same revision as a rollout names it."""
        return replace(self, revision=revision, origin=self.origin or self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A revision that is warm beside the one in service."""

    policy: ActivePolicy
    verified: Verified | None = None
    golden: bytes | None = None
    """The inputs that it says must be denied."""


class _Serving(NamedTuple):
    """The revision that answers, what was verified of it where keys are pinned, and its golden set. One pointer."""

    policy: ActivePolicy
    verified: Verified | None
    golden: bytes | None = None


class Policies(Protocol):
    """The pointer to the revision that answers now."""

    @property
    def revision(self) -> Revision:
        """Its identity; empty before the first activation."""
        ...

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What the revisions that are in service, or may soon be, ask how often it happened."""
        ...

    def active(self, principal: Principal | None = None) -> ActivePolicy:
        """The revision itself, which may differ by caller while a rollout is under way.

        Raises:
            UnavailableError: POLICY_UNAVAILABLE before the first activation.
        """
        ...


class Activation:
    """Opens, probes and swaps. `active` is safe on any thread; `activate` takes turns.

    Args:
        probe: the input of the first evaluation. None asks nothing: opa-envoy-plugin runs whatever compiles, and a
            policy that calls `http.send` must not do so before there is a call to judge.
        last_good: what outlives a crash; None keeps nothing.
        admission: verifies candidates; None opens whatever it is given.
    """

    def __init__(
        self,
        engine: Engine,
        entrypoint: str,
        interpret: Interpret,
        *,
        probe: bytes | None = PROBE,
        last_good: LastGood | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._engine = engine
        self._entrypoint = entrypoint
        self._interpret = interpret
        self._probe = probe
        self._last_good = last_good
        self._admission = admission
        self._turn = threading.Lock()
        self._serving: _Serving | None = None
        self._previous: _Serving | None = None
        self._failure: BundleError | None = None
        self.activated = self.refused = 0

    @property
    def last_failure(self) -> BundleError | None:
        """Why the configured policy is not the one that answers, or will not for long; None when all is well."""
        verified = self._serving.verified if self._serving else None
        return self._failure or (self._admission.standing(verified) if self._admission and verified else None)

    @property
    def verified(self) -> Verified | None:
        """What was verified of the bundle that answers; None where no key is pinned, or none answers."""
        return self._serving.verified if self._serving else None

    @property
    def quarantined(self) -> Mapping[str, str]:
        """Digests of bundles that are never tried again, each with its code."""
        return self._admission.quarantined() if self._admission else {}

    @property
    def revision(self) -> Revision:
        """The identity of the revision that answers; empty where none does."""
        serving = self._serving
        return serving.policy.revision if serving and not self._expired(serving) else NO_REVISION

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What the revision in service asks how often it happened."""
        serving = self._serving
        return serving.policy.rates if serving else ()

    @property
    def golden(self) -> bytes | None:
        """The inputs that the revision in service says must be denied; None where it brings none."""
        return self._serving.golden if self._serving else None

    def active(self, _principal: Principal | None = None) -> ActivePolicy:
        """The active revision, whoever calls.

        Raises:
            UnavailableError: POLICY_UNAVAILABLE when none was activated yet, or the one that was has expired.
        """
        serving = self._serving
        if serving is None or self._expired(serving):
            raise UnavailableError(POLICY_UNAVAILABLE, "the policy has expired" if serving else "no policy is active")
        return serving.policy

    def activate(self, source: PolicySource, *, returning: bool = False) -> ActivePolicy:
        """Put a candidate in service, or leave everything as it is.

        Args:
            source: the candidate.
            returning: it was verified and active here before, and is not fetched: the counter does not bound it.

        Raises:
            BundleError: it is not verified, does not load, has no such entrypoint, fails its probe or its golden set.
            UnavailableError: the engine cannot be asked.
        """
        with self._turn:
            try:
                serving = (
                    self._admitted(source, self._admission, returning=returning)
                    if self._admission
                    else (_Serving(self._opened(source), None, golden_of(source)))
                )
            except BundleError as error:
                self._failure = error
                self.refused += 1
                raise
            if self._serving is None or serving.policy is not self._serving.policy:
                # The one before stays warm, so that going back costs no compilation.
                self._previous = self._serving
                self.activated += 1
            self._serving, self._failure = serving, None
        return serving.policy

    def pin(self, source: PolicySource) -> ActivePolicy:
        """Put in service what an operator names: also one behind the counter, if it served here before.

        Raises:
            BundleError, UnavailableError: as for `activate`.
        """
        try:
            return self.activate(source)
        except BundleError as error:
            if error.code != "BUNDLE_REGRESSION":
                raise
            return self.activate(source, returning=True)

    def _admitted(self, source: PolicySource, admission: Admission, *, returning: bool) -> _Serving:
        """Verify, open and count a candidate. The files that are in service already are not opened again."""
        admitted = admission.admit(source, returning=returning)
        serving = self._serving
        if serving and serving.verified and serving.verified.digest == admitted.verified.digest:
            admission.activated(admitted)
            return _Serving(serving.policy, admitted.verified, serving.golden)
        if serving and serving.verified and not returning:
            admission.hold(admitted.verified, serving.verified)
        try:
            return _Serving(self._opened(source, admitted, admission), admitted.verified, admitted.verified.golden)
        except BundleError as error:
            admission.failed(admitted, error)
            raise

    def _opened(
        self, source: PolicySource, admitted: Admitted | None = None, admission: Admission | None = None
    ) -> ActivePolicy:
        with self._last_good.attempt(source) if self._last_good else contextlib.nullcontext():
            candidate = self._prepare(self._engine.open(admitted.source if admitted else source), source.contract)
            if admitted and admission:
                if (golden := admitted.verified.golden) is not None:
                    hold_golden(candidate, golden)
                admission.activated(admitted)
        return candidate

    def open(self, source: PolicySource, *, must_deny: bytes | None = None) -> Opened:
        """A revision beside the one in service: verified, probed and held to golden sets. What is in service stays.

        The counter does not move: which revision a rollout names is bounded by the version of its directive.

        Args:
            source: the candidate, an archive.
            must_deny: the golden set of what it is to replace, held beside its own.

        Raises:
            BundleError: as for `activate`.
            UnavailableError: the engine cannot be asked.
        """
        with self._turn:
            admitted = self._admission.admit_named(source) if self._admission else None
            try:
                opened = self._beside(source, admitted, must_deny)
            except BundleError as error:
                if admitted and self._admission:
                    self._admission.failed(admitted, error)
                raise
            if admitted and self._admission:
                self._admission.served(admitted)
        return opened

    def _beside(self, source: PolicySource, admitted: Admitted | None, must_deny: bytes | None) -> Opened:
        own = admitted.verified.golden if admitted else golden_of(source)
        with self._last_good.marked(source) if self._last_good else contextlib.nullcontext():
            candidate = self._prepare(self._engine.open(admitted.source if admitted else source), source.contract)
            for golden in {own, must_deny} - {None}:
                hold_golden(candidate, golden)  # type: ignore[arg-type]  # no None is left
        return Opened(policy=candidate, verified=admitted.verified if admitted else None, golden=own)

    def has_expired(self, opened: Opened) -> bool:
        """Whether a warm revision may answer no more."""
        return bool(self._admission and opened.verified and self._admission.has_expired(opened.verified))

    def serving(self, opened: Opened) -> ActivePolicy:
        """A warm revision, to answer.

        Raises:
            UnavailableError: POLICY_UNAVAILABLE once it has expired.
        """
        if self.has_expired(opened):
            raise UnavailableError(POLICY_UNAVAILABLE, "the policy has expired")
        return opened.policy

    def _expired(self, serving: _Serving) -> bool:
        return bool(self._admission and serving.verified and self._admission.has_expired(serving.verified))

    def begin(self, source: PolicySource) -> ActivePolicy:
        """The first activation of a process: of `source`, or of the last good policy in its place.

        The last good one stands in for a policy that crashed the service, and where keys are pinned for any that is
        refused: whoever can replace an archive must not be able to stop the service with it.

        Raises:
            BundleError: as for `activate`; there is no last good policy, or its copy is not usable.
            UnavailableError: the engine cannot be asked.
        """
        try:
            return self.activate(source)
        except BundleError as error:
            stands_in = self._admission is not None or error.code == "BUNDLE_POISON"
            stand_in = self._last_good.recall(source) if self._last_good and stands_in else None
            if stand_in is None:
                raise
            active = self.activate(stand_in, returning=True)
            self._failure = error
            log.error("%s; the last good policy, revision %s, answers", error, active.revision.revision)  # noqa: TRY400
            return active

    def resume(self, source: PolicySource) -> PolicySource | None:
        """The first activation of a process that has fetched nothing yet: of the last good policy; None without one.

        Args:
            source: of the same service; nothing in it is opened.

        Raises:
            BundleError: the copy is not usable, or is not trusted any more.
            UnavailableError: the engine cannot be asked.
        """
        stand_in = self._last_good.recall(source) if self._last_good else None
        if stand_in is not None:
            self.activate(stand_in, returning=True)
        return stand_in

    def _prepare(self, policy: Policy, contract: Literal["agent", "envoy"]) -> ActivePolicy:
        try:
            candidate = ActivePolicy(
                revision=identity(policy),
                decision=policy.query(self._entrypoint),
                handshake=_optional(policy, HANDSHAKE),
                interpret=self._interpret,
                reads_results=policy.may_read("result"),
                reads_truncated_body=policy.reads("truncated_body"),
                policy=policy,
                rates=rates.asked(policy.input_paths, policy.metadata) if contract == "agent" else (),
            )
            if self._probe is not None:
                _probe(candidate, self._probe)
        except BundleError:
            policy.close()
            raise
        weakref.finalize(candidate, policy.close)
        return candidate


def identity(policy: Policy) -> Revision:
    """Names from the manifest where it has them, else the digest of what was loaded."""
    authz = policy.metadata.get("authz")
    declared = authz if isinstance(authz, dict) else {}
    return Revision(
        revision=policy.revision or f"sha256:{policy.digest[:SHORT_DIGEST]}",
        bundle_id=str(declared.get("bundle_id", "")),
        change_id=str(declared.get("change_id", "")),
    )


def _optional(policy: Policy, entrypoint: str) -> Query | None:
    try:
        return policy.query(entrypoint)
    except BundleError:
        return None


def _probe(candidate: ActivePolicy, document: bytes) -> None:
    """Refuse a candidate that cannot even judge a stranger (F9): a denial or an undefined answer is fine."""
    try:
        candidate.interpret(candidate.decision.evaluate(document, PROBE_S))
    except PolicyError as error:
        if error.reason is not POLICY_UNDEFINED:
            code = "BUNDLE_TIMEOUT" if error.reason is POLICY_TIMEOUT else "BUNDLE_INVALID"
            raise BundleError(f"the probe failed: {error}", code=code) from error


def hold_golden(candidate: ActivePolicy, document: bytes) -> None:
    """Refuse a candidate that does not deny its golden set (F11).

    Raises:
        BundleError: BUNDLE_GOLDEN.
    """
    check_golden(document, lambda case: candidate.interpret(candidate.decision.evaluate(case, PROBE_S)))


def golden_of(source: PolicySource) -> bytes | None:
    """The golden set of an archive that nobody verifies; None where it brings none."""
    if source.archive is None:
        return None
    try:
        return archive.read(source.archive, archive.bounds(source.most_bytes)).get(GOLDEN)
    except BundleError:
        return None  # the engine says what is wrong with it
