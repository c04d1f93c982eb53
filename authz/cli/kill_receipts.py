"""What the commands about kills print, and how they find the tenant that a kill is of.

Decides what a person reads first at three in the morning: whether it is in force, and who has not confirmed it. Must
never print a kill that awaits a signer, or one that a sidecar has not confirmed, so that it looks done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer
from google.protobuf.duration_pb2 import Duration

from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz._gen.authz.control.v1 import operators_pb2
from authz.cli.control_client import RefusedCallError
from authz.cli.duration import span
from authz.cli.messages import instant
from authz.cli.output import Output, document, line, pairs
from authz.errors import ConfigError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from authz.cli.control_client import ControlClient

    M = TypeVar("M", bound=Message)

ANY_TENANT: Final = "*"
NOT_IN_FORCE: Final = 1
NOT_REACHED: Final = 3
_KIND: Final = "SCOPE_KIND_"
_STATE: Final = "KILL_STATE_"
_AWAITING: Final = (pb.KILL_STATE_AWAITING_CONFIRMATION, pb.KILL_STATE_AWAITING_LIFT_CONFIRMATION)
_WHOLE: Final = (pb.SCOPE_KIND_TENANT, pb.SCOPE_KIND_GLOBAL)
_BAD: Final = ("failed", "refused")


def kind_name(word: str) -> str:
    """The API's name of a kind such as `memory-writes`."""
    return _KIND + word.upper().replace("-", "_")


def waited(wait: str) -> Duration:
    """`--wait` for the API."""
    duration = Duration()
    duration.FromTimedelta(span(wait))
    return duration


def tenants(client: ControlClient, given: str) -> list[str]:
    """Whose kills are meant: the tenant that was named, else all that this operator may see."""
    if given:
        return [given]
    me = client.call("Operators/WhoAmI", operators_pb2.WhoAmIRequest(), operators_pb2.Operator)
    granted = sorted({grant.tenant for grant in me.grants})
    return [""] if ANY_TENANT in granted else granted


def in_its_tenant(
    client: ControlClient, method: str, request: Message, given: str, answer: type[M], wait: str = "0s"
) -> M:
    """Call about one kill, in the tenant that it is of.

    Raises:
        RefusedCallError: also where none of the operator's tenants has it.
    """
    refusal: RefusedCallError | None = None
    for tenant in tenants(client, given):
        request.tenant = tenant  # type: ignore[attr-defined]  # each request about one kill has it
        try:
            return client.call(method, request, answer, wait_s=span(wait).total_seconds())
        except RefusedCallError as error:
            if error.code != "not_found":
                raise
            refusal = error
    if refusal is None:
        raise ConfigError("you may see no tenant", remedy="ask an admin for a role in one")
    raise refusal


def present(receipt: pb.KillReceipt, output: Output, *, is_awaited: bool, note: str = "") -> None:
    """Print what became of a kill or a lift, with a note on stderr, and end with the exit code that says it."""
    if output is Output.JSON:
        document(_shape(receipt))
    else:
        _print(receipt)
    if receipt.redis in _BAD:
        typer.echo(f"authz: redis {receipt.redis}: sidecars hear of this by their direct pull, within 2 s", err=True)
    if note:
        typer.echo(f"authz: {note}", err=True)
    if receipt.kill.state in _AWAITING:
        raise typer.Exit(NOT_IN_FORCE)
    if receipt.unreached and is_awaited:
        raise typer.Exit(NOT_REACHED)


def described(kill: pb.Kill) -> dict[str, Any]:
    """One kill, as JSON says it; what has not happened is left out."""
    scope = {"kind": _word(kill.scope.kind), "tenant": kill.scope.tenant, "value": kill.scope.value}
    texts = ("reason", "incident", "created_by", "confirmed_by", "lifted_by", "lift_reason", "lift_confirmed_by")
    told = {name: getattr(kill, name) for name in texts}
    times = {
        name: instant(getattr(kill, name)) for name in ("created_at", "expires_at", "lifted_at") if kill.HasField(name)
    }
    place = {"seq": kill.sequence, "epoch": kill.epoch} if kill.sequence else {}
    everything = {"id": kill.id, "state": state_word(kill), "scope": scope, **told, **times, **place}
    return {name: value for name, value in everything.items() if value != ""}


def scope_in_words(scope: pb.Scope) -> str:
    """`agent billing of acme`."""
    what = " ".join(filter(None, (_word(scope.kind), scope.value)))
    if scope.kind == pb.SCOPE_KIND_GLOBAL:
        return "everything"
    return f"{what} of {scope.tenant or 'every tenant'}"


def state_word(kill: pb.Kill) -> str:
    """`in_force`."""
    return pb.KillState.Name(kill.state).removeprefix(_STATE).lower()


def _shape(receipt: pb.KillReceipt) -> dict[str, Any]:
    """Contracts §9; `state` besides where the kill or its lift awaits a second signer."""
    kill = receipt.kill
    awaiting = {"state": state_word(kill)} if kill.state in _AWAITING else {}
    return awaiting | {
        "id": kill.id,
        "seq": kill.sequence,
        "epoch": kill.epoch,
        "scope": described(kill)["scope"],
        "confirmed": len(receipt.confirmed),
        "sidecars": [
            {"id": each.sidecar, "applied_seq": each.applied_sequence, "ms": round(each.ms, 3)}
            for each in receipt.confirmed
        ],
        "unreached": list(receipt.unreached),
    }


def _print(receipt: pb.KillReceipt) -> None:
    kill = receipt.kill
    line(f"{_headline(kill)}: {scope_in_words(kill.scope)}")
    until = instant(kill.expires_at) if kill.HasField("expires_at") else ""
    pairs({"id": kill.id, "until": until, "reason": kill.lift_reason or kill.reason}, indent="  ")
    if kill.state in _AWAITING:
        if kill.scope.kind not in _WHOLE:
            line("  it stops more of the tenant's agents than one person may alone: a quarter unless configured")
        line("  another person who may sign must say so within the window (10 minutes unless configured):")
        line(f"    authz kill confirm {kill.id}")
        return
    count = len(receipt.confirmed)
    line(f"  confirmed by {count} of {count + len(receipt.unreached)} sidecars")
    for each in receipt.confirmed:
        line(f"    {each.sidecar}  after {each.ms:.0f} ms")
    for name in receipt.unreached:
        line(typer.style(f"    {name}  NOT CONFIRMED", fg="red"))
    if receipt.unreached:
        line("  A sidecar without news denies writes after 2 s and reads after 300 s: see `authz sidecars list`.")
    if not count and not receipt.unreached:
        line(typer.style("  no sidecar follows this tenant: nothing enforces it yet", fg="red"))


def _headline(kill: pb.Kill) -> str:
    if kill.state == pb.KILL_STATE_AWAITING_CONFIRMATION:
        return typer.style("NOT IN FORCE, a second signer is needed", fg="red")
    if kill.state == pb.KILL_STATE_AWAITING_LIFT_CONFIRMATION:
        return typer.style("STILL IN FORCE, a second signer is needed to lift it", fg="red")
    return "LIFTED" if kill.state == pb.KILL_STATE_LIFTED else "KILLED"


def _word(kind: pb.ScopeKind) -> str:
    return pb.ScopeKind.Name(kind).removeprefix(_KIND).lower().replace("_", "-")
