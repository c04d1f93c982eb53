"""`authz serve`: run the policy decision point beside an Envoy."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from authz.audit.masking import Masker
from authz.config import load
from authz.errors import ConfigError
from authz.policy.plugin_configuration import plugin_configuration
from authz.telemetry import logs
from authz.wiring import Sidecar

if TYPE_CHECKING:
    from authz.config import Config

log = logging.getLogger(__name__)
WAKE_S = 0.5
INTERRUPTED = 130

EXAMPLES = """
Examples:

  authz serve --policy bundles/starter --jwks keys.json --issuer https://issuer --audience tools

  authz serve --config authz.yaml --listen unix:///run/authz/authz.sock

  authz serve --contract envoy --policy policy.rego --entrypoint envoy/authz/allow
"""


def serve(
    config: Annotated[Path | None, typer.Option(envvar="AUTHZ_CONFIG", help="Configuration file (YAML).")] = None,
    policy: Annotated[
        list[Path] | None, typer.Option(envvar="AUTHZ_POLICY", help="Folder, .rego or bundle archive; repeatable.")
    ] = None,
    contract: Annotated[str | None, typer.Option(envvar="AUTHZ_CONTRACT", help="agent | envoy")] = None,
    entrypoint: Annotated[str | None, typer.Option(envvar="AUTHZ_ENTRYPOINT", help="Rule to ask.")] = None,
    listen: Annotated[str | None, typer.Option(envvar="AUTHZ_LISTEN", help="host:port or unix:///path.")] = None,
    diagnostics: Annotated[str | None, typer.Option(envvar="AUTHZ_DIAGNOSTICS", help="host:port of metrics.")] = None,
    jwks: Annotated[str | None, typer.Option(envvar="AUTHZ_JWKS", help="JWK Set, FILE or URL.")] = None,
    issuer: Annotated[str | None, typer.Option(envvar="AUTHZ_ISSUER", help="Exact `iss` of tokens.")] = None,
    audience: Annotated[str | None, typer.Option(envvar="AUTHZ_AUDIENCE", help="Exact `aud` of tokens.")] = None,
    jwt_typ: Annotated[str | None, typer.Option(envvar="AUTHZ_JWT_TYP", help="Exact `typ` of tokens.")] = None,
    server: Annotated[str | None, typer.Option(envvar="AUTHZ_SERVER", help="tool.server in policy input.")] = None,
    audit_dir: Annotated[Path | None, typer.Option(envvar="AUTHZ_AUDIT_DIR", help="Folder of records.")] = None,
    audit_sync: Annotated[str | None, typer.Option(envvar="AUTHZ_AUDIT_SYNC", help="group | none")] = None,
    record_inputs: Annotated[str | None, typer.Option(envvar="AUTHZ_RECORD_INPUTS", help="masked | off")] = None,
    revocation: Annotated[str | None, typer.Option(envvar="AUTHZ_REVOCATION", help="none, or a URL.")] = None,
    transport: Annotated[str | None, typer.Option(envvar="AUTHZ_TRANSPORT", help="native | grpcio")] = None,
    socket_mode: Annotated[str | None, typer.Option(envvar="AUTHZ_SOCKET_MODE", help="Octal, such as 0660.")] = None,
    opa_config: Annotated[Path | None, typer.Option(envvar="AUTHZ_OPA_CONFIG", help="OPA's configuration.")] = None,
    opa_url: Annotated[str | None, typer.Option(envvar="AUTHZ_OPA_URL", help="Ask this OPA server.")] = None,
    otlp_endpoint: Annotated[str | None, typer.Option(envvar="AUTHZ_OTLP_ENDPOINT", help="OTLP/HTTP URL.")] = None,
    traces: Annotated[Path | None, typer.Option(envvar="AUTHZ_TRACES", help="File for spans.")] = None,
    log_level: Annotated[str | None, typer.Option(envvar="AUTHZ_LOG_LEVEL", help="debug | info | warning")] = None,
    output: Annotated[str, typer.Option(help="table | json")] = "table",
) -> None:
    """Serve ext_authz and ext_proc until SIGTERM or SIGINT."""
    overrides = {
        "policy.paths": policy and tuple(policy),
        "policy.contract": contract,
        "policy.entrypoint": entrypoint,
        "policy.server": server,
        "policy.opa_url": opa_url,
        "listen.check": listen,
        "listen.diagnostics": diagnostics,
        "listen.transport": transport,
        "listen.socket_mode": socket_mode and octal(socket_mode),
        "audit.directory": audit_dir,
        "audit.sync": audit_sync,
        "audit.record_inputs": record_inputs,
        "revocation.source": revocation,
        "telemetry.otlp_endpoint": otlp_endpoint,
        "telemetry.traces": traces,
        "telemetry.log_level": log_level,
        "issuers": trusted(issuer, audience, jwks, jwt_typ),
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    run(load(config, _opa_settings(opa_config) | given), output=output)


def _opa_settings(path: Path | None) -> dict[str, Any]:
    """What OPA's own configuration file asks for; flags stand above it."""
    if path is None:
        return {}
    try:
        configuration = plugin_configuration(path.read_text(encoding="utf-8"), os.environ)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for warning in configuration.warnings:
        log.warning("%s: %s", path, warning)
    return dict(configuration.overrides)


def trusted(issuer: str | None, audience: str | None, jwks: str | None, typ: str | None) -> list[dict[str, str]] | None:
    """The one issuer that flags can name; files can name several.

    Raises:
        ConfigError: a part of it is missing, so that tokens would be taken on less than all of them.
    """
    named = {"--issuer": issuer, "--audience": audience, "--jwks": jwks}
    if not any(named.values()):
        return None
    if missing := [flag for flag, value in named.items() if not value]:
        raise ConfigError(f"{missing[0]} is missing", remedy="--issuer, --audience and --jwks belong together")
    keys = {"issuer": issuer, "audience": audience, "jwks": jwks, "typ": typ}
    return [{key: value for key, value in keys.items() if value}]


def octal(text: str) -> int:
    """A file mode as people write it.

    Raises:
        ConfigError: it is not octal.
    """
    try:
        return int(text, 8)
    except ValueError:
        raise ConfigError(f"`{text}` is not an octal mode", remedy="write it as 0660") from None


def run(config: Config, *, output: str) -> None:
    """Serve until a signal, then drain. A second signal ends at once."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _exit_at_once() if stopping.is_set() else stopping.set())
    logs.configure(config.telemetry.log_level, Masker(key=os.urandom(32)).text)
    sidecar = Sidecar(config)
    sidecar.start()
    _say_ready(sidecar, config, output)
    while not stopping.wait(WAKE_S):
        pass  # a plain wait would not let the signal's function run on every platform
    sidecar.stop()


def _say_ready(sidecar: Sidecar, config: Config, output: str) -> None:
    ready: dict[str, Any] = {
        "ready": True,
        "check": sidecar.address,
        "diagnostics": sidecar.diagnostics_address,
        "contract": config.policy.contract,
        "revision": sidecar.activation.revision.revision,
        "revocation": config.revocation.source,
        "records": str(config.audit.directory or ""),
    }
    if output == "json":
        print(json.dumps(ready), flush=True)
    else:
        facts = ", ".join(f"{name} {value}" for name, value in ready.items() if name != "ready" and value)
        print(f"authz serves: {facts}", flush=True)


def _exit_at_once() -> None:
    raise SystemExit(INTERRUPTED)
