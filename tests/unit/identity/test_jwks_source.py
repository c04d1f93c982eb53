from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import urllib3

from authz.config import Issuer, Limits
from authz.errors import ConfigError
from authz.identity.jwks_source import FILE_TIMING, JwksFile, JwksSource, JwksTiming, JwksUrl, open_jwks
from authz.reasons import JWKS_UNAVAILABLE
from tests.identity_fakes import SteppingClock, document, reason_of, signing_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE = document(signing_key("EdDSA").jwk("k1"))
BOTH = document(signing_key("EdDSA").jwk("k1"), signing_key("EdDSA", 1).jwk("k2"))


@dataclass
class Publication:
    """What is published now: a document, or the error that reading it gives."""

    now: bytes | Exception = ONE
    reads: int = 0
    read_once: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> bytes:
        self.reads += 1
        self.read_once.set()
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def published() -> Publication:
    return Publication()


@pytest.fixture
def source(clock: SteppingClock, published: Publication) -> JwksSource:
    return JwksSource(published, clock=clock, timing=JwksTiming(unknown_kid_wait_s=0.0), jitter=lambda: 1.0)


@pytest.fixture
def running(clock: SteppingClock, published: Publication) -> Iterator[JwksSource]:
    timing = JwksTiming(unknown_kid_wait_s=30.0)
    running = JwksSource(published, clock=clock, timing=timing, jitter=lambda: 1.0)
    running.start()
    yield running
    running.close()


def kids(source: JwksSource) -> list[str | None]:
    return [key.kid for key in source.key_set().keys]


# --- one read


def test_before_the_first_read_there_are_no_keys(source: JwksSource) -> None:
    assert reason_of(source.key_set) is JWKS_UNAVAILABLE
    assert source.age_s() == math.inf
    assert source.state().keys == 0


def test_a_read_brings_keys_and_their_age(source: JwksSource, clock: SteppingClock) -> None:
    source.refresh()
    clock.advance(7)
    assert kids(source) == ["k1"]
    assert source.age_s() == 7
    assert (source.state().keys, source.state().failures, source.state().last_error) == (1, 0, "")


def test_an_unchanged_document_is_the_same_key_set_made_fresh(source: JwksSource, clock: SteppingClock) -> None:
    source.refresh()
    before = source.key_set()
    clock.advance(3000)
    source.refresh()
    assert source.key_set() is before
    assert source.age_s() == 0


def test_a_changed_document_is_another_key_set(source: JwksSource, published: Publication) -> None:
    source.refresh()
    before = source.key_set()
    published.now = BOTH
    source.refresh()
    assert source.key_set() is not before
    assert kids(source) == ["k1", "k2"]


def test_a_key_that_is_withdrawn_is_gone_even_if_it_was_the_last(source: JwksSource, published: Publication) -> None:
    source.refresh()
    published.now = document()
    source.refresh()
    assert kids(source) == []


@pytest.mark.parametrize(
    "failure", [ConnectionError("HTTP status 500"), TimeoutError("late"), b"<html>", b"", document(*[{}] * 101)]
)
def test_d13_a_failed_read_keeps_the_last_good_keys(
    source: JwksSource, published: Publication, clock: SteppingClock, failure: bytes | Exception
) -> None:
    source.refresh()
    before = source.key_set()
    published.now = failure
    clock.advance(60)
    for failures in (1, 2):
        assert reason_of(source.refresh) is JWKS_UNAVAILABLE
        assert source.state().failures == failures
    assert source.key_set() is before
    assert source.age_s() == 60
    assert source.state().last_error
    published.now = ONE
    source.refresh()
    assert (source.state().failures, source.state().last_error, source.age_s()) == (0, "", 0)


def test_d13_the_last_good_keys_last_one_hour(source: JwksSource, published: Publication, clock: SteppingClock) -> None:
    source.refresh()
    published.now = ConnectionError("down")
    clock.advance(3600)
    assert kids(source) == ["k1"]
    clock.advance(0.001)
    assert reason_of(source.key_set) is JWKS_UNAVAILABLE
    assert reason_of(source.refreshed_key_set) is JWKS_UNAVAILABLE


def test_d8_stale_keys_do_not_come_back_with_the_clock(source: JwksSource, clock: SteppingClock) -> None:
    source.refresh()
    clock.advance(3601)
    clock.step(-3600)
    assert reason_of(source.key_set) is JWKS_UNAVAILABLE


def test_d13_refused_keys_are_reported_without_their_members(
    source: JwksSource, published: Publication, caplog: pytest.LogCaptureFixture
) -> None:
    published.now = document(signing_key("EdDSA").jwk("leaked", d="c2VjcmV0LXNlY3JldA"))
    with caplog.at_level(logging.WARNING):
        source.refresh()
    assert [rejected.kid for rejected in source.state().rejected] == ["leaked"]
    assert "leaked" in caplog.text
    assert "c2VjcmV0LXNlY3JldA" not in caplog.text


# --- unknown kids


def test_d5_unknown_kids_cause_one_read_in_thirty_seconds(
    source: JwksSource, published: Publication, clock: SteppingClock
) -> None:
    source.refresh()
    asked = 0
    for _ in range(1000):
        source.refreshed_key_set()
        asked += source._wake.is_set()
        source._wake.clear()
        clock.advance(0.0299)
    assert asked == 1
    clock.advance(0.2)
    source.refreshed_key_set()
    assert source._wake.is_set()
    assert published.reads == 1


def test_d5_the_caller_never_reads_itself(source: JwksSource, published: Publication) -> None:
    source.refresh()
    source.refreshed_key_set()
    assert published.reads == 1


def test_d5_the_one_that_asks_gets_the_new_key(running: JwksSource, published: Publication) -> None:
    assert published.read_once.wait(30)
    published.now = BOTH
    assert [key.kid for key in running.refreshed_key_set().keys] == ["k1", "k2"]


def test_d5_all_others_are_answered_at_once(running: JwksSource, published: Publication) -> None:
    assert published.read_once.wait(30)
    running.refreshed_key_set()
    reads = published.reads
    for _ in range(1000):
        running.refreshed_key_set()
    assert published.reads == reads


# --- the thread


def test_the_thread_reads_when_started_and_stops_when_closed(running: JwksSource, published: Publication) -> None:
    assert published.read_once.wait(30)
    running.close()
    assert not running._thread.is_alive()
    running.close()


def test_closing_what_was_never_started_is_nothing(source: JwksSource) -> None:
    source.close()
    assert reason_of(source.key_set) is JWKS_UNAVAILABLE


def test_after_failures_the_next_read_comes_later_and_later(
    source: JwksSource, published: Publication, caplog: pytest.LogCaptureFixture
) -> None:
    published.now = ConnectionError("down")
    with caplog.at_level(logging.WARNING):
        delays = [source._attempt() for _ in range(12)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert caplog.text.count("keys could not be read") == 1
    published.now = ONE
    assert source._attempt() == 300


def test_f16_delays_are_jittered(clock: SteppingClock, published: Publication) -> None:
    source = JwksSource(published, clock=clock, timing=JwksTiming())
    delays = {source._attempt() for _ in range(20)}
    assert len(delays) > 1
    assert all(240 <= delay <= 300 for delay in delays)


# --- where keys lie


def issuer(jwks: str) -> Issuer:
    return Issuer(issuer="https://issuer.example", audience="authz", jwks=jwks, rsa_algorithm="PS256")


def test_a_file_is_read_at_once(tmp_path: Path, clock: SteppingClock) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(document(signing_key("RS256").jwk("r", alg=None) | {"alg": "PS256"}))
    assert open_jwks(issuer(str(path)), clock=clock, limits=Limits()).key_set().keys[0].algorithm == "PS256"


@pytest.mark.parametrize("content", [None, b"", b"{}", b"<html>"])
def test_k4_a_file_without_keys_refuses_to_start(tmp_path: Path, clock: SteppingClock, content: bytes | None) -> None:
    path = tmp_path / "jwks.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"issuer\.example"):
        open_jwks(issuer(str(path)), clock=clock, limits=Limits())


def test_k4_a_file_that_everyone_can_write_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(ONE)
    path.chmod(0o646)
    with pytest.raises(ValueError, match="writable by everyone"):
        JwksFile(path=path)()
    path.chmod(0o644)
    assert JwksFile(path=path)() == ONE


def test_a_file_is_looked_at_every_second() -> None:
    assert (FILE_TIMING.refresh_s, FILE_TIMING.unknown_kid_s, FILE_TIMING.stale_s) == (1, 1, 3600)


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks",
        "http://10.0.0.1/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://localhost.evil.example/jwks",
        "file:///etc/passwd",
        "ftp://127.0.0.1/jwks",
        "https://user:secret@issuer.example/jwks",
        "https:///jwks",
    ],
)
def test_f18_a_url_that_is_not_https_is_refused(url: str, clock: SteppingClock) -> None:
    with pytest.raises(ConfigError) as refusal:
        open_jwks(issuer(url), clock=clock, limits=Limits())
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["https://issuer.example/jwks", "http://127.0.0.1:1/jwks", "http://[::1]:1/jwks", "http://localhost:1/jwks"]
)
def test_a_url_that_is_down_does_not_stop_the_start(url: str, clock: SteppingClock) -> None:
    source = open_jwks(issuer(url), clock=clock, limits=Limits(jwks_refresh_s=60, jwks_stale_s=120))
    assert reason_of(source.key_set) is JWKS_UNAVAILABLE
    assert (source._timing.refresh_s, source._timing.stale_s) == (60, 120)


def test_the_url_of_a_source_is_fixed(clock: SteppingClock) -> None:
    url = JwksUrl(url="https://issuer.example/jwks", clock=clock, pool=urllib3.PoolManager())
    with pytest.raises(AttributeError):
        url.url = "https://evil.example"  # type: ignore[misc]
