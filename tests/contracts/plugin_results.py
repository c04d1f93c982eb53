"""What opa-envoy-plugin answers, as our own literal expectations: a policy's result, and what Envoy is told.

`ERROR` is the plugin's gRPC error, which here is a denial with a reason of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

ERROR: Final = "error"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A `CheckResponse` as Envoy would act on it; headers as sorted pairs, metadata without the decision id."""

    allowed: bool
    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    response_headers: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    query_set: tuple[tuple[str, str], ...] = ()
    query_remove: tuple[str, ...] = ()
    metadata: Any = field(default_factory=dict)


_DENIED: Final = Answer(allowed=False, status=403)
_ALLOWED: Final = Answer(allowed=True)

RESULTS: Final[dict[str, Answer | str]] = {
    # what allows
    "true": _ALLOWED,
    "false": _DENIED,
    '{"allowed": true}': _ALLOWED,
    '{"allowed": false}': _DENIED,
    '{"allowed": true, "unknown": 1}': _ALLOWED,
    "": ERROR,
    "null": ERROR,
    "1": ERROR,
    '"true"': ERROR,
    "[]": ERROR,
    "[true]": ERROR,
    "{}": ERROR,
    '{"allow": true}': ERROR,
    '{"Allowed": true}': ERROR,
    '{"allowed": "true"}': ERROR,
    '{"allowed": 1}': ERROR,
    '{"allowed": null}': ERROR,
    # headers
    '{"allowed": true, "headers": {"a": "1", "B": "2"}}': Answer(allowed=True, headers=(("B", "2"), ("a", "1"))),
    '{"allowed": true, "headers": {"a": ["2", "1"]}}': Answer(allowed=True, headers=(("a", "2"), ("a", "1"))),
    '{"allowed": true, "headers": [{"a": "1"}, {"a": ["2"]}]}': Answer(allowed=True, headers=(("a", "1"), ("a", "2"))),
    '{"allowed": false, "headers": {"a": "1"}}': Answer(allowed=False, status=403, headers=(("a", "1"),)),
    '{"allowed": true, "headers": {}}': _ALLOWED,
    '{"allowed": true, "headers": []}': _ALLOWED,
    '{"allowed": true, "headers": {"a": []}}': _ALLOWED,
    '{"allowed": true, "headers": {"a": ""}}': Answer(allowed=True, headers=(("a", ""),)),
    '{"allowed": true, "headers": null}': ERROR,
    '{"allowed": true, "headers": "a"}': ERROR,
    '{"allowed": true, "headers": ["a"]}': ERROR,
    '{"allowed": true, "headers": {"a": 1}}': ERROR,
    '{"allowed": true, "headers": {"a": [1]}}': ERROR,
    '{"allowed": true, "headers": {"a": {}}}': ERROR,
    '{"allowed": false, "headers": {"a": 1}}': ERROR,
    # on allow
    '{"allowed": true, "response_headers_to_add": [{"a": ["1", "2"]}, {"b": "3"}]}': Answer(
        allowed=True, response_headers=(("a", "1"), ("a", "2"), ("b", "3"))
    ),
    '{"allowed": true, "response_headers_to_add": 1}': ERROR,
    '{"allowed": false, "response_headers_to_add": 1}': _DENIED,
    '{"allowed": true, "request_headers_to_remove": ["b", "a"]}': Answer(allowed=True, remove=("b", "a")),
    '{"allowed": true, "request_headers_to_remove": "a"}': ERROR,
    '{"allowed": true, "request_headers_to_remove": [1]}': ERROR,
    '{"allowed": true, "request_headers_to_remove": null}': ERROR,
    '{"allowed": false, "request_headers_to_remove": 1}': _DENIED,
    '{"allowed": true, "query_parameters_to_set": {"a": "1", "b": ["2", "3"]}}': Answer(
        allowed=True, query_set=(("a", "1"), ("b", "2"), ("b", "3"))
    ),
    '{"allowed": true, "query_parameters_to_set": [{"a": "1"}]}': ERROR,
    '{"allowed": true, "query_parameters_to_set": {"a": 1}}': ERROR,
    '{"allowed": true, "query_parameters_to_set": {"a": [1]}}': ERROR,
    '{"allowed": false, "query_parameters_to_set": 1}': _DENIED,
    '{"allowed": true, "query_parameters_to_remove": ["a"]}': Answer(allowed=True, query_remove=("a",)),
    '{"allowed": true, "query_parameters_to_remove": {}}': ERROR,
    '{"allowed": true, "body": 1, "http_status": 1}': _ALLOWED,
    # on deny
    '{"allowed": false, "body": "no"}': Answer(allowed=False, status=403, body="no"),
    '{"allowed": false, "body": {"a": 1}}': ERROR,
    '{"allowed": false, "body": null}': ERROR,
    '{"allowed": false, "http_status": 401}': Answer(allowed=False, status=401),
    '{"allowed": false, "http_status": 200}': Answer(allowed=False, status=200),
    '{"allowed": false, "http_status": 100}': Answer(allowed=False, status=100),
    '{"allowed": false, "http_status": 511}': Answer(allowed=False, status=511),
    **{
        f'{{"allowed": false, "http_status": {code}}}': ERROR
        for code in (
            0,
            1,
            -403,
            101,
            102,
            209,
            306,
            418,
            425,
            451,
            509,
            599,
            600,
            4_294_967_699,
            "403.0",
            "4.03e2",
            '"403"',
            "true",
            "null",
        )
    },
    # metadata
    '{"allowed": true, "dynamic_metadata": {"a": {"b": [1, null, true, "x"]}}}': Answer(
        allowed=True, metadata={"a": {"b": [1, None, True, "x"]}}
    ),
    '{"allowed": false, "dynamic_metadata": {"a": 1.5}}': Answer(allowed=False, status=403, metadata={"a": 1.5}),
    '{"allowed": true, "dynamic_metadata": {"decision_id": "mine"}}': _ALLOWED,
    '{"allowed": true, "dynamic_metadata": []}': ERROR,
    '{"allowed": true, "dynamic_metadata": null}': ERROR,
    '{"allowed": false, "dynamic_metadata": "x"}': ERROR,
}
"""The policy's result as JSON, empty for undefined -> what Envoy does."""

DRY_RUN: Final[dict[str, Answer | str]] = {
    "true": _ALLOWED,
    "false": _ALLOWED,
    '{"allowed": true, "headers": {"a": "1"}}': Answer(allowed=True, headers=(("a", "1"),)),
    '{"allowed": false, "headers": {"a": "1"}, "body": "no", "http_status": 401, "dynamic_metadata": {"m": 1}}': Answer(
        allowed=True, metadata={"m": 1}
    ),
    "1": ERROR,
    '{"allowed": false, "http_status": 1}': ERROR,
}
"""The same with `dry-run`."""
