"""The composition root of `authz control`: a verified `ControlConfig` becomes a running control plane.

Decides which adapter stands behind each port, and the order of start and stop: the schema is brought up to date before
anything listens, health says NOT_SERVING before anything stops, and the database is closed last.

A room joins here: its service is one line in `_services`, its HTTP endpoints one in `_routes`, what runs beside the
calls one in `_tasks`, and what readiness waits for one in `unready`.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from authz import secret_file
from authz.clock import SystemClock, random_hex, random_id
from authz.config import Limits
from authz.control.actions_sql import Actions
from authz.control.authentication import Authentication
from authz.control.authorities_sql import Authorities
from authz.control.bootstrap import first_credential
from authz.control.bundle_app import BundleApp
from authz.control.bundle_collector import BundleCollector
from authz.control.bundles_service import BundlesService
from authz.control.dispatcher import Dispatcher
from authz.control.grpc_server import GrpcServer, server_credentials
from authz.control.http_app import http_app
from authz.control.http_server import HttpServer
from authz.control.kill_reach import KillReach
from authz.control.kills_service import KillsService, Stores
from authz.control.listener_certificate import ListenerCertificate
from authz.control.members import Members
from authz.control.metrics import ControlMetrics
from authz.control.operator_tokens import OperatorTokens
from authz.control.operators_service import OperatorsService
from authz.control.operators_sql import Operators
from authz.control.redis_accounts import RedisAccounts, without_credentials
from authz.control.replication_service import Bundles, ReplicationService, Rollouts
from authz.control.rollout_judge import RolloutJudge
from authz.control.rollout_keeper import RolloutKeeper
from authz.control.rollouts_service import RolloutsService
from authz.control.sidecars_service import SidecarsService
from authz.control.sidecars_sql import Sidecars
from authz.control.token_issuer import TokenIssuer
from authz.database import Database, Election, Lease, migrate
from authz.errors import ConfigError, UnavailableError
from authz.identity.clock_guard import ClockGuard
from authz.identity.jwks_source import open_jwks
from authz.identity.tokens import TrustedIssuer
from authz.model import PLATFORM
from authz.policy.admission import pinned
from authz.policy.archive import bounds
from authz.policy.bundle_reports_sql import BundleReports
from authz.policy.delta_process import make_aside
from authz.policy.registry_sql import Registry
from authz.policy.rollout_reports_sql import RolloutReports
from authz.policy.rollout_sql import RolloutBook
from authz.policy.sources import MAX_STATEMENT_BYTES
from authz.revocation import publication_sql
from authz.revocation.guard import Guard
from authz.revocation.kills_sql import KillBook, Quota
from authz.revocation.ledger_sql import Ledger
from authz.revocation.publication_sql import PublicationState
from authz.revocation.publisher import Publisher, Sources
from authz.revocation.redis_writer import PublicationError, RedisWriter
from authz.revocation.reports_sql import Reports
from authz.revocation.stream_keys_sql import StreamKeys
from authz.sealing import read_key
from authz.telemetry import names
from authz.telemetry.metrics import Reading

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import grpc
    from sqlalchemy import Connection
    from starlette.routing import Route

    from authz.control.config import ControlConfig, Listeners
    from authz.policy.pinned import Trust

log: Final = logging.getLogger(__name__)
TICK_S: Final = 0.5
"""How often health is brought in line with readiness."""
ROLLOUTS_LEASE_S: Final = 3.0
"""Gates stand still for so long when the instance that applies them dies."""
PUBLISHER_LEASE_S: Final = 1.5
"""Kills go the slow way for so long when the instance that publishes them dies."""


COLLECTOR_LEASE_S: Final = 60.0


class Task(Protocol):
    """What runs beside the calls, such as a publisher."""

    def start(self) -> None:
        """Begin, on threads of its own."""
        ...

    def stop(self) -> None:
        """End; returns once it has."""
        ...


class ControlPlane:
    """The control plane with everything around it. `start`, then `stop`; both once."""

    def __init__(self, config: ControlConfig) -> None:
        """Compose; nothing answers yet.

        Raises:
            ConfigError: a setting that cannot be used, or material that is missing.
            ProgramError: an address is taken.
            UnavailableError: the database cannot be used.
        """
        config.verify()
        for warning in config.warnings():
            log.warning(warning)
        self._config = config
        self._clock = SystemClock()
        self.state: Final[Path] = config.control.state  # type: ignore[assignment]  # verified above
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = Database(config.database_url, clock=self._clock)
        migrate(self._database)
        self._instance = random_id()
        self.metrics = ControlMetrics()
        self.metrics.add_source(self._publication)
        self._issuers = [open_jwks(each, clock=self._clock, limits=Limits()) for each in config.operators.issuers]
        self._sealer, _ = read_key(
            file=config.control.key_encryption_key,
            text=config.control.key_encryption_base64.get_secret_value(),
            state=self.state,
        )
        self._ledger = Ledger(self._database)
        self._reports = Reports(self._database)
        self._guard = _guard(config.control)
        self._kills = KillBook(self._database, self._ledger, guard=self._guard, quota=_quota(config.control))
        self._tokens = self._token_issuer()
        self._stream_keys = StreamKeys(self._database, self._ledger, self._sealer)
        self._authorities = Authorities(self._database, self._sealer)
        self._sidecars = Sidecars(self._database)
        self._registry = Registry(self._database)
        self._bundle_reports = BundleReports(self._database)
        self._accounts = RedisAccounts(config.control.redis, self._sidecars.present) if config.control.redis else None
        self._begin([PLATFORM, *(tenant for sidecar in self._sidecars.present() for tenant in sidecar.tenants)])
        self._members = self._membership()
        self._rollouts = Rollouts(book=RolloutBook(self._database), reports=RolloutReports(self._database))
        self._rollout_judge = RolloutJudge(self._rollouts.reports, self._alive)
        self._operators = Operators(self._database)
        self._actions = Actions(self._database, self._clock)
        self.first_credential = self._bootstrap()
        self._authentication = Authentication(
            self._operators, self._clock, tokens=self._operator_tokens(), sidecar=self._members.caller
        )
        self._dispatcher = self._dispatch()
        self._tasks = self._made_tasks()
        self._servers = self._listen()
        app = http_app(
            self._dispatcher,
            exposition=self.metrics.exposition,
            unready=self.unready,
            addresses=lambda: self.addresses,
            routes=self._routes(),
            push_bytes=config.bundles.bundle_bytes + MAX_STATEMENT_BYTES,
        )
        self._http = HttpServer(config.control.http, app, config.control.tls, client_ca=config.tokens.client_ca)
        self._is_serving = False
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="readiness", daemon=True)

    @property
    def addresses(self) -> dict[str, str]:
        """Where the listeners are, with the ports that were given."""
        return {"http": self._http.url, **{name: server.address for name, server in self._servers.items()}}

    @property
    def database_url(self) -> str:
        """The database, without a password."""
        return self._database.url

    def start(self) -> None:
        """Begin to answer. Health says so by the time this returns."""
        for source in self._issuers:
            source.start()
        for task in self._tasks:
            task.start()
        for server in self._servers.values():
            server.start()
        self._http.start()
        self._say_health()
        secret_file.replace(self.state / "control.json", json.dumps(self.addresses).encode())
        self._ticker.start()

    def unready(self) -> dict[str, str]:
        """Why calls would all be refused, by part; empty when ready."""
        waiting: dict[str, str] = {}
        if self._stop.is_set():
            waiting["service"] = "stopping"
        try:
            self._database.check()
        except UnavailableError as error:
            waiting["database"] = error.reason.code
        return waiting

    def stop(self) -> None:
        """Drain and end: NOT_SERVING first, calls in flight finish, then what they needed goes."""
        self._stop.set()
        self._dispatcher.stop()
        stopping = [threading.Thread(target=self._http.stop)]
        grace_s = self._config.control.drain_s
        stopping += [threading.Thread(target=server.stop, args=(grace_s,)) for server in self._servers.values()]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        for task in reversed(self._tasks):
            task.stop()
        for source in self._issuers:
            source.close()
        self._ticker.join()
        self._database.close()

    def _dispatch(self) -> Dispatcher:
        dispatcher = Dispatcher(
            self._authentication, self._actions, self._clock, new_id=random_id, observe=self.metrics.observe
        )
        for name, service in self._services().items():
            dispatcher.add(name, service)
        return dispatcher

    def _services(self) -> dict[str, object]:
        """Every service of the API, by its name in `authz.control.v1`."""
        return {
            "Agents": self._tokens.agents,
            "Bundles": BundlesService(
                self._registry,
                self._pins(),
                self._clock,
                make_delta=partial(make_aside, most_bytes=self._config.bundles.bundle_bytes),
            ),
            "Keys": self._tokens.keys,
            "Kills": self._kills_service(),
            "Operators": OperatorsService(self._operators, self._actions, self._clock, secrets.token_bytes),
            "Replication": ReplicationService(
                self._members,
                self._database,
                self._ledger,
                self._stream_keys,
                self._reports,
                Bundles(self._registry, self._bundle_reports),
                rollouts=self._rollouts,
                published=lambda: (self._tokens.issuer, self._tokens.key_set()),
            ),
            "Rollouts": RolloutsService(
                self._database, self._rollouts.book, self._rollout_judge, new_id=random_hex, new_salt=random_hex
            ),
            "Sidecars": SidecarsService(
                self._members, self._sidecars, self._reports.by_sidecar, self._bundle_reports.of
            ),
        }

    def _pins(self) -> Trust | None:
        """Whose bundles are taken."""
        trust = self._config.bundles.trust
        if trust is None:
            return None
        return replace(pinned(trust, engine="", input_fields=None), bounds=bounds(self._config.bundles.bundle_bytes))

    def _kills_service(self) -> KillsService:
        stores = Stores(database=self._database, ledger=self._ledger, book=self._kills, reports=self._reports)
        return KillsService(
            stores,
            self._guard,
            hit=KillReach(self._tokens.registry).hit,
            followers=lambda stream: [sidecar.id for sidecar in self._sidecars.following(stream)],
            clock=self._clock,
            new_id=random_hex,
        )

    def _alive(self, connection: Connection, scope: str) -> set[str]:
        """Sidecars that follow a scope and were heard lately."""
        heard = self._reports.heard(connection)
        return {sidecar.id for sidecar in self._sidecars.following(scope) if sidecar.id in heard}

    def _in_use(self) -> frozenset[str]:
        """Archives that sidecars have, or that a rollout names."""
        with self._database.read() as connection:
            heads = self._rollouts.book.heads(connection)
        return self._bundle_reports.in_use() | {digest for head in heads for digest in (head.baseline, head.candidate)}

    def _rollout_keeper(self) -> RolloutKeeper:
        lease = Lease(self._database, "rollouts", self._instance, clock=self._clock, life_s=ROLLOUTS_LEASE_S)
        return RolloutKeeper(
            self._database, self._rollouts.book, self._rollouts.reports, self._rollout_judge, Election(lease)
        )

    def _publication(self) -> list[Reading]:
        """How the fast path fares, for a scrape."""
        try:
            with self._database.read() as connection:
                state = publication_sql.read(connection).state
        except UnavailableError:
            return []
        return [Reading(names.KILL_PUBLICATION, float(each is state), (each.value,)) for each in PublicationState]

    def _publisher(self) -> Publisher | None:
        """What carries kills to Redis.

        Raises:
            ConfigError: Redis may drop them (E4). One that does not answer now is waited for.
        """
        if not self._config.control.redis:
            publication_sql.write(self._database, PublicationState.NONE)  # whatever an earlier configuration left
            return None
        writer = RedisWriter(self._config.control.redis)
        try:
            writer.require_no_eviction()
        except PublicationError as error:
            if error.state is PublicationState.REFUSED:
                raise ConfigError(str(error), remedy="set maxmemory-policy noeviction, or give no Redis") from None
            log.warning("%s; kills reach sidecars by their pulls until it answers", error)
        lease = Lease(self._database, "kills-publisher", self._instance, clock=self._clock, life_s=PUBLISHER_LEASE_S)
        sources = Sources(database=self._database, ledger=self._ledger, keys=self._stream_keys)
        return Publisher(sources, writer, Election(lease), clock=self._clock)

    def _routes(self) -> list[Route]:
        """HTTP endpoints that are no calls of the API."""
        bundles = BundleApp(self._dispatcher, self._registry, self._clock)
        return [*self._tokens.routes(self._authentication, self._actions, self.metrics.observe), *bundles.routes()]

    def _made_tasks(self) -> list[Task]:
        """What runs beside the calls, in the order of its start."""
        keeper = self._tokens.keeper(self._clock, self._instance)
        lease = Lease(self._database, "bundle-collector", self._instance, clock=self._clock, life_s=COLLECTOR_LEASE_S)
        collector = BundleCollector(self._registry, lease, keep=self._config.bundles.keep, in_use=self._in_use)
        tasks = (self._accounts, self._publisher(), keeper, collector, self._rollout_keeper())
        return [task for task in tasks if task is not None]

    def _listen(self) -> dict[str, GrpcServer]:
        control, operators = self._config.control, self._config.operators
        client_roots = operators.client_ca.read_bytes() if operators.client_ca else b""
        certificate = ListenerCertificate(self._authorities, self._clock, client_roots)
        return {
            "grpc": GrpcServer(control.grpc, self._dispatcher, self._operators_tls()),
            "replication": GrpcServer(control.replication, self._dispatcher, certificate.credentials()),
        }

    def _token_issuer(self) -> TokenIssuer:
        return TokenIssuer(
            self._database,
            self._config.tokens,
            ledger=self._ledger,
            book=self._kills,
            sealer=self._sealer,
            address=lambda: self._http.url,
        )

    def _membership(self) -> Members:
        control = self._config.control
        return Members(
            self._sidecars,
            self._authorities,
            accounts=self._accounts,
            redis_url=control.sidecars_redis or without_credentials(control.redis),
            replication=lambda: control.replication_address or self._servers["replication"].address,
            random=secrets.token_bytes,
            begin=self._begin,
        )

    def _begin(self, streams: Collection[str]) -> None:
        """Open streams of which nothing was said yet: one without a head has no heartbeat."""
        if streams:
            with self._database.write() as connection:
                for stream in sorted({*streams}):
                    self._ledger.open(connection, stream)

    def _operators_tls(self) -> grpc.ServerCredentials | None:
        tls = self._config.control.tls
        if tls is None:
            return None
        return server_credentials(secret_file.load(tls.key, size_bytes=1), tls.certificate.read_bytes())

    def _operator_tokens(self) -> OperatorTokens | None:
        if not self._issuers:
            return None
        issuers = zip(self._config.operators.issuers, self._issuers, strict=True)
        trusted = [TrustedIssuer(issuer=issuer, keys=keys) for issuer, keys in issuers]
        return OperatorTokens(trusted, clock=ClockGuard(self._clock))

    def _bootstrap(self) -> str | None:
        """The first admin's credential, also kept in the state folder for the command line there."""
        credential = first_credential(self._database, secrets.token_bytes, self._config.operators.bootstrap_s)
        if credential is not None:
            secret_file.replace(self.state / "operator", f"{credential}\n".encode())
        return credential

    def _tick(self) -> None:
        while not self._stop.wait(TICK_S):
            self._say_health()

    def _say_health(self) -> None:
        """Health follows readiness."""
        waiting = self.unready()
        if self._is_serving == (not waiting):
            return
        self._is_serving = not waiting
        log.log(logging.WARNING if waiting else logging.INFO, f"not ready: {waiting}" if waiting else "ready")
        for server in self._servers.values():
            server.set_serving(self._is_serving)


def _guard(control: Listeners) -> Guard:
    return Guard(share=control.guard_share, adds_up=control.guard_adds_up, window_s=control.guard_window_s)


def _quota(control: Listeners) -> Quota:
    return Quota(per_operator=control.kills_per_minute, per_tenant=control.tenant_kills_per_minute)
