"""Key pairs of agents in files: PKCS#8 PEM, as other OAuth clients read it, for its owner alone.

Decides that a file is never overwritten, and that one open to others is not used. Must never print a private key.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from authz import secret_file
from authz.encoding import encode_base64url
from authz.errors import ConfigError
from authz.identity import jose
from authz.identity.jose import PrivateKey

MAX_FILE_BYTES: Final = 64 * 1024


def make(path: Path, algorithm: str) -> str:
    """A new private key in `path`, readable by its owner alone; returns the public half, a JWK in JSON.

    Raises:
        ConfigError: there is a file already, or none can be made.
    """
    key = jose.generate(algorithm)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} is there already", remedy="name another file for the new key") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="give a folder that this user may write") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.as_pem(private=True))
    return json.dumps(jose.public_jwk(key))


def read(path: Path) -> PrivateKey:
    """The private key in `path`.

    Raises:
        ConfigError: it cannot be read, others may read it, or it is not an Ed25519 or P-256 key in PEM.
    """
    octets = secret_file.load(path, size_bytes=1)
    for kind, curve in ((OKPKey, "Ed25519"), (ECKey, "P-256")):
        try:
            key = kind.import_key(octets)
        except (JoseError, ValueError, TypeError):
            continue
        if key.is_private and key.curve_name == curve:
            return jose.named(key)
    raise ConfigError(f"{path} is not a private key for EdDSA or ES256", remedy="`authz agents add --key` makes one")


def public_jwk(path: Path) -> str:
    """The public key in `path`, a JWK in JSON or PEM, as a JWK in JSON; what it is worth is the service's to judge.

    Raises:
        ConfigError: it cannot be read, or is neither.
    """
    octets = _read(path)
    if octets.lstrip().startswith(b"{"):
        return octets.decode("utf-8", "replace")
    try:
        load_pem_public_key(octets)  # a private key is none, and shall not be sent
    except ValueError:
        raise ConfigError(f"{path} is not a public key", remedy="give a public JWK or a PEM public key") from None
    for kind in (OKPKey, ECKey, RSAKey):
        try:
            return json.dumps(kind.import_key(octets).as_dict(private=False))
        except (JoseError, ValueError, TypeError):
            continue
    raise ConfigError(f"{path} is a key of another kind", remedy="give one for EdDSA, ES256, RS256 or PS256")


def certificate_sha256(path: Path) -> str:
    """`x5t#S256` of the PEM certificate in `path` (RFC 8705 section 3.1).

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise ConfigError(f"{path} is not a certificate in PEM") from None
    return encode_base64url(certificate.fingerprint(SHA256()))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
