"""Where keys are pinned: what is verified answers, what is not changes nothing, and what was seen is not forgotten."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from authz.config import BundleFreshness, BundleSigners, BundleTrust, Policy
from authz.errors import BundleError, ConfigError, UnavailableError
from authz.model import NO_REVISION
from authz.native import Library
from authz.policy import agent_contract, archive
from authz.policy.activation import Activation
from authz.policy.admission import admission, pinned
from authz.policy.engine import PolicySource
from authz.policy.input_fields import input_fields
from authz.policy.last_good import LastGood
from authz.policy.opa_native import NativeEngine
from authz.policy.seen_file import NAME, SeenFile
from authz.policy.sources import archive_source, beside
from authz.policy.trust import Seen
from authz.policy.watch import Watch
from tests.e2e.stack import eventually
from tests.fakes import FakeClock
from tests.publisher import DAY_NS, NOW_NS, RELEASE, SECURITY, STRANGER, TIME, Publisher, public_pem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from authz.policy.opa_native import NativePolicy

DENY_ALL = b'package authz\n\ndecision := {"effect": "deny", "reason": "%s"}\n'
ALLOW = b'package authz\n\ndecision := {"effect": "allow", "reason": "all"}\n'
ENDLESS = b"""package authz

decision := {"effect": "deny"} if {
	x := numbers.range(1, 3000)
	every a in x { every b in x { every c in x { a + b + c > 0 } } }
}
"""
GOLDEN = b'[{"agent": {"id": "mallory"}}]'


def bundle(sequence: int, **files: bytes) -> Publisher:
    """A revision that says its own number."""
    policy = DENY_ALL % str(sequence).encode()
    return Publisher(sequence=sequence, files={"policy.rego": policy, "golden/deny.json": GOLDEN, **files})


FIRST, SECOND = bundle(1), bundle(2)


class CountingEngine(NativeEngine):
    """Counts what it opens, and keeps the last archive."""

    opened = 0
    archive: bytes | None = None

    def open(self, source: PolicySource) -> NativePolicy:
        self.opened += 1
        self.archive = source.archive
        return super().open(source)


@dataclass
class Service:
    """A sidecar's part that loads policies, with its disk. `start` is a start of the process."""

    folder: Path
    pins: dict[str, Any]
    clock: FakeClock = field(default_factory=lambda: FakeClock(wall_ns=NOW_NS))

    def __post_init__(self) -> None:
        self.archive = self.folder / "bundle.tar.gz"
        for signer in (RELEASE, SECURITY, TIME):
            (self.folder / f"{signer.name}.pem").write_bytes(public_pem(signer.private))
        self.start()

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def start(self) -> None:
        self.engine = CountingEngine(Library.load())
        trust = BundleTrust.model_validate({"keys": {"release": self.folder / "release.pem"}, **self.pins})
        policy = Policy(paths=(self.archive,), state=self.state, trust=trust)
        kept = LastGood(self.state)
        self.activation = Activation(
            self.engine,
            policy.rule,
            agent_contract.interpret,
            last_good=kept,
            admission=admission(policy, engine="1.22.0", folder=kept.folder, clock=self.clock),
        )

    def serve(self, *tokens: str, of: Publisher, **beside_: bytes) -> None:
        """Put an archive where the service looks, with what lies beside it."""
        self.put(of.packed(*tokens), **beside_)

    def put(self, packed: bytes, **beside_: bytes) -> None:
        self.archive.write_bytes(packed)
        for kind, content in beside_.items():
            beside(self.archive, packed, kind).write_bytes(content)  # type: ignore[arg-type]

    @property
    def source(self) -> PolicySource:
        return archive_source(self.archive, "agent")

    def activate(self) -> str:
        """The code that the archive is refused with; empty when it answers."""
        try:
            self.activation.activate(self.source)
        except BundleError as error:
            return error.code
        return ""

    def begin(self) -> str:
        """What a start makes of the archive: the code of its refusal, answered from the last good one."""
        self.start()
        self.activation.begin(self.source)
        failure = self.activation.last_failure
        return failure.code if failure else ""

    def answer(self) -> str:
        active = self.activation.active()
        return active.interpret(active.decision.evaluate(b"{}", 1.0)).reason

    @property
    def seen(self) -> Seen:
        return SeenFile(self.state).read()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path, {})


def running(service: Service, of: Publisher = FIRST) -> Service:
    service.serve(of=of)
    assert service.activate() == ""
    return service


def test_a_signed_bundle_answers_and_is_counted(service: Service) -> None:
    running(service)
    assert service.answer() == "1"
    revision = service.activation.revision
    assert (revision.revision, revision.bundle_id) == ("payments-1", "payments")
    assert (service.seen.sequence, service.seen.activated) == (1, (FIRST.digest(),))
    running(service, SECOND)
    assert (service.answer(), service.seen.sequence) == ("2", 2)


@pytest.mark.parametrize(
    ("put", "code"),
    [
        (lambda service: service.put(SECOND.unsigned()), "BUNDLE_UNSIGNED"),
        (lambda service: service.serve(STRANGER.token(SECOND.payload()), of=SECOND), "BUNDLE_KEY"),
        (lambda service: service.serve(RELEASE.token(FIRST.payload()), of=SECOND), "BUNDLE_DIGEST"),
        (lambda service: service.put(SECOND.packed()[:-9]), "BUNDLE_ARCHIVE"),
        (lambda service: service.put(gzip.compress(bytes(8 << 20))), "BUNDLE_RATIO"),
        (lambda service: service.serve(of=SECOND.bent(declared={"expires_at": "2020-01-02T00:00:00Z"})), None),
        (lambda service: service.serve(of=bundle(1).bent(files={"policy.rego": ALLOW})), "BUNDLE_MISMATCH"),
        (lambda service: service.serve(of=SECOND.bent(declared={"bundle_id": "refunds"})), "BUNDLE_ID"),
        (lambda service: service.serve(of=bundle(2, **{"policy.rego": b"package authz\n\nx := {"})), "BUNDLE_INVALID"),
        (lambda service: service.serve(of=bundle(2, **{"policy.rego": b"package other\n"})), "BUNDLE_INVALID"),
        (lambda service: service.serve(of=bundle(2, **{"policy.rego": ALLOW})), "BUNDLE_GOLDEN"),
        (lambda service: service.serve(of=bundle(2, **{"golden/deny.json": b"[]"})), "BUNDLE_GOLDEN"),
    ],
    ids=[
        "unsigned",
        "stranger",
        "swapped",
        "cut",
        "bomb",
        "expired",
        "same-sequence",
        "other-bundle",
        "syntax",
        "entrypoint",
        "golden",
        "empty-golden",
    ],
)
def test_f2_whatever_is_refused_the_last_good_one_serves_now_and_after_a_restart(
    service: Service, put: Callable[[Service], None], code: str | None
) -> None:
    running(service)
    put(service)
    refused = service.activate()
    assert refused
    assert code in {None, refused}
    assert service.answer() == "1"
    assert service.activation.last_failure
    assert service.activation.last_failure.code == refused
    assert service.begin() in {refused, "BUNDLE_QUARANTINED"}
    assert service.answer() == "1"
    assert service.seen.sequence == 1
    running(service, bundle(3))
    assert service.answer() == "3"


def test_nothing_unsigned_ever_reaches_the_engine(service: Service) -> None:
    service.put(FIRST.unsigned())
    assert service.activate() == "BUNDLE_UNSIGNED"
    assert service.engine.opened == 0


def test_f2_the_engine_is_given_what_was_signed_and_not_the_archive(service: Service) -> None:
    running(service)
    assert service.engine.archive
    assert service.engine.archive != service.archive.read_bytes()
    assert b".signatures.json" not in gzip.decompress(service.engine.archive)


@pytest.mark.parametrize("source", ["folder", "bytes"])
def test_a_folder_cannot_stand_in_for_a_signed_archive(service: Service, source: str) -> None:
    (service.folder / "policy.rego").write_bytes(ALLOW)
    sources = {
        "folder": PolicySource(paths=(service.folder,)),
        "bytes": PolicySource(archive=FIRST.packed()),
    }
    with pytest.raises(BundleError, match="BUNDLE_UNSIGNED"):
        service.activation.activate(sources[source])
    assert service.engine.opened == 0


def test_f4_the_counter_survives_a_restart(service: Service) -> None:
    running(service, SECOND)
    service.serve(of=FIRST)
    assert service.begin() == "BUNDLE_REGRESSION"
    assert service.answer() == "2"


def test_f4_a_signed_rollback_takes_an_older_one_again(service: Service) -> None:
    running(running(service), SECOND)
    service.serve(of=FIRST, rollback=FIRST.rollback(supersedes=2, counter=2))
    assert service.activate() == ""
    assert service.answer() == "1"
    service.serve(of=SECOND)
    assert service.activate() == "BUNDLE_QUARANTINED"
    assert service.begin() == "BUNDLE_QUARANTINED"
    assert service.answer() == "1"


def test_f4_what_was_verified_and_active_before_returns_without_a_statement(service: Service) -> None:
    running(service)
    before = service.source
    running(service, SECOND)
    service.activation.activate(before, returning=True)
    assert service.answer() == "1"
    assert service.seen.sequence == 2
    running(service, bundle(3))
    assert service.answer() == "3"


def test_f4_a_start_from_an_older_copy_does_not_lock_the_newest_out(service: Service) -> None:
    running(service)
    older = service.state.with_name("older")
    shutil.copytree(service.state, older)
    running(service, SECOND)
    # A crash after the second was counted, before it was copied.
    counted = (service.state / NAME).read_bytes()
    shutil.rmtree(service.state)
    older.rename(service.state)
    (service.state / NAME).write_bytes(counted)
    service.put(b"nothing")
    assert service.begin() == "BUNDLE_ARCHIVE"
    assert service.answer() == "1"
    running(service, SECOND)
    assert service.answer() == "2"


def test_f5_a_bundle_that_expires_in_service_answers_no_more(service: Service) -> None:
    running(service)
    service.clock.advance(30 * DAY_NS / 1e9)
    with pytest.raises(UnavailableError, match="POLICY_UNAVAILABLE"):
        service.activation.active()
    assert service.activation.revision == NO_REVISION
    assert service.activation.last_failure
    assert service.activation.last_failure.code == "BUNDLE_EXPIRED"


def test_f5_an_expired_bundle_is_not_started_from_the_copy_either(service: Service) -> None:
    running(service)
    service.clock.advance(31 * DAY_NS / 1e9)
    with pytest.raises(BundleError, match="BUNDLE_EXPIRED"):
        service.begin()


@pytest.fixture
def fresh(tmp_path: Path) -> Service:
    keys = {name: tmp_path / f"{name}.pem" for name in ("release", "time")}
    return Service(tmp_path, {"keys": keys, "freshness": {"keys": ["time"], "max_age_s": 3600}})


def test_f5_a_mirror_that_freezes_in_service_is_told_and_what_it_serves_stays(fresh: Service) -> None:
    fresh.serve(of=FIRST, timestamp=FIRST.timestamp())
    assert fresh.activate() == ""
    assert fresh.activation.last_failure is None
    fresh.clock.advance(3601)
    assert fresh.activation.last_failure
    assert fresh.activation.last_failure.code == "BUNDLE_STALE"
    assert fresh.answer() == "1"
    assert fresh.activate() == "BUNDLE_STALE"
    later = {"issued_ns": fresh.clock.unix_ns(), "expires_ns": fresh.clock.unix_ns() + DAY_NS}
    fresh.serve(of=FIRST, timestamp=FIRST.timestamp(**later))
    assert fresh.activate() == ""
    assert fresh.activation.last_failure is None
    assert fresh.engine.opened == 1


def test_f5_a_start_before_a_frozen_mirror_is_from_the_copy(fresh: Service) -> None:
    fresh.serve(of=FIRST, timestamp=FIRST.timestamp())
    assert fresh.activate() == ""
    fresh.clock.advance(3601)
    assert fresh.begin() == "BUNDLE_STALE"
    assert fresh.answer() == "1"


def test_the_bundle_in_service_is_not_opened_again(service: Service) -> None:
    running(service)
    again = RELEASE.token(FIRST.payload() | {"iat": 1})
    service.serve(again, of=FIRST)
    assert service.activate() == ""
    assert (service.engine.opened, service.activation.activated) == (1, 1)


def test_f8_the_copy_keeps_the_further_signatures_it_needs(tmp_path: Path) -> None:
    keys = {name: tmp_path / f"{name}.pem" for name in ("release", "security")}
    signers = [{"keys": ["release", "security"], "threshold": 2, "bundle_id": "payments"}]
    service = Service(tmp_path, {"keys": keys, "signers": signers})
    service.serve(of=FIRST)
    assert service.activate() == "BUNDLE_THRESHOLD"
    service.serve(of=FIRST, sig=FIRST.cosigned(SECURITY))
    assert service.activate() == ""
    service.put(b"nothing")
    assert service.begin() == "BUNDLE_ARCHIVE"
    assert service.answer() == "1"


def test_f8_a_key_that_is_pinned_no_more_starts_nothing_from_the_copy(service: Service) -> None:
    running(service)
    service.pins = {"keys": {"security": service.folder / "security.pem"}}
    with pytest.raises(BundleError, match="BUNDLE_KEY"):
        service.begin()


def test_f12_a_bundle_that_failed_after_it_was_verified_is_tried_once(service: Service) -> None:
    running(service)
    service.serve(of=bundle(2, **{"policy.rego": ALLOW}))
    assert [service.activate() for _ in range(3)] == ["BUNDLE_GOLDEN", "BUNDLE_QUARANTINED", "BUNDLE_QUARANTINED"]
    assert service.engine.opened == 2
    assert service.seen.quarantined == {bundle(2, **{"policy.rego": ALLOW}).digest(): "BUNDLE_GOLDEN"}
    assert service.begin() == "BUNDLE_QUARANTINED"


def test_f12_a_bundle_that_a_busy_machine_did_not_judge_in_time_is_tried_again(service: Service) -> None:
    running(service)
    service.serve(of=bundle(2, **{"policy.rego": ENDLESS}))
    assert [service.activate() for _ in range(2)] == ["BUNDLE_TIMEOUT", "BUNDLE_TIMEOUT"]
    assert service.seen.quarantined == {}
    assert service.answer() == "1"


def test_f12_what_nobody_signed_is_not_even_remembered(service: Service) -> None:
    running(service)
    before = service.seen
    service.put(SECOND.unsigned())
    assert service.activate() == service.activate() == "BUNDLE_UNSIGNED"
    assert service.seen == before


def copies(service: Service) -> list[Path]:
    return sorted(service.state.rglob("bundle.tar.gz"))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_f7_a_copy_that_changed_on_disk_is_not_served(service: Service, place: float) -> None:
    running(service)
    (copy,) = copies(service)
    content = bytearray(copy.read_bytes())
    content[int(len(content) * place)] ^= 1
    copy.write_bytes(bytes(content))
    service.put(b"nothing")
    with pytest.raises(BundleError, match="BUNDLE_STATE"):
        service.begin()


def test_f7_a_copy_that_cannot_be_read_is_not_served(service: Service) -> None:
    running(service)
    (copy,) = copies(service)
    copy.unlink()
    copy.mkdir()
    service.put(b"nothing")
    with pytest.raises(BundleError, match="BUNDLE_STATE"):
        service.begin()


def test_f7_a_copy_that_somebody_signed_anew_with_its_name_is_not_served(service: Service) -> None:
    running(service)
    (copy,) = copies(service)
    other = bundle(2, **{"policy.rego": ALLOW}).unsigned()
    copy.write_bytes(other)
    service.put(b"nothing")
    with pytest.raises(BundleError, match="BUNDLE_STATE"):
        service.begin()


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b"[]", b"null", b'{"bundle_id": 1}', b"\xff", None],
    ids=["empty", "object", "list", "null", "types", "bytes", "cut"],
)
def test_f7_a_memory_that_cannot_be_read_is_no_fresh_start(service: Service, damage: bytes | None) -> None:
    running(service, SECOND)
    path = service.state / NAME
    path.write_bytes(path.read_bytes()[:-5] if damage is None else damage)
    service.serve(of=FIRST)
    with pytest.raises(BundleError, match="BUNDLE_STATE"):
        service.begin()


def test_f7_a_bundle_that_cannot_be_counted_does_not_answer(service: Service) -> None:
    running(service)
    (service.state / NAME).unlink()
    (service.state / NAME).mkdir()
    service.serve(of=SECOND)
    assert service.activate() == "BUNDLE_STATE"
    assert service.answer() == "1"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = SeenFile(tmp_path / "state")
    assert file.read() == Seen()
    seen = Seen(
        bundle_id="b", sequence=3, digest="d", stated_ns=5, activated=("d",), quarantined={"x": "BUNDLE_GOLDEN"}
    )
    file.write(seen)
    assert SeenFile(tmp_path / "state").read() == seen
    assert [path.name for path in (tmp_path / "state").iterdir()] == [NAME]


def test_an_archive_that_is_not_there_is_stood_in_for(service: Service) -> None:
    with pytest.raises(BundleError, match="BUNDLE_ARCHIVE"):
        service.begin()
    running(service)
    service.archive.unlink()
    assert service.begin() == "BUNDLE_ARCHIVE"
    assert service.answer() == "1"


def test_an_archive_that_is_replaced_is_noticed_with_what_lies_beside_it(service: Service) -> None:
    running(service)
    watch = Watch(service.activation, service.source, 0.02)
    watch.start()
    try:
        service.serve(of=SECOND)
        eventually(lambda: service.answer() == "2")
        service.serve(of=bundle(4))
        eventually(lambda: service.answer() == "4")
        service.serve(of=bundle(3))
        eventually(lambda: service.activation.last_failure)
        service.serve(of=bundle(3), rollback=bundle(3).rollback(supersedes=4, counter=4))
        eventually(lambda: service.answer() == "3")
        service.archive.unlink()
        service.serve(of=bundle(5))
        eventually(lambda: service.answer() == "5")
    finally:
        watch.stop()


# Settings


def test_without_pins_nothing_is_verified() -> None:
    assert admission(Policy(), engine="1.22.0", folder=None, clock=FakeClock()) is None


def test_who_only_looks_changes_nothing(service: Service) -> None:
    service.serve(of=FIRST)
    trust = BundleTrust(keys={"release": service.folder / "release.pem"})
    looking = admission(Policy(trust=trust), engine="1.22.0", folder=None, clock=service.clock)
    Activation(service.engine, "authz/decision", agent_contract.interpret, admission=looking).activate(service.source)
    assert not service.state.exists()


def test_the_keys_of_freshness_sign_no_bundles_unless_they_are_named_for_it(tmp_path: Path) -> None:
    paths = {signer.name: tmp_path / signer.name for signer in (RELEASE, TIME)}
    for signer in (RELEASE, TIME):
        paths[signer.name].write_bytes(public_pem(signer.private))
    settings = BundleTrust(keys={**paths}, freshness=BundleFreshness(keys=("time",)))
    trust = pinned(settings, engine="", input_fields=None)
    assert [entry.keys for entry in trust.signers] == [("release",)]
    named = settings.model_copy(update={"signers": (BundleSigners(keys=("time",), tenants=("acme",)),)})
    assert [entry.keys for entry in pinned(named, engine="", input_fields=None).signers] == [("time",)]


def test_a_key_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        pinned(BundleTrust(keys={"release": tmp_path / "nowhere"}), engine="", input_fields=None)


def test_a_bundle_may_ask_for_what_the_schema_has() -> None:
    agent = input_fields("agent")
    assert all(path in agent for path in ("agent", "agent.id", "facts.budgets", "args", "result"))
    assert "agent.password" not in agent
    assert "attributes" in input_fields("envoy")


def test_what_a_bundle_asks_for_is_held_against_the_contract(service: Service) -> None:
    service.serve(of=FIRST.bent(declared={"requires_input": ["facts.weather"]}))
    assert service.activate() == "BUNDLE_INPUT"
    service.serve(of=FIRST.bent(declared={"min_engine": "9.0.0"}))
    assert service.activate() == "BUNDLE_ENGINE"


def test_of_rates_a_bundle_may_ask_for_those_that_are_counted() -> None:
    agent = input_fields("agent")
    assert "facts.session.rates.calls.60" in agent
    assert "facts.session.rates.agent_calls_of_tool.86400" in agent
    for unknown in ("spawns.60", "calls.0", "calls.060", "calls.86401", "calls.1m", "calls.60.of", "calls.-1"):
        assert f"facts.session.rates.{unknown}" not in agent
    assert "facts.session.rates.calls.60" not in input_fields("envoy")


def test_f1_a_rollouts_candidate_is_verified_like_any_other_and_moves_no_counter(service: Service) -> None:
    running(service)
    before = service.seen
    service.put(archive.write({"policy.rego": b"package authz\n"}))
    with pytest.raises(BundleError) as unsigned:
        service.activation.open(service.source)
    assert unsigned.value.code == "BUNDLE_UNSIGNED"
    service.serve(of=SECOND)
    opened = service.activation.open(service.source)
    assert opened.policy.interpret(opened.policy.decision.evaluate(b"{}", 1.0)).reason == "2"
    assert service.answer() == "1"
    assert (service.seen.sequence, service.seen.digest) == (before.sequence, before.digest)
    assert opened.verified is not None
    assert opened.verified.digest in service.seen.activated, "it may return, as what served here may"
