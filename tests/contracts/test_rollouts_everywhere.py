"""A sidecar that takes part in rollouts, joined to a control plane in this process over mutual TLS."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.clock import SystemClock
from authz.config import Config, Control, Policy
from authz.database import Database
from authz.model import Check, Principal
from authz.native import Library
from authz.policy import agent_contract, archive
from authz.policy.activation import Activation
from authz.policy.blobs_sql import Blobs
from authz.policy.cohort import Cohort
from authz.policy.directive import Mode
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.policy.sources import archive_source
from authz.policy.tenants import TenantPolicies
from authz.rollouts import Rollouts
from tests.control_planes import control_plane
from tests.e2e.stack import eventually
from tests.fakes import Bench, FakeClaim, FakeFront

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from authz.enrolment.membership import Membership
    from tests.control_planes import Running

HEADER = b"package authz\n\nimport rego.v1\n\n"
BASE = HEADER + b'decision := {"effect": "allow", "reason": "base", "risk": "read"}\n'
CANDIDATE = HEADER + b'decision := {"effect": "deny", "reason": "candidate"}\n'
BROKEN = HEADER + b'decision := {"effect": "allow"} if input.agent.id == "probe"\n'
REASON = "a lower limit"
PATIENCE_S = 20.0


def packed(rego: bytes) -> bytes:
    return archive.write({"policy.rego": rego})


def activated(source: PolicySource) -> Activation:
    made = Activation(NativeEngine(Library.load()), "authz/decision", agent_contract.interpret)
    made.activate(source)
    return made


class SidecarHere:
    """The parts of a sidecar that rollouts need, over real policies."""

    def __init__(
        self,
        member: Membership,
        folder: Path,
        base: bytes = BASE,
        own: Mapping[str, bytes] = MappingProxyType({}),
        pin: str = "",
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.candidates = folder / "candidates"
        self.candidates.mkdir(exist_ok=True)
        configured = folder / "base.tar.gz"
        configured.write_bytes(packed(base))
        config = Config(
            policy=Policy(paths=(configured,), candidates=self.candidates, pin=pin),
            control=Control(url="http://127.0.0.1:1", state=folder),
        )
        self.activation = activated(archive_source(configured, "agent"))
        tenants = {tenant: activated(PolicySource(archive=packed(rego))) for tenant, rego in own.items()}
        self.rollouts = Rollouts(config, member, self.activation, SystemClock(), tenants=tenants)
        self.rollouts.begin()
        for comparison in self.rollouts.comparisons:
            comparison.start()
        self.front = FakeFront()
        self.bench = Bench(front=self.front, policies=self.rollouts.policies)  # type: ignore[arg-type]  # the same port
        self.bench.tenant_policies = TenantPolicies(self.rollouts.tenants) if own else None
        self.pdp = self.bench.pdp()

    def place(self, rego: bytes) -> str:
        """Put an archive where rollouts may name it; its digest."""
        content = packed(rego)
        digest = hashlib.sha256(content).hexdigest()
        (self.candidates / f"{digest[:8]}.tar.gz").write_bytes(content)
        return digest

    def ask(self, agent: str = "agent-1", tenant: str = "acme") -> str:
        self.front.who = Principal(issuer="https://issuer", tenant=tenant, agent=agent, subject=agent)
        self.pdp.decide(Check(), FakeClaim(), lambda *_: b"")
        self.rollouts.observe(self.bench.observed[-1])
        return self.bench.observed[-1].reason

    def answers(self) -> set[str]:
        return {self.ask(f"agent-{number}") for number in range(30)}

    def stop(self) -> None:
        for comparison in self.rollouts.comparisons:
            comparison.stop()


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with control_plane(tmp_path_factory.mktemp("control") / "state") as running:
        yield running


class Room:
    """One test's rollout of the tenant acme, and its sidecar."""

    def __init__(self, control: Running, folder: Path) -> None:
        self.control = control
        self.folder = folder
        self.member = control.joined(folder / "sidecar" / "identity", "acme")
        self.sidecar = SidecarHere(self.member, folder / "service")

    def start(self, candidate: str, **plan: Any) -> pb.Rollout:
        told: dict[str, Any] = {"waves": [0.5], "by_hand": True} | plan
        request = pb.StartRolloutRequest(
            tenant="acme", candidate=candidate, reason=REASON, plan=pb.RolloutPlan(**told), overrule=True
        )
        return self.control.ask("Rollouts/StartRollout", request, pb.Rollout)

    def activate(self, candidate: str) -> pb.Rollout:
        request = pb.ActivateStricterRequest(
            tenant="acme", candidate=candidate, reason=REASON, replayed=pb.Replayed(calls=1, stricter=1)
        )
        begun = self.control.ask("Rollouts/ActivateStricter", request, pb.Rollout)
        self.sidecar.rollouts.once()
        return begun

    def promote(self) -> None:
        self.control.ask("Rollouts/PromoteRollout", pb.PromoteRolloutRequest(tenant="acme"), pb.Rollout)
        self.sidecar.rollouts.once()

    def back(self) -> None:
        request = pb.RollBackRequest(tenant="acme", reason=REASON, to="configured")
        self.control.ask("Rollouts/RollBack", request, pb.Rollout)

    def status(self) -> pb.RolloutStatus:
        return self.control.ask("Rollouts/ReadRollout", pb.ReadRolloutRequest(tenant="acme"), pb.RolloutStatus)

    def standing(self) -> tuple[str, bool]:
        """What the sidecar is pinned to, and whether it is ready, as the control plane tells it."""
        mine = self.member.identity.sidecar
        return next((each.pinned, each.ready) for each in self.status().sidecars if each.sidecar == mine)

    def restarted(self, pin: str = "") -> SidecarHere:
        """The same sidecar after a restart, before it has heard anything."""
        self.sidecar.stop()
        self.sidecar = SidecarHere(self.member, self.folder / "service", pin=pin)
        return self.sidecar


@pytest.fixture
def room(control: Running, tmp_path: Path) -> Iterator[Room]:
    (tmp_path / "sidecar").mkdir()
    made = Room(control, tmp_path)
    yield made
    made.sidecar.stop()
    request = pb.ReadRolloutRequest(tenant="acme")
    if control.post("Rollouts/ReadRollout", request).status_code == 200:
        made.back()


def test_a_candidate_goes_from_shadow_over_a_canary_to_everybody_and_back(room: Room) -> None:
    sidecar = room.sidecar
    room.start(sidecar.place(CANDIDATE), tolerances={"samples": 10**6})
    sidecar.rollouts.once()
    assert sidecar.answers() == {"base"}
    room.promote()
    assert sidecar.answers() == {"base", "candidate"}
    room.promote()
    assert sidecar.answers() == {"candidate"}
    room.back()
    sidecar.rollouts.once()
    assert sidecar.answers() == {"base"}


def test_f11_a_canary_that_flips_calls_is_taken_back_by_itself_with_its_evidence(room: Room) -> None:
    sidecar = room.sidecar
    room.start(sidecar.place(CANDIDATE), no_shadow=True)
    sidecar.rollouts.once()
    for number in range(300):
        sidecar.ask(f"agent-{number}")

    def taken_back() -> bool:
        sidecar.rollouts.once()
        return room.status().rollout.state == pb.ROLLOUT_STATE_ROLLED_BACK

    eventually(taken_back, PATIENCE_S)
    sidecar.rollouts.once()
    assert sidecar.answers() == {"base"}
    steps = room.control.ask(
        "Rollouts/ListTransitions", pb.ListTransitionsRequest(tenant="acme"), pb.ListTransitionsResponse
    ).transitions
    assert "disagreement" in steps[0].reason
    assert steps[0].automatic


def test_a_trip_is_local_at_once_and_then_everywhere(room: Room) -> None:
    sidecar = room.sidecar
    room.start(sidecar.place(BROKEN), no_shadow=True, waves=[1.0])
    sidecar.rollouts.once()
    reasons = [sidecar.ask() for _ in range(8)]
    assert reasons[-1] == "base"
    sidecar.rollouts.once()
    eventually(lambda: room.status().rollout.state == pb.ROLLOUT_STATE_ROLLED_BACK, PATIENCE_S)
    assert room.restarted().ask() == "base"


def test_a_restart_without_network_goes_on_as_before_and_with_the_same_agents(room: Room) -> None:
    sidecar = room.sidecar
    room.start(sidecar.place(CANDIDATE), no_shadow=True, tolerances={"samples": 10**6})
    sidecar.rollouts.once()
    before = [sidecar.ask(f"agent-{number}") for number in range(30)]
    for path in sidecar.candidates.iterdir():
        path.unlink()  # what was kept is enough
    again = room.restarted()
    assert [again.ask(f"agent-{number}") for number in range(30)] == before
    assert set(before) == {"base", "candidate"}


def test_a_sidecar_that_is_pinned_follows_nothing_says_so_and_goes_on_afterwards(room: Room) -> None:
    room.start(room.sidecar.place(CANDIDATE), no_shadow=True, waves=[1.0])
    room.sidecar.rollouts.once()
    assert room.sidecar.answers() == {"candidate"}
    pinned = room.restarted("configured")
    for _ in range(2):
        pinned.rollouts.once()
    assert pinned.answers() == {"base"}
    assert room.standing() == ("configured", False)
    assert room.restarted().answers() == {"candidate"}
    room.sidecar.rollouts.once()
    room.sidecar.rollouts.once()
    assert room.standing() == ("", True)


def test_a_candidate_that_is_not_to_be_had_answers_nobody_and_is_waited_for(room: Room) -> None:
    sidecar = room.sidecar
    digest = hashlib.sha256(packed(CANDIDATE)).hexdigest()
    room.start(digest, no_shadow=True, waves=[1.0], tolerances={"samples": 10**6})
    sidecar.rollouts.once()
    sidecar.rollouts.once()
    assert sidecar.answers() == {"base"}
    assert [each.ready for each in room.status().sidecars if each.sidecar == room.member.identity.sidecar] == [False]
    assert room.status().rollout.state == pb.ROLLOUT_STATE_CANARY, "nothing is held against it"
    assert sidecar.place(CANDIDATE) == digest
    sidecar.rollouts.once()
    assert sidecar.answers() == {"candidate"}


def test_a_candidate_comes_from_the_control_plane_by_its_digest(room: Room) -> None:
    content = packed(CANDIDATE)
    digest = hashlib.sha256(content).hexdigest()
    database = Database(room.control.plane.database_url)
    Blobs(database).keep(content, digest)
    database.close()
    room.start(digest, no_shadow=True, waves=[1.0], tolerances={"samples": 10**6})
    room.sidecar.rollouts.once()
    assert room.sidecar.answers() == {"candidate"}


def test_a_candidate_that_does_not_compile_is_refused_here_and_taken_back_everywhere(room: Room) -> None:
    sidecar = room.sidecar
    room.start(sidecar.place(HEADER + b"decision := nonsense\n"), no_shadow=True)
    sidecar.rollouts.once()
    sidecar.rollouts.once()
    assert sidecar.answers() == {"base"}
    eventually(lambda: room.status().rollout.state == pb.ROLLOUT_STATE_ROLLED_BACK, PATIENCE_S)


def test_a_directive_that_was_told_before_takes_nobodys_place(room: Room) -> None:
    sidecar = room.sidecar
    room.start(sidecar.place(CANDIDATE), tolerances={"samples": 10**6})
    sidecar.rollouts.once()
    enacted = sidecar.rollouts.policies.enacted["acme"]
    room.promote()
    assert sidecar.rollouts.policies.enacted["acme"].directive.mode is Mode.CANARY
    sidecar.rollouts.take(enacted.directive)
    assert sidecar.rollouts.policies.enacted["acme"].directive.mode is Mode.CANARY
    assert {sidecar.rollouts.policies.enacted["acme"].cohort(None)} <= set(Cohort)


def test_a_rollout_that_is_over_is_not_told_of_again(room: Room) -> None:
    sidecar = room.sidecar
    room.start(sidecar.place(CANDIDATE), tolerances={"samples": 10**6})
    sidecar.rollouts.once()
    room.back()
    for _ in range(2):
        sidecar.rollouts.once()
    heard = [each.heard_at for each in room.status().sidecars]
    sidecar.rollouts.once()
    assert [each.heard_at for each in room.status().sidecars] == heard


def test_a_stricter_one_answers_beside_the_one_before_and_outlives_a_restart_without_network(room: Room) -> None:
    sidecar = room.sidecar
    room.activate(sidecar.place(CANDIDATE))
    assert sidecar.answers() == {"candidate"}
    for path in sidecar.candidates.iterdir():
        path.unlink()
    again = room.restarted()
    assert again.answers() == {"candidate"}
    again.rollouts.once()
    gate = next(each for each in room.status().gates if each.gate == "health")
    assert (gate.figures["reported"], gate.figures["refused"]) == (1, 0)
    room.back()
    again.rollouts.once()
    assert again.answers() == {"base"}


def test_no_failure_of_a_stricter_one_lets_a_call_through(room: Room) -> None:
    sidecar = room.sidecar
    room.activate(sidecar.place(BROKEN))
    assert {sidecar.ask() for _ in range(12)} == {"POLICY_UNDEFINED"}
    sidecar.rollouts.once()
    assert room.status().rollout.stage == "stricter"
