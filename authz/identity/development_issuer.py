"""A token issuer in a folder, for one machine: what `authz up` trusts and `authz token` signs with.

Decides nothing about callers. Whoever can read its key file is every agent of every tenant, so the key is made
readable by its owner alone, a looser file is refused, and nothing trusts this issuer unless its `jwks.json` is
configured like any other issuer's, which is then logged (`jwks_source`). Its name ends in `.invalid` (RFC 2606) so
that no record mistakes it for a real one.
Trusts the folder's owner.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from authz.clock import SystemClock, random_id
from authz.encoding import encode_base64url
from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from authz.clock import Clock

ISSUER: Final = "https://development-issuer.authz.invalid"
AUDIENCE: Final = "authz"
KEY_FILE: Final = "development-issuer.pem"
JWKS_FILE: Final = "jwks.json"
MAX_TTL_S: Final = 900
_NS: Final = 1_000_000_000
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevelopmentIssuer:
    """Signs access tokens (contracts §1). Make it with `open_issuer`."""

    key: Ed25519PrivateKey
    jwks_path: Path
    issuer: str = ISSUER
    audience: str = AUDIENCE

    def mint(
        self,
        *,
        agent: str,
        tenant: str,
        session: str = "",
        scopes: Iterable[str] = (),
        parents: Iterable[str] = (),
        confirmation: Mapping[str, str] | None = None,
        ttl_s: int = 300,
        clock: Clock | None = None,
    ) -> str:
        """A token for `agent` of `tenant`, valid for `ttl_s` seconds from now, bound as `confirmation` (`cnf`) says.

        Raises:
            ConfigError: `ttl_s` is not between 1 and 900.
        """
        if not 0 < ttl_s <= MAX_TTL_S:
            raise ConfigError(f"a token lives 1 to {MAX_TTL_S} seconds", remedy="mint a new one when it expires")
        issued_at = (clock or SystemClock()).unix_ns() // _NS
        required = {"iss": self.issuer, "aud": self.audience, "sub": agent, "agent_id": agent, "tenant": tenant}
        times = {"iat": issued_at, "exp": issued_at + ttl_s, "jti": random_id()}
        optional = {"session": session, "scope": " ".join(scopes), "parents": list(parents), "cnf": confirmation}
        return self._signed(required | times | {claim: value for claim, value in optional.items() if value})

    def _signed(self, claims: dict[str, object]) -> str:
        header = {"alg": "EdDSA", "kid": _public_jwk(self.key)["kid"], "typ": "at+jwt"}
        signed = ".".join(encode_base64url(_json(part)) for part in (header, claims))
        return f"{signed}.{encode_base64url(self.key.sign(signed.encode('ascii')))}"


def open_issuer(folder: Path, *, issuer: str = ISSUER, audience: str = AUDIENCE) -> DevelopmentIssuer:
    """The issuer of `folder`, made on first use together with its `jwks.json`.

    Raises:
        ConfigError: the key file is readable by others, or is not an Ed25519 key.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _key(folder / KEY_FILE)
    jwks_path = folder / JWKS_FILE
    _replace(jwks_path, _json({"keys": [_public_jwk(key)]}), mode=0o644)
    return DevelopmentIssuer(key=key, jwks_path=jwks_path, issuer=issuer, audience=audience)


def read_issuer(folder: Path, *, issuer: str = ISSUER, audience: str = AUDIENCE) -> DevelopmentIssuer | None:
    """The issuer of `folder` where there is one; nothing is written.

    Raises:
        ConfigError: see `open_issuer`.
    """
    path = folder / KEY_FILE
    if not path.exists():
        return None
    return DevelopmentIssuer(key=_key(path), jwks_path=folder / JWKS_FILE, issuer=issuer, audience=audience)


def _key(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        _make_key(path)
    with path.open("rb") as file:
        # Asked of the open file, so that it cannot be exchanged between the question and the reading.
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise ConfigError(f"{path} is open to other users", remedy=f"chmod 600 {path}, or remove it for a new key")
        pem = file.read()
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is not an Ed25519 private key", remedy="remove it, and a new one is made")
    return key


def _make_key(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = _write_draft(path, pem, mode=0o600)
    # A link never overwrites: of two that start at once, one key wins and both use it.
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
    _LOG.warning("made a development issuer: whoever reads %s can be any agent", path)


def _replace(path: Path, octets: bytes, *, mode: int) -> None:
    _write_draft(path, octets, mode=mode).replace(path)


def _write_draft(path: Path, octets: bytes, *, mode: int) -> Path:
    """A whole file beside `path`, on the disk, under a name of its own."""
    draft = path.with_name(f".{path.name}.{random_id()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    """The public JWK, named by its RFC 7638 thumbprint."""
    x = encode_base64url(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    members = {"crv": "Ed25519", "kty": "OKP", "x": x}
    return members | {"kid": encode_base64url(sha256(_json(members)).digest()), "alg": "EdDSA", "use": "sig"}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")
