"""What an access token says (contracts §1; RFC 9068, RFC 8693 section 4.1, RFC 7800).

Decides the claims of a token for an agent of the registry, and what a token for a spawned agent inherits: the session,
the subject, the chain of parents, and never more scopes, a longer life or another tenant than the token it was
exchanged for. Must never grant: `Grant` holds what was decided before. Trusts the registry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from authz.encoding import token_digest
from authz.identity.oauth.clients import client_id
from authz.identity.oauth.refusals import invalid_request, invalid_scope, invalid_target
from authz.identity.registry import ceiling_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from authz.identity.oauth.requests import Wanted
    from authz.identity.registry import Agent
    from authz.model import JsonObject

TYP: Final = "at+jwt"
DEFAULT_LIFE_S: Final = 300
MAX_LIFE_S: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a token is bound to (RFC 7800): a DPoP key or a client certificate; neither is a bearer token."""

    jkt: str = ""
    x5t_s256: str = ""

    @property
    def token_type(self) -> str:
        """As a token response says it."""
        return "DPoP" if self.jkt else "Bearer"

    def claims(self) -> JsonObject:
        """The claim `cnf`, if any."""
        if self.jkt:
            return {"cnf": {"jkt": self.jkt}}
        return {"cnf": {"x5t#S256": self.x5t_s256}} if self.x5t_s256 else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audiences:
    """Whom tokens may be for: the audience where nothing is asked, and that of each resource (RFC 8707)."""

    default: str
    by_resource: Mapping[str, str] = field(default_factory=dict)

    def of(self, wanted: Wanted) -> str:
        """The one audience of the token.

        Raises:
            OAuthError: `invalid_target`; a resource or an audience that is not configured, or two that differ.
        """
        known = {self.default, *self.by_resource.values()}
        if wanted.audience and wanted.audience not in known:
            raise invalid_target("the audience is not one of this server's")
        if not wanted.resource:
            return wanted.audience or self.default
        found = self.by_resource.get(wanted.resource)
        if found is None or wanted.audience not in ("", found):
            raise invalid_target("the resource is not one of this server's, or has another audience")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A verified access token of ours that is exchanged."""

    agent: str
    tenant: str
    subject: str
    client_id: str
    session: str
    scopes: tuple[str, ...]
    parents: tuple[str, ...]
    audience: str
    act: JsonObject | None
    jti_sha256: str
    expires_at: int

    @classmethod
    def of(cls, claims: JsonObject) -> Subject:
        """Of the claims of a token that this server signed."""
        act, parents = claims.get("act"), claims.get("parents", [])
        text = {
            name: str(claims.get(name, "")) for name in ("agent_id", "tenant", "sub", "client_id", "session", "aud")
        }
        return cls(
            agent=text["agent_id"],
            tenant=text["tenant"],
            subject=text["sub"],
            client_id=text["client_id"],
            session=text["session"],
            scopes=tuple(str(claims.get("scope", "")).split()),
            parents=tuple(map(str, parents)) if isinstance(parents, list) else (),
            audience=text["aud"],
            act=act if isinstance(act, dict) else None,
            jti_sha256=token_digest(str(claims["jti"])),
            expires_at=int(str(claims["exp"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a new token says beside who issued it and when. `expires_at` is in Unix seconds."""

    agent: Agent
    client_id: str
    audience: str
    expires_at: int
    subject: str = ""
    session: str = ""
    scopes: tuple[str, ...] = ()
    act: JsonObject | None = None
    exchanged_sha256: str = ""
    binding: Binding = field(default_factory=Binding)

    def claims(self, *, issuer: str, jti: str, now_s: int) -> JsonObject:
        """The whole payload."""
        required: JsonObject = {
            "iss": issuer,
            "aud": self.audience,
            "sub": self.subject or self.agent.id,
            "client_id": self.client_id,
            "tenant": self.agent.tenant,
            "agent_id": self.agent.id,
            "iat": now_s,
            "exp": self.expires_at,
            "jti": jti,
        }
        optional: JsonObject = {
            "session": self.session,
            "scope": " ".join(self.scopes),
            "parents": [*self.agent.parents],
            "act": self.act,
        }
        return required | {name: value for name, value in optional.items() if value} | self.binding.claims()


def for_itself(
    line: Sequence[Agent], wanted: Wanted, audiences: Audiences, *, session: str, binding: Binding, now_s: int
) -> Grant:
    """The token of a client that asks for itself: the last of `line`, whose ancestors stand before it, root first.

    Raises:
        OAuthError: `invalid_scope` or `invalid_target`.
    """
    agent, ceiling = line[-1], ceiling_of(line)
    scopes = (ceiling.scopes or ()) if wanted.scopes is None else wanted.scopes
    if ceiling.scopes_within(scopes) != scopes:
        raise invalid_scope("a scope is above the agent's ceiling")
    return Grant(
        agent=agent,
        client_id=client_id(agent.tenant, agent.id),
        audience=audiences.of(wanted),
        expires_at=now_s + _life(wanted),
        session=session,
        scopes=scopes,
        binding=binding,
    )


def for_child(
    line: Sequence[Agent],
    wanted: Wanted,
    audiences: Audiences,
    *,
    subject: Subject,
    client: str,
    binding: Binding,
    now_s: int,
) -> Grant:
    """The token of the last of `line`, which acts for `subject`, its parent.

    Raises:
        OAuthError: `invalid_request`, it does not descend from the subject; `invalid_scope`, scopes would grow.
    """
    agent, ceiling = line[-1], ceiling_of(line)
    if agent.tenant != subject.tenant or agent.parents != (*subject.parents, subject.agent):
        raise invalid_request("the subject token is not that of this agent's parent", "PARENT_MISMATCH")
    scopes = ceiling.scopes_within(subject.scopes) if wanted.scopes is None else wanted.scopes
    if not set(scopes) <= set(ceiling.scopes_within(subject.scopes)):
        raise invalid_scope("a scope is not in the subject token, or is above the agent's ceiling")
    act: JsonObject = {"sub": agent.id}
    return Grant(
        agent=agent,
        client_id=client,
        audience=audiences.of(wanted) if wanted.resource or wanted.audience else subject.audience,
        expires_at=min(now_s + _life(wanted), subject.expires_at),
        subject=subject.subject,
        session=subject.session,
        scopes=scopes,
        act=act | {"act": subject.act} if subject.act else act,
        exchanged_sha256=subject.jti_sha256,
        binding=binding,
    )


def _life(wanted: Wanted) -> int:
    return min(wanted.expires_in or DEFAULT_LIFE_S, MAX_LIFE_S)
