"""`ProcessingResponse` messages, each complete: the one place that builds an ext_proc answer.

Decides nothing. Must never build an answer that says less than its name: in ext_proc what is left out means
*continue unchanged*. Source: envoy/service/ext_proc/v3/external_processor.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from authz._gen.envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ImmediateResponse,
    ProcessingResponse,
    StreamedBodyResponse,
    TrailersResponse,
)
from authz.edge.reply import DECISION_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from authz._gen.envoy.service.ext_proc.v3.external_processor_pb2 import HttpHeaders


def headers(message: HttpHeaders) -> dict[str, str]:
    """Header names and values, one character a byte; repeated ones are joined as Envoy joins them."""
    joined: dict[str, str] = {}
    for entry in message.headers.headers:
        text = entry.raw_value.decode("latin-1") or entry.value
        joined[entry.key] = f"{joined[entry.key]},{text}" if entry.key in joined else text
    return joined


def continue_headers(side: str, remove: Iterable[str] = ()) -> bytes:
    """Let the headers of `side` (`request_headers`, `response_headers`) go on, without those in `remove`."""
    common = CommonResponse(status=CommonResponse.CONTINUE, header_mutation=_changes({}, remove))
    answer = ProcessingResponse()
    getattr(answer, side).CopyFrom(HeadersResponse(response=common))
    return answer.SerializeToString()


def replace_request_body(body: bytes, upsert: Mapping[str, str], remove: Iterable[str]) -> bytes:
    """A new request body with the headers that must change with it."""
    common = CommonResponse(
        status=CommonResponse.CONTINUE,
        header_mutation=_changes(upsert, remove),
        body_mutation=BodyMutation(body=body),
    )
    return ProcessingResponse(request_body=BodyResponse(response=common)).SerializeToString()


def response_body(body: bytes, *, is_last: bool) -> bytes:
    """A piece of the response body in FULL_DUPLEX_STREAMED, where Envoy sends on only what it is given."""
    streamed = StreamedBodyResponse(body=body, end_of_stream=is_last)
    common = CommonResponse(body_mutation=BodyMutation(streamed_response=streamed))
    return ProcessingResponse(response_body=BodyResponse(response=common)).SerializeToString()


def drop_trailers(names: Iterable[str]) -> bytes:
    """The response's trailers without any of `names`."""
    trailers = TrailersResponse(header_mutation=_changes({}, names))
    return ProcessingResponse(response_trailers=trailers).SerializeToString()


def immediate_response(status: int, content_type: str, decision_id: str, body: bytes) -> bytes:
    """End the request with this answer."""
    changes = _changes({"content-type": content_type, DECISION_ID: decision_id}, ())
    answer = ImmediateResponse(status={"code": status}, headers=changes, body=body)
    return ProcessingResponse(immediate_response=answer).SerializeToString()


def _changes(upsert: Mapping[str, str], remove: Iterable[str]) -> HeaderMutation:
    options: list[Any] = [
        {"header": {"key": name, "raw_value": text.encode()}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for name, text in upsert.items()
    ]
    return HeaderMutation(set_headers=options, remove_headers=list(remove))
