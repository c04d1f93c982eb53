from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from authz.encoding import token_digest
from authz.identity.oauth.access_token import (
    Audiences,
    Binding,
    Subject,
    for_child,
    for_itself,
)
from authz.identity.oauth.refusals import OAuthError
from authz.identity.oauth.requests import Wanted
from authz.identity.registry import Ceiling
from tests.identity_fakes import NOW
from tests.registry_fakes import SERVER, agent

if TYPE_CHECKING:
    from authz.identity.oauth.access_token import (
        Grant,
    )

AUDIENCES = Audiences(default="authz", by_resource={"https://tools.example/mcp": "tools"})
BEARER = Binding()
READ_WRITE = Ceiling(scopes=("read", "write"))


def own(known: Any = None, above: tuple[Any, ...] = (), **wanted: Any) -> Grant:
    line = (*above, known or agent())
    return for_itself(line, Wanted(**wanted), AUDIENCES, session="s-1", binding=BEARER, now_s=NOW)


def subject(**changes: Any) -> Subject:
    claims: dict[str, Any] = {
        "agent_id": "planner",
        "tenant": "acme",
        "sub": "planner",
        "client_id": "acme/planner",
        "session": "s-1",
    }
    more = {"aud": "authz", "scope": "read write", "jti": "j", "exp": NOW + 200}
    return Subject.of(claims | more | changes)


CHILD = agent("reader", parents=("planner",))


def child(known: Any = CHILD, above: Any = None, of: Subject | None = None, **wanted: Any) -> Grant:
    line = (*(above or (agent(),)), known)
    return for_child(
        line, Wanted(**wanted), AUDIENCES, subject=of or subject(), client="acme/planner", binding=BEARER, now_s=NOW
    )


def error(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(OAuthError) as caught:
        call(*arguments, **named)
    return caught.value.error


def test_rfc9068_2_2_the_claims_of_an_access_token() -> None:
    claims = own(agent(ceiling=READ_WRITE), scopes=("read",)).claims(issuer=SERVER, jti="j-1", now_s=NOW)
    assert claims == {
        "iss": SERVER,
        "aud": "authz",
        "sub": "planner",
        "client_id": "acme/planner",
        "tenant": "acme",
        "agent_id": "planner",
        "session": "s-1",
        "scope": "read",
        "iat": NOW,
        "exp": NOW + 300,
        "jti": "j-1",
    }


@pytest.mark.parametrize(("asked", "lives"), [(None, 300), (60, 60), (900, 900), (901, 900), (86_400, 900)])
def test_a_token_lives_300_seconds_unless_asked_and_900_at_most(asked: int | None, lives: int) -> None:
    assert own(expires_in=asked).expires_at == NOW + lives


# --- scopes


def test_who_names_no_scope_gets_those_of_the_ceiling() -> None:
    assert own(agent(ceiling=READ_WRITE)).scopes == ("read", "write")
    assert own().scopes == ()


def test_d11_a_scope_above_the_ceiling_is_refused() -> None:
    assert error(own, agent(ceiling=READ_WRITE), scopes=("read", "admin")) == "invalid_scope"
    assert error(own, agent(ceiling=Ceiling(scopes=())), scopes=("read",)) == "invalid_scope"
    assert own(scopes=("anything",)).scopes == ("anything",)


def test_everyone_above_an_agent_bounds_its_scopes() -> None:
    known = agent("reader", parents=("planner",), ceiling=READ_WRITE)
    above = (agent(ceiling=Ceiling(scopes=("read",))),)
    assert error(own, known, above, scopes=("write",)) == "invalid_scope"
    assert own(known, above).scopes == ("read",)
    assert error(child, known, above, scopes=("write",)) == "invalid_scope"


# --- audience (RFC 8707)


@pytest.mark.parametrize(
    ("wanted", "audience"),
    [
        ({}, "authz"),
        ({"resource": "https://tools.example/mcp"}, "tools"),
        ({"resource": "https://tools.example/mcp", "audience": "tools"}, "tools"),
        ({"audience": "tools"}, "tools"),
        ({"audience": "authz"}, "authz"),
    ],
)
def test_rfc8707_a_configured_resource_is_the_audience(wanted: dict[str, Any], audience: str) -> None:
    assert own(**wanted).audience == audience


@pytest.mark.parametrize(
    "wanted",
    [
        {"resource": "https://tools.example/mcp/"},
        {"resource": "https://evil.example"},
        {"resource": "tools"},
        {"audience": "https://tools.example/mcp"},
        {"audience": "evil"},
        {"resource": "https://tools.example/mcp", "audience": "authz"},
    ],
)
def test_rfc8707_any_other_target_is_refused(wanted: dict[str, Any]) -> None:
    assert error(own, **wanted) == "invalid_target"


# --- token exchange (RFC 8693)


def test_rfc8693_4_1_a_child_acts_for_the_subject() -> None:
    claims = child().claims(issuer=SERVER, jti="j-2", now_s=NOW)
    assert (claims["sub"], claims["agent_id"], claims["act"]) == ("planner", "reader", {"sub": "reader"})
    assert (claims["parents"], claims["session"], claims["scope"]) == (["planner"], "s-1", "read write")


def test_rfc8693_4_1_the_chain_of_actors_nests_outermost_first() -> None:
    grandchild = agent("digger", parents=("planner", "reader"))
    of = subject(agent_id="reader", parents=["planner"], act={"sub": "reader"})
    claims = child(grandchild, (agent(), CHILD), of).claims(issuer=SERVER, jti="j", now_s=NOW)
    assert claims["act"] == {"sub": "digger", "act": {"sub": "reader"}}
    assert claims["parents"] == ["planner", "reader"]


def test_a_childs_token_ends_with_its_parents() -> None:
    assert child().expires_at == NOW + 200
    assert child(expires_in=100).expires_at == NOW + 100
    assert child().exchanged_sha256 == token_digest("j")


def test_scopes_only_shrink() -> None:
    assert child(scopes=("read",)).scopes == ("read",)
    assert error(child, scopes=("read", "admin")) == "invalid_scope"
    assert error(child, of=subject(scope=""), scopes=("read",)) == "invalid_scope"
    assert child(of=subject(scope="")).scopes == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"agent_id": "other"},
        {"tenant": "globex"},
        {"parents": ["root"]},
        {"agent_id": "reader", "parents": ["planner"]},
    ],
)
def test_only_the_parents_token_makes_a_childs(changes: dict[str, Any]) -> None:
    assert error(child, of=subject(**changes)) == "invalid_request"


def test_a_child_keeps_the_audience_unless_it_asks_for_another_configured_one() -> None:
    assert child(of=subject(aud="tools")).audience == "tools"
    assert child(resource="https://tools.example/mcp").audience == "tools"
    assert error(child, resource="https://evil.example") == "invalid_target"


# --- binding


@pytest.mark.parametrize(
    ("binding", "confirmation", "token_type"),
    [
        (Binding(), None, "Bearer"),
        (Binding(jkt="t"), {"jkt": "t"}, "DPoP"),
        (Binding(x5t_s256="c"), {"x5t#S256": "c"}, "Bearer"),
        (Binding(jkt="t", x5t_s256="c"), {"jkt": "t"}, "DPoP"),
    ],
)
def test_d14_a_bound_token_says_to_what(binding: Binding, confirmation: Any, token_type: str) -> None:
    made = for_itself((agent(),), Wanted(), AUDIENCES, session="", binding=binding, now_s=NOW)
    assert made.claims(issuer=SERVER, jti="j", now_s=NOW).get("cnf") == confirmation
    assert binding.token_type == token_type
