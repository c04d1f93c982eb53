"""OPA's configuration file, as opa-envoy-plugin's users have it, read as settings of ours (`--opa-config`).

Decides which of its keys mean something here: the block `plugins.envoy_ext_authz_grpc`, `labels`, and `bundles` with
their `services` and `keys` (`plugin_bundles`). The file must run unchanged, so a key that has no effect, or that nobody
knows, warns. What refuses is a value that cannot be meant, and what would leave another policy in service, or no record
where it is looked for: discovery, and decision logs that are to be uploaded. Must never read the environment by itself.

Trusts the operator's file. Source: opa-envoy-plugin README "Configuration"; OPA "Configuration Reference".
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml

from authz.config import KIB
from authz.errors import ConfigError
from authz.loopback import is_local
from authz.policy.plugin_bundles import SECTIONS, follows, read_bundles

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
    "services": "only bundles are asked for",
    "decision_logs": "records are not uploaded: collect audit.directory (--audit-dir), masked by our own rules",
    "status": "status is served on the diagnostics address",
    "distributed_tracing": "use telemetry.otlp_endpoint",
    "default_decision": "the entrypoint is the plugin's `path`",
    "default_authorization_decision": "there is no REST API to authorize",
    "keys": "no bundle that is followed names them; pin keys of an archive in policy.trust",
    "caching": "it has the engine's defaults",
    "persistence_directory": "nothing is downloaded, so nothing is kept here: see --state",
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


def plugin_configuration(text: str, environment: Mapping[str, str], *, has_policy: bool = False) -> PluginConfiguration:
    """Read OPA's configuration, YAML or JSON; `${NAME}` in it is a variable, empty where there is none.

    Args:
        text: the file's.
        environment: the variables.
        has_policy: a flag names the policy, which stands above the file's bundles.

    Raises:
        ConfigError: not YAML, a value of the wrong type, or something that cannot be kept here.
    """
    document = _parse(_VARIABLE.sub(lambda found: environment.get(found[1], ""), text))
    plugins = _section(document, "plugins")
    block = _section(plugins, PLUGIN)
    overrides: dict[str, Any] = {"policy.contract": "envoy"}
    _refuse_discovery(document)
    is_followed = follows(document) and not has_policy
    warnings = [*_unused(document, plugins, block, SECTIONS if is_followed else frozenset())]
    warnings += _read_block(block, overrides)
    if has_policy and _section(document, "bundles"):
        warnings.append("bundles: not downloaded: --policy stands above them")
    elif not has_policy:
        warnings += read_bundles(document, environment, overrides)
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


def _refuse_discovery(document: dict[str, Any]) -> None:
    if document.get("discovery"):
        raise ConfigError(
            "discovery would let whoever publishes it re-point keys, bundles and logs (F19)",
            remedy="give the configuration that it yields",
        )


def _unused(
    document: dict[str, Any], plugins: dict[str, Any], block: dict[str, Any], sections: frozenset[str]
) -> Iterable[str]:
    read = {"plugins", "bundles", "labels", *sections}
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


def _refuse(where: str, expected: str) -> NoReturn:
    raise ConfigError(f"{where} is not {expected}")
