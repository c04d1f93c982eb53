"""Agents in tables, and the words of the command line for what the API numbers."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import typer

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz.cli.messages import instant
from authz.cli.output import line, pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class AutonomyWord(StrEnum):
    """What an agent may do without a person."""

    OBSERVE = "observe"
    ACT_WITH_APPROVAL = "act_with_approval"
    ACT_WITHIN_LIMITS = "act_within_limits"
    AUTONOMOUS = "autonomous"


AUTONOMIES: Final = {
    AutonomyWord.OBSERVE: pb.AUTONOMY_OBSERVE,
    AutonomyWord.ACT_WITH_APPROVAL: pb.AUTONOMY_ACT_WITH_APPROVAL,
    AutonomyWord.ACT_WITHIN_LIMITS: pb.AUTONOMY_ACT_WITHIN_LIMITS,
    AutonomyWord.AUTONOMOUS: pb.AUTONOMY_AUTONOMOUS,
}


class LifecycleWord(StrEnum):
    """Where an agent stands."""

    ACTIVE = "active"
    PAUSED = "paused"
    RETIRED = "retired"


LIFECYCLES: Final = {
    LifecycleWord.ACTIVE: pb.LIFECYCLE_ACTIVE,
    LifecycleWord.PAUSED: pb.LIFECYCLE_PAUSED,
    LifecycleWord.RETIRED: pb.LIFECYCLE_RETIRED,
}
_AUTONOMY_WORDS: Final = {number: word.value for word, number in AUTONOMIES.items()}
_LIFECYCLE_WORDS: Final = {number: word.value for word, number in LIFECYCLES.items()}


def print_row(agent: pb.Agent, kills: Sequence[str]) -> None:
    """One line of a list; who is stopped is so whatever its lifecycle."""
    stopped = typer.style(f"STOPPED by {', '.join(kills)}", fg="red") if kills else ""
    words = (_LIFECYCLE_WORDS[agent.lifecycle], stopped, _AUTONOMY_WORDS[agent.autonomy], agent.owner)
    paused = "memory writes paused" if agent.memory_writes_paused else ""
    line("  ".join(filter(None, (agent.id, *words, paused, agent.purpose))))


def print_agent(agent: pb.Agent) -> None:
    """An agent in two columns."""
    ceiling = agent.ceiling
    pairs(
        {
            "agent": agent.id,
            "tenant": agent.tenant,
            "owner": agent.owner,
            "purpose": agent.purpose,
            "lifecycle": _LIFECYCLE_WORDS[agent.lifecycle],
            "autonomy": _AUTONOMY_WORDS[agent.autonomy],
            "memory writes": "paused" if agent.memory_writes_paused else "",
            "scopes": _ceiling(ceiling.scopes.names) if ceiling.HasField("scopes") else "no ceiling",
            "tools": _ceiling(ceiling.tools.names) if ceiling.HasField("tools") else "no ceiling",
            "parents": " > ".join(agent.parents),
            "version": agent.version,
            "created": instant(agent.created_at),
            "updated": instant(agent.updated_at),
        }
    )
    for credential in agent.credentials:
        form = "public key" if credential.public_jwk else "certificate"
        until = f"revoked {instant(credential.revoked_at)}" if credential.HasField("revoked_at") else "good"
        line(f"credential  {credential.id}  {form}  since {instant(credential.created_at)}  {until}")


def print_passport(passport: pb.Passport) -> None:
    """Everything that is known of an agent; first, whether it is stopped."""
    if passport.kills:
        line(typer.style(f"STOPPED by {', '.join(passport.kills)}: see `authz kills show ID`", fg="red"))
    print_agent(passport.agent)
    pairs({"live tokens": passport.live_tokens, "children": " ".join(passport.children)})
    for version in passport.versions:
        changed = ", ".join(version.changed) or "registered"
        line(f"version {version.version}  {instant(version.at)}  {version.by}  {changed}  {version.reason}".rstrip())


def _ceiling(names: Iterable[str]) -> str:
    return " ".join(names) or "none"
