"""Activation: a candidate is probed before it answers, and a bad one changes nothing."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import BundleError, UnavailableError
from authz.model import Rate
from authz.native import Library
from authz.policy import agent_contract
from authz.policy.activation import Activation
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.policy.watch import Watch, fingerprint
from authz.reasons import POLICY_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.policy.opa_native import NativePolicy

ALLOW = 'package authz\n\ndecision := {"effect": "allow", "reason": "first"}\n'
DENY = 'package authz\n\ndecision := {"effect": "deny", "reason": "second"}\n'
PATIENCE_S = 10.0
WATCH_S = 0.02


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.rego").write_text(ALLOW)
    return tmp_path


@pytest.fixture
def activation() -> Activation:
    return Activation(NativeEngine(Library.load()), "authz/decision", agent_contract.interpret)


def source(folder: Path) -> PolicySource:
    return PolicySource(paths=(folder,))


def answer(activation: Activation) -> str:
    active = activation.active()
    return active.interpret(active.decision.evaluate(b"{}", 1.0)).reason


def test_before_the_first_activation_nothing_can_be_asked(activation: Activation) -> None:
    assert activation.revision.revision == ""
    with pytest.raises(UnavailableError, match="POLICY_UNAVAILABLE"):
        activation.active()


def test_an_activated_policy_answers_under_its_digest(activation: Activation, folder: Path) -> None:
    activation.activate(source(folder))
    assert answer(activation) == "first"
    assert activation.revision.revision.startswith("sha256:")


def test_a_manifest_names_revision_bundle_and_change(activation: Activation, folder: Path) -> None:
    (folder / ".manifest").write_text(
        '{"revision": "r7", "roots": ["authz"], "metadata": {"authz": {"bundle_id": "b", "change_id": "c"}}}'
    )
    revision = activation.activate(source(folder)).revision
    assert (revision.revision, revision.bundle_id, revision.change_id) == ("r7", "b", "c")


@pytest.mark.parametrize(
    "rego",
    [
        "package authz\n\ndecision := {",
        "package elsewhere\n\ndecision := {}",
        "package authz\n\ndecision := true\n",
        'package authz\n\ndecision := {"effect": "perhaps"}\n',
        'package authz\n\ndecision := http.send({"method": "get", "url": "http://127.0.0.1"})\n',
        'package authz\n\ndecision := {"effect": "allow"} if opa.runtime().env\n',
        'package authz\n\ndecision := {"effect": "allow"} if time.now_ns() > 0\n',
        'package authz\n\ndecision := {"effect": "allow"} if {\n\tinput.agent\n\tto_number("x") == 1\n}\n',
    ],
    ids=["syntax", "entrypoint", "boolean", "shape", "http_send", "runtime", "clock", "errors"],
)
def test_f9_a_bad_candidate_never_replaces_a_good_one(activation: Activation, folder: Path, rego: str) -> None:
    first = activation.activate(source(folder))
    (folder / "policy.rego").write_text(rego)
    with pytest.raises(BundleError):
        activation.activate(source(folder))
    assert activation.active() is first
    assert answer(activation) == "first"
    assert activation.last_failure


def test_problems_name_file_and_row(activation: Activation, folder: Path) -> None:
    (folder / "policy.rego").write_text("package authz\n\ndecision := undefined_thing\n")
    with pytest.raises(BundleError) as raised:
        activation.activate(source(folder))
    assert any("policy.rego:3" in problem for problem in raised.value.problems)


def test_f13_blank_data_is_not_a_decision(activation: Activation, folder: Path) -> None:
    (folder / "policy.rego").write_text('package authz\n\ndecision := {"effect": data.effects[input.tool.name]}\n')
    (folder / "data.json").write_text("{}")
    activation.activate(source(folder))
    active = activation.active()
    assert active.decision.evaluate(b'{"tool": {"name": "x"}}', 1.0) is None


def test_an_exchange_finishes_on_the_revision_it_began_with(activation: Activation, folder: Path) -> None:
    first = activation.activate(source(folder))
    (folder / "policy.rego").write_text(DENY)
    activation.activate(source(folder))
    assert answer(activation) == "second"
    assert first.interpret(first.decision.evaluate(b"{}", 1.0)).reason == "first"


def test_f17_each_answer_comes_from_exactly_one_revision(activation: Activation, tmp_path: Path) -> None:
    folders = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        decision = f'{{"effect": "allow", "reason": "{name}", "tags": {{"revision": "{name}"}}}}'
        (folder / "policy.rego").write_text(f"package authz\n\ndecision := {decision}\n")
        (folder / ".manifest").write_text(f'{{"revision": "{name}", "roots": ["authz"]}}')
        folders.append(folder)
    activation.activate(source(folders[0]))
    mixed: list[Any] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            active = activation.active()
            verdict = active.interpret(active.decision.evaluate(b"{}", 1.0))
            if verdict.reason != active.revision.revision:
                mixed.append((verdict.reason, active.revision.revision))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for swap in range(30):
        activation.activate(source(folders[swap % 2]))
    stop.set()
    for thread in asking:
        thread.join()
    assert mixed == []


@pytest.fixture
def watch(activation: Activation, folder: Path) -> Iterator[Watch]:
    activation.activate(source(folder))
    watch = Watch(activation, source(folder), WATCH_S)
    watch.start()
    yield watch
    watch.stop()


def test_a_changed_file_is_activated(activation: Activation, folder: Path, watch: Watch) -> None:  # noqa: ARG001
    (folder / "policy.rego").write_text(DENY)
    assert eventually(lambda: answer(activation) == "second")


def test_a_changed_file_that_is_bad_leaves_the_active_one(activation: Activation, folder: Path, watch: Watch) -> None:  # noqa: ARG001
    (folder / "policy.rego").write_text("package authz\n\ndecision := {")
    assert eventually(lambda: activation.last_failure is not None)
    assert answer(activation) == "first"
    (folder / "policy.rego").write_text(DENY)
    assert eventually(lambda: answer(activation) == "second")


def test_a_changed_file_that_is_bad_is_tried_once(activation: Activation, folder: Path, watch: Watch) -> None:  # noqa: ARG001
    (folder / "policy.rego").write_text("package authz\n\ndecision := {")
    assert eventually(lambda: activation.refused > 0)
    threading.Event().wait(10 * WATCH_S)
    assert activation.refused == 1


class Away(NativeEngine):
    """An engine that cannot be asked, for a time."""

    is_away = False

    def open(self, source: PolicySource) -> NativePolicy:
        if self.is_away:
            raise UnavailableError(POLICY_UNAVAILABLE)
        return super().open(source)


def test_an_engine_that_is_away_does_not_end_the_watch(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = Away(Library.load())
    activation = Activation(engine, "authz/decision", agent_contract.interpret)
    activation.activate(source(folder))
    watch = Watch(activation, source(folder), WATCH_S)
    watch.start()
    engine.is_away = True
    (folder / "policy.rego").write_text(DENY + "\n")
    assert eventually(lambda: "the active one stays" in caplog.text)
    engine.is_away = False
    (folder / "policy.rego").write_text(DENY)
    assert eventually(lambda: answer(activation) == "second")
    watch.stop()


@pytest.mark.parametrize(("field", "flag"), [("result", "reads_results"), ("truncated_body", "reads_truncated_body")])
def test_what_a_policy_reads_is_known_when_it_is_activated(
    activation: Activation, folder: Path, field: str, flag: str
) -> None:
    assert not getattr(activation.activate(source(folder)), flag)
    (folder / "policy.rego").write_text(f"{ALLOW}\n_reads if input.{field}\n")
    assert getattr(activation.activate(source(folder)), flag)


@pytest.mark.parametrize(
    ("rule", "is_read"),
    [
        ('_reads if object.get(input, "result", null)', True),
        ("_reads if input[_].content", True),
        ('_reads if input.phase == "result"', True),
        ('_reads if "result" == input.phase', True),
        ('_reads if input.phase in {"result", "list"}', True),
        ('_reads if input.phase == "call"', False),
        ('_reads if input.args.phase == "result"', False),
        ('_reads if input.tool.name == "result"', False),
    ],
)
def test_b7_a_policy_that_may_speak_about_results_is_asked_about_them(
    activation: Activation, folder: Path, rule: str, *, is_read: bool
) -> None:
    (folder / "policy.rego").write_text(f"{ALLOW}\n{rule}\n")
    assert activation.activate(source(folder)).reads_results is is_read


def test_the_policy_before_stays_warm_and_older_ones_are_freed(activation: Activation, folder: Path) -> None:
    def open_policies() -> int:
        gc.collect()
        return Library.load().engine_stats()["policies"]

    before = open_policies()
    for number, held in enumerate((1, 2, 2, 2)):
        (folder / "data.json").write_text(f'{{"number": {number}, "of": "{folder}"}}')
        activation.activate(source(folder))
        assert open_policies() - before == held
    (folder / "policy.rego").write_text('package authz\n\ndecision := {"effect": "perhaps"}\n')
    with pytest.raises(BundleError):
        activation.activate(source(folder))
    assert open_policies() - before == 2


def test_a_fingerprint_sees_every_file_and_no_missing_one(folder: Path) -> None:
    before = fingerprint([folder])
    (folder / "data.yaml").write_text("a: 1\n")
    assert fingerprint([folder]) != before
    assert fingerprint([folder / "absent"]) == ()


def eventually(holds: Any) -> bool:
    """Whether it comes to hold within the test's patience."""
    waiting = threading.Event()
    for _ in range(int(PATIENCE_S / 0.02)):
        if holds():
            return True
        waiting.wait(0.02)
    return False


RATES = 'decision := {"effect": "deny"} if input.facts.session.rates.%s > 3\n'


def reading(folder: Path, rate: str, requires: str = "[]") -> PolicySource:
    (folder / "policy.rego").write_text(f"package authz\n\n{RATES % rate}")
    (folder / ".manifest").write_text(
        f'{{"roots": ["authz"], "metadata": {{"authz": {{"requires_input": {requires}}}}}}}'
    )
    return source(folder)


def test_the_rates_that_rules_read_are_those_that_are_counted(activation: Activation, folder: Path) -> None:
    assert not activation.rates
    activation.activate(reading(folder, 'calls["60"]'))
    assert [*activation.rates] == [Rate("calls", 60)]
    activation.activate(reading(folder, "calls[input.args.span]", '["facts.session.rates.denied.5", "agent.id"]'))
    assert [*activation.rates] == [Rate("denied", 5)]


@pytest.mark.parametrize("rate", ['spawns["60"]', "spawns[_]", 'calls["60s"]', 'calls["90000"]', 'calls["60"].of'])
def test_a_policy_that_reads_what_nobody_counts_is_refused_and_named(
    activation: Activation, folder: Path, rate: str
) -> None:
    first = activation.activate(source(folder))
    with pytest.raises(BundleError, match=r"the input holds no `facts\.session\.rates\.\w+") as refused:
        activation.activate(reading(folder, rate))
    assert refused.value.code == "BUNDLE_INPUT"
    assert activation.active() is first


def test_so_is_one_whose_manifest_asks_for_it(activation: Activation, folder: Path) -> None:
    with pytest.raises(BundleError, match=r"facts\.session\.rates\.spawns\.60"):
        activation.activate(reading(folder, 'calls["60"]', '["facts.session.rates.spawns.60"]'))
