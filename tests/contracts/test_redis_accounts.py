"""What a sidecar's account at a real Valkey may do, and that accounts follow the list of sidecars (E8, E13)."""

from __future__ import annotations

import hashlib
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import redis

from authz.control.redis_accounts import RedisAccounts, username
from authz.control.sidecars_sql import Sidecar
from authz.proxy.valkey import Valkey
from authz.revocation.redis_streams import entries_key, heartbeat_key
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "of-a-sidecar"


def sidecar(identity: str, *tenants: str) -> Sidecar:
    return Sidecar(
        id=identity,
        tenants=tenants,
        enrolled_at_ns=0,
        certificate_expires_at_ns=0,
        redis_password_sha256=hashlib.sha256(PASSWORD.encode()).hexdigest(),
        removed_at_ns=None,
    )


@contextmanager
def serving(valkey: Valkey) -> Iterator[None]:
    valkey.prepare()
    with (valkey.folder / "log").open("ab") as log, subprocess.Popen(valkey.command, stdout=log) as process:
        try:
            eventually(lambda: answers(valkey.url))
            yield
        finally:
            process.terminate()


def answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with TemporaryDirectory(dir="/tmp") as folder:
        valkey = Valkey(folder=Path(folder) / "valkey", socket=Path(folder) / "valkey.sock")
        with serving(valkey):
            yield valkey


@pytest.fixture
def control(valkey: Valkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url) as client:
        yield client
        client.delete(*(client.keys("authz:*") or ["authz:none"]))


class Present(list[Sidecar]):
    """The list of sidecars, which a test changes."""

    def __call__(self) -> list[Sidecar]:
        return self


@contextmanager
def client(valkey: Valkey, name: str, password: str = PASSWORD) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(valkey.socket), username=name, password=password) as connected:
        yield connected


def ask(connected: redis.Redis, *words: str) -> None:
    connected.execute_command(*words)  # type: ignore[no-untyped-call]


@contextmanager
def reader(valkey: Valkey, *tenants: str) -> Iterator[redis.Redis]:
    """The connection of a sidecar that has just joined."""
    RedisAccounts(valkey.url, Present([sidecar("a", *tenants)])).reconcile()
    with client(valkey, username("a")) as connected:
        yield connected


def test_e8_a_sidecar_reads_its_tenants_and_the_platform(valkey: Valkey, control: redis.Redis) -> None:
    with reader(valkey, "acme", "a/b*{}") as connected:
        for stream in ("", "acme", "a/b*{}"):
            for key in (entries_key(stream), heartbeat_key(stream)):
                control.xadd(key, {"b": "1"}, id="1-1")
                assert len(connected.xread({key: "0"})) == 1


@pytest.mark.parametrize("stream", ["globex", "acme2", "acm", "Acme", "a", "*", "acme%2F", "acme}:entries"])
def test_e8_another_tenants_streams_are_noperm(valkey: Valkey, control: redis.Redis, stream: str) -> None:
    with reader(valkey, "acme", "a*") as connected:
        for key in (entries_key(stream), heartbeat_key(stream)):
            control.xadd(key, {"b": "1"}, id="1-1")
            with pytest.raises(redis.exceptions.NoPermissionError):
                connected.xread({key: "0"})
            with pytest.raises(redis.exceptions.NoPermissionError):
                connected.xread({entries_key("acme"): "0", key: "0"})


WRITES: list[tuple[str, ...]] = [
    ("XADD", "KEY", "*", "b", "1"),
    ("XTRIM", "KEY", "MAXLEN", "0"),
    ("XDEL", "KEY", "1-1"),
    ("XSETID", "KEY", "9-9"),
    ("XGROUP", "CREATE", "KEY", "g", "$"),
    ("DEL", "KEY"),
    ("UNLINK", "KEY"),
    ("EXPIRE", "KEY", "1"),
    ("RENAME", "KEY", "x"),
    ("COPY", "KEY", "x"),
    ("SET", "KEY", "1"),
    ("RESTORE", "KEY", "0", ""),
    ("MIGRATE", "127.0.0.1", "1", "KEY", "0", "1"),
    ("PUBLISH", "c", "m"),
    ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'b', '1')", "1", "KEY"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", "0", "1"),
    ("ACL", "SETUSER", "x"),
    ("ACL", "LIST"),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("CONFIG", "GET", "*"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("MONITOR",),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "LIST"),
    ("REPLICAOF", "NO", "ONE"),
    ("SHUTDOWN",),
    ("SAVE",),
]


@pytest.mark.parametrize("command", WRITES, ids=lambda command: " ".join(command[:2]))
@pytest.mark.parametrize("stream", ["", "acme"])
def test_e8_every_write_and_every_look_around_is_noperm(
    valkey: Valkey, control: redis.Redis, command: tuple[str, ...], stream: str
) -> None:
    key = entries_key(stream)
    control.xadd(key, {"b": "1"}, id="1-1")
    with reader(valkey, "acme") as connected:
        with pytest.raises((redis.exceptions.NoPermissionError, redis.exceptions.ResponseError)) as refused:
            ask(connected, *(key if word == "KEY" else word for word in command))
        assert "permission" in str(refused.value).lower()
    assert control.xinfo_stream(key)["last-generated-id"] == b"1-1"


def test_one_that_follows_every_tenant_reads_them_all_and_nothing_else(valkey: Valkey, control: redis.Redis) -> None:
    with reader(valkey) as connected:
        for stream in ("", "acme", "globex"):
            control.xadd(entries_key(stream), {"b": "1"}, id="1-1")
            assert connected.xread({entries_key(stream): "0"})
        control.set("authz:other", "1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            connected.get("authz:other")
        with pytest.raises(redis.exceptions.NoPermissionError):
            connected.xadd(entries_key("acme"), {"b": "1"})


def test_nobody_gets_in_without_an_account(valkey: Valkey) -> None:
    with redis.Redis(unix_socket_path=str(valkey.socket)) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    for name, password in (("default", ""), ("control", "x"), (username("a"), "x")):
        with client(valkey, name, password) as guessing, pytest.raises(redis.AuthenticationError):
            guessing.ping()


def test_a_removed_sidecars_connection_is_cut_and_it_gets_in_no_more(valkey: Valkey, control: redis.Redis) -> None:
    present = Present([sidecar("a", "acme"), sidecar("b", "acme")])
    accounts = RedisAccounts(valkey.url, present)
    accounts.reconcile()
    with client(valkey, username("a")) as removed, client(valkey, username("b")) as other:
        assert removed.ping()
        assert other.ping()
        del present[0]
        accounts.reconcile()
        with pytest.raises((redis.AuthenticationError, redis.ConnectionError)):
            removed.ping()
        assert other.ping()
    assert username("a").encode() not in control.acl_users()


def test_e13_accounts_that_redis_forgot_are_made_again(valkey: Valkey, control: redis.Redis) -> None:
    accounts = RedisAccounts(valkey.url, Present([sidecar("a", "acme")]))
    accounts.reconcile()
    control.acl_deluser(username("a"))
    accounts.reconcile()
    with client(valkey, username("a")) as connected:
        assert connected.ping()


def test_an_account_that_was_widened_is_narrowed_at_the_next_start(valkey: Valkey, control: redis.Redis) -> None:
    with reader(valkey, "acme"):
        ask(control, "ACL SETUSER", username("a"), "+@all", "~*")
    with reader(valkey, "acme") as connected, pytest.raises(redis.exceptions.NoPermissionError):
        connected.xadd(entries_key("acme"), {"b": "1"})


def test_accounts_and_streams_outlive_a_sigkill() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        valkey = Valkey(folder=Path(folder) / "valkey", socket=Path(folder) / "valkey.sock")
        valkey.prepare()
        process = subprocess.Popen(valkey.command, stdout=subprocess.DEVNULL)
        try:
            eventually(lambda: answers(valkey.url))
            with reader(valkey, "acme"), redis.Redis.from_url(valkey.url) as control:
                control.xadd(entries_key("acme"), {"b": "1"}, id="1-1")
        finally:
            process.kill()
            process.wait()
        with serving(valkey), client(valkey, username("a")) as connected:
            assert connected.xread({entries_key("acme"): "0"})


def test_redis_that_is_away_stops_nothing(tmp_path: Path) -> None:
    RedisAccounts(f"unix://{tmp_path / 'none.sock'}", Present([sidecar("a")])).follow()


def test_no_secret_lies_open(valkey: Valkey) -> None:
    assert valkey.folder.stat().st_mode & 0o077 == 0
    password = valkey.url.split(":")[2].partition("@")[0]
    assert password not in " ".join(valkey.command)
    assert password not in (valkey.folder / "users.acl").read_text()
    assert PASSWORD not in (valkey.folder / "users.acl").read_text()
