"""Rollouts where tenants have policies of their own: a tenant's moves its own, the platform's moves the platform's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from tests.contracts.test_rollouts_everywhere import BASE, BROKEN, CANDIDATE, HEADER, PATIENCE_S, REASON, SidecarHere
from tests.control_planes import control_plane
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.control_planes import Running

OWN = HEADER + b'decision := {"effect": "allow", "reason": "own", "risk": "read"}\n'
NEWER = HEADER + b'decision := {"effect": "allow", "reason": "newer", "risk": "read"}\n'
PLATFORM = ""
SLOWLY = {"samples": 10**6}


class Room:
    """A control plane, and a sidecar where the tenant acme has a policy of its own and globex has none."""

    def __init__(self, control: Running, folder: Path) -> None:
        self.control = control
        (folder / "sidecar").mkdir()
        member = control.joined(folder / "sidecar" / "identity", "acme", "globex")
        self.sidecar = SidecarHere(member, folder / "service", BASE, {"acme": OWN})

    def start(self, tenant: str, rego: bytes, **plan: Any) -> None:
        told: dict[str, Any] = {"waves": [1.0], "no_shadow": True, "by_hand": True, "tolerances": SLOWLY} | plan
        request = pb.StartRolloutRequest(
            tenant=tenant, candidate=self.sidecar.place(rego), reason=REASON, plan=pb.RolloutPlan(**told)
        )
        self.control.ask("Rollouts/StartRollout", request, pb.Rollout)
        self.sidecar.rollouts.once()
        self.sidecar.rollouts.once()

    def status(self, tenant: str) -> pb.RolloutStatus:
        return self.control.ask("Rollouts/ReadRollout", pb.ReadRolloutRequest(tenant=tenant), pb.RolloutStatus)

    def answers(self) -> tuple[str, str]:
        """To acme and to globex."""
        return self.sidecar.ask(), self.sidecar.ask(tenant="globex")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with control_plane(tmp_path / "control") as control:
        made = Room(control, tmp_path)
        yield made
        made.sidecar.stop()


def test_a_tenants_candidate_takes_the_place_of_its_own_policy_alone(room: Room) -> None:
    room.start("acme", CANDIDATE)
    assert room.answers() == ("candidate", "base")
    revision = room.sidecar.bench.observed[-2].revision
    assert revision.rollout == ""
    assert revision.tenant is not None
    assert (revision.tenant.wave, revision.tenant.cohort) == ("canary-1", "candidate")


def test_a_tenants_candidate_never_takes_the_place_of_the_platforms_policy(room: Room) -> None:
    room.start("globex", NEWER)
    assert room.answers() == ("base", "base")
    assert [each.refused for each in room.status("globex").sidecars] == ["BUNDLE_TENANT"]


def test_a_platforms_candidate_answers_every_tenant_beside_its_own_policy(room: Room) -> None:
    room.start(PLATFORM, NEWER)
    assert room.answers() == ("newer", "newer")
    room.start("acme", CANDIDATE)
    assert room.answers() == ("candidate", "newer")
    revision = room.sidecar.bench.observed[-2].revision
    assert revision.tenant is not None
    assert revision.cohort == revision.tenant.cohort == "candidate"
    assert revision.rollout != revision.tenant.rollout


def test_what_fails_for_a_tenant_trips_its_candidate_and_not_the_platforms(room: Room) -> None:
    room.start(PLATFORM, NEWER)
    room.start("acme", BROKEN)
    reasons = [room.sidecar.ask() for _ in range(8)]
    assert reasons[0] == "POLICY_TENANT_FAILED"
    assert reasons[-1] == "newer"
    assert room.answers() == ("newer", "newer")
    room.sidecar.rollouts.once()
    eventually(lambda: room.status("acme").rollout.state == pb.ROLLOUT_STATE_ROLLED_BACK, PATIENCE_S)
    assert room.status(PLATFORM).rollout.state == pb.ROLLOUT_STATE_CANARY


def test_each_rollout_counts_what_its_own_revisions_say(room: Room) -> None:
    """The tenant's candidate denies all; the platform's says what the platform says, and no gate of it may differ."""
    room.start(PLATFORM, NEWER, no_shadow=False)
    room.start("acme", CANDIDATE, no_shadow=False)
    for number in range(20):
        room.sidecar.ask(f"agent-{number}")

    def compared(tenant: str) -> tuple[int, int]:
        room.sidecar.rollouts.once()
        status = room.status(tenant)
        return status.compared, sum(count for ranked in status.rankings for count in ranked.calls.values())

    eventually(lambda: compared("acme")[0] == 20, PATIENCE_S)
    eventually(lambda: compared(PLATFORM)[0] == 20, PATIENCE_S)
    assert compared("acme")[1] > 0
    assert compared(PLATFORM)[1] == 0
