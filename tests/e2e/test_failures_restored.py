"""What is put back as it was some time ago, the ledger or a sidecar's own folder: nobody is freed by it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from authz._gen.authz.control.v1 import agents_pb2
from tests.e2e.faulty_link import Fault
from tests.e2e.site import PATIENCE_S, READS_S, REASON, SERVED, Witness, witnessing
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def register(site: Site, agent: str) -> None:
    made = agents_pb2.Agent(tenant="acme", id=agent, owner="ops", autonomy=agents_pb2.AUTONOMY_AUTONOMOUS)
    site.call("Agents/CreateAgent", agents_pb2.CreateAgentRequest(agent=made, reason=REASON), agents_pb2.Agent)


def pause(site: Site, agent: str) -> None:
    request = agents_pb2.SetLifecycleRequest(
        tenant="acme", id=agent, lifecycle=agents_pb2.LIFECYCLE_PAUSED, reason=REASON
    )
    site.call("Agents/SetLifecycle", request, agents_pb2.Agent)


def test_e7_a_ledger_that_is_restored_from_a_backup_frees_nobody_and_new_kills_bite(whole: Site) -> None:
    (victim, token), (paused, its_token), (_, other) = whole.somebody(), whole.somebody(), whole.somebody()
    register(whole, paused)
    database, backup = whole.control.folder / "control.db", whole.control.folder / "backup.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    pause(whole, paused)
    whole.kill(victim, wait_s=30)
    stopped = [Witness(each, token, "read") for each in whole.sidecars.values()]
    halted = [Witness(each, its_token, "read") for each in whole.sidecars.values()]
    with witnessing(*stopped, *halted):
        whole.control.kill()
        for name in ("control.db-wal", "control.db-shm"):
            (whole.control.folder / name).unlink(missing_ok=True)
        backup.replace(database)
        whole.control.start()
        whole.heals()
        later, token_of_later = whole.somebody()
        assert len(whole.kill(later, wait_s=30).confirmed) == 2
    eventually(lambda: {each.answer(token_of_later, "read") for each in whole.sidecars.values()} == {"REVOKED"})
    assert [each.after(0) for each in stopped] == [{"REVOKED"}] * 2
    assert all(each.after(0) <= {"AGENT_PAUSED", "KILL_STALE"} for each in halted)
    eventually(lambda: {each.answer(its_token, "read") for each in whole.sidecars.values()} == {"AGENT_PAUSED"})
    eventually(lambda: whole.far.answer(other) == SERVED)


def test_e14_a_sidecar_whose_folder_is_restored_serves_by_the_age_of_what_it_was_given_back(
    whole: Site, tmp_path: Path
) -> None:
    (victim, token), (_, other) = whole.somebody(), whole.somebody()
    kept = whole.far.folder / "sidecar" / "kills"
    shutil.copytree(kept, tmp_path / "kills")
    copied_at = time.monotonic()
    whole.kill(victim, wait_s=30)
    for link in whole.links:
        link.break_by(Fault.CUT)
    whole.far.kill()
    shutil.rmtree(kept)
    shutil.copytree(tmp_path / "kills", kept)
    whole.far.start()
    reads, writes = Witness(whole.far, token, "read"), Witness(whole.far, token, "write")
    with witnessing(reads, writes):
        eventually(lambda: reads.seen[-1][0] > copied_at + READS_S + 1)
        for link in whole.links:
            link.mend()
        eventually(lambda: reads.seen[-1][1] == "REVOKED" and whole.far.answer(other) == SERVED, PATIENCE_S)
    assert writes.after(0) <= {"KILL_STALE", "REVOKED"}
    assert reads.after(copied_at + READS_S) <= {"KILL_STALE", "REVOKED"}
