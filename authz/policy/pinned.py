"""What an operator pins about bundles: keys, who may sign which, how many of them, and what this service is.

Decides which entry speaks about a bundle, and which pins make no sense together: then nothing starts. Must never hold
a private key. Trusts the operator's configuration, and nothing that came with a bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from authz.errors import ConfigError
from authz.policy.archive import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from authz.policy.archive import Bounds
    from authz.policy.signature import Key

MAX_STEP: Final = 1_000_000
"""How far a sequence may be ahead of the counter: enough for one that is a date, too little to use the numbers up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Who may sign which bundles: the first entry that fits a bundle decides alone (a terminating delegation)."""

    keys: tuple[str, ...]
    threshold: int = 1
    bundle_id: str = ""
    """Exact; empty fits any."""
    path: str = ""
    """Pattern of the path it comes from, segment by segment; empty fits any."""
    tenants: tuple[str, ...] | None = None
    """Tenants that these may sign for; None: any, and bundles for all."""

    def fits(self, path: str, bundle_id: str) -> bool:
        """Whether this entry speaks about a bundle."""
        return self.bundle_id in {"", bundle_id} and (not self.path or _matches(path, self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Whose word counts for what is newest, and for how long."""

    keys: tuple[str, ...]
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What is pinned, and what this service is.

    Raises:
        ConfigError: a name without a key, one key under two names, or a threshold that cannot be met.
    """

    keys: Mapping[str, Key]
    signers: tuple[Signers, ...]
    freshness: Freshness | None = None
    scope: str = ""
    tenants: tuple[str, ...] = ()
    """Tenants served here; empty: any."""
    engine: str = ""
    """OPA's version; empty: not compared."""
    input_fields: Container[str] | None = None
    """Dotted paths of what the input holds; None: not compared."""
    max_step: int = MAX_STEP
    data_loss: float = 1.0
    """Largest share of its data that an update of data alone may lose; 1: all of it."""
    bounds: Bounds = BOUNDS
    """What an archive may weigh."""

    def __post_init__(self) -> None:
        fingerprints = [key.fingerprint for key in self.keys.values()]
        if len(fingerprints) != len({*fingerprints}):
            # Otherwise one signer could meet a threshold of two.
            raise ConfigError("policy.trust: one key is pinned under two names")
        if not self.signers:
            raise ConfigError("policy.trust: nobody is named who may sign")
        named = {name for entry in self.signers for name in entry.keys}
        named |= {*self.freshness.keys} if self.freshness else set()
        if unknown := sorted(named - self.keys.keys()):
            raise ConfigError(f"policy.trust: no key `{unknown[0]}` is pinned")
        for entry in self.signers:
            if not 1 <= entry.threshold <= len({*entry.keys}):
                raise ConfigError("policy.trust: a threshold is not within the number of its keys")

    def names(self, tenant: str) -> bool:
        """Whether somebody is named who may sign for that tenant."""
        return any(tenant in (entry.tenants or ()) for entry in self.signers)

    def of_tenant(self, tenant: str) -> Trust:
        """For a tenant's own bundle: who is named for that tenant may sign it, and nobody else.

        Raises:
            ConfigError: nobody is.
        """
        named = tuple(entry for entry in self.signers if tenant in (entry.tenants or ()))
        return replace(self, signers=named, tenants=(tenant,))

    def of_platform(self, tenants: Iterable[str]) -> Trust:
        """For the bundle that judges every call, beside those of `tenants`: who signs for a tenant may not sign it."""
        everybody = tuple(entry for entry in self.signers if entry.tenants is None)
        return replace(self, signers=everybody, tenants=(*self.tenants, *tenants))

    def named(self, names: Iterable[str]) -> list[Key]:
        """The keys of these names."""
        return [self.keys[name] for name in names]


def _matches(path: str, pattern: str) -> bool:
    """Segment by segment, so that `*` never crosses a slash (as TUF's delegated paths)."""
    segments, patterns = path.split("/"), pattern.split("/")
    return len(segments) == len(patterns) and all(map(fnmatchcase, segments, patterns))
