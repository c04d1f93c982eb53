"""The grpcio transport, under grpcio-testing's server: one owner for each answer, and no allow without its record."""

from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc_testing
import pytest

from authz._gen.envoy.service.auth.v3 import external_auth_pb2
from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from authz.edge.ext_authz import ExtAuthz
from authz.edge.grpcio_transport import Answerer, LocalClaim
from authz.edge.reply import Replies, fallback
from authz.model import Effect
from authz.native import NativeError
from tests.fakes import Bench, FakeClock, FakeQuery

if TYPE_CHECKING:
    from authz.pdp import Exchange

SERVICE = external_auth_pb2.DESCRIPTOR.services_by_name["Authorization"]
CHECK = SERVICE.methods_by_name["Check"]
PATIENCE_S = 10.0


@dataclass
class FakeLog:
    """Keeps records, or fails."""

    failure: NativeError | None = None
    kept: list[tuple[bytes, int]] = field(default_factory=list)

    def append(self, record: bytes, sequence: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.kept.append((record, sequence))

    def void(self, sequence: int) -> None:
        """No number is ever given up here."""


@dataclass
class Service:
    """The answerer as a servicer, with what it kept."""

    bench: Bench = field(default_factory=Bench)
    records: FakeLog = field(default_factory=FakeLog)
    exchanges: list[Exchange] = field(default_factory=list)
    deadline_s: float = PATIENCE_S

    def __post_init__(self) -> None:
        ext_authz = ExtAuthz(self.bench.pdp(), Replies(lambda *_: None), FakeClock())
        self.answerer = Answerer(ext_authz, self.records, self.deadline_s, fallback, self.exchanges.append)

    def Check(self, request: CheckRequest, context: object) -> CheckResponse:  # noqa: N802
        return CheckResponse.FromString(self.answerer.check(request.SerializeToString(), context))

    def ask(self, **extensions: str) -> CheckResponse:
        server = grpc_testing.server_from_dictionary({SERVICE: self}, grpc_testing.strict_real_time())
        request = CheckRequest()
        request.attributes.context_extensions.update(extensions)
        call: Any = server.invoke_unary_unary(CHECK, (), request, PATIENCE_S)
        response, _, code, _ = call.termination()
        assert code is grpc.StatusCode.OK
        assert isinstance(response, CheckResponse)
        return response


def test_an_allow_is_recorded_before_it_is_answered() -> None:
    service = Service()
    assert service.ask().status.code == 0
    assert [sequence for _, sequence in service.records.kept] == [1]


def test_j3_an_allow_whose_record_cannot_be_written_is_a_denial() -> None:
    response = Service(records=FakeLog(failure=NativeError("disk full"))).ask()
    assert (response.status.code, response.denied_response.status.code) == (7, 403)
    assert "AUDIT_UNAVAILABLE" in response.denied_response.body


def test_a_denial_is_answered_even_without_its_record() -> None:
    service = Service(records=FakeLog(failure=NativeError("disk full")))
    service.bench.policies.query.answer = {"effect": "deny", "reason": "closed"}
    assert "closed" in service.ask().denied_response.body


def test_a3_a_late_answer_is_denied_at_the_deadline_and_recorded_as_such() -> None:
    release = threading.Event()
    service = Service(deadline_s=0.05)
    service.bench.policies.query.during = lambda: release.wait(PATIENCE_S)
    response = service.ask()
    assert "SYS_DEADLINE" in response.denied_response.body
    release.set()
    service.answerer.close()
    assert [decision.reason for _, decision in service.bench.recorder.sealed] == ["SYS_DEADLINE"]
    assert len(service.records.kept) == 1


def test_a2_a_crash_is_a_denial_and_no_grpc_error() -> None:
    service = Service()
    service.bench.policies.query.answer = RuntimeError("bug")
    response = service.ask()
    assert "SYS_INTERNAL" in response.denied_response.body
    assert len(service.records.kept) == 1


def test_what_a_later_phase_needs_is_kept_only_once_the_record_is_written() -> None:
    sanitize = FakeQuery({"effect": "sanitize", "redactions": [{"path": "/path", "replacement": "x"}]})
    service = Service()
    service.bench.policies.query = sanitize
    service.ask(**{"authz.ext_proc": "true"})
    assert [exchange.decision.enforced for exchange in service.exchanges] == [Effect.SANITIZE]
    failing = Service(records=FakeLog(failure=NativeError("disk full")))
    failing.bench.policies.query = sanitize
    failing.ask(**{"authz.ext_proc": "true"})
    assert failing.exchanges == []


@pytest.mark.parametrize("first", ["commit", "expire"])
def test_a_claim_has_one_owner_whoever_asks_first(first: str) -> None:
    claim = LocalClaim()
    second = "expire" if first == "commit" else "commit"
    assert getattr(claim, first)()
    assert not getattr(claim, second)()
    assert getattr(claim, first)()


def test_of_two_threads_exactly_one_owns_the_claim() -> None:
    with futures.ThreadPoolExecutor(2) as threads:
        for _ in range(100):
            claim = LocalClaim()
            sides = [threads.submit(claim.commit), threads.submit(claim.expire)]
            assert sorted(side.result() for side in sides) == [False, True]
