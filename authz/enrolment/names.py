"""Who is who in a certificate of the control plane's own authority: the names both ends agree on.

Decides which names stand for a sidecar and which for the control plane. A sidecar's is a SPIFFE ID
(`spiffe://authz/sidecar/ID`) and no host name; the control plane's is one DNS name that exists nowhere else, so that it
is the same behind any address or balancer and no sidecar can answer in its place.
Must never take a name from a certificate whose chain was not verified: the transport does that before. Pure.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

SERVER_NAME: Final = "control.authz.internal"
"""What the listener for sidecars is called, whatever its address. ICANN keeps `.internal` out of the public DNS."""
SIDECAR_PREFIX: Final = "spiffe://authz/sidecar/"
_SIDECAR_ID: Final = re.compile(r"[0-9a-z-]{1,64}")


def sidecar_uri(sidecar: str) -> str:
    """The SPIFFE ID of a sidecar.

    Raises:
        ValueError: an id that could be read as another path.
    """
    if not _SIDECAR_ID.fullmatch(sidecar):
        raise ValueError("not a sidecar's id")
    return f"{SIDECAR_PREFIX}{sidecar}"


def sidecar_named(sans: list[str]) -> str | None:
    """The sidecar that these subject alternative names stand for.

    None unless there is exactly one name and it is a sidecar's: a certificate with several is nobody of ours.
    """
    if len(sans) != 1 or not sans[0].startswith(SIDECAR_PREFIX):
        return None
    sidecar = sans[0].removeprefix(SIDECAR_PREFIX)
    return sidecar if _SIDECAR_ID.fullmatch(sidecar) else None


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """URI and DNS names of a certificate, as gRPC lists a peer's."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate's DER: 32 bytes by which a root is known before it is trusted."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
