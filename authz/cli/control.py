"""`authz control`: run the control plane."""

from __future__ import annotations

import json
import logging
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from authz.audit.masking import KEY_BYTES, Masker
from authz.cli.output import Output, OutputOption
from authz.cli.state import StateOption, state_folder
from authz.config import read_settings
from authz.control.config import ControlConfig
from authz.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from authz.wiring_control import ControlPlane

log: Final = logging.getLogger(__name__)
WAKE_S: Final = 0.5
INTERRUPTED: Final = 130

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
    run(configuration(ctx.params), output)


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


def run(config: ControlConfig, output: Output) -> None:
    """Serve until a signal, then drain. A second signal ends at once."""
    from authz.wiring_control import ControlPlane  # noqa: PLC0415 - help and a wrong flag need nothing of what serves

    logs.configure(config.telemetry.log_level, Masker(key=secrets.token_bytes(KEY_BYTES)).text)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _exit_at_once() if stopping.is_set() else stopping.set())
    plane = ControlPlane(config)
    plane.start()
    if plane.first_credential is not None and config.operators.show_bootstrap:
        print(f"first admin's credential, shown this once: {plane.first_credential}", file=sys.stderr, flush=True)
    _say_ready(plane, output)
    while not stopping.wait(WAKE_S):
        pass  # a plain wait would not let the signal's function run on every platform
    plane.stop()


def _say_ready(plane: ControlPlane, output: Output) -> None:
    ready: dict[str, Any] = {
        "ready": True,
        **plane.addresses,
        "database": plane.database_url,
        "state": str(plane.state),
    }
    if output is Output.JSON:
        print(json.dumps(ready), flush=True)
    else:
        facts = ", ".join(f"{name} {value}" for name, value in ready.items() if name != "ready" and value)
        print(f"authz control serves: {facts}", flush=True)


def _exit_at_once() -> None:
    raise SystemExit(INTERRUPTED)
