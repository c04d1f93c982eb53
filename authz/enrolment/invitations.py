"""The enrolment token: a secret that is good once, and the fingerprint of the authority that must answer for it.

Decides how the token is written and read. The control plane keeps only the secret's hash, so that reading its
database enrols nobody; the sidecar keeps the fingerprint, so that whoever stands between and answers with an authority
of their own is noticed before anything is trusted. Pure.

Trusts whoever carried the token: it is shown once and must travel as a password does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "authz-enrol-1"
"""Found by secret scanners, and the version of what follows."""
SECRET_BYTES: Final = 32
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """One enrolment token. Its text is a secret and stands in no representation."""

    secret: bytes = field(repr=False)
    fingerprint: bytes
    """SHA-256 of the authority's certificate (`names.fingerprint`)."""

    @classmethod
    def new(cls, fingerprint: bytes, entropy: Callable[[int], bytes]) -> Self:
        """A token nobody has seen; `entropy` draws random bytes."""
        return cls(secret=entropy(SECRET_BYTES), fingerprint=fingerprint)

    @classmethod
    def read(cls, text: str) -> Self:
        """The token that `text` is the one spelling of.

        Raises:
            ConfigError: it is none. The text is not repeated: it may be most of a secret.
        """
        prefix, _, rest = text.partition(".")
        secret, _, fingerprint = rest.partition(".")
        whole = len(secret) == len(fingerprint) == 2 * SECRET_BYTES and set(secret + fingerprint) <= _HEX
        if prefix != PREFIX or not whole:
            raise ConfigError("--enrol is not an enrolment token", remedy="get one with `authz sidecars invite`")
        return cls(secret=bytes.fromhex(secret), fingerprint=bytes.fromhex(fingerprint))

    @property
    def text(self) -> str:
        """The token as it is handed over."""
        return f"{PREFIX}.{self.secret.hex()}.{self.fingerprint.hex()}"

    @property
    def secret_sha256(self) -> str:
        """What is kept of it: 256 random bits need no salt and no slow hash."""
        return hashlib.sha256(self.secret).hexdigest()
