"""A real Valkey between the ledger and a sidecar, broken in every way: what is killed stays killed, and age tells."""

from __future__ import annotations

import dataclasses
import itertools
import socketserver
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from authz.clock import SystemClock
from authz.errors import UnavailableError
from authz.model import Principal, Risk
from authz.revocation import redis_streams
from authz.revocation.follower import Follower
from authz.revocation.freshness import FRESH_S
from authz.revocation.pull import Pull
from authz.revocation.redis_reader import RedisReader
from tests.e2e.stack import eventually
from tests.replication import STRANGER, SignedLedger, add, beat, beating, both, replication

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.redis_servers import RedisServer
    from tests.replication import ReplicationServer

PRINCIPAL = Principal(issuer="i", tenant="acme", agent="agent-1", subject="a", jti_sha256="ab" * 32)


class Sidecar:
    """What a sidecar knows of two streams, and the threads that bring it."""

    def __init__(self, folder: Path, url: str, **options: Any) -> None:
        self.clock = SystemClock()
        self.follower = Follower(folder, self.clock)
        self.reader = RedisReader(self.follower, self.clock, url, **options)
        self.pull: Pull | None = None
        self.channel: grpc.Channel | None = None

    def join(self, *ledgers: SignedLedger) -> None:
        for ledger in ledgers:
            self.follower.trust(ledger.stream, ledger.keys)
            self.follower.take_snapshot(ledger.stream, *ledger.snapshot())

    def ask(self, server: ReplicationServer) -> None:
        """Begin to pull from the control plane too."""
        channel = self.channel = grpc.insecure_channel(server.address)
        self.pull = Pull(self.follower, lambda: channel, self.clock, version="test")
        self.pull.start()

    def killed(self, agent: str = "agent-1") -> bool:
        return self.follower.covering(dataclasses.replace(PRINCIPAL, agent=agent), None) is not None

    def fresh(self) -> bool:
        return self.follower.oldest_s() <= FRESH_S

    def writes(self) -> str:
        try:
            self.follower.admit(PRINCIPAL, Risk.WRITE)
        except UnavailableError as error:
            return error.reason.code
        return "served"

    def stop(self) -> None:
        self.reader.stop()
        if self.pull is not None and self.channel is not None:
            self.pull.stop()
            self.channel.close()
        self.follower.close()


@contextmanager
def sidecar(folder: Path, url: str, **options: Any) -> Iterator[Sidecar]:
    begun = Sidecar(folder, url, **options)
    begun.reader.start()
    try:
        yield begun
    finally:
        begun.stop()


@pytest.fixture
def ledgers() -> tuple[SignedLedger, SignedLedger]:
    return both()


def test_a_kill_arrives_through_redis(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    with sidecar(tmp_path, redis_server.url) as running, beating(redis_server.client, *ledgers):
        running.join(*ledgers)
        eventually(running.fresh)
        kill = ledgers[1].kill("agent", "agent-1")
        add(redis_server.client, ledgers[1])
        eventually(running.killed)
        ledgers[1].lift(kill)
        add(redis_server.client, ledgers[1])
        eventually(lambda: not running.killed())
        ledgers[0].kill("global")
        add(redis_server.client, ledgers[0])
        eventually(running.killed)


def test_e2_a_frozen_redis_is_known_and_recovers_by_itself(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    with sidecar(tmp_path, redis_server.url) as running, beating(redis_server.client, *ledgers):
        running.join(*ledgers)
        eventually(running.fresh)
        ledgers[1].kill("agent", "agent-1")
        add(redis_server.client, ledgers[1])
        eventually(running.killed)
        redis_server.freeze()
        eventually(lambda: running.writes() == "KILL_STALE")
        assert running.killed()
        redis_server.thaw()
        eventually(lambda: running.writes() == "served")
        ledgers[1].kill("agent", "agent-2")
        add(redis_server.client, ledgers[1])
        eventually(lambda: running.killed("agent-2"))


def test_e2_while_redis_is_frozen_the_control_plane_is_asked_itself(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    with (
        replication(*ledgers) as control,
        sidecar(tmp_path, redis_server.url) as running,
    ):
        running.ask(control)
        eventually(running.fresh)
        redis_server.freeze()
        ledgers[1].kill("agent", "agent-1")
        eventually(running.killed)
        assert running.fresh()
        eventually(
            lambda: any(
                each.sequence == ledgers[1].sequence
                for report in control.reports
                for each in report.applied
                if each.stream == "acme"
            )
        )
        control.is_down = True
        eventually(lambda: running.writes() == "KILL_STALE")
        assert running.killed()
        control.is_down = False
        eventually(running.fresh)


def test_e6_a_stream_trimmed_past_its_reader_is_refilled(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    first = Sidecar(tmp_path, redis_server.url)
    first.join(*ledgers)
    first.follower.close()
    for number in range(5):
        ledgers[1].kill("agent", f"agent-{number}")
        add(client, ledgers[1])
    client.xtrim(redis_streams.entries_key("acme"), maxlen=1, approximate=False)
    with sidecar(tmp_path, redis_server.url) as running, beating(client, *ledgers):
        running.follower.recall()
        eventually(lambda: running.follower.needs("acme") == "entries")
        assert running.writes() == "KILL_STALE"
        assert not running.killed("agent-4")  # nothing is skipped
        with replication(*ledgers) as control:
            running.ask(control)
            eventually(running.fresh)
            assert all(running.killed(f"agent-{number}") for number in range(5))


def test_e7_a_redis_that_was_flushed_frees_nobody_and_is_read_on(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    with sidecar(tmp_path, redis_server.url) as running, beating(client, *ledgers):
        running.join(*ledgers)
        ledgers[1].kill("agent", "agent-1")
        add(client, ledgers[1])
        eventually(running.killed)
        client.flushall()
        assert running.killed()
        ledgers[1].kill("agent", "agent-2")
        add(client, ledgers[1], first=2)  # the publisher puts back what is missing
        eventually(lambda: running.killed("agent-2"))
        eventually(running.fresh)
        assert running.killed()


def test_e7_an_old_redis_is_alarmed_and_frees_nobody(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    yesterday = SignedLedger(entries=list(ledgers[1].entries))
    ledgers[1].kill("agent", "agent-1")
    with sidecar(tmp_path, redis_server.url) as running:
        running.join(*ledgers)
        assert running.killed()
        with beating(client, ledgers[0], yesterday):
            eventually(lambda: running.follower.alarms() == {"acme": "KILL_EPOCH_REGRESS"})
            assert running.killed()
            assert running.writes() == "KILL_STALE"


def test_e8_what_another_user_of_redis_writes_kills_and_frees_nobody(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    with sidecar(tmp_path, redis_server.url) as running:
        running.join(*ledgers)
        kill = ledgers[1].kill("agent", "agent-1")
        add(client, ledgers[1])
        eventually(running.killed)
        forger = SignedLedger(key=STRANGER, entries=list(ledgers[1].entries))
        forger.lift(kill)
        add(client, forger)
        forger.kill("agent", "agent-2")
        add(client, forger)
        client.xadd(redis_streams.entries_key("acme"), {"b": b"", "x": b"\xff"}, id="1-99")
        beat(client, forger)
        eventually(lambda: running.follower.counted["KILL_FORGED"] >= 4)
        assert running.killed()
        assert not running.killed("agent-2")
        assert running.writes() == "KILL_STALE"


def test_e8_a_forged_entry_that_takes_the_next_place_only_makes_a_gap(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    with sidecar(tmp_path, redis_server.url) as running, replication(*ledgers) as control:
        running.ask(control)
        eventually(running.fresh)
        client.xadd(redis_streams.entries_key("acme"), {"b": b"x"}, id="9-9")  # none of ours can be added after it
        ledgers[1].kill("agent", "agent-1")
        with pytest.raises(redis.ResponseError):
            add(client, ledgers[1])
        eventually(running.killed)


def test_e11_replays_duplicates_and_disorder_converge(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client, acme = redis_server.client, ledgers[1]
    key = redis_streams.entries_key("acme")
    with sidecar(tmp_path, redis_server.url) as running:
        running.join(*ledgers)
        kill = acme.kill("agent", "agent-1")
        killing = acme.batch()
        acme.lift(kill)
        lifting = acme.batch()
        acme.kill("agent", "agent-2")
        last = acme.batch()
        for number, signed in enumerate((killing, killing, lifting, killing, lifting, last, killing)):
            client.xadd(key, redis_streams.fields(signed), id=f"1-{100 + number}")
        eventually(lambda: running.killed("agent-2"))
        assert not running.killed()
        assert running.follower.position("acme") == (1, acme.sequence)


def test_e13_whatever_the_link_does_the_reader_lives_and_comes_back(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    with sidecar(tmp_path, redis_server.url) as running, beating(client, *ledgers):
        running.join(*ledgers)
        eventually(running.fresh)
        for connection in client.client_list():  # as a server does with a consumer that is too slow
            if connection["cmd"] == "xread":
                client.client_kill_filter(_id=connection["id"])
        eventually(lambda: running.reader.failures == 1)
        eventually(lambda: not running.reader.last_error)
        redis_server.kill()
        eventually(lambda: running.reader.failures > 1)
        redis_server.start()
        for ledger in ledgers:
            ledger.kill("tool", "default/pay")
            add(client, ledger)
        eventually(running.fresh)


def test_e13_refused_credentials_and_rights_are_tried_again(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    # `beating` goes on as the default user.
    with (
        sidecar(tmp_path, redis_server.url, username="sidecar", password="s3cret") as running,
        beating(client, *ledgers),
    ):
        running.join(*ledgers)
        eventually(lambda: running.reader.last_error == "AuthenticationError")
        client.acl_setuser("sidecar", enabled=True, passwords=["+s3cret"], commands=["+xread"], keys=["~other"])
        eventually(lambda: running.reader.last_error == "NoPermissionError")
        assert running.writes() == "KILL_STALE"
        patterns = ["%R~authz:{kills:}:*", "%R~authz:{kills:acme}:*"]
        client.execute_command("ACL", "SETUSER", "sidecar", "resetkeys", *patterns)
        eventually(running.fresh)


class Loading(socketserver.StreamRequestHandler):
    """Says what a real server says for as long as its data takes to load: too short to be caught with little data."""

    def handle(self) -> None:
        while self.rfile.readline():
            self.wfile.write(b"-LOADING Redis is loading the dataset in memory\r\n")


def test_e13_a_server_that_is_still_loading_is_waited_for(
    tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Loading)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with sidecar(tmp_path, f"redis://127.0.0.1:{server.server_address[1]}") as running:
            running.join(*ledgers)
            eventually(lambda: running.reader.failures > 2)
            assert running.reader.last_error == "BusyLoadingError"
            assert running.writes() == "KILL_STALE"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Babbling(socketserver.StreamRequestHandler):
    """Takes every command, and answers XREAD with what no server answers."""

    ANSWERS = itertools.cycle([b":5\r\n", b"*1\r\n:7\r\n", b"*1\r\n*2\r\n$1\r\nx\r\n*0\r\n", b"\x00\xff\r\n"])

    def handle(self) -> None:
        while line := self.rfile.readline():
            if line.strip().lower() == b"xread":
                self.wfile.write(next(self.ANSWERS))
            elif line.strip().lower() in (b"setinfo", b"ping", b"select"):
                self.wfile.write(b"+OK\r\n")


def test_e13_a_server_that_answers_nonsense_ends_no_thread(
    tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Babbling)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with sidecar(tmp_path, f"redis://127.0.0.1:{server.server_address[1]}") as running:
            running.join(*ledgers)
            eventually(lambda: running.reader.failures > 4)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_e8_what_is_not_ours_makes_a_reader_wait_and_not_spin(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    client.xadd(redis_streams.entries_key("acme"), {b"b": b"{}", b"s": b"x" * 64, b"k": b"kid"}, id="1-2")
    with sidecar(tmp_path, redis_server.url) as running, beating(client, *ledgers):
        running.join(*ledgers)
        eventually(lambda: running.follower.counted["KILL_FORGED"])
        before = running.follower.counted["KILL_FORGED"], client.info("commandstats")["cmdstat_xadd"]["calls"]
        eventually(
            lambda: client.info("commandstats")["cmdstat_xadd"]["calls"] >= before[1] + 20
        )  # ten rounds of 0.1 s
        assert running.follower.counted["KILL_FORGED"] - before[0] < 100
        assert running.fresh()


def test_a_stream_that_the_control_plane_refuses_keeps_no_other_from_being_pulled(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    redis_server.kill()
    gone = SignedLedger("a-former-tenant")
    with replication(*ledgers, gone) as server, sidecar(tmp_path, redis_server.url) as running:
        running.join(gone, *ledgers)
        server.refused = gone.stream
        running.ask(server)
        ledgers[1].kill("agent", "agent-1")
        eventually(running.killed)
        eventually(lambda: max(map(running.follower.age_s, ("", "acme"))) <= FRESH_S)
        assert running.pull is not None
        assert running.pull.failures


def test_a_control_plane_that_answers_nonsense_ends_no_thread(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    redis_server.kill()
    with replication(*ledgers) as server, sidecar(tmp_path, redis_server.url) as running:
        server.key_bytes = 5
        running.ask(server)
        eventually(lambda: running.pull is not None and running.pull.failures > 1)
        server.key_bytes = 32
        eventually(running.fresh)


def test_e7_heartbeats_of_a_redis_whose_ids_begin_anew_are_heard(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    client = redis_server.client
    with sidecar(tmp_path, redis_server.url) as running:
        running.join(*ledgers)
        for ledger in ledgers:  # of a server whose clock stood far ahead
            fields = redis_streams.fields(ledger.heartbeat())
            client.xadd(redis_streams.heartbeat_key(ledger.stream), fields, id=f"{10**15}-0")
        eventually(running.fresh)
        client.flushall()
        with beating(client, *ledgers):
            eventually(lambda: running.follower.oldest_s() > 0.9)
            eventually(lambda: not any(running.follower.is_silent(stream) for stream in running.follower.streams))
            assert running.fresh()


@pytest.mark.parametrize(
    ("days", "is_known", "ends_in"),
    [(-1, True, "ConnectionError"), (1, False, "ConnectionError"), (1, True, "BusyLoadingError")],
    ids=["expired", "of another authority", "good"],
)
def test_e13_a_certificate_that_is_not_to_be_trusted_is_not_spoken_to(
    tmp_path: Path,
    ledgers: tuple[SignedLedger, SignedLedger],
    days: int,
    is_known: bool,  # noqa: FBT001
    ends_in: str,
) -> None:
    key = tmp_path / "server.pem"
    key.write_bytes(self_signed(days))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(key)
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Loading, bind_and_activate=False)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = True
    server.server_bind()
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    roots = {"roots": key} if is_known else {}
    try:
        with sidecar(tmp_path, f"rediss://localhost:{server.server_address[1]}", **roots) as running:
            running.join(*ledgers)
            eventually(lambda: running.reader.failures > 2)
            assert running.reader.last_error == ends_in
            assert running.writes() == "KILL_STALE"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def self_signed(days: int) -> bytes:
    """Key and certificate of `localhost` that end in so many days."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    ends = datetime.now(UTC) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - timedelta(days=10))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def test_e14_a_restart_without_any_network_serves_no_killed_scope(
    redis_server: RedisServer, tmp_path: Path, ledgers: tuple[SignedLedger, SignedLedger]
) -> None:
    with sidecar(tmp_path, redis_server.url) as running, beating(redis_server.client, *ledgers):
        running.join(*ledgers)
        ledgers[1].kill("agent", "agent-1")
        add(redis_server.client, ledgers[1])
        eventually(running.killed)
        eventually(running.fresh)
    redis_server.kill()
    with sidecar(tmp_path, redis_server.url) as again:
        again.follower.recall()
        assert again.killed()
        assert again.follower.admit(PRINCIPAL, Risk.READ)
        assert again.writes() == "KILL_STALE"
