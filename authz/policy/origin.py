"""The port behind which a bundle is published: a control plane, OPA's bundle service, an OCI registry, a file.

Decides the shapes only. An origin must never give more bytes than it was bounded to, wait past its deadline, follow a
redirect away from TLS, or say that nothing changed where it does not know. Nothing that it gives is believed: `trust`
judges it.

Adapters: `origin_control` (mutual TLS), `origin_http`, `origin_oci`, `origin_file`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.policy.sources import Beside


@value
class Offer:
    """What an origin has now."""

    tag: str
    """Changes when the archive does."""
    archive: bytes | None
    """None where it is the one that the caller has."""
    beside: Mapping[Beside, bytes]
    """Further signatures and statements."""
    is_held: bool = False
    """Whether the far end holds a question until there is an answer, so that one may ask again at once."""


class Origin(Protocol):
    """One published bundle. Used by one thread."""

    @property
    def path(self) -> str:
        """Where it comes from, for the pins that speak of paths and for people; holds no credential."""
        ...

    def tag(self, archive: bytes) -> str:
        """What `read` would call this archive; empty where only the far end knows."""
        ...

    def read(self, known: str, *, base: bytes = b"", wait_s: float = 0.0) -> Offer:
        """What is published now.

        Args:
            known: the tag that the caller has; empty for none.
            base: the archive that it has, of which the far end may know a delta; the offer is a whole archive then too.
            wait_s: how long the far end may wait for a change, where it can.

        Raises:
            BundleError: BUNDLE_FETCH, it cannot be read; BUNDLE_SIZE, it is over the bound.
        """
        ...
