"""A delta that is made in another process is the same one, or none."""

from __future__ import annotations

import os
import sys

import orjson
import pytest

from authz.policy import delta
from authz.policy.archive import MAX_BYTES
from authz.policy.delta_process import make_aside
from tests.unit.policy.test_delta import release


def names(*found: str) -> bytes:
    return orjson.dumps(sorted(found))


MANY = [os.urandom(8).hex() for _ in range(400)]
BASE, TARGET = release(1, {"names/data.json": names(*MANY)}), release(2, {"names/data.json": names(*MANY, "acme")})


def test_a_delta_is_made_aside() -> None:
    assert make_aside(BASE, TARGET, most_bytes=MAX_BYTES) == delta.make(BASE, TARGET)


def test_one_that_saves_little_is_none() -> None:
    assert make_aside(release(1, {}), BASE, most_bytes=MAX_BYTES) is None
    changed = release(2, {"names/data.json": names(*(os.urandom(8).hex() for _ in range(400)))})
    assert make_aside(BASE, changed, most_bytes=MAX_BYTES) is None


@pytest.mark.parametrize(("base", "target"), [(b"", b""), (BASE, b"x"), (b"x", TARGET), (BASE, BASE)])
def test_what_has_no_delta_is_no_failure(base: bytes, target: bytes) -> None:
    assert make_aside(base, target, most_bytes=MAX_BYTES) is None


def test_f14_the_bound_on_archives_holds_there_too() -> None:
    assert make_aside(BASE, TARGET, most_bytes=1024) is None


def test_where_no_process_can_be_started_there_is_no_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert make_aside(BASE, TARGET, most_bytes=MAX_BYTES) is None
