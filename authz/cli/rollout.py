"""`authz rollout`: let a candidate policy take the place of another, in stages that its figures guard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
import typer

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.cli import VARIABLES, group
from authz.cli.control_client import ControlClient, ControlOption, connect
from authz.cli.duration import span
from authz.cli.messages import as_json
from authz.cli.output import Output, OutputOption, document
from authz.cli.rollout_messages import (
    described,
    present,
    present_status,
    present_steps,
    revision,
    scope,
    status_described,
)
from authz.cli.state import StateOption
from authz.errors import ConfigError

EXAMPLES = """
Examples:

  authz rollout start --tenant acme --candidate payments-7.tar.gz --reason 'a lower limit'

  authz rollout start --tenant acme --candidate payments-7.tar.gz --waves 0.01,0.2 --flips 0.03 --reason 'a lower limit'

  authz rollout status --tenant acme

  authz rollout watch --tenant acme --output json

  authz rollout promote --tenant acme

  authz rollout stop-wave --tenant acme --reason 'odd tickets'

  authz rollout abort --tenant acme --reason 'a wrong limit'
"""

rollout: Final = group("Let a candidate policy replace another, stage by stage.", EXAMPLES)
TenantOption = Annotated[
    str, typer.Option(help="Whose; '*' for every tenant without one of its own. Default: the one that you may see.")
]
ReasonOption = Annotated[str, typer.Option(help="Why, for the record; in words.")]


@rollout.command("start", context_settings=VARIABLES)
def start(
    candidate: Annotated[str, typer.Option(help="Bundle archive that sidecars can read too, or its SHA-256.")],
    reason: ReasonOption,
    tenant: TenantOption = "",
    baseline: Annotated[str, typer.Option(help="What it is to replace; default: what answers now.")] = "",
    waves: Annotated[str, typer.Option(help="Rising shares of the agents, such as 0.01,0.1; `none` for none.")] = "",
    shadow: Annotated[bool, typer.Option(help="Judge calls off the path first.")] = True,
    by_hand: Annotated[bool, typer.Option("--by-hand", help="The gates roll back and never promote.")] = False,
    four_eyes: Annotated[bool, typer.Option("--four-eyes", help="Somebody else must enforce it.")] = False,
    stage: Annotated[str, typer.Option(help="The gates promote no stage that is younger, such as 5m.")] = "",
    not_before: Annotated[str, typer.Option(help="When it begins by itself (RFC 3339).")] = "",
    freeze: Annotated[
        list[str] | None, typer.Option(help="FROM/UNTIL (RFC 3339): nothing goes forward; repeatable.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Least number of calls that a gate judges.")] = None,
    flips: Annotated[float | None, typer.Option(help="Share of calls on which the two may disagree.")] = None,
    errors: Annotated[float | None, typer.Option(help="Share of calls that the candidate may fail to judge.")] = None,
    deny_rate: Annotated[float | None, typer.Option(help="How far the share of refusals may move.")] = None,
    approval_rate: Annotated[float | None, typer.Option(help="How far the share of approvals may move.")] = None,
    latency_ratio: Annotated[float | None, typer.Option(help="99th percentile over the baseline's.")] = None,
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Also a candidate that its gates rolled back here before.")
    ] = False,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Begin a rollout: shadow, canary waves, enforced."""
    told: dict[str, Any] = {
        "samples": samples,
        "flips": flips,
        "errors": errors,
        "deny_rate": deny_rate,
        "approval_rate": approval_rate,
        "latency_ratio": latency_ratio,
    }
    plan = pb.RolloutPlan(
        waves=_shares(waves),
        no_canary=waves == "none",
        no_shadow=not shadow,
        by_hand=by_hand,
        four_eyes=four_eyes,
        tolerances=pb.Tolerances(**{name: value for name, value in told.items() if value is not None}),
    )
    if stage:
        plan.stage.FromTimedelta(span(stage))
    if not_before:
        plan.not_before.FromDatetime(_moment(not_before))
    for each in freeze or ():
        begin, _, end = each.partition("/")
        frozen = plan.freezes.add()
        getattr(frozen, "from").FromDatetime(_moment(begin))
        frozen.until.FromDatetime(_moment(end))
    client = connect(control, state)
    request = pb.StartRolloutRequest(
        tenant=scope(client, tenant),
        baseline=revision(baseline),
        candidate=revision(candidate),
        plan=plan,
        reason=reason,
        overrule=overrule,
    )
    present(client.call("Rollouts/StartRollout", request, pb.Rollout), output)


@rollout.command("status", context_settings=VARIABLES)
def status(
    tenant: TenantOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show where a rollout stands, and what its gates say."""
    client = connect(control, state)
    request = pb.ReadRolloutRequest(tenant=scope(client, tenant))
    present_status(client.call("Rollouts/ReadRollout", request, pb.RolloutStatus), output)


@rollout.command("watch", context_settings=VARIABLES)
def watch(
    tenant: TenantOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show it each time it changes, until interrupted. JSON lines with --output json."""
    client = connect(control, state)
    request = pb.ReadRolloutRequest(tenant=scope(client, tenant))
    for each in client.stream("Rollouts/WatchRollout", request, pb.RolloutStatus):
        if output is Output.JSON:
            typer.echo(orjson.dumps(status_described(each)).decode())
        else:
            present_status(each, output)


@rollout.command("history", context_settings=VARIABLES)
def history(
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many steps, newest first.")] = 50,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every step that was taken. By whom, why, and with which figures."""
    client = connect(control, state)
    request = pb.ListTransitionsRequest(tenant=scope(client, tenant), page_size=limit)
    steps = client.call("Rollouts/ListTransitions", request, pb.ListTransitionsResponse).transitions
    if output is Output.JSON:
        document([as_json(step) | {"rollout": described(step.rollout)} for step in steps])
    else:
        present_steps(steps)


@rollout.command("promote", context_settings=VARIABLES)
def promote(
    tenant: TenantOption = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    overrule: Annotated[
        bool, typer.Option("--overrule", help="From now on the gates of this rollout only warn.")
    ] = False,
    version: Annotated[int, typer.Option(min=0, help="The version that you have seen; 0 takes any.")] = 0,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take it to the next stage by hand. The last one, which answers everybody, is for who may enforce."""
    client = connect(control, state)
    request = pb.PromoteRolloutRequest(tenant=scope(client, tenant), reason=reason, overrule=overrule, version=version)
    present(client.call("Rollouts/PromoteRollout", request, pb.Rollout), output)


@rollout.command("pause", context_settings=VARIABLES)
def pause(
    reason: ReasonOption,
    tenant: TenantOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hold it where it is; its gates may still roll it back."""
    _change("Rollouts/PauseRollout", connect(control, state), tenant, reason, output)


@rollout.command("resume", context_settings=VARIABLES)
def resume(
    tenant: TenantOption = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let it go on."""
    _change("Rollouts/ResumeRollout", connect(control, state), tenant, reason, output)


@rollout.command("stop-wave", context_settings=VARIABLES)
def stop_wave(
    reason: ReasonOption,
    tenant: TenantOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take back the present canary wave alone, and pause."""
    _change("Rollouts/StopWave", connect(control, state), tenant, reason, output)


@rollout.command("abort", context_settings=VARIABLES)
def abort(
    reason: ReasonOption,
    tenant: TenantOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End it; the baseline answers everybody."""
    _change("Rollouts/AbortRollout", connect(control, state), tenant, reason, output)


def _change(method: str, client: ControlClient, tenant: str, reason: str, output: Output) -> None:
    request = pb.ChangeRolloutRequest(tenant=scope(client, tenant), reason=reason)
    present(client.call(method, request, pb.Rollout), output)


def _shares(waves: str) -> list[float]:
    """`0.01,0.2` as numbers.

    Raises:
        ConfigError: one of them is none.
    """
    try:
        return [float(each) for each in waves.split(",")] if waves not in ("", "none") else []
    except ValueError:
        raise ConfigError(f"`{waves}` are not shares", remedy="write them as 0.01,0.1,0.5") from None


def _moment(told: str) -> datetime:
    """An instant with its offset from UTC.

    Raises:
        ConfigError: it is none.
    """
    try:
        found = datetime.fromisoformat(told)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ConfigError(f"`{told}` is not an instant", remedy="write it as 2026-12-24T18:00:00Z")
    return found.astimezone(UTC).replace(tzinfo=None)
