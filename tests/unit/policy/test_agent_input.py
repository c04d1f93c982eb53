"""Contract `agent`: the input document is the whole call, and no credential."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from authz.destination import Destination
from authz.model import Check, Phase
from authz.policy.agent_input import Facts, input_document
from tests.fakes import CALL, PRINCIPAL

CHECK = Check(
    request_id="r1",
    method="POST",
    path="/mcp?x=1",
    host="tools",
    headers={"user-agent": "sdk", "authorization": "Bearer secret", "cookie": "c=1"},
    body=b"12345",
    source_address="127.0.0.1",
    received_ns=1_800_000_000_000_000_001,
)


def document(**changes: Any) -> dict[str, Any]:
    call = replace(CALL, **changes)
    raw = input_document(CHECK, PRINCIPAL, call, Facts(), ("user-agent", "x-absent"), {"content": []})
    read: dict[str, Any] = orjson.loads(raw)
    return read


def test_the_document_is_version_1_of_the_contract() -> None:
    assert document() == {
        "version": 1,
        "phase": "call",
        "agent": {"id": "agent-1", "tenant": "acme", "session": "", "subject": "agent-1", "scopes": [], "parents": []},
        "tool": {
            "server": "default",
            "name": "read_document",
            "protocol": "mcp",
            "method": "tools/call",
            "capabilities": [],
            "connector": "",
            "pinned": False,
            "digest": "",
        },
        "args": {"path": "/docs/a"},
        "http": {"method": "POST", "host": "tools", "path": "/mcp", "query": "x=1", "headers": {"user-agent": "sdk"}},
        "source": {"address": "127.0.0.1", "principal": ""},
        "call": {"id": "r1", "idempotency_key": "", "size_bytes": 5},
        "facts": {"budgets": {}, "session": {}, "approval": {}},
        "time": {"rfc3339": "2027-01-15T08:00:00.000000001Z", "unix_ns": 1_800_000_000_000_000_001},
    }


def test_credentials_are_never_input() -> None:
    raw = input_document(CHECK, PRINCIPAL, CALL, Facts(), ("user-agent",))
    assert b"secret" not in raw
    assert b"c=1" not in raw


def test_a_listed_tool_has_no_arguments_and_no_result() -> None:
    listed = document(phase=Phase.LIST)
    assert not {"args", "result"} & listed.keys()


def test_only_a_result_has_a_result() -> None:
    assert document(phase=Phase.RESULT)["result"] == {"content": []}
    assert "result" not in document()


def test_where_the_call_leads_is_input_where_it_is_known() -> None:
    assert document(destination=Destination("bank.example", 443))["destination"] == {
        "host": "bank.example",
        "port": 443,
    }
    assert document(destination=Destination("bank.example"))["destination"] == {"host": "bank.example"}


@pytest.mark.parametrize("fact", ["lifecycle", "autonomy", "owner"])
def test_an_unknown_fact_is_absent_and_not_null(fact: str) -> None:
    assert fact not in document()["agent"]
    known = orjson.loads(input_document(CHECK, PRINCIPAL, CALL, Facts(agent={fact: "x"}), ()))
    assert known["agent"][fact] == "x"
