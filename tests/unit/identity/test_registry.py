from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import InvalidRequestError
from authz.identity.autonomy import is_under
from authz.identity.registry import (
    MAX_CREDENTIALS,
    MAX_PARENTS,
    Ceiling,
    Update,
    changed_fields,
    facts,
    folded,
    moved,
    require_alive,
    rotated,
    spawned,
    updated,
)
from authz.model import AgentFacts, Autonomy, Lifecycle, Protocol, Tool
from tests.identity_fakes import NOW, NS, signing_key
from tests.registry_fakes import agent, certificate_credential, key_credential


def code(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        call(*arguments, **named)
    return caught.value.reason.code


# --- what may be registered


@pytest.mark.parametrize("field", ["tenant", "id", "owner"])
@pytest.mark.parametrize("value", ["", "a\nb", "a\u200bb", "a\u202eb", "x" * 257, "\ud800"])
def test_an_agent_is_named_in_short_printable_text(field: str, value: str) -> None:
    assert code(agent, **{field: value}) == "AGENT_INVALID"


@pytest.mark.parametrize("identifier", [" a", "a ", "e\u0301", "a\ufe0f", "a\u3164", "a\u034f"])
def test_e10_an_id_that_only_looks_like_another_is_refused(identifier: str) -> None:
    assert code(agent, id=identifier) == "AGENT_INVALID"


@pytest.mark.parametrize(
    ("one", "other"), [("Planner", "planner"), ("\uff50lanner", "planner"), ("straße", "STRASSE"), ("\ufb01x", "fix")]
)
def test_e10_ids_that_differ_in_case_or_form_alone_fold_to_one(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_different_ids_fold_to_different_names() -> None:
    assert len({folded(each) for each in ("planner", "planner2", "plan-ner", "plan/ner", "plan ner")}) == 5


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@pytest.mark.parametrize("parents", [("planner",), ("a", "a"), tuple(map(str, range(MAX_PARENTS + 1)))])
def test_parents_are_few_and_different_and_others(parents: tuple[str, ...]) -> None:
    assert code(agent, parents=parents) == "AGENT_PARENT"


def test_an_agent_has_a_bounded_number_of_credentials() -> None:
    many = tuple(replace(key_credential(), id=str(number)) for number in range(MAX_CREDENTIALS + 1))
    assert code(agent, credentials=many) == "AGENT_INVALID"
    assert agent(credentials=(*many[:-1], many[-1].revoked(1))).live_credentials == many[:-1]


@pytest.mark.parametrize("tools", [("transfer",), ("/x",), ("server/",), ("*/x",), ("serv*/x",), ("a\n/b",)])
def test_a_ceiling_names_tools_by_server_and_name(tools: tuple[str, ...]) -> None:
    assert code(agent, ceiling=Ceiling(tools=tools)) == "AGENT_INVALID"


def test_a_ceiling_is_bounded() -> None:
    assert code(agent, ceiling=Ceiling(scopes=tuple(map(str, range(257))))) == "AGENT_INVALID"


# --- lifecycle


@pytest.mark.parametrize("lifecycle", [Lifecycle.ACTIVE, Lifecycle.PAUSED])
def test_retired_is_final(lifecycle: Lifecycle) -> None:
    retired = moved(agent(), Lifecycle.RETIRED, now_ns=1)
    assert code(moved, retired, lifecycle, now_ns=2) == "AGENT_RETIRED"
    assert code(updated, retired, Update(owner="bob"), now_ns=2) == "AGENT_RETIRED"
    assert code(rotated, retired, key_credential(), now_ns=2) == "AGENT_RETIRED"


def test_an_agent_is_paused_and_resumed() -> None:
    paused = moved(agent(), Lifecycle.PAUSED, now_ns=5)
    assert (paused.lifecycle, paused.version, paused.updated_ns) == (Lifecycle.PAUSED, 2, 5)
    assert moved(paused, Lifecycle.ACTIVE, now_ns=6).version == 3


def test_retiring_revokes_every_credential() -> None:
    retired = moved(agent(credentials=(key_credential(),)), Lifecycle.RETIRED, now_ns=5)
    assert retired.live_credentials == ()


def test_a_change_to_what_is_so_already_is_no_change() -> None:
    same = agent(purpose="plans")
    assert moved(same, Lifecycle.ACTIVE, now_ns=9) is same
    assert updated(same, Update(purpose="plans", owner="alice"), now_ns=9) is same


def test_an_update_changes_what_it_names_alone() -> None:
    after = updated(agent(), Update(autonomy=Autonomy.OBSERVE, memory_writes_paused=True), now_ns=7)
    assert changed_fields(agent(), after) == ("autonomy", "memory_writes_paused")
    assert (after.version, after.updated_ns, after.owner) == (2, 7, "alice")


def test_an_update_is_held_to_the_rules_of_an_agent() -> None:
    assert code(updated, agent(), Update(owner="a\nb"), now_ns=1) == "AGENT_INVALID"


# --- credentials


def test_rotation_kills_the_old_credentials_and_takes_the_new_one() -> None:
    before = agent(credentials=(key_credential(), certificate_credential()))
    after = rotated(before, key_credential(signing_key("ES256"), "c-3"), now_ns=9)
    assert [each.id for each in after.live_credentials] == ["c-3"]
    assert [each.revoked_ns for each in after.credentials] == [9, 9, None]


def test_rotation_may_name_what_it_kills() -> None:
    before = agent(credentials=(key_credential(), certificate_credential()))
    assert [each.id for each in rotated(before, None, revoke=("c-1",), now_ns=9).live_credentials] == ["c-2"]


def test_rotation_of_a_credential_that_is_not_the_agents_is_refused() -> None:
    assert code(rotated, agent(credentials=(key_credential(),)), None, revoke=("c-9",), now_ns=9) == "AGENT_INVALID"


def test_a_revoked_key_never_comes_back() -> None:
    before = rotated(agent(credentials=(key_credential(),)), None, now_ns=9)
    assert code(rotated, before, key_credential(identifier="c-9", kid="another"), now_ns=10) == "AGENT_INVALID"


def test_when_a_credential_died_is_never_rewritten() -> None:
    assert key_credential().revoked(5).revoked(9).revoked_ns == 5


# --- spawned agents


def test_a_spawned_agent_has_what_its_parent_has_and_its_chain() -> None:
    parent = agent(parents=("root",), autonomy=Autonomy.OBSERVE, ceiling=Ceiling(scopes=("read",)), owner="carol")
    child = spawned(parent, [agent("root")], "reader", now_ns=NOW * NS)
    assert (child.tenant, child.owner, child.parents) == ("acme", "carol", ("root", "planner"))
    assert (child.autonomy, child.ceiling, child.credentials) == (Autonomy.OBSERVE, parent.ceiling, ())


@pytest.mark.parametrize("lifecycle", [Lifecycle.PAUSED, Lifecycle.RETIRED])
def test_nothing_is_spawned_below_one_that_is_not_active(lifecycle: Lifecycle) -> None:
    above = agent("root", lifecycle=lifecycle)
    assert code(spawned, agent(parents=("root",)), [above], "reader", now_ns=1) == "AGENT_PARENT"
    assert code(spawned, agent(lifecycle=lifecycle), [], "reader", now_ns=1) == "AGENT_PARENT"
    require_alive([agent()])


# --- what decisions are told


def test_the_facts_of_an_agent_are_what_decisions_read() -> None:
    told = facts(agent(ceiling=Ceiling(scopes=("read",), tools=("files/*",)), memory_writes_paused=True), [])
    assert told == AgentFacts(
        lifecycle=Lifecycle.ACTIVE,
        autonomy=Autonomy.ACT_WITHIN_LIMITS,
        owner="alice",
        memory_writes_paused=True,
        tools_ceiling=("files/*",),
    )


def test_no_ceiling_is_none_and_an_empty_one_is_not() -> None:
    assert facts(agent(), []).tools_ceiling is None
    assert facts(agent(ceiling=Ceiling(tools=())), []).tools_ceiling == ()


def test_everyone_above_an_agent_bounds_it() -> None:
    root = agent("root", lifecycle=Lifecycle.PAUSED, autonomy=Autonomy.OBSERVE, memory_writes_paused=True)
    told = facts(agent(parents=("root",), autonomy=Autonomy.AUTONOMOUS), [root])
    assert (told.lifecycle, told.autonomy, told.memory_writes_paused) == (Lifecycle.PAUSED, Autonomy.OBSERVE, True)
    assert told.owner == "alice"


def test_facts_that_no_entry_of_a_stream_can_hold_are_refused() -> None:
    """A sidecar would refuse the entry, and with it every later one of the tenant's stream."""
    above = agent("root", ceiling=Ceiling(tools=("s/a*", *(f"s/b{number}" for number in range(200)))))
    below = agent(parents=("root",), ceiling=Ceiling(tools=("s/b*", *(f"s/a{number}" for number in range(200)))))
    assert code(facts, below, [above]) == "AGENT_INVALID"


NAMES = st.text(alphabet="ab/", min_size=1, max_size=4).map(lambda text: f"s/{text}")
PATTERNS = st.lists(st.builds(str.__add__, NAMES, st.sampled_from(["", "*"])), max_size=4).map(tuple)
CEILINGS = st.none() | PATTERNS


@given(CEILINGS, CEILINGS, NAMES)
def test_both_ceilings_allow_exactly_what_each_allows(
    one: tuple[str, ...] | None, other: tuple[str, ...] | None, name: str
) -> None:
    tool = Tool(server="s", name=name.partition("/")[2], protocol=Protocol.MCP, method="tools/call")
    both = Ceiling(tools=one).below(Ceiling(tools=other)).tools
    assert is_under(both, tool) == (is_under(one, tool) and is_under(other, tool))


@given(st.none() | st.frozensets(st.sampled_from("abc")), st.none() | st.frozensets(st.sampled_from("abc")))
def test_scopes_of_both_ceilings_are_those_in_each(one: frozenset[str] | None, other: frozenset[str] | None) -> None:
    made = [Ceiling(scopes=None if each is None else tuple(sorted(each))) for each in (one, other)]
    both = set(made[0].below(made[1]).scopes_within("abc"))
    assert both == {*made[0].scopes_within("abc")} & {*made[1].scopes_within("abc")}
