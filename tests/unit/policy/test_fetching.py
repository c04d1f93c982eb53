"""A service that follows a published bundle: what comes is judged once, what serves goes on, and nobody is crowded."""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import orjson
import pytest

from authz.bundles import is_current
from authz.config import BundleTrust, Policy
from authz.errors import BundleError
from authz.native import Library
from authz.policy import agent_contract, archive
from authz.policy.activation import Activation
from authz.policy.admission import admission
from authz.policy.fetching import Fetcher, Pace
from authz.policy.last_good import LastGood
from authz.policy.opa_native import NativeEngine
from authz.policy.origin import Offer
from tests.fakes import FakeClock
from tests.publisher import DAY_NS, NOW_NS, RELEASE, TIME, Publisher, public_pem

if TYPE_CHECKING:
    from pathlib import Path

    from authz.policy.fetching import Fetching

ALLOW = b'package authz\n\ndecision := {"effect": "allow", "reason": "all"}\n'
GOLDEN = b'[{"agent": {"id": "mallory"}}]'


def bundle(sequence: int, **files: bytes) -> Publisher:
    policy = b'package authz\n\ndecision := {"effect": "deny", "reason": "%d"}\n' % sequence
    return Publisher(sequence=sequence, files={"policy.rego": policy, "golden/deny.json": GOLDEN, **files})


@dataclass
class Shelf:
    """An origin in memory, whose state a test bends."""

    archive: bytes = b""
    beside: dict[str, bytes] = field(default_factory=dict)
    is_down: bool = False
    holds: bool = False
    path: str = "acme/payments"
    read_times: int = 0
    sent: int = 0

    def tag(self, archive: bytes) -> str:
        return hashlib.sha256(archive).hexdigest()

    def read(self, known: str, *, base: bytes = b"", wait_s: float = 0.0) -> Offer:
        assert not known or known == self.tag(base)
        self.read_times += 1
        if self.is_down:
            raise BundleError("nobody answers", code="BUNDLE_FETCH")
        tag = self.tag(self.archive)
        self.sent += tag != known
        content = None if tag == known else self.archive
        return Offer(tag=tag, archive=content, beside=dict(self.beside), is_held=self.holds and wait_s > 0)  # type: ignore[arg-type]


class Service:
    """A sidecar's part that follows a bundle, with its disk; `start` is a start of the process."""

    def __init__(self, folder: Path, **pins: object) -> None:
        self.folder, self.pins, self.shelf, self.spread = folder, pins, Shelf(), 10.0
        self.clock = FakeClock(wall_ns=NOW_NS)
        for signer in (RELEASE, TIME):
            (folder / f"{signer.name}.pem").write_bytes(public_pem(signer.private))
        self.start()

    def start(self) -> None:
        trust = BundleTrust.model_validate({"keys": {"release": self.folder / "release.pem"}, **self.pins})
        kept = LastGood(self.folder / "state")
        settings = Policy(trust=trust, state=self.folder / "state")
        self.activation = Activation(
            NativeEngine(Library.load()),
            settings.rule,
            agent_contract.interpret,
            last_good=kept,
            admission=admission(settings, engine="1.22.0", folder=kept.folder, clock=self.clock),
        )
        self.told: list[Fetching] = []
        self.fetcher = Fetcher(
            self.shelf,
            self.activation,
            self.clock,
            Pace(poll_s=self.spread, wait_s=60.0),
            spread=lambda seconds: seconds,  # the most that chance gives
            told=self.told.append,
        )
        self.fetcher.begin()

    def publish(self, published: Publisher | bytes, **beside: bytes) -> str:
        """The code with which it is refused; empty where it answers."""
        self.shelf.archive = published if isinstance(published, bytes) else published.packed()
        self.shelf.beside = beside
        self.fetcher.look()
        return self.fetcher.state.code

    def answer(self) -> str:
        active = self.activation.active()
        return active.interpret(active.decision.evaluate(b"{}", 1.0)).reason


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_what_is_published_answers_and_a_newer_one_takes_its_place(service: Service) -> None:
    assert not service.activation.revision.revision
    assert service.publish(bundle(1)) == ""
    assert service.answer() == "1"
    assert service.publish(bundle(2)) == ""
    assert service.answer() == "2"
    assert service.fetcher.state.serving == hashlib.sha256(bundle(2).packed()).hexdigest()


def test_what_is_the_same_is_neither_sent_nor_opened_again(service: Service) -> None:
    service.publish(bundle(1))
    activated = service.activation.activated
    for _ in range(3):
        service.fetcher.look()
    assert (service.shelf.sent, service.activation.activated) == (1, activated)


def test_f12_what_is_refused_is_sent_judged_and_told_once_while_the_last_good_one_answers(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.publish(bundle(1))
    bad = bundle(2, **{"policy.rego": ALLOW})
    assert service.publish(bad) == "BUNDLE_GOLDEN"
    for _ in range(3):
        service.fetcher.look()
    assert service.shelf.sent == 2
    assert caplog.text.count("is not taken") == 1
    assert service.activation.refused == 1
    assert service.answer() == "1"
    state = service.fetcher.state
    assert (state.refused, state.code) == (hashlib.sha256(bad.packed()).hexdigest(), "BUNDLE_GOLDEN")
    # Packed anew it is still the same bundle.
    repacked = archive.write(archive.read(bad.packed()), level=archive.STORED)
    assert service.publish(repacked) == "BUNDLE_QUARANTINED"
    assert service.publish(bundle(3)) == ""
    assert (service.answer(), service.fetcher.state.refused) == ("3", "")


def test_a_server_that_is_down_changes_nothing_and_is_asked_later_and_later(service: Service) -> None:
    service.publish(bundle(1))
    service.shelf.is_down = True
    pauses = [service.fetcher.look() for _ in range(6)]
    assert pauses == [1.5, 3.0, 6.0, 12.0, 15.0, 15.0]
    assert (service.answer(), service.fetcher.state.code) == ("1", "")
    assert "nobody answers" in service.fetcher.state.unreachable
    service.shelf.is_down = False
    assert service.fetcher.look() == 15.0
    assert service.fetcher.state.unreachable == ""


def test_a_restart_with_the_network_gone_serves_the_last_good_bundle(service: Service) -> None:
    service.publish(bundle(1))
    service.publish(b"not an archive")
    service.shelf.is_down = True
    service.start()
    assert service.answer() == "1"
    assert service.fetcher.state.serving == hashlib.sha256(bundle(1).packed()).hexdigest()
    service.fetcher.look()
    assert service.answer() == "1"


def test_f4_after_a_restart_nothing_older_is_taken(service: Service) -> None:
    service.publish(bundle(5))
    service.start()
    assert service.publish(bundle(4)) == "BUNDLE_REGRESSION"
    assert service.answer() == "5"


def test_a_restart_fetches_nothing_that_is_on_the_disk(service: Service) -> None:
    service.publish(bundle(1))
    service.start()
    service.fetcher.look()
    assert service.shelf.sent == 1


def test_what_lies_beside_is_judged_anew_without_being_sent_again(tmp_path: Path) -> None:
    service = Service(
        tmp_path,
        keys={"release": tmp_path / "release.pem", "time": tmp_path / "time.pem"},
        freshness={"keys": ["time"], "max_age_s": 3600},
    )
    assert service.publish(bundle(1)) == "BUNDLE_STALE"
    service.shelf.beside = {"timestamp": bundle(1).timestamp()}
    service.fetcher.look()
    assert (service.fetcher.state.code, service.answer(), service.shelf.sent) == ("", "1", 1)


def test_f5_a_frozen_mirror_is_noticed_and_a_new_statement_ends_it(tmp_path: Path) -> None:
    service = Service(
        tmp_path,
        keys={"release": tmp_path / "release.pem", "time": tmp_path / "time.pem"},
        freshness={"keys": ["time"], "max_age_s": 3600},
    )
    service.publish(bundle(1), timestamp=bundle(1).timestamp())
    service.clock.advance(3601)
    service.fetcher.look()
    failure = service.activation.last_failure
    assert failure is not None
    assert failure.code == "BUNDLE_STALE"
    assert service.answer() == "1"
    service.shelf.beside = {"timestamp": bundle(1).timestamp(issued_ns=NOW_NS + 3601 * 10**9)}
    service.fetcher.look()
    assert service.activation.last_failure is None


def test_f5_a_bundle_that_expires_while_its_server_is_down_answers_no_more(service: Service) -> None:
    service.publish(bundle(1))
    service.shelf.is_down = True
    service.clock.advance(31 * DAY_NS / 10**9)
    service.fetcher.look()
    assert not service.activation.revision.revision


def test_f16_starts_are_spread_over_the_interval_and_questions_never_fall_into_step(service: Service) -> None:
    service.publish(bundle(1))
    # Half of the interval, and up to as much as the interval on top: the mean is the interval.
    assert service.fetcher.look() == 5.0 + service.spread
    service.shelf.holds = True
    assert service.fetcher.look() == 1.0


@pytest.mark.parametrize("is_cold", [True, False])
@pytest.mark.parametrize("poll_s", [1.0, 10.0, 50.0])
@pytest.mark.parametrize("seed", range(3))
def test_f16_two_hundred_that_start_at_once_ask_at_most_twice_as_often_as_ever_after(
    poll_s: float, seed: int, *, is_cold: bool
) -> None:
    draw, pace = random.Random(seed), Pace(poll_s=poll_s)  # noqa: S311 - no secret

    def spread(seconds: float) -> float:
        return draw.uniform(0, seconds)

    firsts = [pace.first_s(spread, is_cold=is_cold) for _ in range(200)]
    looks = [at for first in firsts for at in accumulate([first, *(pace.next_s(spread) for _ in range(50))])]
    # Half an interval is long enough for chance to even out, and shorter than any part of the start.
    counted = Counter(int(at / (poll_s / 2)) for at in looks)
    steady = sum(counted[number] for number in range(20, 40)) / 20
    assert max(counted.values()) <= 2 * steady
    assert max(firsts) < 60


def test_each_look_is_told(service: Service) -> None:
    service.publish(bundle(1))
    service.publish(b"x")
    assert [(bool(each.serving), each.code) for each in service.told] == [(True, ""), (True, "BUNDLE_ARCHIVE")]


def test_a_bundle_is_current_while_its_origin_is_heard_and_then_for_half_of_its_life(service: Service) -> None:
    def current() -> bool:
        return is_current(service.fetcher, service.activation, service.clock)

    assert not current()
    service.publish(bundle(1))  # a day ago, for 30 days more
    assert current()
    service.shelf.is_down = True
    service.fetcher.look()
    service.clock.advance(14 * DAY_NS / 10**9)
    assert current()
    service.clock.advance(DAY_NS / 10**9)
    assert not current()
    service.start()
    assert not current()
    service.shelf.is_down = False
    service.fetcher.look()
    assert current()


def test_f14_twenty_mebibytes_of_data_go_in_service_and_what_is_over_the_bound_does_not(service: Service) -> None:
    blocks = {f"block-{number}": os.urandom(1 << 19).hex() for number in range(20)}
    assert service.publish(bundle(1, **{"authz/blocks/data.json": orjson.dumps(blocks)})) == ""
    assert service.answer() == "1"
    assert service.publish(bytes(33 << 20)) == "BUNDLE_SIZE"
    assert service.answer() == "1"
