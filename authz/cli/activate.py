"""`authz policy activate --stricter`: in an incident, a policy that only ever denies more, everywhere at once."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from authz._gen.authz.control.v1 import rollouts_pb2 as pb
from authz.authoring.disagreement import example
from authz.authoring.replay import EVALUATION_S, Passed, replay
from authz.cli.control_client import ControlOption, connect
from authz.cli.duration import span
from authz.cli.files import read
from authz.cli.output import Output, OutputOption, document, line
from authz.cli.policy_diff import THREADS, Lines, opened, record_files, replaying, side
from authz.cli.rollout_messages import described, present, revision, scope
from authz.cli.state import StateOption
from authz.errors import ConfigError
from authz.policy.activation import golden_of
from authz.policy.golden import check_golden, golden_inputs
from authz.policy.revisions import ARCHIVE
from authz.policy.sources import archive_source
from authz.policy.trust import GOLDEN

if TYPE_CHECKING:
    from authz.authoring.replay import Comparison, Side
    from authz.cli.control_client import ControlClient

EXAMPLES: Final = """
Examples:

  authz policy activate --stricter --baseline now.tar.gz --candidate new.tar.gz --records records --reason INC-7

  authz policy activate --stricter --baseline now.tar.gz --candidate new.tar.gz --records a --reason INC-7 --wait 0s
"""
LOOK_S: Final = 0.2
MOST_EXAMPLES: Final = 5
NOT_SHOWN: Final = 1
NOT_REACHED: Final = 3


@dataclass(slots=True)
class Shown:
    """What was found of the candidate."""

    message: pb.Replayed = field(default_factory=pb.Replayed)
    looser: list[Comparison] = field(default_factory=list)

    def add(self, one: Comparison) -> None:
        """Count one call."""
        counted = self.message
        if one.before is None:
            counted.undecidable += 1
            return
        counted.calls += 1
        counted.looser += one.is_looser
        counted.stricter += one.is_stricter
        if one.is_looser and len(self.looser) < MOST_EXAMPLES:
            self.looser.append(one)

    @property
    def is_enough(self) -> bool:
        """Whether calls were compared, and none would be let through."""
        return bool(self.message.calls) and not self.message.looser

    def document(self) -> dict[str, Any]:
        """As JSON."""
        counts = {each.name: getattr(self.message, each.name) for each in self.message.DESCRIPTOR.fields}
        return counts | {"examples": [example(one) for one in self.looser]}


def activate(
    candidate: Annotated[Path, typer.Option(help="Bundle archive, signed, that sidecars can have too.")],
    baseline: Annotated[Path, typer.Option(help="Bundle archive that answers now, or the folder where it is that.")],
    records: Annotated[list[Path], typer.Option(help="File or folder of decision records (.jsonl); repeatable.")],
    reason: Annotated[str, typer.Option(help="Why, for the record; in words.")],
    stricter: Annotated[
        bool, typer.Option("--stricter", help="The stricter answer of the two counts. Nothing else goes at once.")
    ] = False,
    tenant: Annotated[
        str,
        typer.Option(help="Whose; '*' for every tenant without one of its own. Default: the one that you may see."),
    ] = "",
    contract: Annotated[Literal["agent", "envoy"], typer.Option(help="What the policies are written for.")] = "agent",
    entrypoint: Annotated[str, typer.Option(help="Rule to ask; default: the contract's.")] = "",
    wait: Annotated[str, typer.Option(help="How long to wait for sidecars, such as 30s; 0s for not at all.")] = "5s",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Have a policy that only denies more answer at once, everywhere.

    Recorded calls and golden sets are replayed first: where one call would be let through that is stopped now, nothing
    is activated, and the calls are shown. From then on sidecars ask both policies, and the stricter answer counts:
    allow, sanitize, approval_needed, deny. `authz rollback` ends it; `authz rollout promote` has the candidate answer
    alone. Said twice it changes nothing more.

    Exit 0 when every sidecar does so, or with --wait 0s; 1 when it was refused, or not shown to be stricter; 3 when it
    is in force, but some sidecar does not do so within --wait.
    """
    if not stricter:
        raise ConfigError("only a stricter policy goes at once", remedy="say --stricter, or use `authz rollout start`")
    if not candidate.name.endswith(ARCHIVE):
        raise ConfigError(f"{candidate} is no bundle archive", remedy="build and sign one: `authz bundle build`")
    waited = span(wait).total_seconds()
    client = connect(control, state)
    shown = _shown((baseline, candidate), record_files(records), contract, entrypoint)
    if not shown.is_enough:
        _refuse(shown, output)
    request = pb.ActivateStricterRequest(
        tenant=scope(client, tenant),
        candidate=revision(str(candidate)),
        baseline=revision(str(baseline)) if baseline.is_file() else "",
        replayed=shown.message,
        reason=reason,
    )
    begun = client.call("Rollouts/ActivateStricter", request, pb.Rollout)
    _tell(begun, shown, _reached(client, begun, waited), output, is_awaited=waited > 0)


def _shown(paths: tuple[Path, Path], files: list[Path], contract: Literal["agent", "envoy"], entrypoint: str) -> Shown:
    """What a replay, and the golden sets of both, say of the candidate.

    Raises:
        BundleError: BUNDLE_GOLDEN, it does not deny one of their inputs; or a policy does not load.
    """
    library, shown, passed = replaying(), Shown(), Passed()
    with ExitStack() as stack:
        first, second = (
            side(stack.enter_context(opened(library, path, contract)), contract, entrypoint) for path in paths
        )
        for path in paths:
            shown.message.golden += _held(path, second)
        lines = Lines(files)
        for one in replay(first, second, lines, passed, threads=THREADS):
            shown.add(one)
        lines.end()
    return shown


def _held(path: Path, candidate: Side) -> int:
    """How many golden inputs of a bundle the candidate denies."""
    if path.is_dir():
        golden = read(path / GOLDEN) if (path / GOLDEN).exists() else None
    else:
        golden = golden_of(archive_source(path, "agent"))
    if golden is None:
        return 0
    check_golden(golden, lambda case: candidate.interpret(candidate.query.evaluate(case, EVALUATION_S)))
    return len(golden_inputs(golden))


def _reached(client: ControlClient, begun: pb.Rollout, wait_s: float) -> pb.RolloutStatus:
    """Where it stands once every sidecar has said so, or the time is over."""
    over = time.monotonic() + wait_s
    while True:
        status = client.call("Rollouts/ReadRollout", pb.ReadRolloutRequest(tenant=begun.tenant), pb.RolloutStatus)
        health = _health(status)
        if health.outcome == "pass" or not health.figures["expected"] or time.monotonic() >= over:
            return status
        time.sleep(LOOK_S)


def _health(status: pb.RolloutStatus) -> pb.GateReading:
    return next((gate for gate in status.gates if gate.gate == "health"), pb.GateReading())


def _refuse(shown: Shown, output: Output) -> None:
    if output is Output.JSON:
        document({"activated": False, "shown": shown.document()})
    elif not shown.message.calls:
        line("NOT ACTIVATED: no recorded call could be compared, so nothing shows that it is stricter")
    else:
        line(f"NOT ACTIVATED: {shown.message.looser} of {shown.message.calls} recorded calls would be let through")
        for one in shown.looser:
            asked, before, after = one.recorded, one.before, one.after
            if before and after:
                line(f"  {asked.id} {asked.agent} {asked.tool}: {before.enforced} -> {after.enforced} {after.reason}")
    raise typer.Exit(NOT_SHOWN)


def _tell(begun: pb.Rollout, shown: Shown, status: pb.RolloutStatus, output: Output, *, is_awaited: bool) -> None:
    figures, counted = _health(status).figures, shown.message
    following, done = int(figures.get("expected", 0)), int(figures.get("reported", 0))
    if output is Output.JSON:
        told = {"activated": True, "rollout": described(begun), "shown": shown.document()}
        pinned = [each.sidecar for each in status.sidecars if each.pinned]
        document(told | {"sidecars": {"following": following, "stricter": done, "pinned": pinned}})
    else:
        present(begun, output)
        line(
            f"  shown on {counted.calls} recorded calls: {counted.stricter} answered more strictly, none less; "
            f"{counted.undecidable} undecidable; {counted.golden} golden inputs denied"
        )
        line(f"  in force at {done} of {following} sidecars")
        for each in status.sidecars:
            if not each.ready:
                stays = f"pinned to {each.pinned}: it stays with that" if each.pinned else ""
                line(typer.style(f"    {each.sidecar}  {stays or each.golden or each.refused or 'NOT YET'}", fg="red"))
        if not following:
            line(typer.style("  no sidecar follows this tenant: nothing enforces it yet", fg="red"))
    if is_awaited and done < following:
        raise typer.Exit(NOT_REACHED)
