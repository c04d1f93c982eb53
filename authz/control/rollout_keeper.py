"""Moves rollouts on and back by what their gates say; on one instance at a time.

Decides when to look: twice a second, at every scope's last rollout; and each hour, at what was found too long ago. Each
step is written in a transaction that holds the scope and in which this instance provably leads, so that two instances
never take the same step. Must never end because of one rollout: what fails is logged, and tried again.
"""

from __future__ import annotations

import logging
import threading
from itertools import count
from typing import TYPE_CHECKING, Final

from authz.database import LeaseLostError
from authz.errors import AuthzError
from authz.policy import rollout
from authz.policy.rollout_plan import ACTIVE, State

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from authz.control.rollout_judge import RolloutJudge
    from authz.database import Database, Election
    from authz.policy.rollout import Transition
    from authz.policy.rollout_plan import Rollout
    from authz.policy.rollout_reports_sql import RolloutReports
    from authz.policy.rollout_sql import RolloutBook

log: Final = logging.getLogger(__name__)
LOOK_S: Final = 0.5
FORGET_EVERY: Final = 7200
"""Looks; about an hour."""
_LOOKED_AT: Final = ACTIVE | {State.ENFORCED}


class RolloutKeeper:
    """A task beside the calls. `start`, then `stop`; both once."""

    def __init__(
        self,
        database: Database,
        book: RolloutBook,
        reports: RolloutReports,
        judge: RolloutJudge,
        election: Election,
    ) -> None:
        self._database = database
        self._book = book
        self._reports = reports
        self._judge = judge
        self._election = election
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)

    def start(self) -> None:
        """Stand for the lease, and begin to look."""
        self._election.start()
        self._thread.start()

    def stop(self) -> None:
        """End, and let another instance take over."""
        self._stop.set()
        self._thread.join()
        self._election.stop()

    def look(self) -> list[Transition]:
        """Take every step that is due; returns those taken.

        Raises:
            UnavailableError: the database cannot be used.
            LeaseLostError: another instance leads.
        """
        with self._database.read() as connection:
            # Without holding anything: most often there is nothing to do.
            scopes = [head.scope for head in self._book.heads(connection) if self._due(connection, head) is not None]
        return [step for scope in scopes if (step := self._advanced(scope)) is not None]

    def forget(self) -> int:
        """Let go of what was found too long ago, but for what present stages rest on; how many windows went.

        Raises:
            UnavailableError: the database cannot be used.
            LeaseLostError: another instance leads.
        """
        with self._database.write() as connection:
            self._election.lease.confirm(connection)
            return self._reports.forget(connection, [(head.id, head.since_ns) for head in self._book.heads(connection)])

    def _due(self, connection: Connection, head: Rollout) -> Transition | None:
        if head.state not in _LOOKED_AT:
            return None
        judgement = self._judge.judge(connection, head).judgement
        return rollout.advance(head, judgement, self._database.now_ns(connection))

    def _advanced(self, scope: str) -> Transition | None:
        with self._database.write() as connection:
            self._election.lease.confirm(connection)
            step = self._due(connection, self._book.held(connection, scope))
            if step is None:
                return None
            after = self._book.take(connection, step)
        went_back = after.state is State.ROLLED_BACK
        log.log(
            logging.ERROR if went_back else logging.INFO,
            "rollout %s of `%s` is %s: %s",
            after.id,
            scope or "the platform",
            after.stage,
            step.reason,
        )
        return step

    def _run(self) -> None:
        for number in count():
            if self._stop.wait(LOOK_S):
                return
            if not self._election.is_leader:
                continue
            try:
                self.look()
                if number % FORGET_EVERY == 0:
                    self.forget()
            except LeaseLostError:
                continue
            except AuthzError as error:
                log.warning("rollouts stand still: %s", error)
