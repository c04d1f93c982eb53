"""What is wrong in an Envoy configuration that is meant to hold agents to their policy, each with an id and a remedy.

Decides what a way around the decision looks like: a body that is judged in part or not at all, a failure that allows, a
route or listener without the filter, a redaction that is promised and not done (A7, A16-A18). An error lets something
pass unjudged, or makes judging impossible; the rest warns. Must never call a file sound in which it found nothing to
protect. Whether the file is valid at all is Envoy's to say: `envoy --mode validate -c FILE`.

Pure over a parsed document. Trusts nothing in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.config import Limits
from authz.loopback import is_loopback
from authz.policy.lint import Finding
from authz.proxy import document
from authz.proxy.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.proxy.document import Node

    Found = Iterator[tuple[str, Node, str]]
    """Rule id, place, what is there."""

LIMITS: Final = Limits()
SHORTEST_S: Final = LIMITS.deadline_s + 0.04
"""The service's own deadline and its grace for the record: with less, its denials never arrive."""
LONGEST_S: Final = 1.0
EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
PARTIAL: Final = ("BUFFERED_PARTIAL", "3")
_PROMISED: Final = {"request": "sanitize-promised", "duplex": "answers-promised"}
"""What it is when the filter of a leg is missing although `authz.ext_proc` says that it is there."""
V3: Final = ("V3", "2")
_PER: Final = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000, "": 100, "0": 100, "1": 10_000}


@dataclass(frozen=True, slots=True)
class Filter:
    """An HTTP filter as it runs: out of its matcher, if it has one."""

    node: Node
    config: Node
    has_matcher: bool

    @property
    def is_ext_authz(self) -> bool:
        """It decides."""
        return self.config.is_type("ExtAuthz") and not self.node.at("disabled").is_true

    @property
    def is_ext_proc(self) -> bool:
        """It changes bodies."""
        return self.config.is_type("ExternalProcessor")


@dataclass(frozen=True, slots=True)
class Http:
    """One HTTP connection manager and what the configuration says around it."""

    node: Node
    filters: tuple[Filter, ...]
    routes: tuple[tuple[Node, ...], ...]
    """Each route with what encloses it: (route configuration, virtual host, route)."""

    def first(self, kind: str) -> int:
        """Where the first filter of a kind stands; past the end when there is none."""
        of_kind = (number for number, found in enumerate(self.filters) if getattr(found, f"is_{kind}"))
        return next(of_kind, len(self.filters))

    @property
    def leg_names(self) -> set[str]:
        """The legs that its ext_proc filters serve."""
        return {leg(found) for found in self.filters if found.is_ext_proc}


def leg(ext_proc: Filter) -> str:
    """`request`, `duplex`, or nothing: what the filter tells the decision service that it is."""
    sent = ext_proc.config.at("grpc_service", "initial_metadata").each()
    return next((entry.at("value").text for entry in sent if entry.at("key").text == "x-leg"), "")


def lint(path: Path) -> list[Finding]:
    """Everything found, in the order of the file.

    Raises:
        ConfigError: the file is not YAML or JSON.
    """
    root = document.read(path)
    found = [
        Finding(rule=RULES[rule], message=message, file=str(path), row=node.row, col=node.col)
        for rule, node, message in _all(root)
    ]
    return sorted(set(found), key=lambda finding: (finding.row, finding.col, finding.rule.id))


def _all(root: Node) -> Found:
    managers = [_http(config) for config in _network_filters(root, "HttpConnectionManager")]
    if not any(http.first("ext_authz") < len(http.filters) for http in managers):
        yield "nothing-protected", root, "no listener has an ext_authz filter"
    if root.at("dynamic_resources"):
        yield "not-seen", root.at("dynamic_resources"), "listeners, routes or clusters come from a control plane"
    protected: set[str] = set()
    for http in managers:
        yield from _manager(http)
        yield from _filters(root, http)
        protected |= _upstreams(http)
    for tunnel in _network_filters(root, "TcpProxy"):
        if tunnel.at("cluster").text in protected:
            yield "bypass", tunnel.at("cluster"), f"bytes reach `{tunnel.at('cluster').text}` without a decision"


def _network_filters(root: Node, kind: str) -> Iterator[Node]:
    for listener in root.at("static_resources", "listeners").each():
        for chain in (*listener.at("filter_chains").each(), listener.at("default_filter_chain")):
            for network_filter in chain.at("filters").each():
                if network_filter.at("typed_config").is_type(kind):
                    yield network_filter.at("typed_config")


def _http(config: Node) -> Http:
    routes = config.at("route_config")
    hosts = routes.at("virtual_hosts").each()
    return Http(
        config,
        tuple(_filter(node) for node in config.at("http_filters").each()),
        tuple((routes, host, route) for host in hosts for route in host.at("routes").each()),
    )


def _filter(node: Node) -> Filter:
    config = node.at("typed_config")
    if config.is_type("ExtensionWithMatcher"):
        return Filter(node, config.at("extension_config", "typed_config"), has_matcher=True)
    return Filter(node, config, has_matcher=False)


def _upstreams(http: Http) -> set[str]:
    return {route.at("route", "cluster").text for _, _, route in http.routes} - {""}


def _manager(http: Http) -> Found:
    """The connection manager and its routes."""
    if http.first("ext_authz") == len(http.filters):
        if any(route.at("route") for _, _, route in http.routes) or http.node.at("rds"):
            yield "unprotected", http.node.at("http_filters"), "requests are forwarded and no ext_authz filter is on"
        return
    if http.node.at("rds"):
        yield "not-seen", http.node.at("rds"), "the routes come from a control plane"
    for upgrade in http.node.at("upgrade_configs").each():
        yield "upgrade", upgrade, f"`{upgrade.at('upgrade_type').text}` is taken on every route"
    for setting in ("normalize_path", "merge_slashes"):
        if http.node.at(setting).is_true:
            yield "path-changed", http.node.at(setting), f"`{setting}` is on"
    slashes = http.node.at("path_with_escaped_slashes_action")
    if slashes.text in ("UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD", "3", "4"):
        yield "path-changed", slashes, f"escaped slashes: `{slashes.text}`"
    for places in http.routes:
        yield from _route(http, places)


def _route(http: Http, places: tuple[Node, ...]) -> Found:
    route = places[-1]
    if not route.at("route"):
        return  # answered by Envoy itself: nothing is forwarded
    is_tunnel = bool(route.at("match", "connect_matcher"))
    for upgrade in route.at("route", "upgrade_configs").each():
        if not (is_tunnel and upgrade.at("upgrade_type").text == "CONNECT"):
            yield "upgrade", upgrade, f"`{upgrade.at('upgrade_type').text}` is taken here"
    weighted = tuple(route.at("route", "weighted_clusters", "clusters").each())
    for place in (*places, *weighted):
        override = place.at("typed_per_filter_config", EXT_AUTHZ)
        if override.at("disabled").is_true:
            yield "route-disabled", override.at("disabled"), "the decision is switched off here"
        settings = override.at("check_settings")
        if settings.at("disable_request_body_buffering").is_true and not is_tunnel:
            yield "body-missing", settings.at("disable_request_body_buffering"), "the body is not sent on this route"
        if settings.at("with_request_body"):
            yield from _body(settings.at("with_request_body"))
        yield from _promised(http, settings.at("context_extensions", "authz.ext_proc"))
    if "duplex" in http.leg_names and not any(_strips_encodings(place) for place in places):
        yield "encoding", route, "accept-encoding reaches the tool on this route"


def _promised(http: Http, promise: Node) -> Found:
    if promise.text.lower() == "true":
        for missing in sorted(_PROMISED.keys() - http.leg_names):
            yield _PROMISED[missing], promise, f"no ext_proc filter here serves the leg `{missing}`"


def _strips_encodings(place: Node) -> bool:
    return any(name.text.lower() == "accept-encoding" for name in place.at("request_headers_to_remove").each())


def _filters(root: Node, http: Http) -> Found:
    decides = http.first("ext_authz")
    is_decided = decides < len(http.filters)
    for number, found in enumerate(http.filters):
        if found.config.is_type("ExtAuthz"):
            yield from _ext_authz(root, found)
            continue
        for name, node in found.config.walk():
            if name == "metadata_namespace" and node.text == EXT_AUTHZ:
                yield "metadata-forged", node, "another filter writes where only the decision may"
        if found.is_ext_proc:
            yield from _ext_proc(root, found)
        if is_decided and number < decides and (found.is_ext_proc or found.config.is_type("router.v3.Router")):
            yield "order", found.node, "it stands before ext_authz"


def _ext_authz(root: Node, found: Filter) -> Found:
    config = found.config
    if found.node.at("disabled").is_true or found.has_matcher:
        yield "partly-enabled", found.node, "the filter does not run on every request"
    for flag, rule in (("failure_mode_allow", "failure-mode-allow"), ("shadow_mode", "shadow-mode")):
        if config.at(flag).is_true:
            yield rule, config.at(flag), f"`{flag}` is on"
    if config.at("clear_route_cache").is_true:
        yield "route-cache", config.at("clear_route_cache"), "the route may change after it was judged"
    if config.at("transport_api_version").text not in V3:
        yield "api-version", config.at("transport_api_version"), "transport_api_version is not V3"
    if config.at("http_service"):
        yield "http-service", config.at("http_service"), "the service is asked over HTTP"
    for flag in ("validate_mutations", "encode_raw_headers"):
        if not config.at(flag).is_true:
            yield flag.replace("_", "-"), config.at(flag), f"`{flag}` is off"
    yield from _enabled(config)
    yield from _body(config.at("with_request_body"))
    yield from _timeout(config.at("grpc_service", "timeout"))
    yield from _peer(root, config.at("grpc_service"))


def _enabled(config: Node) -> Found:
    enabled = config.at("filter_enabled", "default_value")
    if not enabled or config.at("deny_at_disable", "default_value").is_true:
        return
    share = (enabled.at("numerator").number or 0) / _PER.get(enabled.at("denominator").text, 1_000_000)
    if share < 1:
        yield "partly-enabled", enabled, f"{share:.2%} of requests are judged and the rest allowed"


def _body(body: Node) -> Found:
    if not body:
        yield "body-missing", body, "with_request_body is not set: calls are judged without their arguments"
        return
    if body.at("allow_partial_message").is_true:
        yield "body-partial", body.at("allow_partial_message"), "a decision may be made on the first part of a body"
    if not body.at("pack_as_bytes").is_true:
        yield "body-text", body.at("pack_as_bytes"), "bodies are sent as text, with what is not UTF-8 replaced"
    limit = body.at("max_request_bytes")
    if (limit.number or 0) < LIMITS.max_body_bytes:
        yield "body-limit", limit, f"below the service's own limit of {LIMITS.max_body_bytes} bytes"
    elif (limit.number or 0) * 2 > LIMITS.max_message_bytes:
        yield "body-too-large", limit, f"a check would not fit into {LIMITS.max_message_bytes} bytes"


def _timeout(timeout: Node) -> Found:
    seconds = timeout.number
    if seconds is None:
        yield "timeout-default", timeout, "the timeout of a check is not said"
    elif seconds == 0 or seconds > LONGEST_S:
        yield "timeout-long", timeout, f"a check may hang for {timeout.text if seconds else 'ever'}"
    elif seconds < SHORTEST_S:
        yield "timeout-short", timeout, f"shorter than the {SHORTEST_S:g} s that the service may take"


def _ext_proc(root: Node, found: Filter) -> Found:
    config = found.config
    for flag, rule in (
        ("failure_mode_allow", "failure-mode-allow"),
        ("observability_mode", "observability-mode"),
        ("allow_mode_override", "mode-override"),
        ("disable_immediate_response", "no-immediate-response"),
    ):
        if config.at(flag).is_true:
            yield rule, config.at(flag), f"`{flag}` is on"
    for side in ("request_body_mode", "response_body_mode"):
        if config.at("processing_mode", side).text in PARTIAL:
            yield "body-partial", config.at("processing_mode", side), f"`{side}` gives up past the buffer's limit"
    if config.at("route_cache_action").text in ("CLEAR", "1"):
        yield "route-cache", config.at("route_cache_action"), "the route may change after it was judged"
    if leg(found) not in ("request", "duplex"):
        yield "leg", config.at("grpc_service"), "initial_metadata has no `x-leg`"
    untyped = config.at("metadata_options", "forwarding_namespaces", "untyped")
    if EXT_AUTHZ not in {name.text for name in untyped.each()}:
        yield "metadata", config, "the decision's metadata is not forwarded"
    if not found.has_matcher:
        yield "no-matcher", found.node, "every request opens a stream"
    yield from _peer(root, config.at("grpc_service"))


def _peer(root: Node, service: Node) -> Found:
    """How the decision service is reached."""
    if service.at("google_grpc"):
        yield "not-seen", service.at("google_grpc"), "google_grpc brings its own connection"
        return
    name = service.at("envoy_grpc", "cluster_name")
    clusters = root.at("static_resources", "clusters").each()
    cluster = next((node for node in clusters if node.at("name").text == name.text), None)
    if cluster is None:
        yield "not-seen", name, f"no cluster `{name.text}` is in this file"
    elif not cluster.at("transport_socket"):
        for endpoints in cluster.at("load_assignment", "endpoints").each():
            for endpoint in endpoints.at("lb_endpoints").each():
                address = endpoint.at("endpoint", "address", "socket_address", "address")
                if address and not is_loopback(address.text):
                    yield "plaintext", address, f"checks cross the network to `{address.text}` in plaintext"
