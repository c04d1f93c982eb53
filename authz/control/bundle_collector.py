"""Removes the content of bundles that nobody needs, on one instance at a time.

Decides when: some time after the start, and then now and again. What is needed is the registry's to say, with what
sidecars report and what rollouts name. Must never end because of a database that does not answer.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from authz.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from authz.database import Lease
    from authz.policy.registry_sql import Registry

log: Final = logging.getLogger(__name__)
EVERY_S: Final = 600.0


class BundleCollector:
    """One instance's collector. `start`, then `stop`; both once.

    Args:
        keep: revisions of each name that are kept whatever happens.
        in_use: digests of archives that somebody has.
    """

    def __init__(
        self,
        registry: Registry,
        lease: Lease,
        *,
        keep: int,
        in_use: Callable[[], Collection[str]],
        every_s: float = EVERY_S,
    ) -> None:
        self._registry = registry
        self._lease = lease
        self._keep = keep
        self._in_use = in_use
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bundle-collector", daemon=True)

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns once it has."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def collect(self) -> None:
        """Collect once, unless another instance does.

        Raises:
            UnavailableError: the database cannot be used.
        """
        if self._lease.take() and (gone := self._registry.collect(keep=self._keep, in_use=self._in_use())):
            log.info("collected the content of %d bundles that nobody needs", len(gone))

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.collect()
            except UnavailableError as error:
                log.warning("bundles were not collected: %s", error)
