"""The bundle registry over SQLite and a real PostgreSQL: what is verified is kept once, served, held and collected."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from authz._gen.authz.control.v1 import bundles_pb2 as pb
from authz.control.bundle_collector import BundleCollector
from authz.control.bundles_service import BundlesService
from authz.control.callers import Caller, Kind
from authz.control.refusals import RefusedError
from authz.database import Lease
from authz.errors import BundleError
from authz.policy import delta
from authz.policy.blobs_sql import PIECES, UNFINISHED_NS
from authz.policy.bundle_reports_sql import BundleReport, BundleReports
from authz.policy.pinned import Signers
from authz.policy.registry import PIECE_BYTES, MovedError, Place, Push
from authz.policy.registry_sql import DELTAS, EVENTS, Registry
from authz.policy.trust import Seen, verify
from tests.fakes import FakeClock
from tests.publisher import NOW_NS, RELEASE, SECURITY, STRANGER, Publisher, trust

if TYPE_CHECKING:
    from authz.database import Database
    from authz.policy.pinned import Trust
    from authz.policy.registry import Revision

ALICE = Caller(kind=Kind.OPERATOR, id="alice")
PAST = {"created_at": "2026-12-01T00:00:00Z", "expires_at": "2026-12-31T00:00:00Z"}
ACME = Place(tenant="acme", name="payments")


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


def make_delta(base: bytes, target: bytes) -> bytes | None:
    """As a control plane makes it, in this process."""
    with suppress(BundleError):
        made = delta.make(base, target)
        return made if delta.is_worth(made, target) else None
    return None


def service(registry: Registry, pins: Trust | None = None) -> BundlesService:
    return BundlesService(registry, pins or trust(), FakeClock(wall_ns=NOW_NS), make_delta=make_delta)


def push(
    registry: Registry, bundle: Publisher, *, tenant: str = "acme", pins: Trust | None = None, **more: bytes
) -> str:
    """The digest of what is served then."""
    request = pb.PushBundleRequest(tenant=tenant, name="payments", archive=bundle.packed(), reason="release")
    for kind, content in more.items():
        setattr(request.statements, kind, content)
    return service(registry, pins).push_bundle(request, ALICE).sha256


def refusal(registry: Registry, bundle: Publisher, **options: object) -> str:
    with pytest.raises(RefusedError) as refused:
        push(registry, bundle, **options)  # type: ignore[arg-type]
    return refused.value.reason.code


def newest(registry: Registry, place: Place = ACME) -> Revision:
    found = registry.newest(place)
    assert found is not None
    return found


def listing(sequence: int, *more: str, **files: bytes) -> Publisher:
    """A bundle whose data is most of it."""
    names = orjson.dumps([hashlib.sha256(b"%d" % number).hexdigest() for number in range(100)] + list(more))
    return Publisher(sequence=sequence, files={"authz/names/data.json": names, **files})


def test_an_update_of_data_is_kept_with_what_makes_it_of_the_one_before(registry: Registry, database: Database) -> None:
    first, second = push(registry, listing(10)), push(registry, listing(11, "acme"))
    made = registry.delta(newest(registry), first)
    assert made is not None
    assert delta.apply(registry.blobs.read(first), made) == registry.blobs.read(second)
    assert registry.delta(newest(registry), second) is None
    assert push(registry, listing(11, "acme"), timestamp=b"renewed") == second
    assert registry.delta(newest(registry), first) == made
    third = push(registry, listing(12, "acme", **{"policy.rego": b"package authz\n"}))
    assert registry.delta(newest(registry), second) is None
    registry.collect(keep=1, in_use=())
    assert newest(registry).sha256 == third
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(DELTAS)).scalar() == 0


def test_a_revision_that_is_taken_back_has_what_makes_it_of_the_one_after(registry: Registry) -> None:
    before, after = listing(10), listing(11, "acme")
    push(registry, before)
    withdrawn = push(registry, after)
    back = push(registry, before, rollback=before.rollback(supersedes=11, counter=11))
    made = registry.delta(newest(registry), withdrawn)
    assert made is not None
    assert delta.apply(registry.blobs.read(withdrawn), made) == registry.blobs.read(back)


def test_what_is_pushed_is_served_as_it_was_and_who_did_it_is_in_its_history(registry: Registry) -> None:
    bundle = Publisher(files={"data.json": b'{"big": "' + os.urandom(PIECE_BYTES).hex().encode() + b'"}'})
    archive = bundle.packed()
    sha256 = push(registry, bundle)
    found = newest(registry)
    assert (found.sha256, found.digest, found.sequence) == (sha256, bundle.digest(), 10)
    assert (found.signed_by, found.pushed_by, found.size) == (("release",), "alice", len(archive))
    assert registry.blobs.read(sha256) == archive
    assert found.pieces == 2
    pieces = [registry.blobs.piece(sha256, position) for position in range(found.pieces + 1)]
    assert b"".join(pieces) == archive
    assert pieces[-1] == b""
    revisions, events = registry.history(ACME)
    assert [each.sha256 for each in revisions] == [sha256]
    assert [(each.kind, each.by, each.reason) for each in events] == [("pushed", "alice", "release")]


@pytest.mark.parametrize(
    ("bundle", "code"),
    [
        (Publisher(signer=STRANGER), "BUNDLE_KEY"),
        (Publisher(declared={"bundle_id": "refunds"}), "BUNDLE_ID"),
        (Publisher(declared={"tenants": ["globex"]}), "BUNDLE_TENANT"),
        (
            Publisher(declared={"expires_at": "2026-12-31T00:00:00Z", "created_at": "2026-12-01T00:00:00Z"}),
            "BUNDLE_EXPIRED",
        ),
    ],
)
def test_f3_what_the_pinned_keys_have_not_signed_is_refused_by_its_own_code_and_leaves_nothing(
    registry: Registry, database: Database, bundle: Publisher, code: str
) -> None:
    assert refusal(registry, bundle) == code
    assert registry.newest(ACME) is None
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(PIECES)).scalar() == 0


def test_f2_an_unsafe_or_unsigned_archive_is_never_kept(registry: Registry) -> None:
    for archive, code in ((b"no archive", "BUNDLE_ARCHIVE"), (Publisher().unsigned(), "BUNDLE_UNSIGNED")):
        with pytest.raises(RefusedError) as refused:
            service(registry).push_bundle(pb.PushBundleRequest(tenant="acme", name="payments", archive=archive), ALICE)
        assert refused.value.reason.code == code


def test_without_pinned_keys_nothing_is_taken(registry: Registry) -> None:
    with pytest.raises(RefusedError, match="PUSH_UNPINNED"):
        BundlesService(registry, None, FakeClock(), make_delta=make_delta).push_bundle(
            pb.PushBundleRequest(name="payments"), ALICE
        )


def test_a_signer_of_one_tenant_cannot_publish_for_another(registry: Registry) -> None:
    signers = (Signers(keys=("release",), path="acme/*", tenants=("acme",)), Signers(keys=("security",)))
    pins = trust(RELEASE, SECURITY, signers=signers)
    mine = Publisher(declared={"tenants": ["acme"]})
    assert push(registry, mine, pins=pins)
    assert refusal(registry, mine, tenant="globex", pins=pins) == "BUNDLE_SIGNERS"
    assert refusal(registry, mine, tenant="", pins=pins) == "BUNDLE_SIGNERS"


def test_pins_of_a_sidecar_with_tenants_of_their_own_publish_what_it_would_take(registry: Registry) -> None:
    """Whatever the order of the entries: a tenant's own signers are asked before everybody's."""
    signers = (Signers(keys=("release",)), Signers(keys=("security",), tenants=("acme",)))
    pins = trust(RELEASE, SECURITY, signers=signers)
    own = Publisher(declared={"tenants": ["acme"]}, signer=SECURITY)
    assert push(registry, own, pins=pins)
    assert refusal(registry, own.bent(signer=RELEASE), pins=pins) == "BUNDLE_SIGNERS"
    assert refusal(registry, own.bent(declared={}), pins=pins) == "BUNDLE_TENANT"
    assert refusal(registry, own, tenant="", pins=pins) == "BUNDLE_SIGNERS"
    assert push(registry, Publisher(), tenant="", pins=pins)


def test_f4_an_older_sequence_is_served_again_only_by_a_signed_rollback(registry: Registry) -> None:
    old, new = Publisher(sequence=10), Publisher(sequence=11)
    first = push(registry, old)
    push(registry, new)
    assert refusal(registry, old) == "BUNDLE_REGRESSION"
    assert push(registry, old, rollback=old.rollback(supersedes=11, counter=11)) == first
    assert newest(registry).sequence == 10
    assert refusal(registry, new) == "BUNDLE_QUARANTINED"
    assert push(registry, Publisher(sequence=12)) == newest(registry).sha256


def test_the_same_archive_again_is_kept_once_and_renews_what_lies_beside(
    registry: Registry, database: Database
) -> None:
    bundle = Publisher()
    sha256 = push(registry, bundle, timestamp=b"{}")
    assert push(registry, bundle, timestamp=b"[]") == sha256
    assert push(registry, bundle, tenant="globex") == sha256
    assert registry.beside(newest(registry)) == {"timestamp": b"[]"}
    assert registry.statement("acme", sha256, "timestamp") == b"[]"
    assert registry.statement("globex", sha256, "timestamp") is None
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(PIECES)).scalar() == 1


def test_of_two_pushes_that_cross_the_second_is_verified_again(registry: Registry) -> None:
    place, seen = ACME, registry.seen(ACME)
    made = {}
    for sequence in (10, 11):
        verified = verify(Publisher(sequence=sequence).candidate(), trust(), seen, now_ns=NOW_NS)
        archive = Publisher(sequence=sequence).packed()
        made[sequence] = Push(place=place, archive=archive, verified=verified, beside={}, by="bob")
    registry.push(made[11], seen)
    with pytest.raises(MovedError):
        registry.push(made[10], seen)
    assert newest(registry).sequence == 11


def test_of_many_pushes_at_once_the_highest_is_served_at_last(registry: Registry) -> None:
    start = threading.Barrier(4)

    def race(sequence: int) -> str:
        start.wait()
        try:
            return push(registry, Publisher(sequence=sequence))
        except RefusedError as refused:
            return refused.reason.code

    with ThreadPoolExecutor(4) as racers:
        outcomes = list(racers.map(race, range(10, 14)))
    assert {each for each in outcomes if each.isupper()} <= {"BUNDLE_REGRESSION", "PUSH_CHANGED"}
    revisions, _ = registry.history(ACME)
    assert newest(registry).sequence == max(each.sequence for each in revisions)


def test_a_retired_revision_is_served_no_more_and_one_on_hold_cannot_be_retired(registry: Registry) -> None:
    sha256 = push(registry, Publisher())
    desk = service(registry)
    named = {"tenant": "acme", "name": "payments", "sha256": sha256, "reason": "case 12"}
    assert desk.hold_revision(pb.HoldRevisionRequest(**named), ALICE).HasField("held_at")
    with pytest.raises(RefusedError, match="REVISION_HELD"):
        desk.retire_revision(pb.RetireRevisionRequest(**named), ALICE)
    assert not desk.release_revision(pb.ReleaseRevisionRequest(**named), ALICE).HasField("held_at")
    before = registry.changes()
    assert desk.retire_revision(pb.RetireRevisionRequest(**named), ALICE).HasField("retired_at")
    assert registry.newest(ACME) is None
    assert registry.changes() > before
    history = desk.read_history(pb.ReadHistoryRequest(tenant="acme", name="payments"), ALICE)
    assert [each.kind for each in reversed(history.events)] == [
        pb.BUNDLE_EVENT_KIND_PUSHED,
        pb.BUNDLE_EVENT_KIND_HELD,
        pb.BUNDLE_EVENT_KIND_RELEASED,
        pb.BUNDLE_EVENT_KIND_RETIRED,
    ]
    with pytest.raises(RefusedError, match="REVISION_UNKNOWN"):
        desk.hold_revision(pb.HoldRevisionRequest(**(named | {"tenant": "globex"})), ALICE)


def test_collection_takes_what_nobody_serves_holds_uses_or_wants_back(registry: Registry, database: Database) -> None:
    digests = [push(registry, Publisher(sequence=sequence)) for sequence in range(1, 8)]
    registry.hold(ACME, digests[0], by="counsel", reason="case 12")
    reports = BundleReports(database)
    reports.put("edge-1", [BundleReport(tenant="acme", name="payments", sha256=digests[1])])
    registry.retire(ACME, digests[5], by="alice", reason="wrong")
    assert reports.in_use() == {digests[1]}
    # Served: 6. Held: 0. In use: 1. The last two that were not retired: 6 and 4.
    gone = registry.collect(keep=2, in_use=reports.in_use())
    assert gone == sorted([digests[2], digests[3], digests[5]])
    for number, sha256 in enumerate(digests):
        assert bool(registry.blobs.read(sha256)) is (number not in {2, 3, 5})
    revisions, events = registry.history(ACME)
    assert len(revisions) == 7
    assert {each.sha256 for each in events if each.kind == "collected"} == set(gone)
    assert registry.collect(keep=2, in_use=reports.in_use()) == []


def test_what_was_collected_can_be_pushed_again(registry: Registry) -> None:
    old = Publisher(sequence=10)
    first = push(registry, old)
    push(registry, Publisher(sequence=11))
    assert registry.collect(keep=1, in_use=()) == [first]
    assert registry.hold(ACME, first, by="counsel", reason="too late") is None
    push(registry, old, rollback=old.rollback(supersedes=11, counter=11))
    assert registry.blobs.read(first) == old.packed()


def test_content_that_another_name_needs_is_not_collected(registry: Registry) -> None:
    shared = push(registry, Publisher(sequence=10))
    push(registry, Publisher(sequence=10), tenant="globex")
    push(registry, Publisher(sequence=11))
    assert registry.collect(keep=1, in_use=()) == []
    assert registry.blobs.read(shared)


def test_what_a_push_left_unfinished_is_collected_later(registry: Registry, database: Database) -> None:
    registry.blobs.keep(b"x" * (PIECE_BYTES + 1), "f" * 64)
    assert registry.collect(keep=1, in_use=()) == []
    with database.write() as connection:
        connection.execute(update(PIECES).values(kept_at_ns=PIECES.c.kept_at_ns - UNFINISHED_NS - 1))
    assert registry.collect(keep=1, in_use=()) == ["f" * 64]


def test_content_that_goes_between_the_pieces_and_the_name_is_noticed(registry: Registry, database: Database) -> None:
    bundle = Publisher()
    verified = verify(bundle.candidate(), trust(), Seen(bundle_id="payments"), now_ns=NOW_NS)
    late = Push(place=ACME, archive=bundle.packed(), verified=verified, beside={}, by="bob")
    keep = registry.blobs.keep

    def lost(archive: bytes, sha256: str) -> None:
        keep(archive, sha256)
        with database.write() as connection:
            connection.execute(delete(PIECES))

    registry.blobs.keep = lost  # type: ignore[method-assign]
    with pytest.raises(MovedError):
        registry.push(late, registry.seen(ACME))
    assert registry.newest(ACME) is None


def test_history_cannot_be_rewritten(registry: Registry, database: Database) -> None:
    push(registry, Publisher())
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(update(EVENTS).values(by="nobody"))


def test_one_instance_collects_at_a_time(registry: Registry, database: Database) -> None:
    push(registry, Publisher(sequence=10))
    push(registry, Publisher(sequence=11))

    def collected_by(name: str) -> bool:
        """Whether it asked what is in use."""
        asked: list[str] = []

        def in_use() -> list[str]:
            asked.append(name)
            return []

        lease = Lease(database, "bundle-collector", name, clock=FakeClock(), life_s=60)
        BundleCollector(registry, lease, keep=1, in_use=in_use).collect()
        return bool(asked)

    assert [collected_by(name) for name in ("a", "b", "a")] == [True, False, True]


def test_a_report_replaces_the_last_one_and_a_tenant_sees_its_own(database: Database) -> None:
    reports = BundleReports(database)
    first = BundleReport(tenant="acme", name="payments", sha256="a" * 64)
    reports.put("edge-1", [first, BundleReport(tenant="", name="base", sha256="b" * 64)])
    reports.put("edge-1", [replace(first, refused="c" * 64, code="BUNDLE_GOLDEN")])
    said = reports.of(["edge-1", "edge-2"])
    assert [(each.tenant, each.sha256[:1], each.code) for each in said["edge-1"]] == [
        ("", "b", ""),
        ("acme", "a", "BUNDLE_GOLDEN"),
    ]
