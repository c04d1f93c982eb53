"""The RPC boundary: whatever arrives, one explicit answer with one record leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from authz.edge.ext_authz import ExtAuthz, read
from authz.edge.reply import Replies
from authz.errors import InvalidRequestError
from authz.front import ConfiguredFront
from authz.model import NO_REVISION
from authz.reasons import HTTP_PATH, SYS_DEADLINE
from tests.fakes import Bench, FakeClaim, FakeClock, configuration

if TYPE_CHECKING:
    from authz.model import Check, JsonObject


def request(**http: Any) -> CheckRequest:
    message = CheckRequest()
    message.attributes.request.http.method = "POST"
    message.attributes.request.http.path = "/mcp"
    for name, value in http.items():
        target = getattr(message.attributes.request.http, name)
        if isinstance(value, dict):
            target.update(value)
        else:
            setattr(message.attributes.request.http, name, value)
    return message


def boundary(bench: Bench, document: Any = None) -> ExtAuthz:
    return ExtAuthz(bench.pdp(), Replies(lambda *_: None), FakeClock(), document)


def answer(bench: Bench, raw: bytes, claim: FakeClaim | None = None) -> CheckResponse:
    return CheckResponse.FromString(boundary(bench).check(raw, claim or FakeClaim()).answer)


class Broken:
    """A part that fails in a way nobody foresaw."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("secret-token-in-a-message")


@pytest.mark.parametrize("part", ["front", "policies", "kills"])
def test_a2_an_exception_anywhere_is_a_recorded_deny(part: str, caplog: pytest.LogCaptureFixture) -> None:
    broken: dict[str, Any] = {part: Broken()}
    bench = Bench(**broken)
    if part == "policies":
        bench.policies.revision = NO_REVISION
    response = answer(bench, request().SerializeToString())
    assert (response.status.code, response.denied_response.status.code) == (7, 403)
    assert [decision.reason for _, decision in bench.recorder.sealed] == ["SYS_INTERNAL"]
    assert "secret-token" not in response.denied_response.body
    assert caplog.records


def test_a21_bytes_that_are_no_check_are_refused_on_record() -> None:
    bench = Bench(front=ConfiguredFront(configuration(), None))  # type: ignore[arg-type]
    response = answer(bench, b"\xff\xff not protobuf")
    assert response.status.code == 7
    assert [decision.reason for _, decision in bench.recorder.sealed] == ["SYS_CALLER"]


@given(st.binary(max_size=200))
def test_any_bytes_get_an_explicit_answer(raw: bytes) -> None:
    bench = Bench(front=ConfiguredFront(configuration(), None))  # type: ignore[arg-type]
    response = answer(bench, raw)
    assert response.status.code in (7, 16)
    assert response.HasField("denied_response")
    assert len(bench.recorder.sealed) == 1


def test_the_transports_own_refusal_is_recorded_and_amends_what_was_written() -> None:
    bench = Bench()
    raw = request(id="r1").SerializeToString()
    answered = boundary(bench).refuse(SYS_DEADLINE, raw, b'{"decision_id": "d0"}')
    assert (answered.decision.reason, answered.decision.amends) == ("SYS_DEADLINE", "d0")
    assert bench.recorder.sealed[0][0].request_id == "r1"


def test_raw_headers_and_plain_headers_read_the_same() -> None:
    plain = read(request(headers={"x-a": "1"}), 5)
    raw = request()
    raw.attributes.request.http.header_map.headers.add(key="X-A", raw_value=b"1")
    assert plain == read(raw, 5)
    assert plain.received_ns == 5


def test_repeated_raw_headers_are_joined_as_envoy_joins_them() -> None:
    message = request()
    for value in (b"Bearer a", b"Bearer b"):
        message.attributes.request.http.header_map.headers.add(key="authorization", raw_value=value)
    assert read(message, 0).headers["authorization"] == "Bearer a,Bearer b"


def test_a12_raw_bytes_stay_visible() -> None:
    message = request()
    message.attributes.request.http.header_map.headers.add(key="x-tenant", raw_value=b"a\xc3\x28")
    assert not read(message, 0).headers["x-tenant"].isascii()


def test_a13_both_kinds_of_headers_at_once_are_refused() -> None:
    message = request(headers={"authorization": "Bearer a"})
    message.attributes.request.http.header_map.headers.add(key="authorization", raw_value=b"Bearer b")
    assert read(message, 0).fault == "HEADER_DUPLICATE"


@pytest.mark.parametrize(
    ("text", "raw", "body", "fault"),
    [
        ("", b"", None, ""),
        ("", b"{}", b"{}", ""),
        ("{}", b"", b"{}", ""),
        ("{}", b"{}", b"{}", ""),
        ("{}", b"[]", None, "MCP_BODY_AMBIGUOUS"),
        ("\ufffd", b"", None, "MCP_BODY_AMBIGUOUS"),
        ("é", "é".encode(), None, "MCP_BODY_AMBIGUOUS"),
    ],
)
def test_a10_two_bodies_or_a_replaced_one_are_refused(text: str, raw: bytes, body: bytes | None, fault: str) -> None:
    check = read(request(body=text, raw_body=raw), 0)
    assert (check.body, check.fault) == (body, fault)


def test_contract_envoy_reads_the_plugins_document_and_refuses_what_it_refuses() -> None:
    seen: list[Check] = []
    bench = Bench()
    bench.front.route = seen.append  # type: ignore[method-assign,assignment]

    def document(message: CheckRequest) -> JsonObject:
        if message.attributes.request.http.path == "/%zz":
            raise InvalidRequestError(HTTP_PATH)
        return {"parsed_path": ["mcp"]}

    service = boundary(bench, document)
    service.check(request().SerializeToString(), FakeClaim())
    service.check(request(path="/%zz").SerializeToString(), FakeClaim())
    assert [check.document for check in seen] == [{"parsed_path": ["mcp"]}, None]
    assert [check.fault for check in seen] == ["", "HTTP_PATH"]


def test_an_open_claim_is_taken_before_a_crash_is_answered() -> None:
    class Counted(FakeClaim):
        commits = 0

        def commit(self) -> bool:
            self.commits += 1
            return True

    claim = Counted()
    answer(Bench(front=Broken()), request().SerializeToString(), claim)  # type: ignore[arg-type]
    assert claim.commits == 1


def test_a_crash_after_a_lost_claim_is_recorded_as_the_deadline_that_was_sent() -> None:
    bench = Bench(front=Broken())  # type: ignore[arg-type]
    answer(bench, request().SerializeToString(), FakeClaim(is_open=False))
    assert [decision.reason for _, decision in bench.recorder.sealed] == ["SYS_DEADLINE"]


def test_what_envoy_knows_of_the_call_is_read_as_it_is() -> None:
    message = request(scheme="https", id="r-1", host="tools")
    message.attributes.source.principal = "spiffe://domain/agent"
    message.attributes.source.address.socket_address.address = "10.1.2.3"
    check = read(message, 5)
    assert (check.scheme, check.request_id, check.host, check.received_ns) == ("https", "r-1", "tools", 5)
    assert (check.source_principal, check.source_address) == ("spiffe://domain/agent", "10.1.2.3")


def test_a12_header_bytes_stay_visible_one_by_one() -> None:
    message = request()
    message.attributes.request.http.header_map.headers.add(key="X-Tenant", raw_value=b"a\xc3\x28")
    assert read(message, 0).headers == {"x-tenant": "a\u00c3("}


def test_contract_envoy_reads_the_bodies_that_opa_envoy_plugin_reads() -> None:
    raw = request(body="\u00e9", raw_body=b"\xc3\xa9").SerializeToString()
    assert boundary(Bench()).check(raw, FakeClaim()).decision.reason == "granted"
    front = ConfiguredFront(configuration(routes=()), None)
    bench = Bench(front=front)  # type: ignore[arg-type]
    assert boundary(bench).check(raw, FakeClaim()).decision.reason == "MCP_BODY_AMBIGUOUS"
    assert boundary(bench, lambda _: {"version": 2}).check(raw, FakeClaim()).decision.reason != "MCP_BODY_AMBIGUOUS"
