"""Policies in YAML mean the same to the engine, once compiled, as to the interpreter in tests/policy_interpreter.py."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.authoring.compiling import compile_folder
from authz.native import Library
from authz.policy import agent_contract
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.resources import shared
from tests.policy_interpreter import RANK, decide

if TYPE_CHECKING:
    from authz.model import Verdict

SCHEMA = orjson.loads((shared("schema") / "policy.json").read_bytes())
DEADLINE_S = 5.0
RISKS = {"default": {"read_file": "read", "write_file": "write"}, "crm": {"read_file": "write"}}

TENANTS = ["acme", "umbrella"]
AGENTS = ["ann", "bob", "team/ann", "team/x/y", "team/"]
SERVERS = ["default", "crm"]
NAMES = ["read_file", "write_file", "files.get", "GET /v1/orders"]
TOOLS = [f"{server}/{name}" for server in ("default", "crm", "*") for name in (*NAMES, "*")]
METHODS = ["tools/call", "tools/list", "resources/read", "GET"]
TEXTS = ["", "a", "ab", "b", "EUR"]
NUMBERS = [-1, 0, 1, 1.5, 10]
FIELDS = ["args.a", "args.b", "args.a.c", "args.x-y", "agent.parents", "agent.session"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]
CLOCKS = ["00:00", "06:30", "08:00", "18:00", "23:59"]


def one_or_more(values: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values) | st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


SCALARS = st.sampled_from([*TEXTS[1:], *NUMBERS, True, False])
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([*TEXTS, *NUMBERS, True, False, None]),
    st.lists(st.sampled_from([*TEXTS, *NUMBERS]), max_size=3),
    st.dictionaries(st.sampled_from(["c", "d"]), st.sampled_from([*TEXTS, *NUMBERS]), max_size=2),
)
SETS = st.one_of(
    st.lists(st.sampled_from(TEXTS[1:]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3, unique=True),
)
QUESTIONS = st.one_of(
    st.fixed_dictionaries({"equals": SCALARS}),
    st.fixed_dictionaries({"not_equals": SCALARS}),
    *(st.fixed_dictionaries({name: st.sampled_from(NUMBERS)}) for name in ("above", "at_least", "below", "at_most")),
    *(st.fixed_dictionaries({name: SETS}) for name in ("in", "not_in", "all_in", "any_in", "none_in")),
    *(
        st.fixed_dictionaries({name: one_or_more(TEXTS[1:])})
        for name in ("starts_with", "ends_with", "contains", "matches")
    ),
    st.fixed_dictionaries({"longer_than": st.integers(0, 3)}),
    st.fixed_dictionaries({"only": st.just(["c"])}),
)
ATOMS = st.one_of(
    st.builds(lambda field, asked: {"field": field, **asked}, st.sampled_from(FIELDS), QUESTIONS),
    st.builds(lambda field, asked: {"field": field, **asked, "optional": True}, st.sampled_from(FIELDS[:4]), QUESTIONS),
    st.builds(lambda field, there: {"field": field, "exists": there}, st.sampled_from(FIELDS), st.booleans()),
    st.builds(
        lambda per, name, bound, more: {"rate": {"of": "calls", "per": per, name: bound, **more}},
        st.sampled_from(["60s", "1m", "1h"]),
        st.sampled_from(["above", "at_most"]),
        st.sampled_from(NUMBERS),
        st.sampled_from([{}, {"optional": True}]),
    ),
    st.builds(
        lambda zone, days, ends: {"time": {"zone": zone, "days": days, "from": ends[0], "to": ends[1]}},
        st.sampled_from(ZONES),
        one_or_more(["mon", "mon-fri", "sat-mon", "sun"]),
        st.lists(st.sampled_from(CLOCKS), min_size=2, max_size=2, unique=True),
    ),
    st.just({"time": {"after": "2026-06-01T00:00:00Z", "before": "2026-12-01T00:00:00+01:00"}}),
)


def grouped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    parts = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.fixed_dictionaries({"all": parts}),
        st.fixed_dictionaries({"any": parts}),
        st.fixed_dictionaries({"not": inner}),
    )


CONDITIONS = st.recursive(ATOMS, grouped, max_leaves=5)


@st.composite
def rules(draw: st.DrawFn, number: int) -> dict[str, Any]:
    effect = draw(st.sampled_from(["allow", "allow", "deny", "approval_needed"]))
    match: dict[str, Any] = {
        "tenant": draw(st.just("*") | one_or_more([*TENANTS, "*"])),
        "agent": draw(st.just("*") | one_or_more([*AGENTS[:3], "team/*", "*"])),
        "tool": draw(st.sampled_from(["*", "default/*"]) | one_or_more(TOOLS)),
    }
    if effect != "allow":
        match = {name: term for name, term in match.items() if draw(st.booleans())}
        if draw(st.booleans()):
            match["tool"] = draw(one_or_more([*NAMES, "files.*", "*"]))
    if draw(st.integers(0, 2)) == 0:
        match |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "risk": one_or_more(["read", "write", "destructive"]),
                    "method": one_or_more([*METHODS, "*"]),
                    "phase": one_or_more(["call", "result"]),
                },
            )
        )
    when = draw(st.lists(CONDITIONS, max_size=2))
    mode = {"mode": "flag"} if effect != "allow" and draw(st.booleans()) else {}
    approval = {"approval": {"approvers": ["finance"]}} if effect == "approval_needed" else {}
    return {
        "id": f"r{number}",
        "effect": effect,
        "match": match,
        **({"when": when} if when else {}),
        **mode,
        **approval,
    }


@st.composite
def policies(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [draw(rules(number)) for number in range(draw(st.integers(1, 5)))]


@st.composite
def inputs(draw: st.DrawFn) -> dict[str, Any]:
    name, method = draw(st.sampled_from([("", "tools/list"), *((name, "tools/call") for name in NAMES[:3])]))
    protocol = "mcp"
    if draw(st.integers(0, 3)) == 0:
        name, method, protocol = draw(
            st.sampled_from(
                [(NAMES[3], "GET", "http"), (NAMES[3], "resources/read", "mcp"), ("x", "tools/call", "mcp")]
            )
        )
    document: dict[str, Any] = {
        "version": 1,
        "phase": draw(st.sampled_from(["call", "call", "list", "result"])),
        "agent": {
            "id": draw(st.sampled_from(AGENTS)),
            "tenant": draw(st.sampled_from(TENANTS)),
            "subject": "s",
            "session": draw(st.sampled_from(TEXTS)),
            "scopes": [],
            "parents": draw(st.lists(st.sampled_from(["a", "b"]), max_size=2)),
        },
        "tool": {"server": draw(st.sampled_from(SERVERS)), "name": name, "protocol": protocol, "method": method},
        "facts": {"session": draw(st.sampled_from([{}, {"rates": {"calls": {"60": 10, "3600": "10"}}}]))},
        "time": {"rfc3339": "", "unix_ns": draw(st.integers(1_577_836_800, 1_893_456_000)) * 10**9},
    }
    if document["phase"] != "list":
        document["args"] = draw(
            st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES, "x-y": VALUES}) | st.just({})
        )
    return document


def decisions(policy: list[dict[str, Any]], documents: list[dict[str, Any]]) -> list[Verdict]:
    """What the engine decides with the compiled policy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policies").mkdir()
        (folder / "policies" / "generated.yaml").write_text(json.dumps({"version": 1, "rules": policy}, indent=1))
        (folder / "data.json").write_text(json.dumps({"risks": RISKS}))
        (folder / "compiled.rego").write_text(compile_folder(folder))
        with NativeEngine(Library.load()).open(PolicySource(paths=(folder, shared("rego")))) as opened:
            query = opened.query("authz/decision")
            return [
                agent_contract.interpret(query.evaluate(orjson.dumps(document), DEADLINE_S)) for document in documents
            ]


def named(policy: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"generated/{rule['id']}": rule for rule in policy}


@given(policies(), st.lists(inputs(), min_size=8, max_size=8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_engine_and_the_interpreter_agree(policy: list[dict[str, Any]], documents: list[dict[str, Any]]) -> None:
    jsonschema.validate({"version": 1, "rules": policy}, SCHEMA)
    for document, verdict in zip(documents, decisions(policy, documents), strict=True):
        want = decide(named(policy), document, RISKS)
        got = (verdict.effect, verdict.mode, verdict.reason, frozenset(verdict.rules))
        assert got == (want.effect, want.mode, want.reason, want.rules), document
        written = {rule: place.partition(":")[0] for rule, place in sources(verdict).items()}
        assert written == dict.fromkeys((rule for rule in verdict.rules if "/" in rule), "policies/generated.yaml")


def sources(verdict: Verdict) -> dict[str, str]:
    found: Any = verdict.tags.get("sources", {})
    return dict(found)


def without_required(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The input with each argument, and each fact, gone or of another type."""
    found = []
    for part in ("args", "facts"):
        for name in document.get(part, {}):
            changes: list[Any] = [None, "gone", [], {"odd": []}]
            for change in changes:
                changed = copy.deepcopy(document)
                changed[part][name] = change
                if change == "gone":
                    del changed[part][name]
                found.append(changed)
    return found


@st.composite
def guarded(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A policy that asks of arguments what must be known: nothing optional, nothing that absence answers."""
    asked = st.builds(lambda field, asked: {"field": field, **asked}, st.sampled_from(FIELDS[:4]), QUESTIONS)
    conditions = st.lists(st.recursive(asked, grouped, max_leaves=4), max_size=3)
    door = {"id": "door", "effect": "allow", "match": dict.fromkeys(("tenant", "agent", "tool"), "*")}
    more = [
        {"id": f"r{number}", "effect": effect, "match": {"tool": "*"}, "when": when, **extra}
        for number, (effect, extra) in enumerate(
            [("deny", {}), ("approval_needed", {"approval": {"approvers": ["finance"]}})]
        )
        if (when := draw(conditions))
    ]
    when = draw(conditions)
    return [door | ({"when": when} if when else {}), *more]


@given(guarded(), inputs())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_g4_an_argument_that_is_missing_or_of_another_type_opens_nothing(
    policy: list[dict[str, Any]], document: dict[str, Any]
) -> None:
    changed = [each for each in without_required(document) if "args" in each]
    missing = [each for each in changed if each["args"].keys() < document["args"].keys()]
    before, *after = decisions(policy, [document, *missing])
    assert all(RANK[verdict.effect] >= RANK[before.effect] for verdict in after)
