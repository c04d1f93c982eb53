"""Follows a published bundle: looks, verifies, activates, and goes on with the last good one whatever comes.

Decides when to look (spread over the interval, so that sidecars that start together do not ask together, F16; later and
later while nobody answers), what is worth another try, and what is said of it. What was refused is not fetched or tried
again, and told once (F12); when what lies beside it changes, such as a signature that was missing or a newer freshness
statement, it is judged anew without being fetched. Must never put anything in service itself: every candidate goes
through the activation that stands, and its rules of trust.

On a thread of its own; nothing here is on the path of a decision.
"""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz.errors import BundleError, UnavailableError
from authz.policy.engine import PolicySource
from authz.policy.trust import Candidate
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

    from authz.clock import Clock
    from authz.policy.activation import Activation
    from authz.policy.origin import Offer, Origin
    from authz.policy.sources import Beside

log: Final = logging.getLogger(__name__)
RETRY_S: Final = 1.0
"""After a failure to read; doubled up to the interval."""
COLD_SHARE: Final = 0.6
"""Those that start with nothing on their disks are spread over this much of the interval, because they answer nobody
before. In less, a fleet that starts at once would ask more than twice as often as ever after (F16)."""
COLD_S: Final = 30.0
"""The longest that one of them waits."""
# What may hold the next time, because the fault need not be the bundle's.
_PASSING: Final = frozenset({"BUNDLE_STATE", "BUNDLE_TIMEOUT", "BUNDLE_NOT_YET"})
ENGINE_FAILED: Final = "BUNDLE_TIMEOUT"
"""Said of a candidate that the engine could not be asked about."""


@value
class Fetching:
    """How it stands. Archives are named by the SHA-256 of their bytes, in hex; empty: none."""

    path: str
    serving: str = ""
    refused: str = ""
    code: str = ""
    """Why the newest archive is refused; empty where it is in service."""
    why: str = ""
    unreachable: str = ""
    """Why nothing can be read now; empty when the origin has answered."""
    heard_ns: int | None = None
    """When it last did, on the monotonic clock."""


@value
class Pace:
    """How often to look, in seconds."""

    poll_s: float
    wait_s: float = 0.0
    """How long the far end may hold a question; 0 never."""

    def first_s(self, spread: Callable[[float], float], *, is_cold: bool) -> float:
        """Until the first look of a process, which is cold when it has nothing to serve."""
        return spread(min(COLD_SHARE * self.poll_s, COLD_S) if is_cold else self.poll_s)

    def next_s(self, spread: Callable[[float], float]) -> float:
        """Until the look after one; `poll_s` on average."""
        return self.poll_s / 2 + spread(self.poll_s)


class Fetcher:
    """One bundle of one service. `begin`, then `start` and `stop`; each once.

    Args:
        spread: a random number from 0 up to its argument.
        told: called when what stands has changed, and now and again.
    """

    def __init__(
        self,
        origin: Origin,
        activation: Activation,
        clock: Clock,
        pace: Pace,
        *,
        contract: Literal["agent", "envoy"] = "agent",
        spread: Callable[[float], float] = lambda seconds: random.uniform(0, seconds),  # noqa: S311 - spreads load
        told: Callable[[Fetching], None] = lambda _: None,
    ) -> None:
        self._origin = origin
        self._activation = activation
        self._monotonic_ns = clock.monotonic_ns
        self._pace = pace
        self._contract = contract
        self._spread = spread
        self._told = told
        self._candidate = Candidate(path=origin.path, archive=b"")
        self._tag = ""
        self._retries = 0
        self._state = Fetching(path=origin.path)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bundle-fetch", daemon=True)

    @property
    def state(self) -> Fetching:
        """How it stands now."""
        return self._state

    def begin(self) -> None:
        """Serve the last good bundle from the disk, if there is one; nothing is asked of the network."""
        try:
            kept = self._activation.resume(self._source())
        except (BundleError, UnavailableError) as error:
            log.warning("the copy of the bundle of %s is not used: %s", self._origin.path, error)
            return
        if kept is not None and kept.candidate is not None:
            self._candidate, self._tag = kept.candidate, self._origin.tag(kept.candidate.archive)
            self._state = replace(self._state, serving=kept.candidate.sha256)

    def start(self) -> None:
        """Follow, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End; a question that is under way ends with the process."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def look(self) -> float:
        """Look once; seconds until the next look."""
        try:
            wait_s = self._pace.wait_s if self._state.serving else 0.0
            offer = self._origin.read(self._tag, base=self._candidate.archive, wait_s=wait_s)
        except BundleError as error:
            self._say(replace(self._state, unreachable=str(error)))
            self._retries += 1
            pause_s = min(RETRY_S * 2.0 ** min(self._retries - 1, 16), self._pace.poll_s)
            return pause_s / 2 + self._spread(pause_s)
        self._retries = 0
        state = replace(self._state, unreachable="", heard_ns=self._monotonic_ns())
        self._say(self._taken(offer, state))
        # Who was held until something changed asks again at once, but not all of those who were held together.
        return self._spread(1.0) if offer.is_held else self._pace.next_s(self._spread)

    def _run(self) -> None:
        pause_s = self._pace.first_s(self._spread, is_cold=not self._state.serving)
        while not self._stop.wait(pause_s):
            try:
                pause_s = self.look()
            except Exception:
                log.exception("looking for the bundle of %s failed: a bug", self._origin.path)
                pause_s = self._pace.poll_s

    def _taken(self, offer: Offer, state: Fetching) -> Fetching:
        """What becomes of what is published now."""
        candidate = _candidate(self._origin.path, offer, self._candidate)
        if candidate == self._candidate and state.code not in _PASSING:
            self._tag = offer.tag
            return state
        self._tag, self._candidate = offer.tag, candidate
        try:
            self._activation.activate(self._source())
        except BundleError as error:
            return replace(state, refused=candidate.sha256, code=error.code, why=_why(error))
        except UnavailableError as error:
            return replace(state, refused=candidate.sha256, code=ENGINE_FAILED, why=str(error))
        return replace(state, serving=candidate.sha256, refused="", code="", why="")

    def _source(self) -> PolicySource:
        return PolicySource(archive=self._candidate.archive, candidate=self._candidate, contract=self._contract)

    def _say(self, state: Fetching) -> None:
        """Once for each change: a server that serves a bad bundle again and again gives one alert (F12)."""
        before, self._state = self._state, state
        if state.code and (state.refused, state.code) != (before.refused, before.code):
            log.error("the bundle of %s is not taken, what serves goes on: %s", state.path, state.why)
        if state.serving != before.serving:
            log.info("the bundle sha256:%s of %s is in service", state.serving[:12], state.path)
        if state.unreachable and not before.unreachable:
            log.warning("the bundle of %s cannot be read: %s", state.path, state.unreachable)
        if before.unreachable and not state.unreachable:
            log.info("the bundle of %s can be read again", state.path)
        self._told(state)


def _candidate(path: str, offer: Offer, known: Candidate) -> Candidate:
    lies: Mapping[Beside, bytes] = offer.beside
    return Candidate(
        path=path,
        archive=known.archive if offer.archive is None else offer.archive,
        cosignatures=lies.get("sig"),
        rollback=lies.get("rollback"),
        timestamp=lies.get("timestamp"),
    )


def _why(error: BundleError) -> str:
    return "; ".join([str(error), *map(str, error.problems)])
