"""Each decision table of tests/cases holds through OPA's own server, through our engine, and through `decide`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from authz.model import Check, Phase, Principal, Protocol, Tool, ToolCall
from authz.native import Library
from authz.policy import agent_contract
from authz.policy.activation import Activation
from authz.policy.decision_table import decided, differences, read_table
from authz.policy.engine import PolicySource
from authz.policy.opa_native import NativeEngine
from authz.policy.opa_server import ServerEngine
from authz.resources import shared
from tests.contracts.programs import opa, running
from tests.fakes import Bench, FakeClaim, FakeFront
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.policy.decision_table import Case, Table
    from authz.policy.engine import Query

BEHIND_EXT_PROC = Check(context={"authz.ext_proc": "true"})
CASES = Path(__file__).resolve().parents[1] / "cases"
TABLES = {path.stem: read_table(path) for path in sorted(CASES.glob("*.yaml"))}


def every_case() -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}: {case.name}") for name, table in TABLES.items() for case in table.cases
    ]


def paths(table: Table) -> tuple[Path, ...]:
    assert table.policy is not None
    return (table.policy.resolve(), shared("rego"))


@dataclass(frozen=True)
class Engines:
    """One policy behind both engines, and active."""

    native: Query
    server: Query
    activation: Activation


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engines]]:
    (name, table), *_ = TABLES.items()
    source = PolicySource(paths=paths(table))
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [opa(), "run", "--server", "--addr", address, "--disable-telemetry", *map(str, source.paths)]
    with running(command, port, tmp_path_factory.mktemp("opa") / "log"):
        native, server = NativeEngine(Library.load()), ServerEngine(f"http://{address}")
        activation = Activation(native, table.entrypoint, agent_contract.interpret)
        activation.activate(source)
        with native.open(source) as ours, server.open(PolicySource()) as theirs:
            yield {name: Engines(ours.query(table.entrypoint), theirs.query(table.entrypoint), activation)}


def test_there_are_tables() -> None:
    assert "starter" in TABLES


@pytest.mark.parametrize(("table", "case"), every_case())
def test_the_engine_decides_as_the_table_says(engines: dict[str, Engines], table: str, case: Case) -> None:
    assert differences(case, engines[table].native, agent_contract.interpret) == ()


@pytest.mark.parametrize(("table", "case"), every_case())
def test_opa_decides_as_the_table_says(engines: dict[str, Engines], table: str, case: Case) -> None:
    assert differences(case, engines[table].server, agent_contract.interpret) == ()


@pytest.mark.parametrize(("table", "case"), [each for each in every_case() if each.values[1].input["phase"] == "call"])
def test_decide_makes_the_decision_of_it(engines: dict[str, Engines], table: str, case: Case) -> None:
    bench = Bench(front=front(case), policies=engines[table].activation)  # type: ignore[arg-type]  # the real pointer
    decision = bench.pdp().decide(BEHIND_EXT_PROC, FakeClaim(), lambda *_: b"").decision
    assert decision.effect == case.want["effect"]
    assert decision.reason == case.want["reason"]
    assert decision.verdict is not None
    assert "approval" not in case.want or decided(decision.verdict)["approval"] == case.want["approval"]


def front(case: Case) -> FakeFront:
    """The caller and the call of a case."""
    asked: dict[str, Any] = dict(case.input)
    agent, tool = asked["agent"], asked["tool"]
    who = Principal(issuer="i", tenant=agent["tenant"], agent=agent["id"], subject=agent["subject"])
    called = Tool(server=tool["server"], name=tool["name"], protocol=Protocol(tool["protocol"]), method=tool["method"])
    return FakeFront(who=who, what=ToolCall(tool=called, args=asked["args"], phase=Phase.CALL))
