"""`authz token`: a token of the local development issuer, for trying things out."""

from __future__ import annotations

from typing import Annotated

import typer

from authz.cli.state import StateOption, state_folder
from authz.identity.development_issuer import open_issuer

EXAMPLES = """
Examples:

  authz token --agent billing-agent --tenant acme

  curl -H "authorization: Bearer $(authz token --agent a --tenant acme --ttl 60)" http://127.0.0.1:10000/mcp
"""


def token(
    agent: Annotated[str, typer.Option(envvar="AUTHZ_AGENT", help="Agent id.")],
    tenant: Annotated[str, typer.Option(envvar="AUTHZ_TENANT", help="Tenant.")],
    session: Annotated[str, typer.Option(help="Session id.")] = "",
    scope: Annotated[str, typer.Option(help="Scopes, separated by spaces.")] = "",
    parent: Annotated[list[str] | None, typer.Option(help="Agent that spawned this one; root first.")] = None,
    ttl: Annotated[int, typer.Option(min=1, max=900, help="Seconds that it lives.")] = 300,
    state: StateOption = None,
) -> None:
    """Print a token that `authz up` with the same state accepts, and nothing else."""
    issuer = open_issuer(state_folder(state))
    print(
        issuer.mint(agent=agent, tenant=tenant, session=session, scopes=scope.split(), parents=parent or (), ttl_s=ttl)
    )
