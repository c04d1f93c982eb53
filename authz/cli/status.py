"""`authz status`: what a running sidecar serves, and what it refused."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
import urllib3

from authz.cli.output import Output, OutputOption, document, line, pairs
from authz.errors import ConfigError, ProgramError
from authz.loopback import is_local

EXAMPLES = """
Examples:

  authz status

  authz status --diagnostics 127.0.0.1:8283 --output json
"""
ASK_S = 5.0


def status(
    diagnostics: Annotated[str, typer.Option(help="HOST:PORT of its metrics and probes.")] = "127.0.0.1:8282",
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask a running sidecar which policy answers, where it comes from, and which candidates were refused and why.

    Exit 1 when it would deny every call.
    """
    told = _asked(diagnostics)
    if output is Output.JSON:
        document(told)
    else:
        _print(told)
    raise typer.Exit(0 if told["status"] == "ready" else 1)


def _asked(address: str) -> dict[str, Any]:
    if not is_local(address):
        raise ConfigError("status asks a sidecar on this machine", remedy="give --diagnostics 127.0.0.1:PORT")
    try:
        answer = urllib3.request("GET", f"http://{address}/status", timeout=ASK_S, retries=False, redirect=False)
        told = json.loads(answer.data)
    except (urllib3.exceptions.HTTPError, ValueError):
        told = None
    if not isinstance(told, dict) or "policy" not in told:
        raise ProgramError(f"no sidecar answers at {address}", remedy="is `authz serve` running with --diagnostics?")
    return told


def _print(told: dict[str, Any]) -> None:
    policy: dict[str, Any] = told["policy"]
    waiting = [f"{part}: {why}" for part, why in {**told["waiting_for"], **told["degraded"]}.items()]
    configuration: dict[str, Any] = told["configuration"]
    pairs(
        {
            "status": told["status"],
            "but": "; ".join(waiting),
            "configuration": configuration["digest"],
            "drift": ", ".join(configuration["drift"]),
        }
    )
    tenants = policy.pop("tenants", {})
    _print_policy(policy)
    for tenant, own in tenants.items():
        line(f"policy of {tenant}")
        _print_policy(own, indent="  ")


def _print_policy(policy: dict[str, Any], indent: str = "") -> None:
    quarantined, source = policy.pop("quarantined"), policy.pop("source", {})
    pairs(policy, indent=indent)
    if source:
        line(f"{indent}source")
        pairs(source, indent=f"{indent}  ")
    if quarantined:
        line(f"{indent}quarantined")
        for digest, code in quarantined.items():
            line(f"{indent}  {code:<20}  {digest}")
