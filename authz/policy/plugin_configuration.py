"""OPA's configuration file, as opa-envoy-plugin's users have it, read as settings of ours (`--opa-config`).

Decides which of its keys mean something here: the block `plugins.envoy_ext_authz_grpc`, local `bundles`, and
`labels`. The file must run unchanged, so a key that has no effect, or that nobody knows, warns and never
refuses; only a value that cannot be meant refuses. Must never read the environment by itself.

Trusts the operator's file. Source: opa-envoy-plugin README "Configuration"; OPA "Configuration Reference".
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import unquote, urlsplit

import yaml

from authz.config import KIB
from authz.errors import ConfigError
from authz.loopback import is_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PLUGIN: Final = "envoy_ext_authz_grpc"
DEFAULT_ADDRESS: Final = ":9191"
MESSAGE_BYTES: Final = range(512 * KIB + 1, 64 * KIB * KIB + 1)
"""What our own limit on a gRPC message may be; the plugin's default of 4 MiB lies within."""

_VARIABLE: Final = re.compile(r"\$\{(.*?)\}")
_REFERENCE: Final = re.compile(r"data(?:\.[A-Za-z_][A-Za-z0-9_]*)+")
_SETTINGS: Final[dict[str, tuple[type, str]]] = {
    "addr": (str, "listen.check"),
    "path": (str, "policy.entrypoint"),
    "query": (str, "policy.entrypoint"),
    "dry-run": (bool, "policy.dry_run"),
    "enable-reflection": (bool, "listen.reflection"),
    "proto-descriptor": (str, "policy.proto_descriptor"),
    "grpc-max-recv-msg-size": (int, "limits.max_message_bytes"),
    "skip-request-body-parse": (bool, "policy.skip_request_body_parse"),
}
"""Keys of the plugin's block: their type, and the setting of ours that they are."""
_NEEDLESS: Final = {
    "grpc-max-send-msg-size": "answers are small by construction",
    "enable-performance-metrics": "metrics are always served",
    "grpc-request-duration-seconds-buckets": "the buckets are fixed",
}
_SECTIONS: Final = {
    "services": "policies are read from local paths, and records are not uploaded",
    "decision_logs": "records go to audit.directory (--audit-dir), masked by our own rules",
    "status": "status is served on the diagnostics address",
    "discovery": "give the configuration it would yield",
    "distributed_tracing": "use telemetry.otlp_endpoint",
    "default_decision": "the entrypoint is the plugin's `path`",
    "default_authorization_decision": "there is no REST API to authorize",
    "keys": "signatures of local policies are not verified",
    "caching": "it has the engine's defaults",
    "persistence_directory": "nothing is downloaded, so nothing is kept",
    "nd_builtin_cache": "results of builtins are not recorded",
    "server": "there is no REST API",
    "storage": "data is held in memory",
}
"""Sections of OPA's that do nothing here, and what does instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginConfiguration:
    """Settings as `config.load` takes them (dotted key to value), and what the operator should know of the rest."""

    overrides: Mapping[str, Any]
    warnings: tuple[str, ...]


def plugin_configuration(text: str, environment: Mapping[str, str]) -> PluginConfiguration:
    """Read OPA's configuration, YAML or JSON; `${NAME}` in it is a variable, empty where there is none.

    Raises:
        ConfigError: not YAML, or a value of the wrong type.
    """
    document = _parse(_VARIABLE.sub(lambda found: environment.get(found[1], ""), text))
    plugins = _section(document, "plugins")
    block = _section(plugins, PLUGIN)
    overrides: dict[str, Any] = {"policy.contract": "envoy"}
    warnings = [*_unused(document, plugins, block)]
    warnings += _read_block(block, overrides)
    warnings += _read_bundles(_section(document, "bundles"), overrides)
    if labels := _section(document, "labels"):
        overrides["audit.labels"] = {str(name): str(value) for name, value in labels.items()}
    return PluginConfiguration(overrides=overrides, warnings=tuple(warnings))


def _parse(text: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # The text may hold credentials: say where, never what.
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"OPA's configuration is not YAML: line {mark.line + 1 if mark else 1}") from None
    if not isinstance(document, dict):
        raise ConfigError("OPA's configuration is not a mapping of settings")
    return document


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        _refuse(name, "a mapping")
    return section


def _unused(document: dict[str, Any], plugins: dict[str, Any], block: dict[str, Any]) -> Iterable[str]:
    read = {"plugins", "bundles", "labels"}
    for key in document.keys() - read:
        yield f"{key}: no effect: {_SECTIONS[key]}" if key in _SECTIONS else _unknown(key, "", [*_SECTIONS, *read])
    for key in plugins.keys() - {PLUGIN}:
        yield _unknown(key, "plugins.", [PLUGIN])
    for key in block.keys() - _SETTINGS.keys():
        where = f"plugins.{PLUGIN}."
        yield f"{where}{key}: no effect: {_NEEDLESS[key]}" if key in _NEEDLESS else _unknown(key, where, _SETTINGS)


def _unknown(key: str, where: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"{where}{key}: unknown key, ignored" + (f"; did you mean `{near[0]}`?" if near else "")


def _read_block(block: dict[str, Any], overrides: dict[str, Any]) -> Iterable[str]:
    for key in block.keys() & _SETTINGS.keys():
        kind, setting = _SETTINGS[key]
        # bool is an int in Python; `true` is no size.
        if type(block[key]) is not kind:
            _refuse(f"plugins.{PLUGIN}.{key}", f"of type {kind.__name__}")
        overrides[setting] = block[key]
    # The plugin's own defaults hold, not ours, so that the file means here what it meant there.
    overrides["policy.entrypoint"] = _entrypoint(block.get("path", ""), block.get("query", ""))
    overrides["listen.check"] = address = block.get("addr", DEFAULT_ADDRESS).removeprefix("grpc://")
    if not is_local(address):
        overrides["listen.insecure_plaintext"] = True
        yield f"`{address}` takes plaintext from the network, which may forge checks: set listen.tls, or a unix socket"
    if (size := overrides.get("limits.max_message_bytes")) is not None and size not in MESSAGE_BYTES:
        overrides["limits.max_message_bytes"] = limit = min(max(size, MESSAGE_BYTES.start), MESSAGE_BYTES.stop - 1)
        yield f"plugins.{PLUGIN}.grpc-max-recv-msg-size: {limit} is used instead"
    if block.get("dry-run"):
        yield f"plugins.{PLUGIN}.dry-run: no denial of the policy is enforced"


def _entrypoint(path: str, query: str) -> str:
    if path and query:
        raise ConfigError(f"plugins.{PLUGIN}: path and query are both given", remedy="keep `path`")
    if query and not _REFERENCE.fullmatch(query):
        _refuse(f"plugins.{PLUGIN}.query", "a reference such as data.envoy.authz.allow")
    return query.removeprefix("data.").replace(".", "/") or path


def _read_bundles(bundles: dict[str, Any], overrides: dict[str, Any]) -> Iterable[str]:
    paths = []
    for name, bundle in sorted(bundles.items()):
        resource = bundle.get("resource", "") if isinstance(bundle, dict) else ""
        if urlsplit(resource).scheme == "file":
            paths.append(Path(unquote(urlsplit(resource).path)))
        else:
            yield f"bundles.{name}: not downloaded: give its content as --policy PATH, or resource: file:///PATH"
    if paths:
        overrides["policy.paths"] = tuple(paths)


def _refuse(where: str, expected: str) -> NoReturn:
    raise ConfigError(f"{where} is not {expected}")
