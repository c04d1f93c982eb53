"""`authz serve`: run the policy decision point beside an Envoy."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from authz.cli import running
from authz.cli.output import Output, OutputOption
from authz.config import load
from authz.errors import ConfigError
from authz.policy.plugin_configuration import plugin_configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.config import Config
    from authz.wiring import Sidecar

log: Final = logging.getLogger(__name__)

EXAMPLES = """
Examples:

  authz serve --policy bundles/starter --jwks keys.json --issuer https://issuer --audience tools

  authz serve --config authz.yaml --listen unix:///run/authz/authz.sock

  authz serve --control https://control.example:8443 --enrol TOKEN --state /var/lib/authz --policy policy/

  authz serve --config authz.yaml --state /var/lib/authz --pin 4be1c0a97d35

  authz serve --opa-config opa-envoy.yaml --policy policy.rego
"""

SETTINGS: Final = {
    "policy": "policy.paths",
    "contract": "policy.contract",
    "entrypoint": "policy.entrypoint",
    "server": "policy.server",
    "opa_url": "policy.opa_url",
    "candidates": "policy.candidates",
    "pin": "policy.pin",
    "listen": "listen.check",
    "diagnostics": "listen.diagnostics",
    "transport": "listen.transport",
    "audit_dir": "audit.directory",
    "audit_sync": "audit.sync",
    "record_inputs": "audit.record_inputs",
    "revocation": "revocation.source",
    "control": "control.url",
    "enrol": "control.enrol",
    "otlp_endpoint": "telemetry.otlp_endpoint",
    "traces": "telemetry.traces",
    "log_level": "telemetry.log_level",
}
"""The setting that each flag stands for. The issuer's are one setting together; the state and the socket's mode are
not settings as they are written."""


def serve(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML).")] = None,
    policy: Annotated[list[Path] | None, typer.Option(help="Folder, .rego or bundle archive; repeatable.")] = None,
    contract: Annotated[Literal["agent", "envoy"] | None, typer.Option(help="What the policy is written for.")] = None,
    entrypoint: Annotated[str | None, typer.Option(help="Rule to ask; default: the contract's.")] = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT or unix:///path for Envoy.")] = None,
    diagnostics: Annotated[str | None, typer.Option(help="HOST:PORT of metrics and probes; empty: none.")] = None,
    jwks: Annotated[str | None, typer.Option(help="JWK Set of the issuer, FILE or URL.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Exact `iss` of tokens.")] = None,
    audience: Annotated[str | None, typer.Option(help="Exact `aud` of tokens.")] = None,
    jwt_typ: Annotated[str | None, typer.Option(help="Exact `typ` of tokens; default: at+jwt.")] = None,
    server: Annotated[str | None, typer.Option(help="`tool.server` in policy input.")] = None,
    audit_dir: Annotated[Path | None, typer.Option(help="Folder of records.")] = None,
    audit_sync: Annotated[
        Literal["group", "none"] | None, typer.Option(help="Whether an allow waits for its record.")
    ] = None,
    record_inputs: Annotated[
        Literal["masked", "off"] | None, typer.Option(help="Whether records keep the policy input.")
    ] = None,
    revocation: Annotated[str | None, typer.Option(help="Where kills come from: none, or a URL.")] = None,
    control: Annotated[str | None, typer.Option(help="URL of the control plane's HTTP listener.")] = None,
    enrol: Annotated[str | None, typer.Option(help="Enrolment token, for the first start.")] = None,
    transport: Annotated[Literal["native", "grpcio"] | None, typer.Option(help="What answers Envoy.")] = None,
    socket_mode: Annotated[str | None, typer.Option(help="Mode of a Unix socket, octal, such as 0660.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder of what outlives a crash.")] = None,
    opa_config: Annotated[Path | None, typer.Option(help="OPA's configuration, with opa-envoy-plugin's block.")] = None,
    opa_url: Annotated[str | None, typer.Option(help="Ask this OPA server instead of the engine inside.")] = None,
    candidates: Annotated[Path | None, typer.Option(help="Folder of bundle archives that rollouts may name.")] = None,
    pin: Annotated[
        str | None, typer.Option(help="Serve this revision whatever rollouts say: `configured`, or its SHA-256.")
    ] = None,
    otlp_endpoint: Annotated[str | None, typer.Option(help="OTLP/HTTP URL that spans are sent to.")] = None,
    traces: Annotated[Path | None, typer.Option(help="File that spans are appended to.")] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="Least that is logged, on stderr.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Serve ext_authz and ext_proc until SIGTERM or SIGINT. A flag counts before its variable, that before the file."""
    flags = dict(ctx.params)

    def again() -> Config:
        return configuration(flags, warn=log.debug)

    def compose(config: Config) -> Sidecar:
        return _compose(config, again)

    run(configuration(flags), output, compose)


def configuration(flags: Mapping[str, Any], warn: Callable[[str, Path, str], None] = log.warning) -> Config:
    """What the flags, the configuration file and OPA's amount to.

    Args:
        flags: as they were given.
        warn: told of what in OPA's file has no effect.

    Raises:
        ConfigError: see `authz.config.load`; a part of the issuer is missing; a mode that is not octal.
    """
    # A repeatable flag that is not given is empty: it must not empty what the file says.
    given = {SETTINGS[flag]: value for flag, value in flags.items() if flag in SETTINGS and value not in (None, ())}
    if "policy.paths" in given:
        given["policy.paths"] = tuple(given["policy.paths"])
    if flags["socket_mode"] is not None:
        given["listen.socket_mode"] = octal(flags["socket_mode"])
    if flags["state"] is not None:
        given["policy.state"] = flags["state"] / "last-good"
        given["control.state"] = flags["state"] / "sidecar"
    if issuers := trusted(flags["issuer"], flags["audience"], flags["jwks"], flags["jwt_typ"]):
        given["issuers"] = issuers
    return load(flags["config"], _opa_settings(flags, warn, has_policy="policy.paths" in given) | given)


def _opa_settings(
    flags: Mapping[str, Any], warn: Callable[[str, Path, str], None], *, has_policy: bool
) -> dict[str, Any]:
    """What OPA's own configuration file asks for; flags stand above it."""
    path: Path | None = flags["opa_config"]
    if path is None:
        return {}
    try:
        read = plugin_configuration(path.read_text(encoding="utf-8"), os.environ, has_policy=has_policy)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for warning in read.warnings:
        warn("%s: %s", path, warning)
    return dict(read.overrides)


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


def _compose(config: Config, again: Callable[[], Config] | None = None) -> Sidecar:
    from authz.wiring import Sidecar  # noqa: PLC0415 - help and a wrong flag need nothing of what serves

    return Sidecar(config, again)


def run(config: Config, output: Output, compose: Callable[[Config], Sidecar] = _compose) -> None:
    """Serve until a signal, then drain."""
    running.run(
        lambda: compose(config),
        lambda sidecar: running.say("authz", _facts(sidecar, config), output),
        log_level=config.telemetry.log_level,
    )


def _facts(sidecar: Sidecar, config: Config) -> dict[str, str | None]:
    return {
        "check": sidecar.address,
        "diagnostics": sidecar.diagnostics_address,
        "contract": config.policy.contract,
        "revision": sidecar.activation.revision.revision,
        "revocation": config.revocation.mode,
        "records": str(config.audit.directory or ""),
    }
