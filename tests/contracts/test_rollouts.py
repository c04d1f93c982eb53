"""Rollouts over the API and by their gates; what the database itself must hold, over a real PostgreSQL too."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.control.refusals import Code, RefusedError
from authz.database import Database, LeaseLostError, migrate
from authz.policy.findings import NOTHING, encode
from authz.policy.rollout_plan import Plan
from authz.policy.rollout_reports_sql import FINDINGS, STANDINGS, Counted, Standing
from tests.rollouts import (
    AUTHOR,
    CANDIDATE,
    LEAD,
    OTHER,
    REASON,
    RESPONDER,
    SECOND_LEAD,
    THIRD,
    RolloutDesk,
    operator,
    plan,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RolloutDesk]:
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    migrate(database)
    yield RolloutDesk(database)
    database.close()


def refused(call: Callable[..., Any], *given: Any, **named: Any) -> tuple[Code, str]:
    with pytest.raises(RefusedError) as caught:
        call(*given, **named)
    return caught.value.code, caught.value.reason.code


def test_gates_that_pass_take_it_through_every_stage_with_their_evidence(database: Database) -> None:
    desk = RolloutDesk(database)
    desk.start()
    stages = []
    for _ in range(4):
        desk.report()
        stages += desk.look()
    assert stages == ["canary-1", "canary-2", "enforced"]
    status = desk.status().rollout
    assert (status.serving, status.share, status.version) == (CANDIDATE, 1.0, 5)
    assert desk.steps() == ["draft", "start", "promote", "promote", "promote"]
    newest = desk.service.list_transitions(pb.ListTransitionsRequest(tenant="acme", page_size=1), LEAD).transitions[0]
    assert (newest.by, newest.automatic, newest.reason) == ("gates", True, "every gate passed")
    assert {reading.gate for reading in newest.evidence} >= {"disagreement", "health", "latency"}


def test_f11_a_canary_that_flips_three_percent_is_taken_back_by_itself(desk: RolloutDesk) -> None:
    desk.start()
    desk.promote()
    desk.report(would_block=30, denied=30)
    assert desk.look() == ["rolled_back"]
    newest = desk.service.list_transitions(pb.ListTransitionsRequest(tenant="acme"), LEAD).transitions[0]
    assert "disagreement" in newest.reason
    assert next(each.outcome for each in newest.evidence if each.gate == "disagreement") == "breach"
    assert desk.status().rollout.serving == ""
    assert desk.look() == []


def test_f11_one_new_allow_on_the_golden_set_blocks_promotion_at_once(desk: RolloutDesk) -> None:
    desk.start()
    desk.stand(golden="BUNDLE_GOLDEN")
    assert desk.look() == ["rolled_back"]


def test_a_trip_of_one_sidecar_takes_it_back_everywhere_even_once_enforced(desk: RolloutDesk) -> None:
    desk.enforce()
    desk.stand(tripped="POLICY_TIMEOUT")
    assert desk.look() == ["rolled_back"]


def test_missing_data_moves_nothing(desk: RolloutDesk) -> None:
    desk.start()
    desk.promote()
    assert desk.look() == []
    desk.sidecars = {"one", "silent"}
    desk.report()
    assert desk.look() == []
    assert desk.status().outcome == "undecided"


def test_nothing_waits_for_a_sidecar_that_a_person_pinned_and_it_is_named(desk: RolloutDesk) -> None:
    desk.start()
    desk.sidecars = {"one", "two"}
    desk.stand("two", is_ready=False, pinned="4be1c0a97d35")
    assert desk.look() == []
    assert desk.status().outcome == "undecided"
    desk.report()
    status = desk.status()
    assert next(gate.figures["expected"] for gate in status.gates if gate.gate == "health") == 1
    assert {each.sidecar: each.pinned for each in status.sidecars} == {"one": "", "two": "4be1c0a97d35"}
    assert desk.look() == ["canary-1"]
    desk.stand("two")
    desk.report("two")
    assert [each.pinned for each in desk.status().sidecars] == ["", ""]


def test_what_was_found_of_stages_long_over_goes_and_of_the_present_one_stays(database: Database) -> None:
    desk = RolloutDesk(database)
    desk.lease.take()
    assert desk.keeper.forget() == 0
    desk.start()
    desk.report()
    now = desk.status().rollout
    with database.write() as connection:
        for rollout, since_ns in (("long-over", 1), (now.id, 2), ("of-late", database.now_ns(connection))):
            standing = Standing(sidecar="gone", rollout=rollout, version=1, is_ready=True)
            found = Counted(since_ns=since_ns, run="r", number=0, document=encode(NOTHING))
            desk.reports.put(connection, "acme", standing, [found])
        assert desk.reports.forget(connection, [("long-over", 1), (now.id, 2)]) == 0
        connection.execute(update(STANDINGS).where(STANDINGS.c.sidecar == "gone").values(heard_ns=1))
    assert desk.keeper.forget() == 2
    with database.read() as connection:
        left = {*connection.execute(select(FINDINGS.c.rollout)).scalars()}
        heard = {*connection.execute(select(STANDINGS.c.sidecar)).scalars()}
    assert (left, heard) == ({now.id, "of-late"}, {"one"})
    assert desk.status().compared == 1_000
    assert desk.keeper.forget() == 0


def test_what_went_wrong_of_late_counts_after_a_long_calm(desk: RolloutDesk) -> None:
    desk.start(plan=plan(by_hand=True))
    for number in range(1, 60):
        desk.report(number=number)
    assert desk.look() == []
    desk.report(number=70, would_block=40, denied=40)
    assert desk.look() == ["rolled_back"]


def test_figures_of_the_stage_before_do_not_count(desk: RolloutDesk) -> None:
    desk.start()
    desk.report()
    assert desk.look() == ["canary-1"]
    desk.stand()
    assert desk.look() == []


def test_a_report_said_again_counts_once(database: Database) -> None:
    desk = RolloutDesk(database)
    desk.start()
    for _ in range(3):
        desk.report()
    desk.report("two")
    status = desk.status()
    assert (status.compared, len(status.sidecars)) == (2_000, 2)


def test_f12_a_candidate_that_was_taken_back_is_not_begun_again_by_its_author(desk: RolloutDesk) -> None:
    desk.start(AUTHOR)
    desk.stand(refused="BUNDLE_INVALID")
    assert desk.look() == ["rolled_back"]
    assert refused(desk.start, AUTHOR)[1] == "ROLLOUT_QUARANTINED"
    assert desk.start(AUTHOR, candidate=OTHER).stage == "shadow"
    desk.change("abort_rollout")
    assert desk.start(LEAD, overrule=True).stage == "shadow"


def test_a_scope_has_one_rollout_at_a_time_and_scopes_are_their_own(desk: RolloutDesk) -> None:
    first = desk.start()
    assert refused(desk.start, candidate=OTHER) == (Code.FAILED_PRECONDITION, "ROLLOUT_ACTIVE")
    assert desk.start(tenant="rival").id != first.id
    assert desk.start(tenant="").stage == "shadow"
    assert desk.status("rival").rollout.tenant == "rival"


def test_of_two_that_begin_at_once_one_is_refused(database: Database) -> None:
    desk = RolloutDesk(database)
    outcomes: list[str] = []

    def begin() -> None:
        try:
            outcomes.append(desk.start().stage)
        except RefusedError as error:
            outcomes.append(error.reason.code)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ROLLOUT_ACTIVE"] * 3 + ["shadow"]
    assert desk.steps() == ["draft", "start"]


def test_an_author_begins_and_a_lead_enforces(desk: RolloutDesk) -> None:
    begun = desk.start(AUTHOR)
    assert begun.plan.four_eyes
    for _ in range(4):
        desk.report()
        desk.look()
    assert desk.status().rollout.stage == "canary-2"
    assert refused(desk.promote, AUTHOR)[1] in {"ROLLOUT_SECOND_PERSON", "CONTROL_FORBIDDEN"}
    assert refused(desk.promote, operator("other-author", AUTHOR.grants[0].role))[1] == "CONTROL_FORBIDDEN"
    assert desk.promote(LEAD).stage == "enforced"


def test_four_eyes_hold_for_leads_too(desk: RolloutDesk) -> None:
    desk.start(plan=plan(waves=[1.0], no_shadow=True, four_eyes=True))
    assert refused(desk.promote)[1] == "ROLLOUT_SECOND_PERSON"
    assert desk.promote(SECOND_LEAD).stage == "enforced"


def test_going_back_is_one_call_and_idempotent(desk: RolloutDesk) -> None:
    desk.enforce()
    back = desk.roll_back(RESPONDER)
    again = desk.roll_back(RESPONDER)
    assert (back.stage, back.serving) == ("rolled_back", "")
    assert again == back


def test_going_back_from_a_canary_ends_it(desk: RolloutDesk) -> None:
    desk.start()
    desk.promote()
    assert desk.roll_back(RESPONDER).stage == "rolled_back"
    assert desk.look() == []


def test_going_back_to_one_that_was_here_before(database: Database) -> None:
    desk = RolloutDesk(database)
    for candidate in (CANDIDATE, OTHER, THIRD):
        desk.enforce(candidate)
    back = desk.roll_back(RESPONDER, to=f"sha256:{CANDIDATE[:12]}")
    assert (back.serving, back.overruled) == (CANDIDATE, True)
    assert desk.roll_back(RESPONDER, to=CANDIDATE) == back
    assert desk.roll_back(RESPONDER, to="configured").serving == ""
    assert desk.steps()[-3:] == ["roll_back", "pin", "pin"]


@pytest.mark.parametrize("to", ["f" * 64, "b", "sha256:", "../x", "B" * 64])
def test_nobody_goes_back_to_what_was_never_here(desk: RolloutDesk, to: str) -> None:
    desk.enforce()
    assert refused(desk.roll_back, to=to)[1] == "ROLLOUT_BASELINE"


def test_what_a_person_took_back_the_gates_do_not_bring_back(desk: RolloutDesk) -> None:
    desk.start()
    desk.report()
    desk.roll_back()
    desk.stand()
    assert desk.look() == []


def test_the_next_rollout_begins_from_what_answers_now(desk: RolloutDesk) -> None:
    desk.enforce()
    begun = desk.start(candidate=OTHER)
    assert (begun.baseline, begun.serving) == (CANDIDATE, CANDIDATE)
    assert desk.roll_back().serving == CANDIDATE


def test_a_draft_waits_for_its_time_and_then_begins_by_itself(desk: RolloutDesk) -> None:
    waiting = plan()
    waiting.not_before.FromNanoseconds(time.time_ns() + 3_600_000_000_000)
    assert desk.start(plan=waiting).stage == "draft"
    assert desk.look() == []
    assert refused(desk.promote)[1] == "ROLLOUT_FROZEN"
    assert desk.roll_back().stage == "aborted"
    passed = plan()
    passed.not_before.FromNanoseconds(time.time_ns() - 1_000_000_000)
    assert desk.start(plan=passed).stage == "shadow"


def test_a_promotion_of_another_version_than_was_seen_is_refused(desk: RolloutDesk) -> None:
    begun = desk.start()
    desk.change("pause_rollout")
    desk.change("resume_rollout")
    assert refused(desk.promote, version=begun.version) == (Code.ABORTED, "ROLLOUT_STATE")
    assert desk.promote(version=begun.version + 2).stage == "canary-1"


@pytest.mark.parametrize(
    "fields",
    [
        {"candidate": "not-a-digest"},
        {"candidate": ""},
        {"candidate": "../" + "b" * 61},
        {"baseline": CANDIDATE},
        {"plan": plan(waves=[0.5, 0.2])},
        {"plan": plan(waves=[], no_canary=True, no_shadow=True)},
        {"reason": " "},
    ],
)
def test_a_rollout_that_makes_no_sense_is_refused_and_leaves_nothing(desk: RolloutDesk, fields: dict[str, Any]) -> None:
    assert refused(desk.start, **fields)[0] is Code.INVALID_ARGUMENT
    assert refused(desk.status) == (Code.NOT_FOUND, "ROLLOUT_UNKNOWN")


def test_a_plan_says_what_was_asked_and_what_was_not(desk: RolloutDesk) -> None:
    asked = pb.RolloutPlan(tolerances=pb.Tolerances(flips=0.03, samples=50))
    made = desk.start(plan=asked).plan
    assert tuple(made.waves) == Plan().waves
    assert (made.tolerances.flips, made.tolerances.samples, made.tolerances.errors) == (0.03, 50, 0.001)
    assert made.stage.seconds == 300


def test_every_step_stays_as_it_was_taken(database: Database) -> None:
    desk = RolloutDesk(database)
    desk.start()
    for statement in ("UPDATE rollout_transitions SET reason = 'x'", "DELETE FROM rollout_transitions"):
        with pytest.raises(IntegrityError), database.write() as connection:
            connection.execute(text(statement))


def test_who_does_not_lead_takes_no_step(database: Database) -> None:
    desk = RolloutDesk(database)
    desk.start()
    desk.report()
    other = RolloutDesk(database)
    assert desk.lease.take()
    with pytest.raises(LeaseLostError):
        other.keeper.look()
    assert desk.look() == ["canary-1"]


def test_watching_tells_each_change_once(desk: RolloutDesk) -> None:
    desk.start()
    caller = operator("watcher")
    seen = []
    for status in desk.service.watch_rollout(pb.ReadRolloutRequest(tenant="acme"), caller):
        seen.append(status.rollout.stage)
        if len(seen) == 1:
            desk.promote()
        else:
            caller.gone.set()
    assert seen == ["shadow", "canary-1"]


def test_reasons_are_kept_as_they_were_said(desk: RolloutDesk) -> None:
    desk.start()
    desk.change("pause_rollout", SECOND_LEAD)
    newest = desk.service.list_transitions(pb.ListTransitionsRequest(tenant="acme"), LEAD).transitions[0]
    assert (newest.action, newest.by, newest.reason) == ("pause", "second-lead", REASON)


def test_a_responder_activates_a_stricter_revision_at_once_with_what_was_shown(database: Database) -> None:
    desk = RolloutDesk(database)
    begun = desk.activate()
    assert (begun.stage, begun.share, begun.serving, begun.plan.four_eyes) == ("stricter", 1.0, "", True)
    assert desk.activate() == begun
    newest = desk.service.list_transitions(pb.ListTransitionsRequest(tenant="acme"), LEAD).transitions
    assert [step.action for step in newest] == ["activate"]
    (replayed,) = newest[0].evidence
    assert (replayed.gate, replayed.figures["calls"], replayed.figures["stricter"]) == ("replay", 9, 2)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"replayed": pb.Replayed(calls=9, looser=1)}, "ROLLOUT_LOOSER"),
        ({"replayed": pb.Replayed()}, "ROLLOUT_UNSHOWN"),
        ({"replayed": pb.Replayed(undecidable=9)}, "ROLLOUT_UNSHOWN"),
        ({"replayed": pb.Replayed(calls=9, golden=-1)}, "ROLLOUT_UNSHOWN"),
        ({"candidate": "../x"}, "ROLLOUT_PLAN"),
        ({"reason": " "}, "ROLLOUT_REASON"),
    ],
)
def test_nothing_is_activated_that_was_not_shown_to_be_stricter(
    desk: RolloutDesk, changes: dict[str, Any], code: str
) -> None:
    assert refused(desk.activate, **changes)[1] == code
    assert refused(desk.status)[1] == "ROLLOUT_UNKNOWN"


def test_it_is_shown_against_what_answers_now(desk: RolloutDesk) -> None:
    desk.enforce(OTHER)
    assert refused(desk.activate)[1] == "ROLLOUT_UNSHOWN"
    begun = desk.activate(baseline=OTHER)
    assert (begun.baseline, begun.serving) == (OTHER, OTHER)


def test_what_answers_nobody_gives_way_and_what_answers_some_does_not(desk: RolloutDesk) -> None:
    """Ending a canary could let through what its candidate stops."""
    desk.start(candidate=OTHER)
    desk.promote()
    assert refused(desk.activate)[1] == "ROLLOUT_ACTIVE"
    desk.roll_back()
    desk.start(candidate=THIRD)
    assert desk.activate().stage == "stricter"
    assert desk.steps()[-2:] == ["abort", "activate"]
    assert refused(desk.activate, candidate=OTHER)[1] == "ROLLOUT_ACTIVE"
    assert refused(desk.start, candidate=OTHER)[1] == "ROLLOUT_ACTIVE"


def test_only_persons_end_a_stricter_one_and_who_may_enforce_promotes_it(desk: RolloutDesk) -> None:
    desk.activate()
    desk.stand(refused="BUNDLE_INVALID", tripped="POLICY_TIMEOUT")
    assert desk.look() == []
    assert desk.status().outcome == "breach", "it is told all the same"
    assert refused(desk.change, "abort_rollout", AUTHOR)[1] == "ROLLOUT_STATE"
    assert refused(desk.promote, RESPONDER)[1] in {"CONTROL_FORBIDDEN", "ROLLOUT_SECOND_PERSON"}
    assert desk.roll_back(RESPONDER).stage == "rolled_back"
    desk.activate()
    assert desk.promote(LEAD).serving == CANDIDATE


def test_a_candidate_that_its_gates_took_back_may_still_be_the_stricter_one(desk: RolloutDesk) -> None:
    desk.start()
    desk.promote()
    desk.report(would_block=300, denied=300)
    assert desk.look() == ["rolled_back"]
    assert desk.activate().stage == "stricter"


def test_what_both_said_meanwhile_is_shown(desk: RolloutDesk) -> None:
    desk.activate()
    desk.report(would_block=40, denied=40)
    assert (desk.look(), desk.status().compared) == ([], 1_000)
