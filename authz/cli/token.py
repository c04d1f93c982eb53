"""`authz token`: a token for an agent, from the control plane where there is one, else from the development issuer."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote

import typer

from authz._gen.authz.control.v1 import agents_pb2 as pb
from authz._gen.authz.control.v1 import sidecars_pb2
from authz.cli import agent_keys
from authz.cli.control_client import ControlOption, RefusedCallError, connect
from authz.cli.state import StateOption, state_folder
from authz.cli.token_client import TokenClient
from authz.errors import ConfigError
from authz.identity.development_issuer import open_issuer

if TYPE_CHECKING:
    from authz.cli.control_client import ControlClient

EXAMPLES = """
Examples:

  authz token --agent billing-agent --tenant acme

  authz token --agent billing --tenant acme --key billing.pem --control https://control.example:8443

  curl -H "authorization: Bearer $(authz token --agent a --tenant acme --ttl 60)" http://127.0.0.1:10000/mcp
"""

KEYS: Final = "agents"
"""Folder of the keys of agents that were registered for the asking, in the state folder."""
OWNER: Final = "authz token"
FOLLOWED_S: Final = 5.0
HEARD_S: Final = 30
PAUSE_S: Final = 0.05


def token(
    agent: Annotated[str, typer.Option(envvar="AUTHZ_AGENT", help="Agent id.")],
    tenant: Annotated[str, typer.Option(envvar="AUTHZ_TENANT", help="Tenant.")],
    session: Annotated[str, typer.Option(help="Session id.")] = "",
    scope: Annotated[str, typer.Option(help="Scopes, separated by spaces.")] = "",
    parent: Annotated[list[str] | None, typer.Option(help="Agent that spawned this one; root first.")] = None,
    ttl: Annotated[int, typer.Option(min=1, max=900, help="Seconds that it lives.")] = 300,
    resource: Annotated[
        str, typer.Option(help="URL of the resource that it is for, where the issuer has several.")
    ] = "",
    key: Annotated[
        Path | None, typer.Option(help="The agent's private key (PEM), as `authz agents add --key` makes it.")
    ] = None,
    control: ControlOption = None,
    state: StateOption = None,
) -> None:
    """Print a token and nothing else.

    With the state of a running `authz up` or `authz control` an agent that is not known is registered first; without a
    control plane the development issuer of the state folder signs.
    """
    folder = state_folder(state)
    if key is None and control is None and not (folder / "control.json").exists():
        issuer = open_issuer(folder)
        scopes, parents = scope.split(), parent or ()
        print(issuer.mint(agent=agent, tenant=tenant, session=session, scopes=scopes, parents=parents, ttl_s=ttl))
        return
    plane = connect(control, state)
    path = key or _known_key(plane, folder, tenant, agent, parent or [])
    client = TokenClient(url=plane.url, pool=plane.pool, tenant=tenant, agent=agent, key=agent_keys.read(path))
    print(client.token({"session": session, "scope": scope, "expires_in": str(ttl), "resource": resource}))


def _known_key(plane: ControlClient, folder: Path, tenant: str, agent: str, parents: list[str]) -> Path:
    """The key that this folder has of the agent; it and its parents are registered where they are not.

    Raises:
        ConfigError: the agent is registered, and its key is not here.
        RefusedCallError: whoever has this folder may register none.
    """
    for depth, parent in enumerate(parents):
        with suppress(_IsRegistered):
            _register(plane, folder, tenant, parent, parents[:depth])
    path = _key_file(folder, tenant, agent)
    if path.exists():
        return path
    try:
        _register(plane, folder, tenant, agent, parents)
        _await_sidecars(plane, tenant)
    except _IsRegistered:
        raise ConfigError(
            f"`{agent}` is registered, and {path} is not there", remedy="give its private key as --key FILE"
        ) from None
    return path


class _IsRegistered(Exception):  # noqa: N818 - no error of a user's
    """There is such an agent."""


def _register(plane: ControlClient, folder: Path, tenant: str, agent: str, parents: list[str]) -> None:
    if _key_file(folder, tenant, agent).exists():
        raise _IsRegistered
    path = _key_file(folder, tenant, agent)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    wanted = pb.Agent(tenant=tenant, id=agent, owner=OWNER, purpose="registered by `authz token`", parents=parents)
    wanted.credentials.add(public_jwk=agent_keys.make(draft, "EdDSA"))
    try:
        plane.call("Agents/CreateAgent", pb.CreateAgentRequest(agent=wanted, reason=OWNER), pb.Agent)
        draft.replace(path)
    except RefusedCallError as error:
        if error.code == "already_exists":
            raise _IsRegistered from None
        raise
    finally:
        draft.unlink(missing_ok=True)


def _await_sidecars(plane: ControlClient, tenant: str) -> None:
    """Until every sidecar that is heard follows the tenant, or for a moment: so that the first call is judged."""
    until = time.monotonic() + FOLLOWED_S
    request = sidecars_pb2.ListSidecarsRequest(tenant=tenant)
    while time.monotonic() < until:
        listed = plane.call("Sidecars/ListSidecars", request, sidecars_pb2.ListSidecarsResponse).sidecars
        heard = [sidecar for sidecar in listed if time.time() - sidecar.last_report_at.ToSeconds() < HEARD_S]
        if all(any(at.stream == tenant for at in sidecar.applied) for sidecar in heard):
            return
        time.sleep(PAUSE_S)


def _key_file(folder: Path, tenant: str, agent: str) -> Path:
    name = "@".join(quote(part, safe="") for part in (agent, tenant))
    return folder / KEYS / f"{name}.pem"
