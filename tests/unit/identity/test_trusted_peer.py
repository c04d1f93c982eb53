from __future__ import annotations

from typing import Any

import pytest

from authz import reasons
from authz.config import TrustedPeer, load
from authz.errors import ConfigError
from authz.identity.trusted_peer import REROUTING_HEADERS, from_peer, headers_to_remove
from authz.model import Check
from tests.identity_fakes import reason_of

TRUST = TrustedPeer(trust_domain="example.org", tenant="acme")
FORWARDED = TrustedPeer(trust_domain="example.org", tenant="acme", source="x-forwarded-client-cert")
ID = "spiffe://example.org/ns/agents/sa/planner"


def forwarded(header: str) -> Check:
    return Check(headers={"x-forwarded-client-cert": header})


def test_envoys_peer_stands_for_an_agent() -> None:
    principal = from_peer(Check(source_principal=ID), TRUST)
    assert (principal.issuer, principal.tenant) == ("spiffe://example.org", "acme")
    assert (principal.agent, principal.subject) == ("ns/agents/sa/planner", ID)
    assert principal.scopes == ()


@pytest.mark.parametrize(
    "principal",
    [
        "",
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org.evil/a",
        "spiffe://evil/spiffe://example.org/a",
        "spiffe://Example.org/a",
        "SPIFFE://example.org/a",
        "spiffe://example.org//a",
        "spiffe://example.org/a/",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/./a",
        "spiffe://example.org/..",
        "spiffe://example.org/a%2fb",
        "spiffe://example.org/a b",
        "spiffe://example.org/a\n",
        "spiffe://example.org/é",
        "spiffe://example.org/a?x",
        "spiffe://example.org:443/a",
        "spiffe://user@example.org/a",
        "CN=planner",
        f"spiffe://example.org/{'a' * 300}",
    ],
)
def test_a13_a_peer_outside_the_trust_domain_is_nobody(principal: str) -> None:
    assert reason_of(lambda: from_peer(Check(source_principal=principal), TRUST)) is reasons.TOKEN_MISSING


@pytest.mark.parametrize("segment", ["...", ".a", "a.b", "a..b", "A-1_b"])
def test_dots_inside_a_segment_are_names(segment: str) -> None:
    assert from_peer(Check(source_principal=f"spiffe://example.org/{segment}"), TRUST).agent == segment


@pytest.mark.parametrize(
    "header",
    [
        f"URI={ID}",
        f"By=spiffe://example.org/me;Hash=ab;URI={ID}",
        f'Hash=ab;Subject="CN=x,O=y;URI=spiffe://example.org/root";URI={ID};DNS=a.example',
        f'Subject="a\\"b,c";uri={ID}',
    ],
)
def test_a_forwarded_certificate_is_read_where_configured(header: str) -> None:
    assert from_peer(forwarded(header), FORWARDED).subject == ID


def test_a13_a_forwarded_certificate_is_not_read_where_not_configured() -> None:
    assert reason_of(lambda: from_peer(forwarded(f"URI={ID}"), TRUST)) is reasons.TOKEN_MISSING


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", reasons.TOKEN_MISSING),
        (f"URI={ID},URI={ID}", reasons.TOKEN_MULTIPLE),
        (f"URI=spiffe://evil/a,By=x;URI={ID}", reasons.TOKEN_MULTIPLE),
        (f"URI={ID};URI=spiffe://example.org/root", reasons.TOKEN_MALFORMED),
        ("Hash=ab", reasons.TOKEN_MALFORMED),
        (f'Subject="URI={ID}"', reasons.TOKEN_MALFORMED),
        (f'Subject="x;URI={ID}', reasons.TOKEN_MALFORMED),
        (f'Subject="x\\";URI={ID}"', reasons.TOKEN_MALFORMED),
        (f'URI="{ID}"', reasons.TOKEN_MISSING),
        ("URI=", reasons.TOKEN_MISSING),
    ],
)
def test_a13_a_forwarded_certificate_with_two_meanings_is_refused(header: str, reason: reasons.Reason) -> None:
    assert reason_of(lambda: from_peer(forwarded(header), FORWARDED)) is reason


@pytest.mark.parametrize(
    "settings",
    [
        {"trust_domain": "", "tenant": "acme"},
        {"trust_domain": "Example.org", "tenant": "acme"},
        {"trust_domain": "example.org/a", "tenant": "acme"},
        {"trust_domain": "spiffe://example.org", "tenant": "acme"},
        {"trust_domain": "example.org", "tenant": ""},
    ],
)
def test_trust_in_peers_must_name_a_domain_and_a_tenant(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        load(overrides={"listen.trusted_peer": settings})


# --- headers


SPOOFED = (
    "authorization",
    "proxy-authorization",
    "x-forwarded-client-cert",
    "x-authz-agent",
    "x-pdp-decision",
    "x-envoy-original-path",
    "x-tenant",
    "x-agent-id",
    "x-jwt-payload",
    "x-auth-request-user",
    "remote-user",
)
PLAIN = (
    "accept",
    "content-type",
    "user-agent",
    "x-request-id",
    "mcp-method",
    "mcp-session-id",
    "x-user-agent",
    "cookie",
)


def test_a13_identity_headers_of_the_agent_never_reach_the_tool() -> None:
    assert headers_to_remove((*PLAIN, *SPOOFED)) == SPOOFED


def test_a13_ordinary_headers_are_left_alone() -> None:
    assert headers_to_remove(PLAIN) == ()


@pytest.mark.parametrize("name", sorted(REROUTING_HEADERS))
def test_a17_a_tool_is_never_told_of_another_call_than_was_judged(name: str) -> None:
    assert headers_to_remove(["content-type", name]) == (name,)


def test_d15_our_own_token_is_removed_unless_the_route_passes_it() -> None:
    assert headers_to_remove(["authorization"]) == ("authorization",)
    assert headers_to_remove(["authorization", "x-tenant"], keep=frozenset({"authorization"})) == ("x-tenant",)
