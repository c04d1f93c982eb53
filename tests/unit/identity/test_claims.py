from __future__ import annotations

from typing import Any

import pytest

from authz import reasons
from authz.config import Limits
from authz.encoding import encode_base64url
from authz.model import Confirmation
from tests.identity_fakes import ABSENT, NOW, Bench

DIGEST, OTHER_DIGEST = (encode_base64url(bytes([octet]) * 32) for octet in (7, 8))


def chain(*actors: str) -> dict[str, Any]:
    """An `act` claim of these actors, outermost first."""
    first, *rest = actors
    return {"sub": first, "act": chain(*rest)} if rest else {"sub": first}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def outcome(bench: Bench, **claims: Any) -> reasons.Reason | None:
    return bench.outcome(bench.forge.token(**claims))


def test_every_claim_finds_its_place(bench: Bench) -> None:
    token = bench.forge.token(
        agent_id="planner", session="s-1", scope="read write", parents=["root", "boss"], client_id="app", nbf=NOW
    )
    principal = bench.verifier.verify(token)
    assert (principal.issuer, principal.tenant) == ("https://issuer.example", "acme")
    assert (principal.agent, principal.subject, principal.session) == ("planner", "alice", "s-1")
    assert (principal.scopes, principal.parents, principal.client) == (("read", "write"), ("root", "boss"), "app")


def test_absent_options_are_empty(bench: Bench) -> None:
    principal = bench.verifier.verify(bench.forge.token())
    assert (principal.session, principal.scopes, principal.parents, principal.client) == ("", (), (), "")


@pytest.mark.parametrize("claim", ["sub", "exp", "iat", "jti", "tenant"])
def test_d7_a_missing_claim_is_refused(bench: Bench, claim: str) -> None:
    assert outcome(bench, **{claim: ABSENT}) is reasons.TOKEN_CLAIMS


@pytest.mark.parametrize("claim", ["sub", "jti", "tenant", "agent_id", "session", "client_id"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        1,
        True,
        [],
        ["a"],
        {},
        "a\nb",
        "a\x00",
        "\x1b[31m",
        "a\x7f",
        "a\x85",
        "a\u202eb",
        "a\u200bb",
        "a\xa0b",
        "x" * 257,
        "é" * 129,
    ],
)
def test_d7_an_identifier_out_of_bounds_is_refused(bench: Bench, claim: str, value: Any) -> None:
    assert outcome(bench, **{claim: value}) is reasons.TOKEN_CLAIMS


@pytest.mark.parametrize("value", ["x" * 256, "é" * 128, "spiffe://example/a", "a b", "Ünïcödé", "日本"])
def test_an_identifier_within_bounds_is_taken(bench: Bench, value: str) -> None:
    assert bench.verifier.verify(bench.forge.token(sub=value)).agent == value


# --- audience


@pytest.mark.parametrize("audience", ["authz", ["authz"]])
def test_our_audience_is_taken_alone(bench: Bench, audience: Any) -> None:
    assert outcome(bench, aud=audience) is None


@pytest.mark.parametrize(
    "audience",
    [
        ABSENT,
        None,
        "",
        [],
        "Authz",
        "authz ",
        "authz/",
        "auth",
        ["authz", "other"],
        ["authz", "authz"],
        [["authz"]],
        "authz other",
        {"authz": 1},
        1,
        True,
    ],
)
def test_d9_any_other_audience_is_refused(bench: Bench, audience: Any) -> None:
    assert outcome(bench, aud=audience) is reasons.TOKEN_AUD


@pytest.mark.parametrize("audience", ["https://tool.example/mcp", ["https://tool.example/mcp", "authz"]])
def test_d15_a_token_for_the_upstream_tool_is_refused(bench: Bench, audience: Any) -> None:
    assert outcome(bench, aud=audience) is reasons.TOKEN_AUD


# --- time


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [None, "123", str(NOW), True, [], {}, -1, 2**53 + 1, 10**400, 1e300, -0.5])
def test_d7_a_time_that_is_no_plain_number_is_refused(bench: Bench, claim: str, value: Any) -> None:
    assert outcome(bench, **{claim: value}) is reasons.TOKEN_CLAIMS


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_d7_a_time_that_is_not_finite_is_refused(bench: Bench, number: str) -> None:
    payload = f'{{"iss":"https://issuer.example","aud":"authz","exp":{number},"iat":{NOW}}}'
    assert bench.outcome(bench.forge.sealed(None, payload.encode())) is reasons.TOKEN_CLAIMS


def test_times_may_have_fractions(bench: Bench) -> None:
    assert bench.verifier.verify(bench.forge.token(exp=NOW + 1.5, iat=NOW - 0.25)).expires_at == NOW + 1.5


@pytest.mark.parametrize(
    ("after_s", "reason"),
    [(0, None), (29, None), (29.999, None), (30, reasons.TOKEN_EXPIRED), (31, reasons.TOKEN_EXPIRED)],
)
def test_d8_expiry_has_thirty_seconds_of_leeway(bench: Bench, after_s: float, reason: reasons.Reason | None) -> None:
    bench.clock.advance(after_s)
    assert outcome(bench, exp=NOW, iat=NOW - 300) is reason


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize(
    ("ahead_s", "reason"), [(29, None), (30, None), (31, reasons.TOKEN_NOT_YET), (600, reasons.TOKEN_NOT_YET)]
)
def test_d8_a_token_from_the_future_is_refused(
    bench: Bench, claim: str, ahead_s: int, reason: reasons.Reason | None
) -> None:
    assert outcome(bench, **{claim: NOW + ahead_s, "exp": NOW + 800}) is reason


def test_d8_an_old_nbf_does_not_excuse_an_iat_from_the_future(bench: Bench) -> None:
    assert outcome(bench, nbf=NOW - 10, iat=NOW + 31, exp=NOW + 800) is reasons.TOKEN_NOT_YET


@pytest.mark.parametrize(
    ("life_s", "reason"),
    [
        (1, None),
        (900, None),
        (900.5, reasons.TOKEN_LIFETIME),
        (901, reasons.TOKEN_LIFETIME),
        (10**10, reasons.TOKEN_LIFETIME),
        (0, reasons.TOKEN_LIFETIME),
        (-5, reasons.TOKEN_LIFETIME),
    ],
)
def test_d7_a_lifetime_is_over_zero_and_at_most_900_s(
    bench: Bench, life_s: float, reason: reasons.Reason | None
) -> None:
    assert outcome(bench, iat=NOW, exp=NOW + life_s) is reason


def test_a_shorter_lifetime_can_be_configured() -> None:
    bench = Bench(limits=Limits(token_lifetime_s=60, leeway_s=0))
    assert outcome(bench, iat=NOW, exp=NOW + 61) is reasons.TOKEN_LIFETIME
    assert outcome(bench, iat=NOW - 60, exp=NOW) is reasons.TOKEN_EXPIRED
    assert outcome(bench, iat=NOW, exp=NOW + 60) is None


# --- tenant, scope, delegation, binding


def test_an_issuer_may_name_only_its_tenants() -> None:
    bench = Bench(settings={"tenants": ("acme", "globex")})
    assert outcome(bench, tenant="globex") is None
    assert outcome(bench, tenant="initech") is reasons.TOKEN_TENANT
    assert outcome(bench, tenant="Acme") is reasons.TOKEN_TENANT


def test_an_issuer_of_no_tenant_may_name_none() -> None:
    assert outcome(Bench(settings={"tenants": ()})) is reasons.TOKEN_TENANT


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("a", ("a",)),
        ("tools:read tools:readwrite", ("tools:read", "tools:readwrite")),
        ("tools:*", ("tools:*",)),
        ("b a b", ("b", "a")),
        ("https://x.example/y?z", ("https://x.example/y?z",)),
    ],
)
def test_d11_scopes_are_exact_tokens_in_order(bench: Bench, scope: str, scopes: tuple[str, ...]) -> None:
    assert bench.verifier.verify(bench.forge.token(scope=scope)).scopes == scopes


@pytest.mark.parametrize(
    "scope",
    [
        None,
        "",
        " ",
        "a  b",
        " a",
        "a ",
        "a\tb",
        "a\xa0b",
        "a\nb",
        "a,\u2003b",
        'a"b',
        "a\\b",
        "é",
        ["a"],
        ["a", "b"],
        1,
        True,
        {"a": 1},
        " ".join(f"s{serial}" for serial in range(129)),
    ],
)
def test_d11_a_scope_of_another_form_is_refused(bench: Bench, scope: Any) -> None:
    assert outcome(bench, scope=scope) is reasons.TOKEN_CLAIMS


@pytest.mark.parametrize(
    ("claims", "agent"),
    [
        ({}, "alice"),
        ({"act": {"sub": "worker"}}, "worker"),
        ({"act": {"sub": "worker", "act": {"sub": "planner"}}}, "planner"),
        ({"act": {"sub": "worker", "iss": "https://other.example"}}, "worker"),
        ({"agent_id": "named", "act": {"sub": "worker"}}, "named"),
    ],
)
def test_the_agent_is_agent_id_or_the_innermost_actor_or_the_subject(
    bench: Bench, claims: dict[str, Any], agent: str
) -> None:
    principal = bench.verifier.verify(bench.forge.token(**claims))
    assert (principal.agent, principal.subject) == (agent, "alice")


@pytest.mark.parametrize(
    ("claims", "parents"),
    [
        ({"act": chain("worker")}, ("alice",)),
        ({"act": chain("root", "worker")}, ("alice", "root")),
        ({"act": chain("root", "boss", "worker")}, ("alice", "root", "boss")),
        ({"agent_id": "named", "act": chain("root", "boss")}, ("alice", "root", "boss")),
        ({"agent_id": "root", "act": chain("root", "boss")}, ("alice", "boss")),
        ({"act": chain("root", "root", "worker")}, ("alice", "root")),
        ({"act": chain("worker", "boss", "worker")}, ("alice", "boss")),
        ({"sub": "root", "act": chain("worker")}, ("root",)),
        ({"sub": "worker", "act": chain("worker")}, ()),
        ({"parents": ["root"], "act": chain("boss", "worker")}, ("root", "alice", "boss")),
        ({"parents": ["alice", "root", "boss"], "act": chain("boss", "root", "worker")}, ("alice", "root", "boss")),
        ({"parents": ["root", "root"]}, ("root",)),
        ({"agent_id": "worker"}, ()),
        ({"parents": ["Alice"], "act": chain("worker")}, ("Alice", "alice")),
    ],
)
def test_whoever_delegated_to_the_agent_is_among_its_parents_once(
    bench: Bench, claims: dict[str, Any], parents: tuple[str, ...]
) -> None:
    assert bench.verifier.verify(bench.forge.token(**claims)).parents == parents


def nested_actors(depth: int) -> dict[str, Any]:
    actor: dict[str, Any] = {"sub": "deepest"}
    for _ in range(depth - 1):
        actor = {"sub": "between", "act": actor}
    return actor


def test_a_delegation_chain_is_bounded(bench: Bench) -> None:
    assert bench.verifier.verify(bench.forge.token(act=nested_actors(16))).agent == "deepest"
    assert outcome(bench, act=nested_actors(17)) is reasons.TOKEN_CLAIMS
    assert outcome(bench, act=nested_actors(90)) is reasons.TOKEN_CLAIMS


@pytest.mark.parametrize(
    "act",
    [
        None,
        "worker",
        [],
        {},
        [{"sub": "worker"}],
        {"sub": ""},
        {"sub": 1},
        {"sub": "a", "act": None},
        {"sub": "a", "act": {}},
        {"sub": "a\n", "act": {"sub": "b"}},
    ],
)
def test_a_malformed_actor_is_refused_even_where_agent_id_is_named(bench: Bench, act: Any) -> None:
    assert outcome(bench, act=act) is reasons.TOKEN_CLAIMS
    assert outcome(bench, act=act, agent_id="named") is reasons.TOKEN_CLAIMS


@pytest.mark.parametrize("parents", [None, "root", {}, [""], [1], ["a", None], [["a"]], ["a\n"], ["a"] * 33])
def test_malformed_parents_are_refused(bench: Bench, parents: Any) -> None:
    assert outcome(bench, parents=parents) is reasons.TOKEN_CLAIMS


def test_thirty_two_parents_are_taken_root_first(bench: Bench) -> None:
    parents = [f"agent-{serial}" for serial in range(32)]
    assert bench.verifier.verify(bench.forge.token(parents=parents)).parents == tuple(parents)


@pytest.mark.parametrize("members", [{"jkt": DIGEST}, {"x5t#S256": DIGEST}, {"jkt": DIGEST, "x5t#S256": OTHER_DIGEST}])
def test_what_a_token_is_bound_to_is_known_with_its_principal(bench: Bench, members: dict[str, str]) -> None:
    confirmation = Confirmation(key=members.get("jkt", ""), certificate=members.get("x5t#S256", ""))
    assert bench.verifier.verify(bench.forge.token(cnf=members)).confirmation == confirmation
    assert bench.verifier.verify(bench.forge.token()).confirmation is None


@pytest.mark.parametrize(
    "confirmation",
    [
        {},
        None,
        "key",
        [DIGEST],
        {"jwk": {"kty": "OKP"}},
        {"kid": "k1"},
        {"jkt": DIGEST, "kid": "k1"},
        {"JKT": DIGEST},
        {"jkt": ""},
        {"jkt": None},
        {"jkt": [DIGEST]},
        {"jkt": DIGEST[:-1]},
        {"jkt": f"{DIGEST}="},
        {"jkt": f"{DIGEST}AA"},
        {"x5t#S256": "bwcK0esc"},
        {"x5t#S256": "00" * 32},
        {"x5t": DIGEST},
        {"jkt": DIGEST, "x5t#S256": ""},
    ],
)
def test_d14_what_cannot_be_checked_is_not_a_bearer_token(bench: Bench, confirmation: Any) -> None:
    assert outcome(bench, cnf=confirmation) is reasons.TOKEN_BINDING


def test_claims_that_nobody_knows_decide_nothing(bench: Bench) -> None:
    principal = bench.verifier.verify(bench.forge.token(admin=True, roles=["root"], tenants=["other"], agent="other"))
    assert (principal.agent, principal.tenant, principal.scopes) == ("alice", "acme", ())
