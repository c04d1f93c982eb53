"""What an operator may set: one frozen `Config` of groups, and the refusal of anything else.

Decides which settings exist, their units, defaults and bounds, and which combinations are unsafe. Unknown
keys, missing trust material and unsafe combinations raise `ConfigError`: nothing starts on a guess.
Must never read a clock, open a socket, or be changed once made; it is passed in, never global.

Precedence: flag > environment (`AUTHZ_<FLAG>`) > file > default; `load` is given the merged overrides.
Seconds are floats named `…_s`, sizes are integers named `…_bytes`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from authz import destination
from authz.errors import ConfigError
from authz.loopback import is_local
from authz.model import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB: Final = 1024
DESTRUCTIVE_KEYS_S: Final = 600.0
"""Destructive calls need keys that were read within this time, others within `limits.jwks_stale_s` (failure matrix)."""
PLUGIN_DEADLINE_S: Final = 10.0
"""opa-envoy-plugin has no deadline of its own; a stuck policy must still end, and end in a denial."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(gt=0, le=64 * 1024 * KIB)]


_G = TypeVar("_G", bound="Group")


class Group(BaseModel):
    """A frozen set of settings that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Tls(Group):
    """Server certificate and, for mutual TLS, who may connect."""

    certificate: Path
    """PEM chain."""
    key: Path
    """PEM private key; must not be readable by others."""
    client_ca: Path | None = None
    """PEM roots; when set, a client certificate is required."""
    client_sans: tuple[str, ...] = ()
    """URI or DNS SANs that may call; empty admits any certificate of `client_ca`."""


class TrustedPeer(Group):
    """Agents known by the certificate that Envoy verified, where no token is sent (SPIFFE)."""

    trust_domain: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,255}$")]
    """Every SPIFFE id of this trust domain stands for an agent: `spiffe://DOMAIN/AGENT`."""
    tenant: Annotated[str, Field(min_length=1)]
    """The tenant that all of them belong to."""
    source: Literal["principal", "x-forwarded-client-cert"] = "principal"
    """`principal` is Envoy's own word. The header needs `forward_client_cert_details: SANITIZE_SET` in Envoy, or
    callers write it themselves."""


class Listen(Group):
    """Where the service answers."""

    check: str = "127.0.0.1:9191"
    """Address of ext_authz and ext_proc: `host:port`, `unix:///path` or `unix://@abstract`."""
    diagnostics: str = "127.0.0.1:8282"
    """Address of /metrics, /healthz and /readyz; empty switches it off."""
    socket_mode: Annotated[int, Field(ge=0, le=0o777)] = 0o660
    """Permissions of a Unix socket, written 0660."""
    transport: Literal["native", "grpcio"] = "native"
    """`native` is grpc-go inside the extension; `grpcio` runs the same code under grpc.server."""
    tls: Tls | None = None
    """Needed on any address that is neither loopback nor a Unix socket."""
    insecure_plaintext: bool = False
    """Accept plaintext on other addresses. Anyone on that network may then ask and forge checks."""
    reflection: bool = False
    """Serve gRPC reflection."""
    trusted_peer: TrustedPeer | None = None
    """Take Envoy's verified peer for an identity where a request has no token; off unless set."""

    @model_validator(mode="after")
    def _plaintext_is_local(self) -> Self:
        if self.tls is None and not self.insecure_plaintext and not is_local(self.check):
            message = f"plaintext on `{self.check}` would let that network forge checks: set listen.tls"
            raise ValueError(message)
        return self


class Route(Group):
    """One path that agents may call, and what stands behind it."""

    path: str | None = None
    """Exact raw path without the query; nothing is normalised."""
    path_prefix: str | None = None
    """Instead of `path`: every raw path that begins with these bytes."""
    host: str | None = None
    """Only for this `:authority`; compared in lower case."""
    protocol: Protocol = Protocol.MCP
    """What is spoken there; `proxy` takes CONNECT."""
    server: str = ""
    """`tool.server` in policy input; empty means the service's `policy.server`."""
    methods: tuple[str, ...] = ()
    """HTTP methods taken on an `http` route; empty means all but CONNECT and TRACE."""
    templates: tuple[str, ...] = ()
    """Path templates of an `http` route, such as `/v1/accounts/{id}`; the tool is named by the one that fits."""
    deny_status: Literal[200, 403] | None = None
    """HTTP status of a policy's refusal; 200 on MCP and 403 elsewhere unless set."""
    origins: tuple[str, ...] = ()
    """Values of `Origin` that are taken; a request without `Origin` is not a browser's and passes."""
    max_body_bytes: Bytes = 256 * KIB
    """Largest body on this route."""
    ext_proc: bool = False
    """ext_proc stands behind this route's ext_authz, so sanitize can be applied."""
    resource: str = ""
    """This resource's identifier (RFC 9728), an absolute URL; empty derives it from the request."""
    scopes: tuple[str, ...] = ()
    """Scopes that every call on this route needs; also published as `scopes_supported`."""
    upstream_auth: UpstreamAuth | ExchangedAuth | Literal["none", "pass"] = "none"
    """The tool's own credential. `pass` forwards the caller's, which MCP forbids for its servers."""
    capabilities: tuple[str, ...] = ()
    """What the tools behind this route can do; input for policies and kills."""
    connector: str = ""
    """The tool principal whose credential is used upstream."""
    destination: str = ""
    """HOST or HOST:PORT of the tools behind this route; input for policies and kills. On a `proxy` route the request
    names it."""
    param_headers: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Tool name to {`Mcp-Param-` suffix: RFC 6901 pointer into its arguments} (`x-mcp-header` annotations)."""

    @field_validator("destination")
    @classmethod
    def _is_a_destination(cls, text: str) -> str:
        return str(destination.parse(text)) if text else ""

    @model_validator(mode="after")
    def _one_path(self) -> Self:
        if (self.path is None) == (self.path_prefix is None):
            message = "a route has exactly one of path and path_prefix"
            raise ValueError(message)
        return self

    @property
    def refusal_status(self) -> int:
        """HTTP status of a policy's refusal on this route."""
        return self.deny_status or (200 if self.protocol is Protocol.MCP else 403)


class UpstreamAuth(Group):
    """A static credential for the tool, read from a file so that it is in no configuration."""

    header: str
    """Header to set, for example `authorization`."""
    file: Path
    """Its whole value; re-read when the file changes."""


class TokenExchange(Group):
    """How a token for the tool is got for the caller's (RFC 8693)."""

    token_endpoint: str
    """URL of the token endpoint (https, or http on loopback)."""
    client_id: str
    """Who asks."""
    client_secret_file: Path | None = None
    """File of the client's secret, sent as HTTP Basic; None is a public client."""
    subject_token_file: Path | None = None
    """File of a token of this service's own, exchanged once for all callers; None exchanges each caller's."""
    audience: str = ""
    """The tool, as the endpoint knows it."""
    resource: str = ""
    """The tool's absolute URL (RFC 8707)."""
    scopes: tuple[str, ...] = ()
    """Scopes to ask for; empty leaves them to the endpoint."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Longest wait for the endpoint. No decision waits for it."""


class ExchangedAuth(Group):
    """A credential for the tool that is got by token exchange, set as `authorization: Bearer`."""

    token_exchange: TokenExchange
    """Where and how."""


class Issuer(Group):
    """One token issuer, its keys, and the tenants it may speak for."""

    issuer: str
    """Exact value of `iss`."""
    audience: str
    """Exact value of `aud`."""
    jwks: str
    """FILE or URL of its JWK Set (https, or http on loopback)."""
    typ: str = "at+jwt"
    """Exact `typ` of an access token (RFC 9068)."""
    tenants: tuple[str, ...] | None = None
    """Tenants that this issuer may name; None means any."""
    rsa_algorithm: Literal["RS256", "PS256"] = "RS256"
    """What an RSA key without `alg` verifies; a key has one algorithm."""


class BundleSigners(Group):
    """Who may sign which bundles; the first entry that fits one decides alone."""

    keys: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of pinned keys."""
    threshold: Annotated[int, Field(ge=1)] = 1
    """How many different keys must have signed."""
    bundle_id: str = ""
    """Only this bundle; empty: any."""
    path: str = ""
    """Only from this path, with `*` within a segment; empty: any."""
    tenants: tuple[str, ...] | None = None
    """Tenants that these may sign for; None: any, and bundles for all."""


class BundleFreshness(Group):
    """Freshness statements: without a recent one nothing new is taken, so that a frozen mirror is noticed."""

    keys: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the pinned keys that may state what is newest."""
    max_age_s: Annotated[float, Field(gt=0, le=31 * 86_400)] = 86_400.0
    """Longest time since the statement was made."""


Pem = Annotated[str, Field(pattern=r"^-----BEGIN PUBLIC KEY-----")]


class BundleTrust(Group):
    """Keys that are pinned for the bundle archive. With them, nothing that is not signed is ever opened."""

    keys: Annotated[dict[str, Pem | Path], Field(min_length=1)]
    """Name to file, or to the PEM itself: public keys on P-256. The name is what a signature calls its key (`kid`)."""
    signers: tuple[BundleSigners, ...] = ()
    """Who may sign what; empty: any one pinned key but those of `freshness`."""
    freshness: BundleFreshness | None = None
    """Whether a recent statement must say that the bundle is the newest; None: not."""
    scope: str = ""
    """Exact `scope` of signatures, as OPA has it."""
    tenants: tuple[str, ...] = ()
    """Tenants served here, each of which the bundle must be for; empty: any."""
    max_step: Annotated[int, Field(ge=1)] = 1_000_000
    """How far a bundle's sequence may be ahead of the last one."""
    data_loss: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of its data that a bundle may lose at once while its modules stay as they are; 1 checks nothing."""


class ClientCertificate(Group):
    """Shown to a server that asks who connects."""

    certificate: Path
    """PEM chain."""
    key: Path
    """PEM private key."""


class PublishedBundle(Group):
    """A bundle that is followed where it is published, instead of files in `paths`."""

    source: str = "control"
    """`control` is this sidecar's control plane; else a URL of OPA's bundle service or of any server of files (https,
    or http on loopback), `oci://HOST/REPOSITORY:TAG` (needs the extra `oci`), or an absolute `file:///PATH`."""
    name: str = ""
    """Its name at the control plane, which is the bundle's id."""
    tenant: str = ""
    """Whose it is; empty: the platform's. Beside the platform's, it judges the calls of this tenant as well."""
    token_file: Path | None = None
    """Bearer token for a URL or a registry, which also takes `USER:PASSWORD`; read again for each request."""
    token: SecretStr = SecretStr("")
    """The same, where it stands in the environment of `--opa-config`. Better in a file."""
    s3_region: str = ""
    """Sign requests to a URL by AWS Signature Version 4 for this region (needs the extra `s3`). `token_file` then holds
    `ID:SECRET` or `ID:SECRET:SESSION_TOKEN`; without one AWS_ACCESS_KEY_ID and its like of the environment count."""
    client: ClientCertificate | None = None
    """Shown to the server of a URL."""
    roots: Path | None = None
    """PEM of who signs the certificate of a URL; None means the web's authorities."""
    poll_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """How often it is looked at, on average."""
    wait_s: Annotated[float, Field(ge=0, le=300)] = 60.0
    """How long a server that can may hold a question until something changes; 0 never."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.source == "control") != bool(self.name):
            message = "a bundle of the control plane has a name, and one of a URL has none"
            raise ValueError(message)
        if self.source != "control" and not self.source.startswith(("https://", "http://", "oci://", "file:///")):
            message = "the source is not control, a URL, oci://… or file:///PATH"
            raise ValueError(message)
        if self.s3_region and not self.source.startswith(("https://", "http://")):
            message = "s3_region is for a URL"
            raise ValueError(message)
        return self


class Policy(Group):
    """Which policy answers, and how."""

    paths: tuple[Path, ...] = ()
    """Directories, .rego or data files, or one bundle archive."""
    bundles: tuple[PublishedBundle, ...] = ()
    """The published bundle that is the policy, in the place of `paths`; needs `trust` and `state`. Of several, the one
    without a tenant judges every call, and each other one the calls of its tenant beside it."""
    contract: Literal["agent", "envoy"] = "agent"
    """`agent` is ours; `envoy` is drop-in for opa-envoy-plugin."""
    entrypoint: str = ""
    """Rule to ask; empty means `authz/decision`, or `envoy/authz/allow` under contract `envoy`."""
    server: str = "default"
    """`tool.server` where neither Envoy nor the route names one."""
    evaluation_s: Seconds = 0.05
    """Longest evaluation before it is cancelled."""
    http_headers: tuple[str, ...] = ("user-agent",)
    """Request headers that policies see; never `authorization` or `cookie`."""
    bundle_bytes: Annotated[int, Field(ge=64 * KIB, le=256 * 1024 * KIB)] = 32 * 1024 * KIB
    """Most bytes of a policy, packed and unpacked. Data takes up to twice as much memory, forty times where rules read
    it whole, and as much again while the one before stays warm."""
    watch_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """How often changed files are looked for; 0 never."""
    state: Path | None = None
    """Folder of what outlives a crash: the last good policy, and those that crashed the service; None keeps neither."""
    trust: BundleTrust | None = None
    """Keys pinned for the one archive in `paths`; None opens an archive without verifying it, and warns."""
    insecure_unverified_bundles: bool = False
    """Follow a published bundle that nobody signed; whoever publishes it, or is on the way, decides. Warns."""
    candidates: Path | None = None
    """Folder of bundle archives that rollouts may name by their SHA-256, beside what the control plane publishes."""
    compare: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the calls that both revisions of a rollout judge; those that there is no time for are left out."""
    pin: str = ""
    """`configured`, or the SHA-256 (or at least 12 digits of it) of an archive on this disk: no rollout is followed."""
    opa_url: str = ""
    """Ask an OPA server here instead of the engine inside (adapter of its own; slower)."""
    dry_run: bool = False
    """opa-envoy-plugin's `dry-run`: every policy answer becomes allow. Contract `envoy` only; warns."""
    skip_request_body_parse: bool = False
    """opa-envoy-plugin's `skip-request-body-parse`. Contract `envoy` only."""
    proto_descriptor: Path | None = None
    """opa-envoy-plugin's `proto-descriptor`: the FileDescriptorSet to read gRPC bodies by. Contract `envoy` only."""

    @property
    def has_archive(self) -> bool:
        """Whether a bundle archive is the policy."""
        return any(path.name.endswith(".tar.gz") for path in self.paths)

    @property
    def platform_bundle(self) -> PublishedBundle | None:
        """The published bundle that judges every call; None where there is none."""
        if len(self.bundles) == 1:
            return self.bundles[0]
        return next((bundle for bundle in self.bundles if not bundle.tenant), None)

    @property
    def tenant_bundles(self) -> tuple[PublishedBundle, ...]:
        """Tenants' own, which judge beside the platform's."""
        return tuple(bundle for bundle in self.bundles if bundle is not self.platform_bundle)

    @property
    def rule(self) -> str:
        """The entrypoint in force, without a leading slash."""
        chosen = self.entrypoint or ("envoy/authz/allow" if self.contract == "envoy" else "authz/decision")
        return chosen.strip("/").removeprefix("data.").replace(".", "/")


class Revocation(Group):
    """Where kills come from."""

    source: str = "none"
    """`none` serves without kills and says so everywhere; `control` is the Redis that the control plane names, and the
    default where one is configured; a URL (redis, rediss, unix) is another way to the same streams."""
    roots: Path | None = None
    """PEM of who signs the certificate of a rediss URL; None means the system's authorities."""
    stale_reads_s: Annotated[float, Field(ge=0, le=300)] = 300.0
    """How long calls of risk `read` are served, flagged, on kills that are no longer fresh."""

    @property
    def mode(self) -> str:
        """What is said of it where a URL, which may hold a password, must not be: none, control or redis."""
        return self.source if self.source in ("none", "control") else "redis"


class Audit(Group):
    """The record of each decision."""

    directory: Path | None = None
    """Folder of `decisions-*.jsonl`; None keeps no record and warns."""
    sync: Literal["group", "none"] = "group"
    """`group` answers an allow only after its record is on the disk."""
    record_inputs: Literal["masked", "off"] = "masked"
    """Whether the policy input is kept, with secrets replaced."""
    segment_bytes: Annotated[int, Field(ge=64 * KIB)] = 128 * KIB * KIB
    """Size after which a new segment is begun."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Written into each record, as OPA's `labels`."""


class Telemetry(Group):
    """Spans, metrics and logs."""

    otlp_endpoint: str = ""
    """OTLP/HTTP base URL; empty exports none. OTEL_EXPORTER_OTLP_ENDPOINT is honoured."""
    traces: Path | None = None
    """Also append spans to this file, one OTLP JSON object a line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least that is logged; debug shows what policies print."""
    service_name: str = "authz"
    """`service.name` of spans."""


class Limits(Group):
    """Bounds, each with its unit."""

    deadline_s: Seconds = 0.12
    """Time to answer one check; below Envoy's default of 0.2 s."""
    max_body_bytes: Bytes = 256 * KIB
    """Largest body that is judged; a route may ask for less or more."""
    max_message_bytes: Bytes = 8 * KIB * KIB
    """Largest gRPC message; above every body limit on purpose (A20)."""
    json_depth: Annotated[int, Field(ge=2, le=128)] = 32
    """Deepest nesting in one body."""
    json_keys: Annotated[int, Field(ge=16)] = 10_000
    """Keys and items in one body."""
    json_string_bytes: Bytes = 256 * KIB
    """Longest string in one body."""
    token_cache: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """Verified tokens kept, by SHA-256."""
    leeway_s: Annotated[float, Field(ge=0, le=60)] = 30.0
    """By how much an issuer's clock may differ from ours."""
    token_lifetime_s: Annotated[float, Field(gt=0, le=900)] = 900.0
    """Longest time between a token's `iat` and `exp`."""
    jwks_stale_s: Annotated[float, Field(ge=0, le=3600)] = 3600.0
    """How long keys are used after the last good fetch."""
    jwks_refresh_s: Seconds = 300.0
    """How often keys behind a URL are fetched."""
    stuck_calls: Annotated[int, Field(ge=1)] = 8
    """Threads stuck with a call past its deadline before health goes NOT_SERVING. So many more than usual may run."""
    connections: Annotated[int, Field(ge=1)] = 20_000
    """Open connections."""
    streams: Annotated[int, Field(ge=1)] = 1_000
    """Concurrent calls on one connection."""
    drain_s: Seconds = 5.0
    """Longest wait for calls in flight when the service stops."""


class Control(Group):
    """The control plane this sidecar belongs to."""

    url: str = ""
    """Address of its HTTP listener; empty means none. Https, or http on loopback."""
    enrol: SecretStr = SecretStr("")
    """The enrolment token of `authz sidecars invite`, used at the first start alone. Better in AUTHZ_ENROL than in a
    file."""
    roots: Path | None = None
    """PEM of who signs the HTTP listener's certificate; None means the web's authorities."""
    state: Path | None = None
    """Folder of the identity and of the kills that outlive a restart; one for each sidecar."""
    replication: str = ""
    """HOST:PORT of its listener for sidecars; empty is what it said at the enrolment."""
    redis: str = ""
    """URL, without user and password, of the Redis that streams are read from; empty is what it said."""
    audience: str = "authz"
    """Exact `aud` of the control plane's tokens, which are taken where `issuers` is empty."""

    @model_validator(mode="after")
    def _has_a_folder(self) -> Self:
        if self.url and self.state is None:
            message = "a sidecar of a control plane keeps its identity: set control.state"
            raise ValueError(message)
        return self


class Config(Group):
    """Everything, verified."""

    version: Literal[1] = 1
    """Of this file's form."""
    listen: Listen = Listen()
    """Where the service answers."""
    routes: tuple[Route, ...] = ()
    """Empty means `/mcp` is MCP under contract `agent`, and no route checks under contract `envoy`."""
    issuers: tuple[Issuer, ...] = ()
    """Whose tokens are taken; at least one under contract `agent`."""
    policy: Policy = Policy()
    """Which policy answers."""
    revocation: Revocation = Revocation()
    """Where kills come from."""
    audit: Audit = Audit()
    """The record of each decision."""
    telemetry: Telemetry = Telemetry()
    """Spans, metrics and logs."""
    limits: Limits = Limits()
    """Bounds."""
    control: Control = Control()
    """The control plane."""
    drift: Literal["not_ready", "degraded"] = "not_ready"
    """What a sidecar is whose files have come to say something else than it runs by: looked at each minute. `degraded`
    serves on and says so, for files that change before the sidecars are restarted one by one."""

    def verify(self) -> None:
        """Refuse to serve without the material that decisions rest on.

        Raises:
            ConfigError: no policy; no issuer under contract `agent`; a message limit below a body limit.
        """
        if not (self.policy.paths or self.policy.bundles or self.policy.opa_url):
            raise ConfigError("no policy is configured", remedy="give --policy PATH, or run `authz init` for one")
        if self.policy.contract == "agent" and not self.issuers and not self.control.url:
            raise ConfigError(
                "no token issuer is configured, so no caller could be known",
                remedy="give --jwks, --issuer and --audience, --control, or `issuers:` in the file",
            )
        self._verify_trust()
        if self.policy.dry_run and self.policy.contract != "envoy":
            raise ConfigError("policy.dry_run exists under contract `envoy` only", remedy="use `mode: flag` in policy")
        self._verify_revocation()
        largest = max([self.limits.max_body_bytes, *(route.max_body_bytes for route in self.routes)])
        if self.limits.max_message_bytes <= largest * 2:
            raise ConfigError(
                f"limits.max_message_bytes must be over twice the largest body limit ({largest})",
                remedy="raise limits.max_message_bytes",
            )

    def _verify_trust(self) -> None:
        policy = self.policy
        if policy.bundles:
            self._verify_bundles()
        if policy.trust is None:
            return
        if not policy.bundles and (policy.opa_url or len(policy.paths) != 1 or not policy.has_archive):
            raise ConfigError("policy.trust is about one bundle archive", remedy="give one .tar.gz in policy.paths")
        if policy.state is None:
            raise ConfigError(
                "policy.trust needs policy.state: an older bundle would be new again after a restart",
                remedy="set policy.state (--state) to a folder that outlives the service",
            )

    def _verify_bundles(self) -> None:
        policy = self.policy
        if policy.paths or policy.opa_url:
            raise ConfigError("policy.bundles is the whole policy", remedy="give no paths and no opa_url beside it")
        if policy.trust is None and (policy.tenant_bundles or not policy.insecure_unverified_bundles):
            raise ConfigError(
                "policy.bundles needs policy.trust: whoever is on the way could be the policy's author",
                remedy="pin the keys that sign it, or set policy.insecure_unverified_bundles for one bundle",
            )
        if any(bundle.source == "control" for bundle in policy.bundles) and not self.control.url:
            raise ConfigError("policy.bundles names the control plane, and none is configured", remedy="give --control")
        if policy.tenant_bundles and policy.trust is not None:
            _verify_tenants(policy, policy.trust)

    def _verify_revocation(self) -> None:
        source = self.revocation.source
        if source != "none" and not self.control.url:
            raise ConfigError(
                "revocation.source: kills are signed by a control plane, and none is configured",
                remedy="set control.url (--control), or `none`, which says so in doctor, metrics and records",
            )
        if source not in ("none", "control") and not source.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigError(
                "revocation.source is not none, control or a URL of Redis", remedy="such as rediss://HOST:6379"
            )

    def warnings(self) -> tuple[str, ...]:
        """What an operator should be told at every start."""
        told = {
            "listen.insecure_plaintext: whoever is on that network can ask and forge checks": (
                self.listen.insecure_plaintext
            ),
            "policy.dry_run: what the policy denies is let through": self.policy.dry_run,
            "policy.trust is not set: the bundle archive is not verified": (
                self.policy.has_archive and self.policy.trust is None
            ),
            "policy.insecure_unverified_bundles: whoever publishes the bundle, or is on the way, is its author": bool(
                self.policy.bundles and self.policy.trust is None
            ),
            "no record is kept: set audit.directory (--audit-dir)": self.audit.directory is None,
            "audit.sync is none: a power cut may lose the records of allowed calls": self.audit.sync == "none",
            "limits.jwks_refresh_s is over 600: destructive calls are denied between refreshes": (
                self.limits.jwks_refresh_s > DESTRUCTIVE_KEYS_S
            ),
            "revocation.source is none: no kill can reach this service": (
                self.policy.contract == "agent" and self.revocation.source == "none"
            ),
        }
        return tuple(message for message, holds in told.items() if holds)


def _verify_tenants(policy: Policy, trust: BundleTrust) -> None:
    """Several bundles: one is everybody's, and each other one is a tenant's, signed by whom that tenant is trusted to.

    Raises:
        ConfigError: one of these does not hold, or the contract knows no tenants.
    """
    tenants = [bundle.tenant for bundle in policy.tenant_bundles]
    if policy.platform_bundle is None or "" in tenants:
        raise ConfigError(
            "of several policy.bundles exactly one is the platform's", remedy="give the others a `tenant` each"
        )
    if len({*tenants}) != len(tenants):
        raise ConfigError("policy.bundles: a tenant has two bundles", remedy="give one for each tenant")
    if policy.contract != "agent":
        raise ConfigError("policy.bundles: tenants are known under contract `agent` only", remedy="give one bundle")
    named = {tenant for entry in trust.signers for tenant in entry.tenants or ()}
    if unsigned := sorted({*tenants} - named):
        raise ConfigError(
            f"policy.trust.signers names nobody who may sign for tenant `{unsigned[0]}`",
            remedy=f"add {{keys: […], tenants: [{unsigned[0]}]}}",
        )
    if all(entry.tenants is not None for entry in trust.signers):
        raise ConfigError(
            "policy.trust.signers names nobody who may sign the platform's bundle",
            remedy="add an entry without `tenants`",
        )


def load(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the file, lay the overrides (dotted key to value) over it, validate.

    Raises:
        ConfigError: unreadable, not YAML, unknown key (the nearest known one is named), wrong value.
    """
    return _by_surroundings(read_settings(Config, path, overrides))


def read_settings(model: type[_G], path: Path | None, overrides: Mapping[str, Any] | None = None) -> _G:
    """A program's whole configuration, of the form of `model`.

    Raises:
        ConfigError: see `load`.
    """
    document = read_mapping(path) if path else {}
    for dotted, value in (overrides or {}).items():
        *groups, key = dotted.split(".")
        target = document
        for group in groups:
            target = target.setdefault(group, {})
            if not isinstance(target, dict):
                raise ConfigError(f"{path}: `{group}` is not a group of settings")
        target[key] = value
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_explain(error, model, path), remedy="see docs/reference/configuration.md") from None


def _by_surroundings(config: Config) -> Config:
    """Defaults that follow from other settings: a control plane brings its kills."""
    if config.control.url and "source" not in config.revocation.model_fields_set:
        revocation = config.revocation.model_copy(update={"source": "control"})
        config = config.model_copy(update={"revocation": revocation})
    return _by_contract(config)


def _by_contract(config: Config) -> Config:
    """Defaults that differ by contract: `agent` serves MCP; a drop-in waits as long as a policy's `http.send` may."""
    if config.policy.contract == "agent":
        return config if config.routes else config.model_copy(update={"routes": (Route(path="/mcp"),)})
    limits, policy = config.limits, config.policy
    if "deadline_s" not in limits.model_fields_set:
        limits = limits.model_copy(update={"deadline_s": PLUGIN_DEADLINE_S})
    if "evaluation_s" not in policy.model_fields_set:
        policy = policy.model_copy(update={"evaluation_s": PLUGIN_DEADLINE_S})
    return config.model_copy(update={"limits": limits, "policy": policy})


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a repeated key instead of keeping the last."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(f"line {key_node.start_mark.line + 1}: `{key}` is set twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file of ours: one mapping, in which no key is repeated.

    Raises:
        ConfigError: unreadable, not YAML, a repeated key, or no mapping; the file is named.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 - a SafeLoader, made stricter
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: the file is not a mapping of settings")
    return document


def _explain(error: ValidationError, model: type[BaseModel], path: Path | None) -> str:
    """Every problem on a line of its own: where, what, and the nearest known key. Values are never repeated."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "(top)"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), _known_keys(model), n=1, cutoff=0.5)
            lines.append(f"unknown key `{where}`" + (f", did you mean `{near[0]}`?" if near else ""))
        else:
            lines.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}")
    return f"{path or 'configuration'}: " + "; ".join(lines)


def _known_keys(model: type[BaseModel]) -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(name)
        for candidate in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                keys += _known_keys(candidate)
    return keys


Route.model_rebuild()
