from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import ConfigError
from authz.sealing import KeyEncryptionKey, read_key

if TYPE_CHECKING:
    from pathlib import Path

KEY, OTHER = b"k" * 32, b"o" * 32


@given(st.binary(max_size=200), st.text(max_size=40))
def test_what_was_sealed_is_read_again(secret: bytes, purpose: str) -> None:
    sealed = KeyEncryptionKey(KEY).seal(secret, purpose)
    assert KeyEncryptionKey(KEY).unseal(sealed, purpose) == secret


def test_a_secret_is_never_sealed_twice_alike_and_cannot_be_seen() -> None:
    first, second = (KeyEncryptionKey(KEY).seal(b"private", "stream") for _ in range(2))
    assert first != second
    assert b"private" not in first


def test_another_purpose_does_not_open_it() -> None:
    sealed = KeyEncryptionKey(KEY).seal(b"private", "stream:acme")
    with pytest.raises(ConfigError):
        KeyEncryptionKey(KEY).unseal(sealed, "stream:globex")


def test_another_key_does_not_open_it() -> None:
    sealed = KeyEncryptionKey(KEY).seal(b"private", "stream")
    with pytest.raises(ConfigError):
        KeyEncryptionKey(OTHER).unseal(sealed, "stream")


def test_a_changed_key_still_opens_what_the_former_one_sealed() -> None:
    sealed = KeyEncryptionKey(KEY).seal(b"private", "stream")
    assert KeyEncryptionKey(OTHER, former=[KEY]).unseal(sealed, "stream") == b"private"


@given(st.data())
def test_no_changed_or_cut_byte_opens(data: st.DataObject) -> None:
    key = KeyEncryptionKey(KEY)
    sealed = bytearray(key.seal(b"private", "stream"))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    for changed in (bytes(sealed), bytes(sealed[:position])):
        with pytest.raises(ConfigError):
            key.unseal(changed, "stream")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        KeyEncryptionKey(b"k" * size)


def test_no_key_is_shown() -> None:
    assert "k" * 8 not in repr(KeyEncryptionKey(KEY, former=[KEY]))


def test_the_file_comes_before_the_text_and_the_text_before_the_state(tmp_path: Path) -> None:
    file = tmp_path / "kek"
    file.write_bytes(KEY)
    file.chmod(0o600)
    assert read_key(file=file, text=b64encode(OTHER).decode(), state=tmp_path) == (KeyEncryptionKey(KEY), False)
    assert read_key(file=None, text=b64encode(OTHER).decode(), state=tmp_path) == (KeyEncryptionKey(OTHER), False)
    made, beside_the_state = read_key(file=None, state=tmp_path)
    assert beside_the_state
    assert read_key(file=None, state=tmp_path) == (made, True)


@pytest.mark.parametrize("text", ["not base64!", b64encode(b"short").decode()])
def test_text_that_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read_key(file=None, text=text, state=tmp_path)


def test_a_key_file_that_is_missing_or_open_to_others_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "kek"
    with pytest.raises(ConfigError):
        read_key(file=file, state=tmp_path)
    file.write_bytes(KEY)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        read_key(file=file, state=tmp_path)
