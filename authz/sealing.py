"""Private keys at rest: sealed before they reach a database, opened only in the process that uses them.

Decides how a secret is encrypted for storage: AES-256-GCM under the key-encryption key, a fresh nonce each time, bound
to the purpose it was sealed for, so that who can write to the database cannot put one tenant's key in another's place.
Must never store or log what it seals. Trusts the key-encryption key, which lies outside the database.

A key service (KMS, HSM) stands behind the same port, `Sealer`.
"""

from __future__ import annotations

import os
from base64 import b64decode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authz.errors import ConfigError
from authz.secret_file import load, load_or_create

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY_BYTES: Final = 32
_FORM: Final = b"\x01"
_NAME_BYTES: Final = 8
_NONCE_BYTES: Final = 12  # NIST SP 800-38D §8.2.2: random, 96 bits


class Sealer(Protocol):
    """Encrypts secrets for storage."""

    def seal(self, secret: bytes, purpose: str) -> bytes:
        """`secret` in a form that only `unseal` with the same purpose can read."""
        ...

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """The secret again.

        Raises:
            ConfigError: another key-encryption key or another purpose sealed it, or it was changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """A `Sealer` whose key this process holds.

    Attributes:
        key: 32 bytes; seals and unseals.
        former: earlier keys, which only unseal: what was sealed with them stays readable after the key was changed.
    """

    key: bytes = field(repr=False)
    former: Sequence[bytes] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if any(len(key) != KEY_BYTES for key in (self.key, *self.former)):
            raise ConfigError(f"a key-encryption key has exactly {KEY_BYTES} bytes", remedy="openssl rand -base64 32")

    def seal(self, secret: bytes, purpose: str) -> bytes:
        """See `Sealer.seal`."""
        header = _FORM + _name(self.key)
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + AESGCM(self.key).encrypt(nonce, secret, header + purpose.encode())

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """See `Sealer.unseal`."""
        start = len(_FORM) + _NAME_BYTES
        header, nonce, ciphertext = sealed[:start], sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        for key in (self.key, *self.former):
            if header == _FORM + _name(key):
                try:
                    return AESGCM(key).decrypt(nonce, ciphertext, header + purpose.encode())
                except (InvalidTag, ValueError):  # ValueError: cut short
                    break
        raise ConfigError(
            "a stored private key cannot be opened with this key-encryption key",
            remedy="start with the key-encryption key that this database was written with",
        )


def read_key(*, file: Path | None, text: str = "", state: Path) -> tuple[KeyEncryptionKey, bool]:
    """The key-encryption key of `file`, else of `text` (base64), else of `state`, where it is made if need be.

    Returns:
        The key, and whether it is the one that lies beside the state: then who copies the folder has both.

    Raises:
        ConfigError: the file cannot be read or is open to others, or there are not exactly 32 bytes.
    """
    if file is not None:
        return KeyEncryptionKey(load(file, size_bytes=KEY_BYTES)), False
    if text:
        try:
            return KeyEncryptionKey(b64decode(text, validate=True)), False
        except ValueError:
            raise ConfigError("the key-encryption key is not base64", remedy="openssl rand -base64 32") from None
    return KeyEncryptionKey(load_or_create(state / "key-encryption.key", size_bytes=KEY_BYTES)), True


def _name(key: bytes) -> bytes:
    """Says which key sealed, and nothing about it."""
    return sha256(b"authz-key-encryption\0" + key).digest()[:_NAME_BYTES]
