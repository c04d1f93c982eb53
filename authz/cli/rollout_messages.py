"""What the commands about rollouts print, and how they name scopes and revisions.

Decides what a person reads first: which revision answers whom, whether it goes on by itself, and which gate says what.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.cli.kill_receipts import ANY_TENANT, tenants
from authz.cli.messages import as_json, instant
from authz.cli.output import Output, document, line, pairs, state
from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.cli.control_client import ControlClient

SHORT: Final = 12
_STATE: Final = "ROLLOUT_STATE_"
_WIDTH: Final = 18
MOST: Final = 5
_ANSWERS: Final = {"stricter": "everybody, by the stricter of the two"}


def scope(client: ControlClient, given: str) -> str:
    """The tenant that is meant: `*` is the platform's rollout; none given, the one that this operator may see."""
    if given:
        return "" if given == ANY_TENANT else given
    of, *others = tenants(client, "")
    if others:
        raise typer.BadParameter(f"name one of {', '.join((of, *others))}", param_hint="--tenant")
    return of


def revision(told: str) -> str:
    """The digest of a revision: as it was told, or of the bundle archive that lies there.

    Raises:
        ConfigError: the archive cannot be read.
    """
    path = Path(told)
    if not told.endswith(".tar.gz"):
        return told
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="give a bundle archive, or its digest") from None


def described(rollout: pb.Rollout) -> dict[str, Any]:
    """A rollout as `--output json` has it."""
    shown = {"tenant": "", "baseline": "", "serving": "", "share": 0.0, "paused": False, "overruled": False}
    told = shown | as_json(rollout) | {"version": rollout.version}
    return told | {"state": pb.RolloutState.Name(rollout.state).removeprefix(_STATE).lower()}


def status_described(status: pb.RolloutStatus) -> dict[str, Any]:
    """A status as `--output json` has it."""
    told: dict[str, Any] = {"outcome": "", "gates": [], "examples": [], "sidecars": []} | as_json(status)
    rankings = {ranking.by: dict(ranking.calls) for ranking in status.rankings}
    return told | {
        "rollout": described(status.rollout),
        "rankings": rankings,
        "compared": status.compared,
        "shed": status.shed,
    }


def present(rollout: pb.Rollout, output: Output) -> None:
    """Print where a rollout stands."""
    if output is Output.JSON:
        document(described(rollout))
        return
    held = " (paused)" * rollout.paused + " (gates overruled)" * rollout.overruled
    line(f"{rollout.id}  {rollout.stage}{held}  {rollout.tenant or 'every tenant'}")
    pairs(
        {
            "serving": _short(rollout.serving),
            "candidate": _short(rollout.candidate),
            "answers": _ANSWERS.get(rollout.stage) or f"{rollout.share:.0%} of the agents by the candidate",
            "since": instant(rollout.stage_since),
            "by": rollout.created_by,
        },
        indent="  ",
    )


def present_status(status: pb.RolloutStatus, output: Output) -> None:
    """Print where a rollout stands, and what its figures say."""
    if output is Output.JSON:
        document(status_described(status))
        return
    present(status.rollout, output)
    for gate in status.gates:
        figures = ", ".join(f"{name} {figure:g}" for name, figure in sorted(gate.figures.items()))
        line(f"  {gate.gate:<{_WIDTH}} {state(gate.outcome, _WIDTH)} {figures}")
    if status.compared or status.shed:
        line(f"  {status.compared} calls judged by both, {status.shed} left out for want of time")
    for ranking in status.rankings:
        most = sorted(ranking.calls.items(), key=lambda each: -each[1])[:MOST]
        line(f"  disagree by {ranking.by}: " + ", ".join(f"{name} {calls}" for name, calls in most))
    for example in status.examples:
        line(f"  {example.decision_id} {example.agent} {example.tool}: {example.baseline} -> {example.candidate}")
    for sidecar in status.sidecars:
        fault = sidecar.tripped or sidecar.golden or sidecar.refused
        stands = f"pinned to {sidecar.pinned}" if sidecar.pinned else "ready" if sidecar.ready else "not ready"
        line(f"  sidecar {sidecar.sidecar}  {fault or stands}")


def present_steps(steps: Iterable[pb.RolloutTransition]) -> None:
    """Print what was done, newest first."""
    for step in steps:
        why = f": {step.reason}" if step.reason else ""
        line(f"{instant(step.at)}  {step.action:<10} {step.rollout.stage:<12} by {step.by}{why}")


def _short(digest: str) -> str:
    return f"sha256:{digest[:SHORT]}" if digest else "what each sidecar is configured with"
