"""What strangers and broken peers can do to the transport: nothing that other callers notice (A19, A21, K3)."""

from __future__ import annotations

import os
import resource
import socket
import stat
import struct
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from authz.native import Library, NativeError, Program, ServerOptions
from tests.e2e.native_program import FALLBACK, Streams
from tests.e2e.native_service import CHECK, NativeService

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.native import Reply

pytestmark = pytest.mark.e2e

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_HEADERS = 4
NO_ERROR, CANCEL = struct.pack(">I", 0), struct.pack(">I", 8)


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(stream: int) -> bytes:
    """A call's headers as literals without indexing (RFC 7541, section 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": CHECK,
        ":authority": "a",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(
        bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields.items()
    )
    return frame(HEADERS, stream, block, END_HEADERS)


def connect(service: NativeService) -> socket.socket:
    host, port = service.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side closes within a time; what it sends before is read away."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    return True


@pytest.fixture
def service(tmp_path: Path) -> Iterator[NativeService]:
    with NativeService(tmp_path, handshake_s=0.5, max_connections=20_000, deadline_s=1.0) as running:
        running.check(b"allow")
        yield running


def test_a_message_over_the_limit_is_refused_by_the_transport_and_others_are_served(service: NativeService) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        service.check(b"x" * (24 << 20))
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert service.check(b"allow") == "allow"


def test_a20_a_large_message_within_the_limit_is_judged(service: NativeService) -> None:
    assert service.check(b"allow:" + b"x" * (7 << 20)) == "allow"


def test_a_connection_that_never_becomes_one_is_closed(service: NativeService) -> None:
    with connect(service) as silent, connect(service) as slow:
        slow.sendall(PREFACE[:10])
        assert service.check(b"allow") == "allow"
        assert closed(silent, 5.0)
        assert closed(slow, 5.0)


def test_a_message_that_trickles_in_is_cut_at_the_deadline(service: NativeService) -> None:
    with connect(service) as slow:
        slow.sendall(PREFACE + frame(SETTINGS, 0) + headers(1) + frame(DATA, 1, b"\0\0\0\0\x40partial"))
        assert service.check(b"allow") == "allow"
        slow.settimeout(10.0)
        received = b""
        while frame(RST_STREAM, 1, NO_ERROR) not in received:
            received += slow.recv(4096)
    stats = service.stop()
    assert (stats["incomplete"], stats["drained"]) == (1, True)
    assert service.answers() == ["allow", "allow"]


def test_a19_streams_that_are_reset_at_once_hurt_nobody(service: NativeService) -> None:
    before = resident(service)
    with ExitStack() as stack:
        flood = [stack.enter_context(connect(service)) for _ in range(2)]
        for connection in flood:
            connection.sendall(PREFACE + frame(SETTINGS, 0))
        for first in range(1, 20_000, 200):
            streams = range(first, first + 200, 2)
            burst = b"".join(headers(stream) + frame(RST_STREAM, stream, CANCEL) for stream in streams)
            for connection in flood:
                connection.sendall(burst)
            assert service.check(b"allow", timeout=2.0) == "allow"
        assert resident(service) - before < 64 << 20
    assert service.stop()["incomplete"] > 1000


def resident(service: NativeService) -> int:
    statistics = Path(f"/proc/{service.process.pid}/statm").read_text(encoding="ascii")
    return int(statistics.split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_k3_ten_thousand_idle_connections_leave_others_served(service: NativeService) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_500:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (10_500, hard))
    try:
        with ExitStack() as stack:
            for _ in range(10_000):
                idle = stack.enter_context(connect(service))
                idle.sendall(PREFACE + frame(SETTINGS, 0))
            began = time.monotonic()
            assert [service.check(b"allow") for _ in range(20)] == ["allow"] * 20
            assert time.monotonic() - began < 5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_over_the_limit_are_closed_and_the_others_served(tmp_path: Path) -> None:
    with NativeService(tmp_path, max_connections=3) as service:
        assert service.check(b"allow") == "allow"
        with connect(service), connect(service), connect(service) as refused:
            assert closed(refused, 5.0)
            assert service.check(b"allow") == "allow"
        assert service.stop()["connections_refused"] >= 1


@pytest.mark.parametrize(
    "garbage", [b"\0" * 4096, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 64, PREFACE + b"\xff" * 900]
)
def test_a21_random_bytes_hurt_nobody(service: NativeService, garbage: bytes) -> None:
    with connect(service) as stranger:
        stranger.sendall(garbage)
        assert closed(stranger, 5.0)
    assert service.check(b"allow") == "allow"


def test_a21_a_socket_is_never_open_to_other_users(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with NativeService(tmp_path, listen=f"unix://{path}", socket_mode=0o600) as service:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert service.check(b"allow") == "allow"
        assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".authz-")] == []
        service.stop()
        assert not path.exists()


def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (first := tmp_path / "first").mkdir()
    (second := tmp_path / "second").mkdir()
    with NativeService(first, listen=f"unix://{path}") as killed:
        killed.process.kill()
        killed.process.wait(10)
    assert path.exists()
    with NativeService(second, listen=f"unix://{path}") as service:
        assert service.check(b"allow") == "allow"
        service.stop()
    assert not path.exists()


def test_a_live_socket_is_not_taken_over(tmp_path: Path) -> None:
    library = Library.load()
    refused = ServerOptions(fallback=FALLBACK, stream_fallback=FALLBACK, listen=f"unix://{tmp_path / 's'}")
    with NativeService(tmp_path, listen=refused.listen) as service:
        with pytest.raises(NativeError, match="another server is listening"):
            library.serve(refused, Program(check=never, refuse=never, streams=Streams()))
        assert service.check(b"allow") == "allow"


def never(*_: object) -> Reply:
    raise AssertionError
