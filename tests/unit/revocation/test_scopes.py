"""E10: a scope is exactly what it names, or it is none."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import InvalidRequestError
from authz.revocation import scopes
from authz.revocation.scopes import Scope, ScopeKind

DIGEST = sha256(b"jti-1").hexdigest()


@pytest.mark.parametrize(
    ("kind", "value", "canonical"),
    [
        ("agent", "spiffe://acme/agent one", "spiffe://acme/agent one"), ("session", "s-1", "s-1"),
        ("token", "jti-1", DIGEST), ("token", f"sha256:{DIGEST}", DIGEST), ("subtree", "агент", "агент"),
        ("override", "o-1", "o-1"), ("tool", "default/read", "default/read"),
        ("tool", "api/GET /v1/{id}", "api/GET /v1/{id}"), ("capability", "payments", "payments"),
        ("connector", "crm", "crm"), ("destination", "EXAMPLE.com.:443", "example.com:443"),
        ("memory-writes", "agent-1", "agent-1"), ("tenant", "", ""),
    ],
)  # fmt: skip
def test_a_scope_of_a_tenant_is_read_as_written(kind: str, value: str, canonical: str) -> None:
    scope = scopes.parse(kind, value, "acme")
    assert scope == Scope(ScopeKind(kind), "acme", canonical)
    assert scope.stream == "acme"


@pytest.mark.parametrize(
    ("kind", "value"), [("tool", "a/b"), ("capability", "c"), ("connector", "c"), ("destination", "h"), ("global", "")]
)
def test_what_every_tenant_shares_can_be_stopped_on_the_platform(kind: str, value: str) -> None:
    assert scopes.parse(kind, value).stream == ""


@pytest.mark.parametrize("kind", ["agent", "session", "token", "subtree", "override", "memory-writes", "tenant"])
def test_what_belongs_to_a_tenant_names_it(kind: str) -> None:
    with pytest.raises(InvalidRequestError, match="KILL_SCOPE: the tenant is empty"):
        scopes.parse(kind, "" if kind == "tenant" else "x")


@pytest.mark.parametrize(
    ("kind", "value", "tenant"),
    [
        ("Agent", "a", "acme"), ("agent ", "a", "acme"), ("", "a", "acme"), ("agents", "a", "acme"),
        ("agent", "", "acme"), ("agent", "a\n", "acme"), ("agent", "a\0", "acme"), ("agent", "a\u200b", "acme"),
        ("agent", "\u202ea", "acme"), ("agent", "\ud800", "acme"), ("agent", "a" * 257, "acme"),
        ("agent", "é" * 129, "acme"), ("agent", "a", "ac\tme"), ("agent", "a", "a" * 257), ("tool", "read", "acme"),
        ("tool", "/read", "acme"), ("tool", "default/", "acme"), ("tool", "/", "acme"), ("global", "", "acme"),
        ("global", "x", ""), ("tenant", "x", "acme"), ("destination", "a b", "acme"), ("destination", "*", "acme"),
        ("token", "", "acme"), ("token", "sha256:\n", "acme"), ("agent", "*", "acme"), ("tool", "*", "acme"),
        ("session", "\u2028", "acme"), ("capability", "a\x85b", ""),
    ],
)  # fmt: skip
def test_e10_what_is_not_exactly_a_scope_is_refused(kind: str, value: str, tenant: str) -> None:
    with pytest.raises(InvalidRequestError, match="KILL_SCOPE: "):
        scopes.parse(kind, value, tenant)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ScopeKind.TOKEN, "jti-1"), (ScopeKind.TOKEN, DIGEST.upper()), (ScopeKind.TOKEN, f"sha256:{DIGEST}"),
        (ScopeKind.DESTINATION, "EXAMPLE.com"), (ScopeKind.DESTINATION, "127.1"),
    ],
)  # fmt: skip
def test_e10_a_scope_in_another_spelling_is_never_made(kind: ScopeKind, value: str) -> None:
    with pytest.raises(InvalidRequestError, match="KILL_SCOPE: "):
        Scope(kind, "acme", value)


def test_a_refusal_does_not_repeat_what_was_written() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        scopes.parse("token", "s3cret\n", "acme")
    assert "s3cret" not in str(refused.value)


@given(st.sampled_from(list(ScopeKind)), st.text(), st.text())
def test_e10_any_words_are_one_scope_or_none(kind: ScopeKind, value: str, tenant: str) -> None:
    try:
        scope = scopes.parse(kind, value, tenant)
    except InvalidRequestError:
        return
    assert scope.tenant == tenant
    assert Scope(scope.kind, scope.tenant, scope.value) == scope
    if kind not in (ScopeKind.TOKEN, ScopeKind.DESTINATION):
        assert scope.value == value
