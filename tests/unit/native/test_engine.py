from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from authz.native import EngineError, Library, Location, NativeError, PolicyOptions, Problem
from tests.e2e.stack import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from authz.native import Policy

POLICY = """package authz

default decision := {"effect": "deny"}

decision := {"effect": "allow"} if {
	print("judging", input.tool.name)
	input.tool.name == "read"
}

conflict := input.a
conflict := input.b

endless := count([x | some x in numbers.range(1, 100000); some y in numbers.range(1, 100000); x == -y])

failing := json.unmarshal(input.secret)

optional if input.present
"""


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


@pytest.fixture
def policy(library: Library, tmp_path: Path) -> Policy:
    (tmp_path / "policy.rego").write_text(POLICY)
    return library.open_policy(PolicyOptions(paths=(tmp_path,)))


def test_a_value_is_json_and_undefined_is_none(policy: Policy) -> None:
    decision = policy.prepare("authz/decision")
    assert decision.evaluate(b'{"tool": {"name": "read"}}', 1.0) == b'{"effect":"allow"}'
    assert decision.evaluate(b'{"tool": {"name": "write"}}', 1.0) == b'{"effect":"deny"}'
    assert policy.prepare("authz/optional").evaluate(b"{}", 1.0) is None


@pytest.mark.parametrize(
    ("entrypoint", "input_json", "code", "row"),
    [
        ("authz/conflict", b'{"a": 1, "b": 2}', "conflict", 11),
        ("authz/failing", b'{"secret": "hunter2"}', "builtin", 15),
        ("authz/decision", b"{", "input", None),
        ("authz/decision", b'{"a": 1, "a": 2}', "input", None),
    ],
)
def test_a_failure_has_a_code_and_a_place_and_no_input(
    policy: Policy, entrypoint: str, input_json: bytes, code: str, row: int | None
) -> None:
    with pytest.raises(EngineError) as failure:
        policy.prepare(entrypoint).evaluate(input_json, 1.0)
    assert failure.value.code == code
    assert (failure.value.location and failure.value.location.row) == row
    assert "hunter2" not in str(failure.value)


def test_an_endless_comprehension_is_stopped_at_the_deadline(policy: Policy) -> None:
    began = time.monotonic()
    with pytest.raises(EngineError) as failure:
        policy.prepare("authz/endless").evaluate(b"{}", 0.03)
    assert failure.value.code == "timeout"
    assert time.monotonic() - began < 10.0  # without a deadline it never ends
    assert policy.prepare("authz/decision").evaluate(b"{}", 1.0) == b'{"effect":"deny"}'


@pytest.mark.parametrize(
    ("entrypoint", "code"), [("authz/decisoin", "entrypoint_undefined"), ("authz/%zz", "entrypoint")]
)
def test_an_entrypoint_with_nothing_there_is_refused(policy: Policy, entrypoint: str, code: str) -> None:
    with pytest.raises(EngineError) as failure:
        policy.prepare(entrypoint)
    assert failure.value.code == code


def test_what_policies_print_is_taken_once(library: Library, policy: Policy) -> None:
    library.take_prints()
    policy.prepare("authz/decision").evaluate(b'{"tool": {"name": "x"}}', 1.0)
    printed = library.take_prints()
    assert [line["text"] for line in printed["lines"]] == ["judging x"]
    assert library.take_prints()["lines"] == []


def test_an_explanation_says_what_held_and_what_did_not(policy: Policy) -> None:
    explained = policy.prepare("authz/decision").explain(b'{"tool": {"name": "write"}}', 1.0)
    assert explained["result"] == {"effect": "deny"}
    assert [(rule["name"], rule["location"]["row"]) for rule in explained["rules"]] == [("data.authz.decision", 3)]
    assert [(failed["text"], failed["location"]["row"]) for failed in explained["failed"]] == [
        ('input.tool.name == "read"', 7)
    ]
    assert [line["text"] for line in explained["prints"]] == ["judging write"]
    assert explained["profile"][0]["ns"] > 0


def test_a_policy_tells_what_it_is(policy: Policy, tmp_path: Path) -> None:
    paths = {".".join(reference.path) for reference in policy.references}
    assert paths == {"tool.name", "a", "b", "secret", "present"}
    assert policy.references[0].location == Location(file=str(tmp_path / "policy.rego"), row=6, col=19)
    assert (policy.revision, policy.metadata, policy.warnings) == ("", {}, ())
    assert len(policy.digest) == 64


def test_the_digest_is_that_of_the_contents_wherever_they_lie(library: Library, tmp_path: Path) -> None:
    digests = []
    for name, text in (("a", POLICY), ("b", POLICY), ("c", POLICY + "\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.rego").write_text(text)
        digests.append(library.open_policy(PolicyOptions(paths=(tmp_path / name,))).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_policy_that_does_not_load_lists_every_problem(library: Library, tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text("package a\nx := missing(1)\n")
    (tmp_path / "b.rego").write_text("package b\ny := http.send({})\n")
    with pytest.raises(EngineError) as failure:
        library.open_policy(PolicyOptions(paths=(tmp_path,)))
    assert sorted(str(problem).split(": ")[0] for problem in failure.value.problems) == [
        f"{tmp_path}/a.rego:2",
        f"{tmp_path}/b.rego:2",
    ]


def test_the_plugins_contract_allows_http_send_and_warns(library: Library, tmp_path: Path) -> None:
    (tmp_path / "b.rego").write_text('package b\ny := http.send({"method": "get", "url": input.url})\n')
    policy = library.open_policy(PolicyOptions(paths=(tmp_path,), contract="envoy"))
    assert [(warning.code, warning.location and warning.location.row) for warning in policy.warnings] == [
        ("undecidable_builtin", 2)
    ]


@pytest.mark.parametrize("archive", [b"", b"not gzip"])
def test_an_archive_that_is_none_is_refused(library: Library, archive: bytes) -> None:
    with pytest.raises(EngineError, match="does not load"):
        library.open_policy(PolicyOptions(archive=archive))


def test_a_policy_without_a_source_is_refused(library: Library) -> None:
    with pytest.raises(EngineError) as failure:
        library.open_policy(PolicyOptions())
    assert failure.value.code == "options"


def test_a_closed_policy_answers_no_more(policy: Policy) -> None:
    query = policy.prepare("authz/decision")
    policy.close()
    policy.close()
    with pytest.raises(NativeError):
        query.evaluate(b"{}", 1.0)


def test_the_same_policy_is_compiled_once(library: Library, tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package authz\nonce := 1\n")
    options = PolicyOptions(paths=(tmp_path,))
    before = library.engine_stats()
    with library.open_policy(options) as first, library.open_policy(options) as second:
        first.prepare("authz/once")
        second.prepare("authz/once")
        after = library.engine_stats()
    expected = {"policies": 1, "queries": 1, "hits": 1, "misses": 1}
    assert {name: after[name] - before[name] for name in expected} == expected
    assert library.engine_stats()["policies"] == before["policies"]


def test_what_a_large_policy_holds_in_memory_is_told_and_is_freed_once_it_is_closed(
    library: Library, tmp_path: Path
) -> None:
    document = json.dumps({"names": [f"name-{number}" for number in range(400_000)]})
    (tmp_path / "data.json").write_text(document)
    with library.open_policy(PolicyOptions(paths=(tmp_path,))):
        held = library.engine_stats()["heap_bytes"]
    assert held > 5 * len(document)
    assert eventually(lambda: library.engine_stats()["heap_bytes"] < held - 5 * len(document))


def test_check_finds_unknown_input_paths_with_their_place(library: Library, tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package authz\n\n_value if input.tool.nmae\n")
    schema = tmp_path / "input.schema"
    schema.write_text(
        '{"type": "object", "additionalProperties": false, "properties": {"tool": {"type": "object",'
        ' "additionalProperties": false, "properties": {"name": {"type": "string"}}}}}'
    )
    (found,) = library.check([tmp_path], schema)
    assert (found.code, found.location) == ("rego_type_error", Location(file=f"{tmp_path}/p.rego", row=3, col=11))
    assert library.check([tmp_path]) == ()


def test_a_problem_reads_as_one_line() -> None:
    place = Location(file="p.rego", row=3, col=1)
    assert str(Problem(code="c", message="m", location=place)) == "p.rego:3: c: m"
    assert str(Problem(code="c", message="m")) == "policy: c: m"
