"""`authz demo`: the whole stack before a real MCP server, and a table of what was decided."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from authz.cli.output import Output, OutputOption
from authz.cli.state import StateOption, state_folder
from authz.errors import ConfigError
from authz.policy.sources import existing
from authz.resources import shared

if TYPE_CHECKING:
    from authz.demo.rows import Seen

WIDE = 160
"""Columns where the table goes to a file or a pipe."""

EXAMPLES = """
Examples:

  authz demo

  authz demo --policy my-starter --output json
"""


def demo(
    policy: Annotated[
        list[Path] | None, typer.Option(help="Instead of the starter policy, whose promises are shown; repeatable.")
    ] = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start an MCP server, Envoy and the decision service; send calls; show both ends. Exit 1 on a broken promise."""
    try:
        from authz.demo.run import demonstrate  # noqa: PLC0415 - the MCP SDK is not part of a sidecar
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the demonstration needs `{error.name}`", remedy="install the `dev` extra, or run `make demo`"
        ) from None
    folder = state_folder(state) / "demo"
    progress = Console(stderr=True, highlight=False)
    rows, ready = demonstrate(
        folder, existing(policy or [shared("bundles/starter")]), lambda text: progress.print(f"· {text}")
    )
    if output == "json":
        print(json.dumps([_document(seen) for seen in rows]))
    else:
        _print(rows, ready)
    raise SystemExit(1 if any(seen.broken for seen in rows) else 0)


def _document(seen: Seen) -> dict[str, Any]:
    return {
        "call": seen.row.call,
        "agent": seen.row.agent,
        "tenant": seen.row.tenant,
        "outcome": seen.row.outcome,
        "reason": seen.record.get("reason", seen.answer.reason),
        "status": seen.record.get("status", ""),
        "client_saw": seen.answer.shown,
        "server_saw": [call["args"] for call in seen.received],
        "latency_ms": round(seen.answer.latency_ms, 2),
        "decision_id": seen.answer.decision_id,
        "kept": not seen.broken,
    }


def _print(rows: list[Seen], ready: dict[str, Any]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    table = Table(title="What was sent, and what became of it", show_lines=True)
    for column in ("", "call", "agent", "outcome", "reason", "the client saw", "the server saw", "ms"):
        table.add_column(column, overflow="fold")
    for seen in rows:
        document = _document(seen)
        table.add_row(
            "[green]✓[/]" if document["kept"] else "[red]✗[/]",
            seen.row.call,
            f"{seen.row.agent}\n{seen.row.tenant}",
            seen.row.outcome,
            document["reason"],
            seen.answer.shown[:160],
            json.dumps(document["server_saw"][0])[:160] if seen.received else "nothing",
            f"{seen.answer.latency_ms:.1f}",
        )
    console.print(table)
    for seen in rows:
        if seen.broken:
            console.print(f"[red]not as promised[/]: {seen.row.call}: {seen.broken}", markup=True)
    console.print(f"records  {ready['records']}  (one JSON line a decision)")
    console.print(f"traces   {ready['traces']}  (one span a decision, attribute opa.decision_id)")
    for seen in rows:
        console.print(f"  {seen.answer.decision_id or '(answered by Envoy)'}  {seen.row.call}", markup=False)
