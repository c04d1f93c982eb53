"""`authz up`: Envoy and the decision service before an MCP server or an HTTP API."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.cli.control_client import connect
from authz.cli.output import Output, OutputOption
from authz.cli.state import StateOption, state_folder
from authz.cli.stopping import Stopping
from authz.config import KIB
from authz.errors import ConfigError
from authz.held_port import HeldPort
from authz.model import Protocol
from authz.policy.sources import existing
from authz.proxy.configuration import Plan, upstream
from authz.proxy.control import ControlPlan
from authz.proxy.programs import find_envoy, refuse_untested
from authz.proxy.stack import Stack, ca_bundle, socket_folder, sole_use

if TYPE_CHECKING:
    from collections.abc import Mapping

log: Final = logging.getLogger(__name__)

EXAMPLES = """
Examples:

  authz up --policy bundles/starter --upstream http://127.0.0.1:3000/mcp

  authz up --policy policy/ --upstream https://api.example/v1/ --protocol http --listen 127.0.0.1:0 --output json
"""


def up(
    url: Annotated[str, typer.Option("--upstream", envvar="AUTHZ_UPSTREAM", help="URL of the tool server.")],
    policy: Annotated[list[Path], typer.Option(help="Folder, .rego or bundle archive; repeatable.")],
    protocol: Annotated[Literal["mcp", "http"], typer.Option(help="What the tool server speaks.")] = "mcp",
    template: Annotated[
        list[str] | None, typer.Option(help="Path template of an HTTP API, such as /accounts/{id}; repeatable.")
    ] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:10000",
    sidecars: Annotated[
        int, typer.Option(min=1, max=16, help="How many, each behind an Envoy of its own, on ports that follow.")
    ] = 1,
    server: Annotated[str, typer.Option(help="tool.server in policy input.")] = "default",
    max_body: Annotated[int, typer.Option(min=1, max=8 * KIB * KIB, help="Largest body, in bytes.")] = 256 * KIB,
    envoy: Annotated[Path | None, typer.Option(help="The Envoy program.")] = None,
    insecure_plaintext: Annotated[bool, typer.Option(help="Show tokens to the network that --listen is on.")] = False,
    insecure_untested_envoy: Annotated[bool, typer.Option(help="Run an Envoy of a line that no test ran.")] = False,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run until Ctrl-C. The one line on stdout says where everything is."""
    stopping = Stopping(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # a closed terminal must not leave Envoy behind
    host, port = _address(listen, anywhere=insecure_plaintext)
    target = upstream(url)
    program = find_envoy(envoy)
    if insecure_untested_envoy:
        log.warning("whatever Envoy this is, it was not tested: it may let through what it should not")
    else:
        refuse_untested(program)
    folder = state_folder(state).resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    candidates = folder / "candidates"
    candidates.mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as held, sole_use(folder), socket_folder(folder) as sockets:
        ports = [held.enter_context(HeldPort(host, port + number if port else 0)) for number in range(sidecars)]
        diagnostics = [held.enter_context(HeldPort()) for _ in ports]
        plan = Plan(
            policy=existing(policy),
            upstream=target,
            protocol=Protocol(protocol),
            templates=tuple(template or ()),
            host=host,
            port=ports[0].number,
            server=server,
            max_body_bytes=max_body,
            state=folder,
            candidates=candidates,
            socket=sockets / "authz.sock",
            admin=sockets / "envoy-admin.sock",
            diagnostics=diagnostics[0].address,
            ca_bundle=ca_bundle(),
        )
        plans = [plan, *map(partial(_further, plan), range(2, sidecars + 1), ports[1:], diagnostics[1:])]
        with Stack(plans, ControlPlan.of(folder, sockets), program, lambda: _invitation(folder)) as stack:
            _say(stack.ready(), output)
            stack.watch(stopping.wait)


def _further(first: Plan, number: int, port: HeldPort, diagnostics: HeldPort) -> Plan:
    """The plan of another sidecar: the first one's state is the whole's, each other has a folder in it."""
    return replace(
        first,
        port=port.number,
        state=first.state / f"sidecar-{number}",
        socket=first.socket.with_name(f"authz-{number}.sock"),
        admin=first.admin.with_name(f"envoy-admin-{number}.sock"),
        diagnostics=diagnostics.address,
    )


def _invitation(folder: Path) -> str:
    """An enrolment token for every tenant, by the operator's credential in the folder."""
    request = pb.InviteSidecarRequest(name="up")
    return connect(None, folder).call("Sidecars/InviteSidecar", request, pb.InviteSidecarResponse).token


def _address(text: str, *, anywhere: bool) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not port.isdecimal():
        raise ConfigError(f"--listen is not ADDRESS:PORT: `{text}`", remedy="such as 127.0.0.1:10000")
    if not address.is_loopback and not anywhere:
        raise ConfigError(
            f"plaintext on `{text}` would show tokens to that network",
            remedy="listen on 127.0.0.1, or accept that with --insecure-plaintext",
        )
    if not address.is_loopback:
        log.warning("plaintext on `%s`: whoever is on that network can read tokens and use them", text)
    return str(address), int(port)


def _say(ready: Mapping[str, Any], output: Output) -> None:
    if output is Output.JSON:
        print(json.dumps(ready), flush=True)
        return
    facts = ", ".join(f"{name} {ready[name]}" for name in ("control", "issuer", "diagnostics", "traces", "records"))
    print(f"ready: {ready['url']}; {facts}", flush=True)
