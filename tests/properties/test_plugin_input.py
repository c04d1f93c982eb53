"""Any request gives an input document or one refusal with HTTP 400, and nothing in it can leave its place."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from authz.edge.plugin_input import plugin_input
from authz.errors import InvalidRequestError

CONTENT_TYPES = st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=B",
        "multipart/form-data",
        "text/plain",
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(["content-length", "x-envoy-auth-partial-body", "x"]), st.text(max_size=5), max_size=3
)


def request(path: str, headers: dict[str, str], body: bytes) -> Any:
    made = CheckRequest()
    made.attributes.request.http.path = path
    made.attributes.request.http.headers.update(headers)
    made.attributes.request.http.raw_body = body
    return made


def read(path: str, headers: dict[str, str], body: bytes) -> Any:
    """The document as the engine reads it, or the HTTP status of the refusal."""
    try:
        return json.loads(orjson.dumps(plugin_input(request(path, headers, body))))
    except InvalidRequestError as error:
        return error.reason.http_status


@given(path=st.text(), content_type=CONTENT_TYPES, headers=HEADERS, body=st.binary(max_size=200))
def test_any_request_is_read_or_refused(path: str, content_type: str, headers: dict[str, str], body: bytes) -> None:
    document = read(path, {"content-type": content_type, **headers}, body)
    if document != 400:
        assert document["parsed_body"] is None or not document["truncated_body"]
        assert document.keys() == {
            "attributes",
            "version",
            "parsed_path",
            "parsed_query",
            "parsed_body",
            "truncated_body",
        }


@given(body=st.text(st.sampled_from('{}[]",:1 \\ntruefalsu')))
def test_c8_a_json_body_never_writes_into_the_document_around_it(body: str) -> None:
    document = read("/", {"content-type": "application/json"}, body.encode())
    if document != 400:
        assert document["truncated_body"] is False
        assert document["parsed_path"] == [""]
        assert document["parsed_body"] == (json.loads(body) if body else None)
