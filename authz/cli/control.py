"""`authz control`: run the control plane."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from authz.cli import running
from authz.cli.output import Output, OutputOption
from authz.cli.state import StateOption, state_folder
from authz.config import read_settings
from authz.control.config import ControlConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from authz.wiring_control import ControlPlane

EXAMPLES = """
Examples:

  authz control --state /var/lib/authz

  authz control --database 'postgresql://authz@db.example/authz?sslmode=verify-full' --redis rediss://valkey.example:6379
"""

SETTINGS: Final = {
    "database": "control.database",
    "redis": "control.redis",
    "grpc": "control.grpc",
    "http": "control.http",
    "replication": "control.replication",
    "key_encryption_base64": "control.key_encryption_base64",
    "log_level": "telemetry.log_level",
}
"""The setting that each flag stands for; the state's default is the user's folder."""


def control(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML).")] = None,
    database: Annotated[
        str | None, typer.Option(help="sqlite:///FILE or postgresql://…; default: a file in the state folder.")
    ] = None,
    redis: Annotated[str | None, typer.Option(help="Redis or Valkey that kills are published on.")] = None,
    grpc: Annotated[str | None, typer.Option(help="HOST:PORT of gRPC; default: 127.0.0.1:9443.")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of HTTP; default: 127.0.0.1:8443.")] = None,
    replication: Annotated[
        str | None, typer.Option(help="HOST:PORT where certificates are demanded; default: 127.0.0.1:9444.")
    ] = None,
    key_encryption_base64: Annotated[
        str | None, typer.Option(help="What seals private keys, 32 bytes; in AUTHZ_KEY_ENCRYPTION_BASE64, not here.")
    ] = None,
    state: StateOption = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="Least that is logged, on stderr.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Serve operators and sidecars until SIGTERM or SIGINT. A flag counts before its variable, that before the file."""
    settings = configuration(ctx.params)
    running.run(
        lambda: _compose(settings),
        lambda plane: _say_ready(plane, settings, output),
        log_level=settings.telemetry.log_level,
    )


def configuration(flags: Mapping[str, Any]) -> ControlConfig:
    """What the flags and the configuration file amount to.

    Raises:
        ConfigError: see `authz.config.read_settings`.
    """
    given = {SETTINGS[flag]: value for flag, value in flags.items() if flag in SETTINGS and value is not None}
    settings = read_settings(ControlConfig, flags["config"], given)
    if settings.control.state is not None and flags["state"] is None:
        return settings
    return read_settings(ControlConfig, flags["config"], {**given, "control.state": state_folder(flags["state"])})


def _compose(config: ControlConfig) -> ControlPlane:
    from authz.wiring_control import ControlPlane  # noqa: PLC0415 - help and a wrong flag need nothing of what serves

    return ControlPlane(config)


def _say_ready(plane: ControlPlane, config: ControlConfig, output: Output) -> None:
    if plane.first_credential is not None and config.operators.show_bootstrap:
        print(f"first admin's credential, shown this once: {plane.first_credential}", file=sys.stderr, flush=True)
    facts = {**plane.addresses, "database": plane.database_url, "state": str(plane.state)}
    running.say("authz control", facts, output)
