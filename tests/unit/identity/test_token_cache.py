from __future__ import annotations

import threading

import pytest

from authz.identity.token_cache import TokenCache, VerifiedToken
from authz.model import Principal
from tests.identity_fakes import FakeKeys, key_set


def entry(name: str) -> VerifiedToken:
    principal = Principal(issuer="i", tenant="t", agent=name, subject=name)
    return VerifiedToken(principal=principal, expires_ns=1, keys=FakeKeys(key_set()), key_set=key_set())


def test_what_is_stored_is_found() -> None:
    cache, stored = TokenCache(10), entry("a")
    assert cache.find(b"a") is None
    cache.store(b"a", stored)
    assert cache.find(b"a") is stored
    assert cache.find(b"b") is None


@pytest.mark.parametrize("capacity", [2, 3, 10, 101])
def test_the_cache_is_bounded(capacity: int) -> None:
    cache = TokenCache(capacity)
    for serial in range(capacity * 5):
        cache.store(str(serial).encode(), entry("a"))
        assert len(cache) <= capacity


@pytest.mark.parametrize("capacity", [0, 1])
def test_a_cache_without_room_keeps_nothing(capacity: int) -> None:
    cache = TokenCache(capacity)
    cache.store(b"a", entry("a"))
    assert cache.find(b"a") is None


def test_a_token_in_use_survives_a_flood_of_others() -> None:
    cache, used = TokenCache(10), entry("used")
    cache.store(b"used", used)
    for serial in range(1000):
        cache.store(str(serial).encode(), entry("flood"))
        assert cache.find(b"used") is used


def test_a_token_out_of_use_is_forgotten() -> None:
    cache = TokenCache(10)
    cache.store(b"old", entry("old"))
    for serial in range(10):
        cache.store(str(serial).encode(), entry("new"))
    assert cache.find(b"old") is None


def test_storing_the_same_token_again_takes_no_room() -> None:
    cache = TokenCache(4)
    cache.store(b"other", entry("other"))
    for _ in range(10):
        cache.store(b"same", entry("same"))
    assert cache.find(b"other") is not None


def test_many_threads_keep_the_bound_and_never_mix_entries() -> None:
    cache, entries = TokenCache(16), {str(serial).encode(): entry(str(serial)) for serial in range(64)}
    wrong: list[bytes] = []

    def churn() -> None:
        for digest, stored in list(entries.items()) * 50:
            cache.store(digest, stored)
            found = cache.find(digest)
            if found is not None and found is not stored:
                wrong.append(digest)

    threads = [threading.Thread(target=churn) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(cache) <= 16
