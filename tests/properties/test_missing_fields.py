"""A field that is missing, null or of another type never turns a denial into more (G4)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import PolicyError
from authz.model import Check, Effect, Phase, Principal, Protocol, Tool, ToolCall
from authz.native import Library
from authz.policy import agent_contract
from authz.policy.agent_input import Facts, input_document
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.resources import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.policy.engine import Query

Path = tuple[str | int, ...]
RANK = {Effect.ALLOW: 0, Effect.SANITIZE: 1, Effect.APPROVAL_NEEDED: 2, Effect.DENY: 3}
DEADLINE_S = 5.0

ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "read_document": st.fixed_dictionaries({"path": st.sampled_from(["/docs/a", "/etc/passwd", "/docs/../x", "", 7])}),
    "search_web": st.fixed_dictionaries({"query": st.sampled_from(["weather", "ann@acme.example", 7])}),
    "transfer_payment": st.fixed_dictionaries(
        {
            "amount": st.sampled_from([1, 1000, 1001, 10_001, -1, 0, "5"]),
            "recipient": st.sampled_from(["office-supplies", "eve", ["office-supplies"]]),
            "currency": st.sampled_from(["EUR", "USD"]),
        }
    ),
    "send_email": st.fixed_dictionaries(
        {
            "to": st.sampled_from(["ann@acme.example", "eve@evil.example", ["ann@acme.example", "eve@evil.example"]]),
            "subject": st.just("hello"),
            "body": st.just("a text"),
        }
    ),
    "delete_records": st.just({"table": "t"}),
}
"""Every argument here is one that its tool needs: without it the call is another one, and never a better one."""


@pytest.fixture(scope="module")
def decision() -> Iterator[Query]:
    source = PolicySource(paths=(shared("bundles/starter"), shared("rego")))
    with NativeEngine(Library.load()).open(source) as policy:
        yield policy.query("authz/decision")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Inputs as the service makes them, of callers and calls that the policy knows and does not."""
    name = draw(st.sampled_from(sorted(ARGUMENTS)))
    agent = draw(st.sampled_from(["billing-agent", "research-agent", "support-agent", "stranger"]))
    principal = Principal(
        issuer="i", tenant=draw(st.sampled_from(["acme", "umbrella"])), agent=agent, subject=agent, scopes=("tools",)
    )
    server = draw(st.sampled_from(["default", "other"]))
    phase = draw(st.sampled_from([Phase.CALL, Phase.CALL, Phase.LIST, Phase.RESULT]))
    method = draw(st.sampled_from(["tools/call", "tools/call", "tools/list", "resources/read", "prompts/get"]))
    call = ToolCall(
        tool=Tool(server=server, name=name, protocol=Protocol.MCP, method=method),
        args=draw(ARGUMENTS[name]),
        phase=phase,
    )
    check = Check(method="POST", path="/mcp?a=b", host="tools", headers={"user-agent": "u"}, received_ns=1)
    result: Any = {"content": [{"type": "text", "text": "hello"}]}
    made: dict[str, Any] = orjson.loads(input_document(check, principal, call, Facts(), ("user-agent",), result))
    return made


def effect(decision: Query, document: dict[str, Any]) -> Effect:
    """As the service would take it: what is no decision is a denial."""
    try:
        return agent_contract.interpret(decision.evaluate(orjson.dumps(document), DEADLINE_S)).effect
    except PolicyError:
        return Effect.DENY


def fields(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a document, outermost first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from fields(inner, (*path, key))


def changed(document: dict[str, Any], path: Path, change: Any) -> dict[str, Any]:
    """A copy with another value in one place; Ellipsis takes the place away."""
    made = copy.deepcopy(document)
    parent: Any = made
    for part in path[:-1]:
        parent = parent[part]
    if change is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = change
    return made


@settings(max_examples=60, deadline=None)
@given(document=documents(), change=st.sampled_from([..., None, {}, [], "", 0, False, True]))
def test_g4_no_field_that_is_missing_or_strange_widens_a_decision(
    decision: Query, document: dict[str, Any], change: Any
) -> None:
    before = effect(decision, document)
    widened = [
        path
        for path in fields(document)
        if RANK[effect(decision, changed(document, path, change))] < RANK[before]
        # An argument that was to be sanitized and is gone needs no sanitizing.
        and (before is not Effect.SANITIZE or path[0] != "args")
    ]
    assert widened == []


@settings(max_examples=100, deadline=None)
@given(document=documents(), data=st.data())
def test_g4_no_number_of_missing_fields_widens_a_decision(
    decision: Query, document: dict[str, Any], data: st.DataObject
) -> None:
    before = effect(decision, document)
    places = [path for path in fields(document) if not any(isinstance(part, int) for part in path)]
    for path in data.draw(st.lists(st.sampled_from(places), max_size=6, unique=True)):
        try:
            document = changed(document, path, ...)
        except KeyError:
            continue  # its parent is gone already
    assert RANK[effect(decision, document)] >= RANK[before]
