"""The configurations of `authz up`, made from `envoy/sidecar.yaml`: one for Envoy, one for the decision service.

Decides what differs between the shipped file and one machine: addresses, the upstream, limits. Everything that keeps
the door shut is written once, in that file, and nothing here may touch it. Pure: documents in, documents out.

Trusts the operator's command line and the shipped file.
"""

from __future__ import annotations

import copy
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from authz.config import KIB
from authz.errors import ConfigError
from authz.model import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Json = dict[str, Any]

ENVOY_BODY_BYTES: Final = KIB * KIB
"""Smallest body limit of Envoy: above the service's, whose refusal says the limit while Envoy's is bare."""
_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What stands behind the proxy."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header writes them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def upstream(url: str) -> Upstream:
    """Read `--upstream`.

    Raises:
        ConfigError: not an http or https URL, or one with parts that would be lost: user, query, fragment.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigError("--upstream is not an http or https URL", remedy="such as http://127.0.0.1:3000/mcp")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("--upstream has more than scheme, host, port and path", remedy="leave the rest out")
    return Upstream(scheme=parts.scheme, host=parts.hostname, port=port or _PORTS[parts.scheme], path=parts.path or "/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One `authz up`: what is asked for, and where its parts meet."""

    policy: tuple[Path, ...]
    upstream: Upstream
    protocol: Protocol
    host: str
    port: int
    server: str
    max_body_bytes: int
    state: Path
    socket: Path
    admin: Path
    diagnostics: str
    ca_bundle: Path | None
    issuer: str = ""
    """Whose tokens are taken where there is no control plane, with the next two."""
    audience: str = ""
    jwks: Path | None = None
    candidates: Path | None = None
    """Folder of bundle archives that rollouts may name."""
    templates: tuple[str, ...] = ()
    """Path templates of an HTTP API, by which policies know its tools."""
    control: Mapping[str, str] = field(default_factory=dict)
    """The group `control` of the service, whose issuer is then the only one; empty means none."""

    def __post_init__(self) -> None:
        if self.templates and self.protocol is not Protocol.HTTP:
            raise ConfigError("--template names the tools of an HTTP API", remedy="give --protocol http as well")

    @property
    def records(self) -> Path:
        """Folder of the records."""
        return self.state / "records"

    @property
    def membership(self) -> Path:
        """Folder of the identity, and of the kills that outlive a restart."""
        return self.state / "sidecar"

    @property
    def traces(self) -> Path:
        """File of the spans."""
        return self.state / "traces.jsonl"


def for_service(plan: Plan) -> Json:
    """The configuration of `authz serve`."""
    return {
        "version": 1,
        "listen": {"check": f"unix://{plan.socket}", "diagnostics": plan.diagnostics, "socket_mode": 0o600},
        "routes": [_route(plan)],
        "issuers": [] if plan.control else [_issuer(plan)],
        "policy": {
            "paths": [str(path) for path in plan.policy],
            "server": plan.server,
            "state": str(plan.state / "last-good"),
            **({"candidates": str(plan.candidates)} if plan.candidates else {}),
        },
        "audit": {"directory": str(plan.records)},
        "telemetry": {"traces": str(plan.traces)},
        "control": {**plan.control, "state": str(plan.membership)} if plan.control else {},
        "limits": {
            "max_body_bytes": plan.max_body_bytes,
            "json_string_bytes": plan.max_body_bytes,
            "max_message_bytes": max(8 * KIB * KIB, 4 * _envoy_body_bytes(plan)),
        },
    }


def _issuer(plan: Plan) -> Json:
    return {"issuer": plan.issuer, "audience": plan.audience, "jwks": str(plan.jwks)}


def _route(plan: Plan) -> Json:
    # An MCP server has one path; an API has everything below one.
    key = "path" if plan.protocol is Protocol.MCP else "path_prefix"
    return {
        key: plan.upstream.path,
        "protocol": plan.protocol.value,
        "templates": list(plan.templates),
        "max_body_bytes": plan.max_body_bytes,
        "ext_proc": True,
    }


def for_envoy(shipped: Json, plan: Plan) -> Json:
    """The shipped configuration, on this machine."""
    document = copy.deepcopy(shipped)
    document["admin"]["address"]["pipe"]["path"] = str(plan.admin)
    listener = document["static_resources"]["listeners"][0]
    listener["address"]["socket_address"] = {"address": plan.host, "port_value": plan.port}
    listener["per_connection_buffer_limit_bytes"] = _envoy_body_bytes(plan)
    http = listener["filter_chains"][0]["filters"][0]["typed_config"]
    _named(http["http_filters"], "envoy.filters.http.ext_authz")["typed_config"]["with_request_body"][
        "max_request_bytes"
    ] = _envoy_body_bytes(plan)
    route = http["route_config"]["virtual_hosts"][0]["routes"][0]
    route["route"]["host_rewrite_literal"] = plan.upstream.authority
    authz = route["typed_per_filter_config"]["envoy.filters.http.ext_authz"]
    authz["check_settings"]["context_extensions"]["authz.server"] = plan.server
    clusters = document["static_resources"]["clusters"]
    _endpoint(_named(clusters, "authz"))["address"] = {"pipe": {"path": str(plan.socket)}}
    _towards(_named(clusters, "tools"), plan)
    return document


def _towards(cluster: Json, plan: Plan) -> None:
    target = plan.upstream
    _endpoint(cluster)["address"] = {"socket_address": {"address": target.host, "port_value": target.port}}
    if not _is_address(target.host):
        cluster |= {"type": "STRICT_DNS", "dns_lookup_family": "ALL"}  # localhost may be ::1, 127.0.0.1 or both
    if target.scheme == "https":
        cluster["transport_socket"] = _tls(target.host, plan.ca_bundle)


def _tls(host: str, ca_bundle: Path | None) -> Json:
    """TLS towards the upstream: its certificate must be valid and for the host that was asked for."""
    if ca_bundle is None:
        raise ConfigError("no CA certificates were found on this machine", remedy="name a bundle in SSL_CERT_FILE")
    names: Json = {} if _is_address(host) else {"sni": host, "auto_sni_san_validation": True}
    trusted: Json = {"trusted_ca": {"filename": str(ca_bundle)}}
    if _is_address(host):
        trusted["match_typed_subject_alt_names"] = [{"san_type": "IP_ADDRESS", "matcher": {"exact": host}}]
    context = {"@type": _TLS, **names, "common_tls_context": {"validation_context": trusted}}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _envoy_body_bytes(plan: Plan) -> int:
    return max(ENVOY_BODY_BYTES, 2 * plan.max_body_bytes)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _named(items: list[Json], name: str) -> Json:
    return next(item for item in items if item["name"] == name)


def _endpoint(cluster: Json) -> Json:
    endpoint: Json = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    return endpoint
