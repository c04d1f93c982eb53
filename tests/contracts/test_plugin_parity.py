"""Contract `envoy` beside opa-envoy-plugin: the same expectations over ours and over the plugin's own binary.

`OPA_ENVOY_PLUGIN=/path/to/opa-envoy-plugin` names the binary; without it the plugin's half is skipped, and ours
is still held to what the plugin answered when the cases were written.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import PolicyError
from authz.policy.envoy_contract import input_json, interpret
from authz.reasons import POLICY_BODY_TRUNCATED, POLICY_TYPE, POLICY_UNDEFINED
from tests.contracts import plugin_cases as cases
from tests.contracts import plugin_results as results
from tests.contracts.plugin_cases import MALFORMED, check
from tests.contracts.plugin_subjects import Parts, subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contracts.plugin_subjects import Subject

ALL = ["parts", "served", "plugin"]


@pytest.fixture(scope="module", params=ALL)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with subject(request.param, tmp_path_factory.mktemp("plain"), {}) as started:
        yield started


@pytest.fixture(scope="module", params=ALL)
def with_descriptor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with subject(request.param, tmp_path_factory.mktemp("grpc"), {"proto-descriptor": ""}) as started:
        yield started


@pytest.fixture(scope="module", params=ALL)
def dry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    configuration = {"dry-run": True, "skip-request-body-parse": True}
    with subject(request.param, tmp_path_factory.mktemp("dry"), configuration) as started:
        yield started


@pytest.mark.parametrize("case", cases.WHOLE)
def test_the_input_document_is_the_plugins(plain: Subject, case: str) -> None:
    request, expected = cases.WHOLE[case]
    assert plain.read(request) == expected


@pytest.mark.parametrize("case", cases.ADDED)
def test_what_is_added_to_the_request_is_the_plugins(plain: Subject, case: str) -> None:
    request, expected = cases.ADDED[case]
    assert _added(plain.read(request)) == expected


@pytest.mark.parametrize("case", cases.GRPC)
def test_grpc_bodies_read_as_the_plugin_reads_them(with_descriptor: Subject, case: str) -> None:
    request, expected = cases.GRPC[case]
    assert _added(with_descriptor.read(request)) == expected


@pytest.mark.parametrize("result", results.RESULTS)
def test_a_result_means_what_it_means_to_the_plugin(plain: Subject, result: str) -> None:
    assert plain.answer(result) == results.RESULTS[result]


@pytest.mark.parametrize("result", results.DRY_RUN)
def test_a_dry_run_lets_denials_run_and_nothing_else(dry: Subject, result: str) -> None:
    assert dry.answer(result) == results.DRY_RUN[result]


def test_skipped_bodies_are_absent_and_not_null(dry: Subject) -> None:
    document = dry.read(cases.json_body("{"))
    assert "parsed_body" not in document
    assert "truncated_body" not in document


def _added(document: Any) -> Any:
    return document if document == MALFORMED else {key: document[key] for key in document if key != "attributes"}


# Different on purpose (contracts §5).


def test_the_plugins_errors_are_denials_with_a_reason() -> None:
    with pytest.raises(PolicyError) as undefined:
        interpret(None)
    with pytest.raises(PolicyError) as wrong:
        interpret(b'{"allowed": "true"}')
    assert (undefined.value.reason, wrong.value.reason) == (POLICY_UNDEFINED, POLICY_TYPE)


def test_a5_a_truncated_body_is_denied_unless_the_policy_asks_for_it() -> None:
    document = Parts({}).read(cases.json_body("{}", content_length="9"))
    assert json.loads(input_json(document, reads_truncated_body=True))["truncated_body"] is True
    with pytest.raises(PolicyError) as caught:
        input_json(document, reads_truncated_body=False)
    assert caught.value.reason is POLICY_BODY_TRUNCATED


@pytest.mark.parametrize(
    "body",
    ['{"a": 1, "a": 2}', r'{"a": 1, "\u0061": 2}', '[{"x": {"a": 1, "a": 1}}]', b'{"\xff": 1, "\xfe": 2}'],
)
def test_c1_a_repeated_key_is_refused(body: str | bytes) -> None:
    assert Parts({}).read(cases.json_body(body)) == MALFORMED


def test_c7_json_nested_too_deeply_is_refused() -> None:
    assert Parts({}).read(cases.json_body("[" * 100_000 + "]" * 100_000)) == MALFORMED


def test_a_multipart_body_that_ends_inside_a_header_is_refused_and_no_part_dropped() -> None:
    cut = cases.multipart('--B\nContent-Disposition: form-data; name="a"\n\nx\n--B\nContent-Disposition: form-data\n')
    assert Parts({}).read(cut) == MALFORMED


# Any request: ours against the binary, with no expectation but each other.

TEXT = st.text(st.sampled_from("ab/%2fFéZ&=;+?#.\\ "), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PIECES = ["--B", "--B--", "\r\n", "\n", "--Bx", "x", " ", "a: b", 'Content-Disposition: form-data; name="n"\r\n\r\n']
MULTIPART = "multipart/form-data; boundary=B"
CUT = re.compile(rb"--B[ \t]*\r?\n([^\r\n][^\n]*\n)*[^\r\n]*\Z")
"""A multipart body that stops inside the header of a part."""
BODIES = st.one_of(
    st.tuples(st.just("application/json"), JSON.map(json.dumps).map(str.encode)),
    st.tuples(st.just("application/json"), st.binary(max_size=8)),
    st.tuples(st.just("application/json"), st.text(st.sampled_from('{}[]",:1e.-u\\0d8 ')).map(str.encode)),
    st.tuples(st.just("application/x-www-form-urlencoded"), TEXT.map(str.encode)),
    st.tuples(st.just(MULTIPART), st.lists(st.sampled_from(PIECES), max_size=14).map("".join).map(str.encode)),
)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with subject("plugin", tmp_path_factory.mktemp("any"), {}) as started:
        yield started


@settings(max_examples=400, deadline=None)
@given(path=TEXT, body=BODIES)
def test_any_request_reads_alike(binary: Subject, path: str, body: tuple[str, bytes]) -> None:
    content_type, content = body
    request = check(path, headers={"content-type": content_type}, raw_body=content)
    ours, theirs = Parts({}).read(request), binary.read(request)
    # Stricter on purpose: repeated keys, and multipart bodies that just stop.
    if ours == MALFORMED and (content.count(b":") > 1 if content_type == "application/json" else CUT.search(content)):
        return
    assert ours == theirs


VALUES = st.one_of(
    st.sampled_from(
        [True, False, None, 1, 403, 403.5, "a", [], {}, ["a"], [1], {"a": "b"}, {"a": ["b", "c"]}, {"a": 1}]
    ),
    st.lists(st.dictionaries(st.sampled_from("ab"), st.sampled_from(["x", ["y", "z"], 1]), max_size=2), max_size=2),
    st.integers(90, 610),
)
KEYS = ["allowed", "headers", "body", "http_status", "dynamic_metadata", "response_headers_to_add"]
KEYS += ["request_headers_to_remove", "query_parameters_to_set", "query_parameters_to_remove", "other"]
RESULTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)


@settings(max_examples=400, deadline=None)
@given(allowed=st.booleans(), result=RESULTS)
def test_any_result_means_alike(binary: Subject, *, allowed: bool, result: dict[str, Any]) -> None:
    # Most results are objects with a proper `allowed`; else nearly all would be errors.
    written = json.dumps({"allowed": allowed} | result)
    assert Parts({}).answer(written) == binary.answer(written)
