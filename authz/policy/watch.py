"""Looks for changed policy files, and has what it finds activated.

Decides when there is something to load: a name, a change time or a size differs from before. Must never end because a
changed policy is refused: the active one stays, and the next change is tried again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from authz.errors import BundleError, ConfigError, UnavailableError
from authz.policy.sources import read_again

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from authz.policy.activation import Activation
    from authz.policy.engine import PolicySource

log: Final = logging.getLogger(__name__)


class Watch:
    """Looks for changed policy files in a thread of its own and activates what it finds."""

    def __init__(self, activation: Activation, source: PolicySource, every_s: float) -> None:
        self._activation = activation
        self._source = source
        self._every_s = every_s
        self._stop = threading.Event()
        self._seen = fingerprint(source.watched)
        self._thread = threading.Thread(target=self._run, name="policy-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            found = fingerprint(self._source.watched)
            if found != self._seen:
                self._seen = found
                self._try()

    def _try(self) -> None:
        try:
            active = self._activation.activate(read_again(self._source))
        except (BundleError, ConfigError, UnavailableError) as error:
            problems = "; ".join(error.problems) if isinstance(error, BundleError) else ""
            log.error("the changed policy is refused, the active one stays: %s %s", error, problems)  # noqa: TRY400
        else:
            log.info("activated policy revision %s", active.revision.revision)


def fingerprint(paths: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """Name, change time and size of every file below `paths`; equal fingerprints mean nothing to load."""
    found = []
    for root in paths:
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            try:
                stat = path.stat()
            except OSError:
                continue  # removed while we looked: the next look sees it
            if not path.is_dir():
                found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)
