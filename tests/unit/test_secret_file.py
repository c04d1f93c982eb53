from __future__ import annotations

import stat
import threading
from typing import TYPE_CHECKING

import pytest

from authz.errors import ConfigError
from authz.secret_file import load_or_create

if TYPE_CHECKING:
    from pathlib import Path


SIZE = 32


def test_the_key_is_made_once_and_then_read(tmp_path: Path) -> None:
    path = tmp_path / "some.key"
    key = load_or_create(path, size_bytes=SIZE)
    assert len(key) == SIZE
    assert load_or_create(path, size_bytes=SIZE) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["some.key"]


def test_installations_have_keys_of_their_own(tmp_path: Path) -> None:
    assert load_or_create(tmp_path / "a", size_bytes=SIZE) != load_or_create(tmp_path / "b", size_bytes=SIZE)


def test_services_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    path, keys, together = tmp_path / "some.key", set(), threading.Barrier(8)

    def start() -> None:
        together.wait(10)
        keys.add(load_or_create(path, size_bytes=SIZE))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "some.key"
    load_or_create(path, size_bytes=SIZE)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="others may read"):
        load_or_create(path, size_bytes=SIZE)


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_short_secret_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="under 32 bytes"):
        load_or_create(path, size_bytes=SIZE)
    assert path.read_bytes() == content


def test_a_folder_that_is_missing_or_a_secret_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "some.key", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_or_create(path, size_bytes=SIZE)
        assert caught.value.remedy
