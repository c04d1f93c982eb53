"""The composition root: a verified `Config` becomes a running sidecar. The only module that names adapters.

Decides which adapter stands behind each port, and the order of start and stop: nothing listens before a
policy is active, health says NOT_SERVING before anything stops, and the log is closed last. Must never be
imported by what it composes.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import logging
import os
import secrets
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz import __version__
from authz.approvals.overrides import NoOverrides
from authz.audit.masking import KEY_BYTES, Masker
from authz.audit.record import RecordWriter
from authz.audit.recorder import Recorder
from authz.budgets.rates import Rates
from authz.budgets.reservations import NoBudgets
from authz.bundles import TenantBundles, are_current, failing, fetcher, followed, standing
from authz.clock import SystemClock, random_id
from authz.config import Issuer
from authz.edge import reply
from authz.edge.diagnostics import Diagnostics
from authz.edge.exchanges import Exchanges
from authz.edge.ext_authz import ExtAuthz
from authz.edge.ext_proc import ExtProc
from authz.edge.grpcio_transport import Answerer, GrpcioServer
from authz.edge.native_transport import NativeProgram
from authz.edge.plugin_body import GrpcMethods
from authz.edge.plugin_input import plugin_input
from authz.edge.reflection import descriptors
from authz.edge.streams import GrpcioStreams, NativeStreams, OpenStreams
from authz.edge.upstream import UpstreamCredentials
from authz.effective import Effective
from authz.enrolment.folder import IdentityFolder
from authz.enrolment.identity import Addresses
from authz.enrolment.membership import join
from authz.enrolment.trust import TrustedKeys
from authz.errors import ConfigError
from authz.following import Following
from authz.front import ConfiguredFront
from authz.identity.clock_guard import ClockGuard
from authz.identity.jwks_source import JwksSource, JwksTiming, open_jwks
from authz.identity.possession import Possession
from authz.identity.sessions import Sessions
from authz.identity.tokens import TokenVerifier, TrustedIssuer
from authz.model import PLATFORM, Phase
from authz.native import Library, LogOptions, NativeError, Program, ServerOptions, TLSOptions
from authz.native.transport import FALLBACK_REASONS
from authz.pdp import PolicyDecisionPoint, Ports
from authz.policy import agent_contract, envoy_contract
from authz.policy.activation import PROBE, Activation
from authz.policy.admission import admission
from authz.policy.engine import PolicySource
from authz.policy.last_good import LastGood
from authz.policy.opa_native import NativeEngine
from authz.policy.sources import archive_source, existing, library_beside, read_archive
from authz.policy.tenants import TenantPolicies
from authz.policy.watch import Watch
from authz.protocol import canonical
from authz.reasons import CATALOGUE, CONFIG_DRIFT, SANITIZE_NOT_APPLIED
from authz.revocation.kills import NoKills
from authz.rollouts import FOLDER as ROLLOUTS
from authz.rollouts import Rollouts, revisions
from authz.secret_file import load_or_create
from authz.telemetry import names
from authz.telemetry.metrics import Metrics, Reading
from authz.telemetry.pipeline import SpanPipeline, otlp_exporter, resource
from authz.telemetry.trace_file import TraceFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export import SpanExporter

    from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
    from authz.clock import Clock
    from authz.config import Config, PublishedBundle, Tls
    from authz.enrolment.membership import Membership
    from authz.model import Check, Decision, JsonObject, ToolCall
    from authz.native import Log, Server
    from authz.pdp import Exchange
    from authz.policy.activation import Interpret
    from authz.policy.engine import Engine
    from authz.policy.fetching import Fetcher

log: Final = logging.getLogger(__name__)
CONFIGURED: Final = "configured"
"""As a pin: what is configured, whatever rollouts say."""
SWITCH_S: Final = 0.0005
"""Python's thread switch interval: steps of a decision are short and many, and 5 ms would be their tail latency."""
SERVER_WORKERS: Final = 8
"""Checks that are judged at once where the engine is a server of its own."""
TICK_S: Final = 0.25
"""How often readiness is looked at again."""
CONTROL_TIMING: Final = JwksTiming(refresh_s=5.0, unknown_kid_s=1.0)
"""A key that the control plane withdraws is unknown here so soon."""
GARBAGE_PERCENT: Final = 400
"""Go's collector runs when the heap has grown by so much; policies live long and calls are small."""


class Sidecar:
    """A policy decision point with everything around it. `start`, then `stop`; both once."""

    def __init__(self, config: Config, again: Callable[[], Config] | None = None, clock: Clock | None = None) -> None:
        """Compose; nothing listens yet.

        Args:
            config: what it runs by.
            again: the same, resolved anew from the same flags and files.
            clock: the system's, where it is None.

        Raises:
            ConfigError: a setting that cannot be used, or material that is missing.
            BundleError: the policy is refused.
            UnavailableError: the engine cannot be asked.
        """
        config.verify()
        for warning in config.warnings():
            log.warning(warning)
        self._config = config
        self._clock = clock or SystemClock()
        self._effective = Effective(config, again, self._clock)
        self._library = Library.load()
        self._library.configure(gc_percent=GARBAGE_PERCENT, program_threads=1)
        self._draining = False
        self.activation, self._watch = self._policies()
        self.membership = joined(config, self._clock)
        config, self._keys = taken_issuers(config, self.membership, self._clock)
        self._config = config
        self._log = self._open_log()
        self.metrics = Metrics(contract=config.policy.contract, revocation=config.revocation.mode)
        self._following = self._follow()
        self._fetcher = self._fetch()
        self._tenants = self._tenants_own()
        self._rollouts = self._take_part()
        self._masker = Masker(key=_masking_key(config))
        self._spans = self._pipeline()
        self._credentials = UpstreamCredentials(config.routes, self._clock)
        self.pdp = PolicyDecisionPoint(config, self._ports())
        plugin = config.policy.contract == "envoy"
        replies = reply.Replies(self._credentials.of, plugin=plugin)
        self._ext_authz = ExtAuthz(self.pdp, replies, self._clock, self._plugin_input() if plugin else None)
        self._exchanges = Exchanges(self._clock)
        self._ext_proc = ExtProc(self.pdp, self._exchanges, config.limits)
        self._open_streams = OpenStreams(lambda: self.pdp.kills_sequence, self._log)
        self._server = self._listen()
        self._diagnostics = self._serve_diagnostics()
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="readiness", daemon=True)

    @property
    def address(self) -> str:
        """Where checks are answered, with the port that was given."""
        return self._server.address

    @property
    def diagnostics_address(self) -> str:
        """Where metrics and probes are answered; empty when switched off."""
        return self._diagnostics.address if self._diagnostics else ""

    def start(self) -> None:
        """Begin to answer."""
        sys.setswitchinterval(SWITCH_S)
        if self._spans is not None:
            self._spans.start()
        if self.membership is not None:
            self.membership.start()
        if self._following is not None:
            self._following.start()
        if self._rollouts is not None:
            self._rollouts.start()
        self._credentials.start()
        for source in self._keys:
            source.start()
        if self._watch is not None:
            self._watch.start()
        if self._fetcher is not None:
            self._fetcher.start()
        if self._tenants is not None:
            self._tenants.start()
        if self._diagnostics is not None:
            self._diagnostics.start()
        # What is alive now stays alive: policies live in Go, and the collector need not walk the rest again.
        gc.collect()
        gc.freeze()
        self._server.set_serving(not self.unready())
        self._ticker.start()

    def unready(self) -> dict[str, str]:
        """Why checks would all be denied, by part; empty when ready."""
        waiting: dict[str, str] = {}
        if self._draining:
            waiting["service"] = "stopping"
        if not self.activation.revision.revision:
            waiting["policy"] = "none is active"
        for source in self._keys:
            if source.state().keys == 0:
                waiting["keys"] = source.state().last_error or "none were read yet"
        if self._following is not None and (why := self._following.unready()):
            waiting["kills"] = why
        if self._log is not None and self._log.stats().get("failed"):
            waiting["records"] = "cannot be written"
        if self._effective.drift and self._config.drift == "not_ready":
            waiting["configuration"] = CONFIG_DRIFT.code
        return waiting

    def degraded(self) -> dict[str, str]:
        """What does not work although checks are served, by part: a code each."""
        found = {"policy": code} if (code := failing(self.activation, self._fetcher)) else {}
        if self._tenants is not None:
            found |= self._tenants.degraded()
        if self._following is not None and (code := self._following.degraded()):
            found["kills"] = code
        if self._effective.drift:
            found["configuration"] = CONFIG_DRIFT.code
        return found

    def configuration(self) -> dict[str, object]:
        """What it runs by, as a digest, and which settings its files no longer say."""
        return {"digest": f"sha256:{self._effective.digest}", "drift": list(self._effective.drift)}

    def policy(self) -> dict[str, object]:
        """Which policy answers, where it comes from, and what was refused."""
        told = standing(self.activation)
        if self._fetcher is not None:
            told["source"] = followed(self._fetcher.state, self._clock)
        if self._tenants is not None:
            told["tenants"] = self._tenants.standing()
        return told

    def stop(self) -> bool:
        """Drain and end: NOT_SERVING first, calls in flight finish, then what they needed goes.

        Returns:
            Whether every call in flight was answered within the grace.
        """
        self._draining = True
        self._stop.set()
        drained = self._server.drain(self._config.limits.drain_s)
        for part in (self._watch, self._fetcher, self._tenants, self._credentials):
            if part is not None:
                part.stop()
        for source in self._keys:
            source.close()
        if self._following is not None:
            self._following.stop()
        if self._rollouts is not None:
            self._rollouts.stop()
        if self.membership is not None:
            self.membership.stop()
        if self._spans is not None:
            self._spans.shutdown(2.0)
        if self._log is not None:
            self._log.close()
        if self._diagnostics is not None:
            self._diagnostics.stop()
        return drained

    @property
    def _is_pinned(self) -> bool:
        """To one archive, whatever is published."""
        return self._config.policy.pin not in ("", CONFIGURED)

    def _policies(self) -> tuple[Activation, Watch | None]:
        policy = self._config.policy
        activation = policy_activation(self._config, self._library, last_good(self._config))
        if self._is_pinned:
            activation.pin(pinned_source(self._config))
            return activation, None
        if policy.bundles:
            return activation, None  # followed once this is a member of its control plane
        source = policy_source(self._config)
        activation.begin(source)
        watch = Watch(activation, source, policy.watch_s) if policy.watch_s and source.watched else None
        return activation, watch

    def _fetch(self) -> Fetcher | None:
        """What follows the bundle that judges every call; nothing does while an operator names another archive."""
        policy = self._config.policy
        if policy.platform_bundle is None or self._is_pinned:
            return None
        found = fetcher(policy.platform_bundle, policy, self.activation, self.membership, self._clock)
        found.begin()
        return found

    def _tenants_own(self) -> TenantBundles | None:
        """Tenants' own policies; a pin of the platform's changes nothing about them."""
        config, found = self._config, {}
        for bundle in config.policy.tenant_bundles:
            activation = policy_activation(config, self._library, last_good(config, bundle), tenant=bundle.tenant)
            follows = fetcher(bundle, config.policy, activation, self.membership, self._clock)
            found[bundle.tenant] = (activation, follows)
        if not found:
            return None
        tenants = TenantBundles(found, self._clock)
        tenants.begin()
        return tenants

    def _follow(self) -> Following | None:
        if self.membership is None or self._config.revocation.source == "none":
            return None
        return Following(self._config, self.membership, self._clock, self.metrics)

    def _take_part(self) -> Rollouts | None:
        """In rollouts; a service that is pinned takes part in none, and says so."""
        if self.membership is None:
            return None
        rollouts = Rollouts(
            self._config,
            self.membership,
            self.activation,
            self._clock,
            tenants=self._tenants.activations if self._tenants is not None else {},
            is_crowded=self._is_crowded,
        )
        rollouts.begin()
        self.metrics.add_source(rollouts.readings)
        return rollouts

    def _open_log(self) -> Log | None:
        audit = self._config.audit
        if audit.directory is None:
            return None
        audit.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = LogOptions(directory=audit.directory, sync=audit.sync, segment_bytes=audit.segment_bytes)
        return self._library.open_log(options)

    def _ports(self) -> Ports:
        config = self._config
        verifier = possession = None
        if self._keys:
            trusted = [TrustedIssuer(issuer=i, keys=k) for i, k in zip(config.issuers, self._keys, strict=True)]
            guard = ClockGuard(self._clock)
            verifier = TokenVerifier(trusted, clock=guard, limits=config.limits)
            possession = Possession(guard, config.listen.trusted_peer)
        writer = RecordWriter(
            labels={
                **config.audit.labels,
                "id": random_id(),
                "version": __version__,
                "revocation": config.revocation.mode,
            },
            entrypoint=config.policy.rule,
            masker=self._masker,
            args_digest=_args_digest,
            inputs=config.audit.record_inputs,
        )
        return Ports(
            front=ConfiguredFront(config, verifier, possession),
            policies=self._rollouts.policies if self._rollouts is not None else self.activation,
            kills=self._following.kills if self._following is not None else NoKills(),
            overrides=NoOverrides(),
            budgets=NoBudgets(),
            rates=Rates(self._clock),
            recorder=Recorder(writer.record),
            clock=self._clock,
            new_id=random_id,
            credential=self._credentials.of,
            sessions=Sessions(self._clock),
            observe=self._observe,
            tenant_policies=self._tenant_policies(),
            is_policy_current=are_current(
                (self.activation, self._fetcher) if self._fetcher is not None else None, self._tenants, self._clock
            ),
        )

    def _tenant_policies(self) -> TenantPolicies | None:
        if self._tenants is None:
            return None
        return TenantPolicies(self._tenants.activations if self._rollouts is None else self._rollouts.tenants)

    def _observe(self, check: Check, decision: Decision) -> None:
        self.metrics.observe(decision)
        if self._rollouts is not None:
            self._rollouts.observe(decision)
        if self._spans is not None:
            self._spans.observe(check, decision)

    def _pipeline(self) -> SpanPipeline | None:
        telemetry = self._config.telemetry
        exporters: list[SpanExporter] = []
        if telemetry.otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            exporters.append(otlp_exporter(telemetry.otlp_endpoint))
        if telemetry.traces is not None:
            exporters.append(TraceFile(telemetry.traces))
        if not exporters:
            return None
        spans = SpanPipeline(exporters, resource=resource(telemetry.service_name, random_id()), mask=self._masker.text)
        self.metrics.add_source(spans.readings)
        return spans

    def _plugin_input(self) -> Callable[[CheckRequest], JsonObject]:
        policy = self._config.policy
        methods = GrpcMethods.load(policy.proto_descriptor) if policy.proto_descriptor else None
        return functools.partial(plugin_input, parse_body=not policy.skip_request_body_parse, grpc_methods=methods)

    def _listen(self) -> Server | GrpcioServer:
        config = self._config
        if config.listen.transport == "grpcio":
            keep = self._exchanges.put
            answerer = Answerer(self._ext_authz, self._log, config.limits.deadline_s, reply.fallback, keep)
            return GrpcioServer(config, answerer, GrpcioStreams(self._ext_proc, self._log, self._open_streams).run)
        native = NativeProgram(self._ext_authz, self._exchanges, recorded=self._log is not None)
        streams = NativeStreams(self._ext_proc, self._log, self._open_streams, self._end_stream)
        program = Program(check=native.check, refuse=native.refuse, streams=streams)
        return self._library.serve(server_options(config), program, self._log)

    def _is_crowded(self) -> bool:
        """The native transport alone can tell."""
        return not isinstance(self._server, GrpcioServer) and self._server.is_crowded

    def _serve_diagnostics(self) -> Diagnostics | None:
        self.metrics.add_source(self._readings)
        if not self._config.listen.diagnostics:
            return None
        return Diagnostics(
            self._config.listen.diagnostics,
            self.metrics.exposition,
            self.unready,
            self.degraded,
            {"policy": self.policy, "configuration": self.configuration},
        )

    def _readings(self) -> list[Reading]:
        active = self.activation.revision
        activations = [self.activation, *(self._tenants.activations.values() if self._tenants else ())]
        engine = self._library.engine_stats()
        readings = [
            Reading(names.READY, 0 if self.unready() else 1),
            Reading(names.CONFIG, 1, (self._effective.digest,)),
            Reading(names.CONFIG_DRIFT, len(self._effective.drift)),
            Reading(names.POLICY, 1, (active.revision, active.bundle_id)),
            Reading(names.ACTIVATIONS, sum(each.activated for each in activations), ("activated",)),
            Reading(names.ACTIVATIONS, sum(each.refused for each in activations), ("refused",)),
            Reading(names.CACHE_HITS, engine["hits"], ("query",)),
            Reading(names.CACHE_MISSES, engine["misses"], ("query",)),
            Reading(names.CACHE_ENTRIES, engine["queries"], ("query",)),
            Reading(names.ENGINE_HEAP, engine["heap_bytes"]),
        ]
        if self._log is not None:
            stats = self._log.stats()
            readings += [
                Reading(names.RECORDS_WRITTEN, int(stats["records"])),
                Reading(names.RECORDS_LOST, int(stats["lost"])),
            ]
        return readings

    def _tick(self) -> None:
        """Health follows readiness, and planned redactions that never came are put on record."""
        serving = not self.unready()
        while not self._stop.wait(TICK_S):
            self._effective.look()
            ready = not self.unready()
            if ready != serving:
                serving = ready
                log.warning("the service is %s: %s", "ready" if ready else "not ready", self.unready())
                self._server.set_serving(ready)
            self._open_streams.cut_stopped()
            for exchange in self._exchanges.take_overdue():
                self._alarm(exchange)
            # Taken at any level, so that the library's buffer does not fill with what nobody wants.
            for line in self._library.take_prints()["lines"]:
                log.debug("policy printed: %s", line["text"])

    def _end_stream(self, stream: int, last: bytes) -> None:
        if not isinstance(self._server, GrpcioServer):
            self._server.close_stream(stream, last)

    def _alarm(self, exchange: Exchange) -> None:
        """A call went on without its redaction: somebody took ext_proc out of Envoy's filters."""
        log.error("decision %s: a planned redaction was not applied", exchange.decision.id)
        answered = self.pdp.refuse_later(exchange, Phase.CALL, SANITIZE_NOT_APPLIED)
        if self._log is not None:
            try:
                self._log.append(answered.record, answered.sequence)
            except NativeError:
                log.exception("the alarm could not be recorded")


def policy_activation(
    config: Config, library: Library, last_good: LastGood | None = None, *, tenant: str = PLATFORM
) -> Activation:
    """How the contract's policies are verified, opened and read; nothing is active yet. Without `last_good`, to look.

    Args:
        config: of the service.
        library: what opens them.
        last_good: what outlives a crash.
        tenant: whose own policy it is, beside the platform's.

    Raises:
        ConfigError: a pinned key cannot be used.
    """
    policy = config.policy
    admits = admission(
        policy,
        engine=library.versions()["opa"],
        folder=last_good.folder if last_good else None,
        clock=SystemClock(),
        tenant=tenant,
    )
    interpret: Interpret = agent_contract.interpret
    probe: bytes | None = PROBE
    if policy.contract == "envoy":
        interpret, probe = functools.partial(envoy_contract.interpret, dry_run=policy.dry_run), None
    return Activation(
        _engine(config, library), policy.rule, interpret, probe=probe, last_good=last_good, admission=admits
    )


def last_good(config: Config, bundle: PublishedBundle | None = None) -> LastGood | None:
    """Where this service's policies outlive a crash: in a folder for these paths under this contract alone.

    Args:
        config: of the service.
        bundle: a tenant's own; None is the policy that judges every call.

    Raises:
        ConfigError: the folder lies within the policy, which would load its own copies.
    """
    if (policy := config.policy).state is None or not (policy.paths or policy.bundles):
        return None
    state, paths = policy.state.resolve(), [path.resolve() for path in policy.paths]
    bundle = bundle or policy.platform_bundle
    published = [bundle.source, bundle.tenant, bundle.name] if bundle else []
    if any(state.is_relative_to(path) for path in paths):
        raise ConfigError(f"policy.state lies within the policy: `{state}`", remedy="give a folder beside it")
    service = "\0".join([policy.contract, policy.rule, *map(str, paths), *published]).encode()
    return LastGood(state / hashlib.sha256(service).hexdigest()[:16])


def _engine(config: Config, library: Library) -> Engine:
    if not config.policy.opa_url:
        return NativeEngine(library, max_bytes=config.policy.bundle_bytes)
    from authz.policy.opa_server import ServerEngine  # noqa: PLC0415 - an extra: most never need it

    return ServerEngine(config.policy.opa_url)


def policy_source(config: Config) -> PolicySource:
    """The operator's policy, with the policy library beside it under contract `agent`.

    Raises:
        BundleError, ConfigError: it cannot be read here.
    """
    policy = config.policy
    if policy.bundles:
        raise ConfigError(
            "the policy is published elsewhere", remedy="fetch it with `authz bundle pull`, or give paths"
        )
    if policy.opa_url and not policy.paths:
        return PolicySource(contract=policy.contract)
    if policy.trust is not None:
        return archive_source(policy.paths[0].resolve(), policy.contract, policy.bundle_bytes)
    paths = existing(policy.paths)
    archives = [path for path in paths if path.name.endswith(".tar.gz")]
    if not archives:
        return PolicySource(paths=(*paths, *library_beside(paths, policy.contract)), contract=policy.contract)
    if len(paths) > 1:
        raise ConfigError("a bundle archive is the whole policy", remedy="give one archive, or folders and files")
    return PolicySource(archive=read_archive(archives[0], policy.bundle_bytes), contract=policy.contract)


def pinned_source(config: Config) -> PolicySource:
    """The archive on this disk that `policy.pin` names.

    Raises:
        ConfigError: none does, or several do.
    """
    state = config.control.state
    found = revisions(config, state / ROLLOUTS / "archives" if state else None)
    source = found.source(PLATFORM, found.named(config.policy.pin))
    if source is None:
        raise ConfigError(f"no archive is named `{config.policy.pin}`", remedy="give `configured`, or its SHA-256")
    return source if config.policy.trust is not None else replace(source, candidate=None)


def server_options(config: Config) -> ServerOptions:
    """The native transport's limits."""
    listen, limits = config.listen, config.limits
    return ServerOptions(
        listen=listen.check,
        socket_mode=listen.socket_mode,
        tls=_tls(listen.tls) if listen.tls else None,
        max_message_bytes=limits.max_message_bytes,
        max_streams=limits.streams,
        max_connections=limits.connections,
        # An OPA server is asked over HTTP, and the thread that asks waits.
        workers=SERVER_WORKERS if config.policy.opa_url else 1,
        stuck_limit=limits.stuck_calls,
        deadline_s=limits.deadline_s,
        descriptors=descriptors() if listen.reflection else None,
        fallback={code: reply.fallback(CATALOGUE[code]) for code in FALLBACK_REASONS},
        stream_fallback={code: reply.stream_fallback(CATALOGUE[code]) for code in FALLBACK_REASONS},
    )


def _masking_key(config: Config) -> bytes:
    """Kept beside the records, so that equal values match across restarts; without records, one for this run."""
    directory = config.audit.directory
    if directory is None:
        return secrets.token_bytes(KEY_BYTES)
    return load_or_create(directory / "masking.key", size_bytes=KEY_BYTES)


def _tls(tls: Tls) -> TLSOptions:
    return TLSOptions(certificate=tls.certificate, key=tls.key, client_ca=tls.client_ca, allowed_sans=tls.client_sans)


def joined(config: Config, clock: Clock) -> Membership | None:
    """This sidecar's membership of its control plane: the one on disk, or a new one by the enrolment token.

    Raises:
        ConfigError: neither an identity nor a token.
        ProgramError: the control plane refused the token, or cannot be trusted.
    """
    control = config.control
    if not control.url or control.state is None:
        return None
    folder = IdentityFolder(control.state / "identity")
    overrides = Addresses(replication=control.replication, redis=control.redis)
    token = control.enrol.get_secret_value()
    return join(folder, url=control.url, token=token, clock=clock, roots=control.roots, addresses=overrides)


def taken_issuers(config: Config, membership: Membership | None, clock: Clock) -> tuple[Config, list[JwksSource]]:
    """Whose tokens are taken: the configured issuers', else the control plane's, as it or its last known copy says.

    Raises:
        ConfigError: a file of keys that cannot be used now.
        ProgramError: the control plane cannot be asked, and nothing is known from before.
    """
    if config.issuers or membership is None or config.policy.contract != "agent":
        return config, [open_jwks(issuer, clock=clock, limits=config.limits) for issuer in config.issuers]
    keys = TrustedKeys(membership, clock)
    known = keys.published()
    source = JwksSource(keys, clock=clock, timing=replace(CONTROL_TIMING, stale_s=config.limits.jwks_stale_s))
    source.restore(known.jwks, known.age_s)
    issuer = Issuer(issuer=known.issuer, audience=config.control.audience, jwks=config.control.url)
    return config.model_copy(update={"issuers": (issuer,)}), [source]


def _args_digest(call: ToolCall) -> str:
    return canonical.digest(call.args, simple=call.simple_json)
