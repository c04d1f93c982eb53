"""CheckRequests from an independent maker (envoy-data-plane, pure Python) read the same through our parser."""

from __future__ import annotations

import warnings

import orjson

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from authz.edge.ext_authz import read
from authz.edge.plugin_input import plugin_input

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its generated code uses pydantic's older spelling
    from envoy_data_plane.envoy.config.core.v3 import Address, HeaderMap, HeaderValue, SocketAddress
    from envoy_data_plane.envoy.service.auth.v3 import (
        AttributeContext,
        AttributeContextHttpRequest,
        AttributeContextPeer,
        AttributeContextRequest,
    )
    from envoy_data_plane.envoy.service.auth.v3 import CheckRequest as IndependentRequest

HEADERS = {":authority": "shop.test", "content-type": "application/json", "x-empty": ""}
BODY = '{"amount": 1.10, "to": "é"}'.encode()


def independent(http: AttributeContextHttpRequest) -> CheckRequest:
    address = Address(socket_address=SocketAddress(address="10.0.0.1", port_value=4711))
    attributes = AttributeContext(
        source=AttributeContextPeer(address=address, principal="spiffe://mesh/a"),
        request=AttributeContextRequest(http=http),
        context_extensions={"authz.server": "shop"},
    )
    return CheckRequest.FromString(bytes(IndependentRequest(attributes=attributes)))


def test_an_independent_makers_request_is_the_same_check() -> None:
    http = AttributeContextHttpRequest(
        id="7", method="POST", path="/pay?x=1", host="shop.test", scheme="https", headers=HEADERS, raw_body=BODY
    )
    check = read(independent(http), 5)
    assert (check.request_id, check.method, check.path, check.host, check.scheme) == (
        "7",
        "POST",
        "/pay?x=1",
        "shop.test",
        "https",
    )
    assert dict(check.headers) == HEADERS
    assert check.body == BODY
    assert (check.source_address, check.source_principal) == ("10.0.0.1", "spiffe://mesh/a")
    assert dict(check.context) == {"authz.server": "shop"}
    assert check.fault == ""


def test_an_independent_makers_request_is_the_same_input_document() -> None:
    http = AttributeContextHttpRequest(method="POST", path="/a%2Fb?x=1", headers=HEADERS, raw_body=BODY, size=-1)
    document = orjson.loads(orjson.dumps(plugin_input(independent(http))))
    assert document["parsed_path"] == ["a", "b"]
    assert document["parsed_query"] == {"x": ["1"]}
    assert document["parsed_body"] == {"amount": 1.1, "to": "é"}
    assert document["attributes"]["source"]["address"]["socketAddress"] == {"address": "10.0.0.1", "portValue": 4711}
    assert document["attributes"]["request"]["http"]["headers"] == HEADERS
    assert document["attributes"]["request"]["http"]["size"] == -1


def test_a_request_with_both_forms_of_headers_is_at_fault() -> None:
    raw = HeaderMap(headers=[HeaderValue(key="x", raw_value=b"\xff")])
    check = read(independent(AttributeContextHttpRequest(headers=HEADERS, header_map=raw)), 5)
    assert check.fault == "HEADER_DUPLICATE"


def test_raw_headers_alone_keep_every_byte() -> None:
    raw = HeaderMap(headers=[HeaderValue(key="X", raw_value=b"\xff"), HeaderValue(key="x", raw_value=b"b")])
    check = read(independent(AttributeContextHttpRequest(header_map=raw)), 5)
    assert dict(check.headers) == {"x": "\xff,b"}
    assert check.fault == ""
