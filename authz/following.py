"""What a sidecar runs to follow the ledger of kills: its replica, and the two ways by which it is told.

Decides which ways there are (the control plane's Redis, another one, or the control plane alone), when the service may
be called ready, and what operators are told. Must never make a service ready that knows no kills: it waits for the
control plane, or for what it kept of its journal. Trusts its membership.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz import __version__
from authz.model import PLATFORM
from authz.reasons import KILL_STALE
from authz.revocation.follower import Follower
from authz.revocation.freshness import FRESH_S
from authz.revocation.pull import PULL_S, TRUST_S, Pull
from authz.revocation.redis_reader import RedisReader
from authz.telemetry import names
from authz.telemetry.metrics import Reading

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.config import Config
    from authz.enrolment.membership import Membership
    from authz.telemetry.metrics import Metrics

FOLDER: Final = "kills"
"""Of the journals, in the sidecar's state."""


class Following:
    """The kills of one sidecar. `start`, then `stop`; both once."""

    def __init__(self, config: Config, membership: Membership, clock: Clock, metrics: Metrics) -> None:
        folder = membership.folder.path.parent / FOLDER
        self._reads_s = config.revocation.stale_reads_s
        self._was_ready = False
        self.kills: Final = Follower(
            folder,
            clock,
            every_tenant=not membership.identity.tenants,
            reads_s=self._reads_s,
            effect=metrics.durations(names.KILL_EFFECT).add,
        )
        # Who follows every tenant learns only so that there is a new one, and must while the last list is fresh.
        trust_s = TRUST_S if membership.identity.tenants else PULL_S
        self._pull = Pull(self.kills, lambda: membership.channel, clock, version=__version__, trust_s=trust_s)
        self._reader = _reader(config, membership, self.kills, clock)
        metrics.add_source(self.readings)

    def start(self) -> None:
        """Begin with what was kept, ask the control plane once, then follow.

        It has heard from whoever serves, so that a kill waits for this sidecar from its first call on.
        """
        self.kills.recall()
        if self._pull.once():
            self._pull.report()
        self._pull.start()
        if self._reader is not None:
            self._reader.start()

    def stop(self) -> None:
        """End the threads; the journals are whole at any moment."""
        if self._reader is not None:
            self._reader.stop()
        self._pull.stop()
        self.kills.close()

    def unready(self) -> str:
        """Why every call would be denied; empty while some are served.

        Once all were known, a tenant that is new here is judged for itself: it makes nobody else wait.
        """
        age_s = self.kills.age_s(PLATFORM) if self._was_ready else self.kills.oldest_s()
        self._was_ready = self._was_ready or age_s <= self._reads_s
        if age_s <= self._reads_s:
            return ""
        return "nothing is known of them" if age_s == float("inf") else f"{age_s:.0f} s old"

    def degraded(self) -> str:
        """The code of what does not work although calls are served; empty where all does."""
        alarms = sorted({*self.kills.alarms().values()})
        if alarms:
            return ", ".join(alarms)
        return KILL_STALE.code if self.kills.oldest_s() > FRESH_S else ""

    def readings(self) -> list[Reading]:
        """For the metrics: the platform's stream, and those of tenants as one, since tenants have no bound (K5)."""
        kills = self.kills
        readings = [
            Reading(names.KILLS_KNOWN, kills.kills()),
            Reading(names.KILL_LINK_FAILURES, self._pull.failures, ("control",)),
            Reading(names.KILL_LINK_FAILURES, self._reader.failures if self._reader else 0, ("redis",)),
            *(Reading(names.KILL_MESSAGES_REFUSED, count, (code,)) for code, count in sorted(kills.counted.items())),
        ]
        tenants = [stream for stream in kills.streams if stream != PLATFORM]
        for label, streams in (("platform", [PLATFORM] if PLATFORM in kills.streams else []), ("tenants", tenants)):
            if streams:
                positions = [kills.position(stream) for stream in streams]
                readings += [
                    Reading(names.KILLS_AGE, max(map(kills.age_s, streams)), (label,)),
                    Reading(names.KILLS_EPOCH, max(epoch for epoch, _ in positions), (label,)),
                    Reading(names.KILLS_SEQUENCE, sum(sequence for _, sequence in positions), (label,)),
                ]
        return readings


def _reader(config: Config, membership: Membership, kills: Follower, clock: Clock) -> RedisReader | None:
    source, access = config.revocation.source, membership.identity.redis
    url = access.url if source == "control" else source
    if not url:
        return None
    roots = config.revocation.roots
    return RedisReader(kills, clock, url, username=access.username, password=access.password, roots=roots)
