"""What outlives a crash: marks of candidates that ended the process, and the copy that stands in for them."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from authz.config import Config, Policy
from authz.errors import BundleError, ConfigError
from authz.native import Library
from authz.policy import agent_contract
from authz.policy.activation import Activation
from authz.policy.archive import MAX_BYTES
from authz.policy.engine import PolicySource
from authz.policy.last_good import CRASHES, LastGood, source_digest
from authz.policy.opa_native import NativeEngine
from authz.policy.sources import files_below, read_archive
from authz.wiring import last_good

if TYPE_CHECKING:
    from pathlib import Path

    from authz.policy.opa_native import NativePolicy

GOOD = 'package authz\n\ndecision := {"effect": "allow", "reason": "good"}\n'
BAD = 'package authz\n\ndecision := {"effect": "allow", "reason": "bad"}\n'


class Crash(BaseException):
    """Stands for the end of the process."""


class CrashingEngine(NativeEngine):
    """Ends the process on a policy that says `bad`."""

    def open(self, source: PolicySource) -> NativePolicy:
        if any("bad" in path.read_text() for root in source.paths for path in files_below(root)):
            raise Crash
        return super().open(source)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "policy.rego").write_text(GOOD)
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def activation(state: Path) -> Activation:
    """A process that starts."""
    engine = CrashingEngine(Library.load())
    return Activation(engine, "authz/decision", agent_contract.interpret, last_good=LastGood(state))


def crash(state: Path, policy: Path) -> None:
    """A process that dies while it opens its policy: what would run after that leaves no trace."""
    as_it_was = state.with_name("as-it-was")
    dying = Activation(
        _Freezing(state, as_it_was), "authz/decision", agent_contract.interpret, last_good=LastGood(state)
    )
    with pytest.raises(Crash):
        dying.begin(source(policy))
    shutil.rmtree(state)
    as_it_was.rename(state)


class _Freezing:
    """An engine that keeps the state as it is at the moment of the crash."""

    def __init__(self, state: Path, copy: Path) -> None:
        self._state, self._copy = state, copy

    def open(self, _: PolicySource) -> NativePolicy:
        shutil.copytree(self._state, self._copy)
        raise Crash


def source(folder: Path) -> PolicySource:
    return PolicySource(paths=(folder,))


def answer(active: Activation) -> str:
    policy = active.active()
    return policy.interpret(policy.decision.evaluate(b"{}", 1.0)).reason


def refusal(state: Path, candidate: PolicySource) -> str:
    with pytest.raises(BundleError) as refused:
        activation(state).begin(candidate)
    return refused.value.code


def test_f15_after_two_crashes_the_last_good_policy_answers(state: Path, policy: Path) -> None:
    activation(state).begin(source(policy))
    (policy / "policy.rego").write_text(BAD)
    for _ in range(CRASHES):
        crash(state, policy)
    started = activation(state)
    started.begin(source(policy))
    assert answer(started) == "good"
    assert started.last_failure is not None
    assert started.last_failure.code == "BUNDLE_POISON"


def test_f15_one_crash_may_be_chance_and_is_tried_again(state: Path, policy: Path) -> None:
    activation(state).begin(source(policy))
    (policy / "data.json").write_text('{"n": 1}')
    crash(state, policy)
    started = activation(state)
    started.begin(source(policy))
    assert started.last_failure is None
    assert not LastGood(state).is_poison(source(policy))
    crash(state, policy)
    activation(state).begin(source(policy))


def test_f15_poison_is_marked_for_its_bytes_and_not_for_its_place(state: Path, policy: Path) -> None:
    activation(state).begin(source(policy))
    (policy / "policy.rego").write_text(BAD)
    for _ in range(CRASHES):
        crash(state, policy)
    started = activation(state)
    started.begin(source(policy))
    assert LastGood(state).is_poison(source(policy))
    with pytest.raises(BundleError, match="BUNDLE_POISON"):
        started.activate(source(policy))
    (policy / "policy.rego").write_text(GOOD.replace("good", "mended"))
    started.activate(source(policy))
    assert answer(started) == "mended"
    assert started.last_failure is None


def test_f15_poison_stays_poison_at_every_later_start(state: Path, policy: Path) -> None:
    activation(state).begin(source(policy))
    (policy / "policy.rego").write_text(BAD)
    for _ in range(CRASHES):
        crash(state, policy)
    for _ in range(3):
        started = activation(state)
        started.begin(source(policy))
        assert answer(started) == "good"


def test_f15_poison_without_a_last_good_policy_is_refused_and_not_opened(state: Path, policy: Path) -> None:
    for _ in range(CRASHES):
        crash(state, policy)
    assert refusal(state, source(policy)) == "BUNDLE_POISON"


def test_f15_an_operator_can_lift_the_mark(state: Path, policy: Path) -> None:
    for _ in range(CRASHES):
        crash(state, policy)
    assert refusal(state, source(policy)) == "BUNDLE_POISON"
    (state / "poison").unlink()
    started = activation(state)
    started.begin(source(policy))
    assert answer(started) == "good"


def test_f15_a_last_good_policy_that_crashes_as_well_ends_as_poison_too(state: Path, policy: Path) -> None:
    activation(state).begin(source(policy))
    (policy / "policy.rego").write_text(BAD)
    for _ in range(2 * CRASHES):
        crash(state, policy)
    assert refusal(state, source(policy)) == "BUNDLE_POISON"


def test_a_candidate_that_is_refused_is_neither_good_nor_poison(state: Path, policy: Path) -> None:
    (policy / "policy.rego").write_text("package authz\n\ndecision := {")
    for _ in range(CRASHES + 1):
        assert refusal(state, source(policy)) == "BUNDLE_INVALID"
    assert LastGood(state).recall(source(policy)) is None


def test_f7_a_copy_that_changed_on_disk_is_never_opened(state: Path, policy: Path) -> None:
    activation(state).begin(source(policy))
    copy = LastGood(state).recall(source(policy))
    assert copy is not None
    (kept,) = copy.paths[0].glob("*.rego")
    kept.chmod(0o600)
    kept.write_text(GOOD.replace("good", "forged"))
    with pytest.raises(BundleError, match="BUNDLE_STATE"):
        LastGood(state).recall(source(policy))
    kept.unlink()
    with pytest.raises(BundleError, match="BUNDLE_STATE"):
        LastGood(state).recall(source(policy))


def test_files_that_change_while_they_are_probed_are_not_kept(state: Path, policy: Path) -> None:
    store = LastGood(state)
    with store.attempt(source(policy)):
        (policy / "policy.rego").write_text(BAD)
    assert store.recall(source(policy)) is None
    assert list(state.iterdir()) == []


def test_only_the_newest_good_policy_is_kept(state: Path, policy: Path) -> None:
    for number in range(3):
        (policy / "data.json").write_text(f'{{"n": {number}}}')
        with LastGood(state).attempt(source(policy)):
            pass
    copy = LastGood(state).recall(source(policy))
    assert copy is not None
    assert (copy.paths[0] / "data.json").read_text() == '{"n": 2}'
    assert sorted(path.name for path in state.iterdir()) == sorted(["good", source_digest(copy)])


def test_f15_a_second_poison_does_not_lift_the_first(state: Path, policy: Path) -> None:
    for rego in (BAD, BAD + "\n"):
        (policy / "policy.rego").write_text(rego)
        for _ in range(CRASHES):
            crash(state, policy)
        assert refusal(state, source(policy)) == "BUNDLE_POISON"
    (policy / "policy.rego").write_text(BAD)
    assert LastGood(state).is_poison(source(policy))


def test_the_copy_loads_as_its_original_does(state: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "single.rego"
    (first / "limits").mkdir(parents=True)
    (first / "limits" / "data.yaml").write_text("most: 7\n")
    (first / ".hidden").mkdir()
    (first / ".hidden" / "other.rego").write_text("not Rego")
    (first / "README.md").write_text("not a policy")
    second.write_text('package authz\n\ndecision := {"effect": "allow", "reason": sprintf("%d", [data.limits.most])}\n')
    roots = PolicySource(paths=(first, second))
    started = activation(state)
    started.begin(roots)
    copy = LastGood(state).recall(roots)
    assert copy is not None
    again = activation(state.with_name("again"))
    again.begin(copy)
    assert answer(again) == answer(started) == "7"
    assert sorted(path.name for root in copy.paths for path in root.rglob("*") if path.is_file()) == [
        "data.yaml",
        "single.rego",
    ]


def test_f15_the_last_good_policy_of_another_service_never_stands_in(state: Path, policy: Path) -> None:
    def store(**settings: Any) -> LastGood:
        usual: dict[str, Any] = {"paths": (policy,), "state": state}
        found = last_good(Config(policy=Policy(**(usual | settings))))
        assert found is not None
        return found

    with store().attempt(source(policy)):
        pass
    assert store().recall(source(policy)) is not None
    for other in ({"paths": (policy.parent / "other",)}, {"contract": "envoy"}, {"entrypoint": "authz/other"}):
        assert store(**other).recall(source(policy)) is None


def test_state_within_the_policy_is_refused(policy: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.state"):
        last_good(Config(policy=Policy(paths=(policy,), state=policy / "state")))


def test_without_state_or_files_nothing_is_kept(policy: Path, state: Path) -> None:
    assert last_good(Config(policy=Policy(paths=(policy,)))) is None
    assert last_good(Config(policy=Policy(opa_url="http://127.0.0.1:1", state=state))) is None


def test_an_archive_is_kept_as_it_is(state: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("policy.rego")
        entry.size = len(GOOD)
        archive.addfile(entry, io.BytesIO(GOOD.encode()))
    bundle = PolicySource(archive=packed.getvalue())
    with LastGood(state).attempt(bundle):
        pass
    assert LastGood(state).recall(bundle) == bundle


def test_a_folder_that_cannot_be_used_refuses_a_candidate(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file" / "state", source(policy)) == "BUNDLE_STATE"


def test_a_copy_that_cannot_be_kept_does_not_keep_the_policy_from_answering(
    state: Path, policy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = LastGood(state)
    with store.attempt(source(policy)):
        (state / "good").mkdir()
    assert f"no copy of it could be kept: {os.strerror(errno.EISDIR)}" in caplog.text


def test_f14_an_archive_is_read_no_further_than_it_may_weigh(tmp_path: Path) -> None:
    large = tmp_path / "bundle.tar.gz"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES)
    assert len(read_archive(large)) == MAX_BYTES
    with large.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="BUNDLE_SIZE"):
        read_archive(large)


def test_f14_an_oversize_policy_changes_nothing_and_says_its_code(state: Path, policy: Path) -> None:
    started = activation(state)
    started.begin(source(policy))
    (policy / "data.json").write_text('{"pad": "%s"}' % ("x" * MAX_BYTES))
    with pytest.raises(BundleError) as refused:
        started.activate(source(policy))
    assert refused.value.code == "BUNDLE_SIZE"
    assert answer(started) == "good"
    assert started.last_failure is refused.value
