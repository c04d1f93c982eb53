"""`authz rollout` and `rollback`, against a running control plane and a sidecar that joined it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.policy import directive
from authz.policy.directive import Mode, Statement
from authz.policy.findings import NOTHING, encode
from tests.control_planes import control_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2 as httpx

    from authz.enrolment.membership import Membership
    from authz.policy.directive import Directive
    from tests.control_planes import Running
    from tests.unit.cli.conftest import Ran, Run

REASON = ("--reason", "a lower limit")
CANDIDATE = "b" * 64


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with control_plane(tmp_path_factory.mktemp("control") / "state") as running:
        yield running


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """One for each test: the control plane is shared."""
    return f"t-{abs(hash(request.node.name))}"


@pytest.fixture
def authz(control: Running, run: Run, tenant: str) -> Callable[..., Ran]:
    """A command about the test's tenant."""

    def authz(*arguments: object) -> Ran:
        return run(*arguments, "--tenant", tenant, "--state", control.plane.state)

    return authz


def started(authz: Callable[..., Ran], *more: object) -> Any:
    ran = authz("rollout", "start", "--candidate", CANDIDATE, *REASON, "--output", "json", *more)
    assert ran.code == 0, ran.err
    return ran.document()


def report(member: Membership, *reports: pb.RolloutReport) -> pb.ReportRolloutsResponse:
    request = pb.ReportRolloutsRequest(reports=reports)
    return member.control.call("ReportRollouts", request, pb.ReportRolloutsResponse)


def told(member: Membership, tenant: str) -> Directive:
    """What the sidecar is told of the tenant, verified as it verifies it."""
    trust = member.control.call("ReadTrust", pb.ReadTrustRequest(), pb.Trust)
    (stream,) = [each for each in trust.streams if each.stream == tenant]
    keys = {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in stream.keys}
    (signed,) = report(member).directives
    return directive.read(Statement(body=signed.body, signature=signed.signature, kid=signed.kid), tenant, keys)


def test_an_archive_is_known_by_its_digest_and_goes_from_stage_to_stage(
    authz: Callable[..., Ran], tmp_path: Path
) -> None:
    archive = tmp_path / "payments-7.tar.gz"
    archive.write_bytes(b"an archive")
    ran = authz("rollout", "start", "--candidate", archive, "--waves", "0.2", *REASON, "--output", "json")
    begun = ran.document()
    assert (begun["candidate"], begun["stage"]) == (hashlib.sha256(b"an archive").hexdigest(), "shadow")
    assert "canary-1" in authz("rollout", "promote").out
    assert "20% of the agents" in authz("rollout", "status").out
    assert authz("rollout", "promote", "--output", "json").document()["stage"] == "enforced"
    assert authz("rollback", *REASON, "--output", "json").document()["serving"] == ""
    history = authz("rollout", "history").out.splitlines()
    assert [line.split()[1] for line in history] == ["roll_back", "promote", "promote", "start", "draft"]


def test_the_plan_is_what_was_asked_for(authz: Callable[..., Ran]) -> None:
    begun = started(
        authz, "--waves", "0.01,0.5", "--no-shadow", "--by-hand", "--four-eyes", "--stage", "90s", "--flips", "0.03"
    )
    plan = begun["plan"]
    assert (plan["waves"], plan["by_hand"], plan["four_eyes"], plan["stage"]) == ([0.01, 0.5], True, True, "90s")
    assert plan["tolerances"]["flips"] == 0.03
    assert begun["stage"] == "canary-1"


def test_a_draft_waits_for_its_time_and_in_a_freeze(authz: Callable[..., Ran]) -> None:
    assert started(authz, "--not-before", "2099-01-01T00:00:00Z")["stage"] == "draft"
    assert authz("rollout", "promote").code == 1
    authz("rollout", "abort", *REASON)
    freeze = "2020-01-01T00:00:00+02:00/2099-01-01T00:00:00Z"
    assert started(authz, "--freeze", freeze)["stage"] == "draft"


def test_it_is_paused_resumed_stopped_and_aborted(authz: Callable[..., Ran]) -> None:
    started(authz)
    assert "(paused)" in authz("rollout", "pause", *REASON).out
    assert "(paused)" not in authz("rollout", "resume").out
    authz("rollout", "promote")
    assert "shadow (paused)" in authz("rollout", "stop-wave", *REASON).out
    assert "aborted" in authz("rollout", "abort", *REASON).out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("rollout", "status"), 1),
        (("rollback", *REASON), 1),
        (("rollout", "start", "--candidate", "nothing", *REASON), 2),
        (("rollout", "start", "--candidate", "missing.tar.gz", *REASON), 2),
        (("rollout", "start", "--candidate", CANDIDATE, "--reason", " "), 2),
        (("rollout", "start", "--candidate", CANDIDATE, "--waves", "half", *REASON), 2),
        (("rollout", "start", "--candidate", CANDIDATE, "--waves", "0.5,0.1", *REASON), 2),
        (("rollout", "start", "--candidate", CANDIDATE, "--not-before", "tomorrow", *REASON), 2),
        (("rollout", "start", "--candidate", CANDIDATE, "--not-before", "2030-01-01T00:00:00", *REASON), 2),
    ],
)
def test_what_makes_no_sense_or_is_not_there_has_its_exit_code(
    authz: Callable[..., Ran], arguments: tuple[str, ...], code: int
) -> None:
    assert authz(*arguments).code == code


def test_a_sidecar_is_told_what_it_can_verify_and_what_it_says_is_shown(
    control: Running, authz: Callable[..., Ran], tenant: str, tmp_path: Path
) -> None:
    member = control.joined(tmp_path / "sidecar", tenant)
    begun = started(authz, "--by-hand")
    said = told(member, tenant)
    assert (said.rollout, said.scope, said.mode, said.version) == (begun["id"], tenant, Mode.SHADOW, begun["version"])
    window = pb.RolloutFindings(stage_since_ns=said.since_ns, run="r", window=1, counted=encode(NOTHING))
    mine = pb.RolloutReport(
        tenant=tenant, rollout=said.rollout, version=said.version, ready=True, refused="no code", findings=[window]
    )
    report(member, mine)
    status = authz("rollout", "status", "--output", "json").document()
    assert [each["refused"] for each in status["sidecars"]] == ["UNKNOWN"]
    assert next(each["outcome"] for each in status["gates"] if each["gate"] == "health") == "breach"


def test_no_sidecar_speaks_of_another_tenants_rollout(
    control: Running, authz: Callable[..., Ran], tenant: str, tmp_path: Path
) -> None:
    member = control.joined(tmp_path / "sidecar", f"not-{tenant}")
    begun = started(authz)
    assert report(member).directives == []
    own = pb.RolloutReport(tenant=f"not-{tenant}", rollout=begun["id"], version=9, tripped="POLICY_ERROR")
    report(member, own)
    assert authz("rollout", "status", "--output", "json").document()["sidecars"] == []


def test_findings_that_are_none_are_refused(
    control: Running, authz: Callable[..., Ran], tenant: str, tmp_path: Path
) -> None:
    member = control.joined(tmp_path / "sidecar", tenant)
    begun = started(authz)
    wrong = pb.RolloutFindings(stage_since_ns=1, run="r", window=1, counted=orjson.dumps({"window": {}}))
    mine = pb.RolloutReport(tenant=tenant, rollout=begun["id"], version=1, findings=[wrong])
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        report(member, mine)
    assert authz("rollout", "status", "--output", "json").document()["sidecars"] == []


def test_who_may_see_several_tenants_names_one(control: Running, run: Run) -> None:
    ran = run("rollout", "start", "--candidate", CANDIDATE, *REASON, "--state", control.plane.state, "--output", "json")
    assert (ran.code, ran.document()["tenant"]) == (0, "")
    refused: httpx.Response = control.post("Rollouts/ReadRollout", pb.ReadTrustRequest(), credential="nobody")
    assert refused.status_code == 401
