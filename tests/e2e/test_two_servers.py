"""Two tool servers behind one service, with a tool of the same name each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.serving import serving, tool_call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

POLICY = """package authz

import data.authzlib.grants

default decision := {"effect": "deny", "reason": "not_granted"}

decision := {"effect": "allow", "reason": "granted"} if {
	grants.covers({"agent": {"files": ["read_file"], "mail.read": ["file"]}}, input.agent.id, input.tool)
}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("servers")
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.rego").write_text(POLICY)
    with serving(folder, policy=folder / "policy") as running:
        yield running


@pytest.mark.parametrize(
    ("server", "tool", "is_allowed"),
    [
        ("files", "read_file", True),
        ("other", "read_file", False),
        ("", "read_file", False),
        ("Files", "read_file", False),
        ("files ", "read_file", False),
        ("mail.read", "file", True),
        ("mail", "read.file", False),
        ("*", "read_file", False),
    ],
)
def test_c19_a_grant_on_one_server_never_covers_its_namesake_on_another(
    served: Served, server: str, tool: str, *, is_allowed: bool
) -> None:
    request = tool_call(served.token("agent"), tool)
    request.attributes.context_extensions["authz.server"] = server
    request.attributes.request.http.host = "files"
    answer = served.check(request)
    assert (answer.status.code == 0) is is_allowed
    told: dict[str, Any] = dict(answer.dynamic_metadata.items())
    record = next(record for record in served.records() if record["decision_id"] == told["decision_id"])
    assert (record["tool"]["server"], record["tool"]["name"]) == (server or "default", tool)
