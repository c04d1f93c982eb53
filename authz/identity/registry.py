"""What is known of an agent, and which changes to it are allowed (requirements I4, I7).

Decides whether an agent may be registered, what each change makes of it, and what a decision is told of it. Retired is
final. What an agent spawns has no more than the agent itself: `facts` lays the ceilings, the autonomy and the lifecycle
of everyone above it over its own, so that pausing a parent pauses what it spawned.
Must never know a private key, a store or a clock: times are given to it. Trusts that whoever calls may do so.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final

from authz.errors import InvalidRequestError
from authz.model import AgentFacts, Autonomy, Lifecycle
from authz.reasons import AGENT_INVALID, AGENT_PARENT, AGENT_RETIRED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from authz.identity.credentials import Credential

MAX_IDENTIFIER_BYTES: Final = 256
MAX_TEXT_BYTES: Final = 1024
MAX_PARENTS: Final = 32
"""As deep as a token can say (`claims`)."""
MAX_CREDENTIALS: Final = 16
MAX_NAMES: Final = 256
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What Unicode shows as nothing (Default_Ignorable_Code_Point) and Python calls printable."""
_TOOL: Final = re.compile(r"[^/*]+/.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What an agent can never exceed. None is no ceiling; an empty tuple grants nothing of its kind.

    `tools` are SERVER/NAME, where a name that ends in `*` is a prefix.
    """

    scopes: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("scopes", "tools"):
            names = getattr(self, name)
            if names is not None:
                object.__setattr__(self, name, tuple(dict.fromkeys(names)))

    @property
    def is_valid(self) -> bool:
        """Whether an operator may set it."""
        scopes, tools = self.scopes or (), self.tools or ()
        is_sound = all(map(is_identifier, (*scopes, *tools))) and all(map(_TOOL.fullmatch, tools))
        return is_sound and max(len(scopes), len(tools)) <= MAX_NAMES

    def below(self, above: Ceiling) -> Ceiling:
        """What both allow."""
        return Ceiling(
            scopes=_both(self.scopes, above.scopes, _same),
            tools=_both(self.tools, above.tools, _narrower),
        )

    def scopes_within(self, scopes: Iterable[str]) -> tuple[str, ...]:
        """Those of `scopes` that it allows, in their order."""
        return tuple(scope for scope in scopes if self.scopes is None or scope in self.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One registered agent. Values are checked when it is made.

    `parents` are the ids of those that spawned it, root first; they never change. `version` grows by one with each
    change. Times are Unix nanoseconds.

    Raises:
        InvalidRequestError: `AGENT_INVALID`.
    """

    tenant: str
    id: str
    owner: str
    purpose: str = ""
    autonomy: Autonomy = Autonomy.ACT_WITHIN_LIMITS
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    memory_writes_paused: bool = False
    ceiling: Ceiling = field(default_factory=Ceiling)
    credentials: tuple[Credential, ...] = ()
    parents: tuple[str, ...] = ()
    version: int = 1
    created_ns: int = 0
    updated_ns: int = 0

    def __post_init__(self) -> None:
        for name in ("tenant", "id", "owner"):
            if not is_identifier(getattr(self, name)):
                raise InvalidRequestError(
                    AGENT_INVALID, f"`{name}` is not 1 to {MAX_IDENTIFIER_BYTES} bytes of printable text"
                )
        if self.id != self.id.strip() or unicodedata.normalize("NFC", self.id) != self.id or _INVISIBLE.search(self.id):
            raise InvalidRequestError(
                AGENT_INVALID, "`id` has a space at an end, an invisible character, or is not in Unicode's NFC"
            )
        if not self.ceiling.is_valid:
            raise InvalidRequestError(
                AGENT_INVALID, f"a ceiling names at most {MAX_NAMES} scopes, and tools as SERVER/NAME"
            )
        if not is_text(self.purpose):
            raise InvalidRequestError(AGENT_INVALID, f"`purpose` is over {MAX_TEXT_BYTES} bytes or not printable")
        if len(self.parents) > MAX_PARENTS or self.id in self.parents or len(set(self.parents)) != len(self.parents):
            raise InvalidRequestError(
                AGENT_PARENT, f"`parents` are at most {MAX_PARENTS} different agents, none of them this one"
            )
        if len(self.live_credentials) > MAX_CREDENTIALS:
            raise InvalidRequestError(AGENT_INVALID, f"an agent has at most {MAX_CREDENTIALS} credentials at a time")

    @property
    def live_credentials(self) -> tuple[Credential, ...]:
        """Those that still authenticate."""
        return tuple(credential for credential in self.credentials if credential.revoked_ns is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What an operator sets; None leaves a field as it is."""

    owner: str | None = None
    purpose: str | None = None
    autonomy: Autonomy | None = None
    memory_writes_paused: bool | None = None
    ceiling: Ceiling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One line of an agent's history: who changed what, when and why. The first one's `changed` is empty."""

    version: int
    at_ns: int
    by: str
    reason: str
    changed: tuple[str, ...] = ()


DECIDING: Final = frozenset({"lifecycle", "autonomy", "owner", "memory_writes_paused", "ceiling"})
"""What decisions are told: a change of one of these goes to every sidecar."""


def is_identifier(text: str) -> bool:
    """Whether `text` can stand in a token: printable, so that no invisible character makes two names look like one."""
    return bool(text) and text.isprintable() and len(text.encode()) <= MAX_IDENTIFIER_BYTES


def is_text(text: str) -> bool:
    """Whether `text` is fit to be shown and kept: a reason or a purpose; may be empty."""
    return (not text or text.isprintable()) and len(text.encode()) <= MAX_TEXT_BYTES


def folded(identifier: str) -> str:
    """The form in which no two agents of a tenant may be equal (Unicode's NFKC_Casefold, nearly): `a` and U+FF21."""
    # Twice: folding can make what normalisation changes again (U+0345), and the other way round.
    once = unicodedata.normalize("NFKC", identifier).casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", once).casefold())


def spawned(parent: Agent, ancestors: Sequence[Agent], identifier: str, *, now_ns: int) -> Agent:
    """The agent `identifier` as made by `parent`, whose `ancestors` stand root first; it has no credential of its own.

    Raises:
        InvalidRequestError: `AGENT_INVALID` or `AGENT_PARENT`.
    """
    require_alive((*ancestors, parent))
    return Agent(
        tenant=parent.tenant,
        id=identifier,
        owner=parent.owner,
        purpose=f"spawned by {parent.id}",
        autonomy=parent.autonomy,
        memory_writes_paused=parent.memory_writes_paused,
        ceiling=parent.ceiling,
        parents=(*parent.parents, parent.id),
        created_ns=now_ns,
        updated_ns=now_ns,
    )


def require_alive(agents: Iterable[Agent]) -> None:
    """Nobody acts for, or below, one that is paused or retired.

    Raises:
        InvalidRequestError: `AGENT_PARENT`.
    """
    if any(agent.lifecycle is not Lifecycle.ACTIVE for agent in agents):
        raise InvalidRequestError(AGENT_PARENT, "an agent it descends from is paused or retired")


def updated(agent: Agent, update: Update, *, now_ns: int) -> Agent:
    """`agent` with what `update` sets.

    Raises:
        InvalidRequestError: `AGENT_RETIRED`, or `AGENT_INVALID`.
    """
    _require_not_retired(agent)
    values = {each.name: getattr(update, each.name) for each in fields(update)}
    return _next(agent, {name: value for name, value in values.items() if value is not None}, now_ns)


def moved(agent: Agent, lifecycle: Lifecycle, *, now_ns: int) -> Agent:
    """`agent` paused, resumed or retired. Retiring also revokes its credentials.

    Raises:
        InvalidRequestError: `AGENT_RETIRED`, since that is final.
    """
    if agent.lifecycle is lifecycle:
        return agent
    _require_not_retired(agent)
    changes: dict[str, object] = {"lifecycle": lifecycle}
    if lifecycle is Lifecycle.RETIRED and agent.live_credentials:
        changes["credentials"] = tuple(each.revoked(now_ns) for each in agent.credentials)
    return _next(agent, changes, now_ns)


def rotated(agent: Agent, new: Credential | None, *, revoke: Iterable[str] = (), now_ns: int) -> Agent:
    """`agent` with the credentials named by `revoke` dead, all if none is named, and `new` beside the others.

    Raises:
        InvalidRequestError: `AGENT_RETIRED`; `AGENT_INVALID`, a credential is not the agent's, or `new` has been one.
    """
    _require_not_retired(agent)
    named = frozenset(revoke)
    if not named <= {credential.id for credential in agent.credentials}:
        raise InvalidRequestError(AGENT_INVALID, "a credential to revoke is not one of this agent's")
    if new is not None and new.proof in {old.proof for old in agent.credentials}:
        # Taking a revoked key again would bring whoever stole it back.
        raise InvalidRequestError(AGENT_INVALID, "the new credential is, or has been, one of this agent's")
    kept = tuple(each.revoked(now_ns) if not named or each.id in named else each for each in agent.credentials)
    return _next(agent, {"credentials": (*kept, new) if new else kept}, now_ns)


def facts(agent: Agent, ancestors: Sequence[Agent]) -> AgentFacts:
    """What decisions are told of `agent`, everyone above it included.

    Raises:
        InvalidRequestError: `AGENT_INVALID`; the ceilings together name more tools than one entry of a stream can.
    """
    line = (*ancestors, agent)
    tools = ceiling_of(line).tools
    if tools is not None and len(tools) > MAX_NAMES:
        raise InvalidRequestError(AGENT_INVALID, f"its ceiling and those above it leave over {MAX_NAMES} tools")
    return AgentFacts(
        lifecycle=max((each.lifecycle for each in line), key=list(Lifecycle).index),
        autonomy=min((each.autonomy for each in line), key=list(Autonomy).index),
        owner=agent.owner,
        memory_writes_paused=any(each.memory_writes_paused for each in line),
        tools_ceiling=tools,
    )


def ceiling_of(line: Iterable[Agent]) -> Ceiling:
    """What an agent may have at most, with everyone above it: `line` holds them all."""
    ceiling = Ceiling()
    for agent in line:
        ceiling = ceiling.below(agent.ceiling)
    return ceiling


def changed_fields(before: Agent, after: Agent) -> tuple[str, ...]:
    """Names of the fields that differ, but for those that count changes."""
    names = (each.name for each in fields(before) if each.name not in ("version", "updated_ns"))
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


def _both(
    ours: tuple[str, ...] | None, theirs: tuple[str, ...] | None, meet: Callable[[str, str], str | None]
) -> tuple[str, ...] | None:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    met = (meet(one, other) for one in ours for other in theirs)
    return tuple(name for name in met if name is not None)


def _same(one: str, other: str) -> str | None:
    return one if one == other else None


def _narrower(one: str, other: str) -> str | None:
    """Of two patterns the one that allows what both allow; None if nothing is."""
    narrow, wide = sorted((one, other), key=lambda name: (not name.endswith("*"), len(name)), reverse=True)
    is_within = narrow == wide or (wide.endswith("*") and narrow.removesuffix("*").startswith(wide[:-1]))
    return narrow if is_within else None


def _next(agent: Agent, changes: dict[str, object], now_ns: int) -> Agent:
    after = replace(agent, **changes)  # type: ignore[arg-type]  # names come from fields of the same types
    if not changed_fields(agent, after):
        return agent
    return replace(after, version=agent.version + 1, updated_ns=now_ns)


def _require_not_retired(agent: Agent) -> None:
    if agent.lifecycle is Lifecycle.RETIRED:
        raise InvalidRequestError(AGENT_RETIRED, "the agent is retired, which is final")
