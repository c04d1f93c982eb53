"""What opa-envoy-plugin sees, as our own literal expectations: a request, and its input document.

`MALFORMED` is HTTP 400 before any policy.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest

MALFORMED: Final = "malformed"

Json = Any


def check(path: str = "/", *, headers: dict[str, str] | None = None, body: str = "", raw_body: bytes = b"") -> Any:
    """A minimal request."""
    request = CheckRequest()
    http = request.attributes.request.http
    http.path, http.body, http.raw_body = path, body, raw_body
    http.headers.update(headers or {})
    return request


def json_body(text: str | bytes, **headers: str) -> Any:
    """A request with a JSON body."""
    fields = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return check(headers=fields, raw_body=text.encode() if isinstance(text, str) else text)


def form_body(text: str) -> Any:
    """A request with a form body."""
    return check(headers={"content-type": "application/x-www-form-urlencoded"}, body=text)


def multipart(text: str, content_type: str = "multipart/form-data; boundary=B") -> Any:
    """A request with a multipart body."""
    return check(headers={"content-type": content_type}, raw_body=text.replace("\n", "\r\n").encode())


def grpc_body(payload: bytes, path: str = "/shop.Orders/Place", *, frame: bytes | None = None) -> Any:
    """A request with a gRPC body."""
    head = b"\x00" + len(payload).to_bytes(4) if frame is None else frame
    return check(path, headers={"content-type": "application/grpc"}, raw_body=head + payload)


def descriptor_set() -> bytes:
    """`service shop.Orders { rpc Place(Order); rpc Stream(stream Order) }` as `protoc` would write it."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    order = file.message_type.add(name="Order")
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, (name, kind) in enumerate(
        (("item_name", kinds.TYPE_STRING), ("count", kinds.TYPE_INT64), ("blob", kinds.TYPE_BYTES)), 1
    ):
        order.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    service = file.service.add(name="Orders")
    service.method.add(name="Place", input_type=".shop.Order", output_type=".shop.Order")
    service.method.add(name="Stream", input_type=".shop.Order", output_type=".shop.Order", client_streaming=True)
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def _full() -> Any:
    request = CheckRequest()
    attributes = request.attributes
    attributes.source.address.socket_address.address = "10.0.0.1"
    attributes.source.address.socket_address.port_value = 0
    attributes.source.principal = "spiffe://mesh/ns/default"
    attributes.source.service = "web"
    attributes.source.labels["app"] = "web"
    attributes.source.certificate = "-----BEGIN"
    attributes.destination.address.pipe.path = "/run/x.sock"
    attributes.destination.address.pipe.mode = 438
    attributes.request.time.seconds = 1_700_000_000_123
    attributes.request.time.nanos = 5
    http = attributes.request.http
    http.id, http.method, http.path, http.host = "18446744073709551615", "POST", "/a", "shop.test"
    http.scheme, http.protocol, http.size, http.fragment, http.query = "https", "HTTP/2", -1, "f", "q"
    http.header_map.headers.add(key="k", raw_value=b"\xff\x00")
    http.headers["x"] = ""
    attributes.tls_session.sni = "shop.test"
    attributes.context_extensions["authz.server"] = "shop"
    metadata = attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    metadata.update({"sub": "ann", "n": 3, "half": 0.5, "big": 5_000_000_000, "none": None, "list": [True, {"a": []}]})
    metadata.update({"infinite": float("inf"), "below": float("-inf"), "minus": -0.5, "million": 1e6})
    attributes.metadata_context.typed_filter_metadata["t"].type_url = "type.test/x"
    attributes.metadata_context.typed_filter_metadata["t"].value = b"\x01"
    attributes.route_metadata_context.SetInParent()
    return request


VERSION: Final = {"ext_authz": "v3", "encoding": "protojson"}


def added(
    segments: list[str] | None = None, query: Json = None, body: Json = None, *, truncated: bool = False
) -> dict[str, Json]:
    """What the plugin adds to the request's own fields."""
    return {
        "version": VERSION,
        "parsed_path": [""] if segments is None else segments,
        "parsed_query": query or {},
        "parsed_body": body,
        "truncated_body": truncated,
    }


FULL: Final = {
    "attributes": {
        "source": {
            "address": {"socketAddress": {"address": "10.0.0.1", "portValue": 0}},
            "principal": "spiffe://mesh/ns/default",
            "service": "web",
            "labels": {"app": "web"},
            "certificate": "-----BEGIN",
        },
        "destination": {"address": {"pipe": {"path": "/run/x.sock", "mode": 438}}},
        "request": {
            "time": {"seconds": 1_700_000_000_123, "nanos": 5},
            "http": {
                "id": "18446744073709551615",
                "method": "POST",
                "path": "/a",
                "host": "shop.test",
                "scheme": "https",
                "protocol": "HTTP/2",
                "size": -1,
                "fragment": "f",
                "query": "q",
                "headers": {"x": ""},
                "headerMap": {"headers": [{"key": "k", "rawValue": "/wA="}]},
            },
        },
        "tlsSession": {"sni": "shop.test"},
        "contextExtensions": {"authz.server": "shop"},
        "metadataContext": {
            "filterMetadata": {
                "envoy.filters.http.jwt_authn": {
                    "sub": "ann",
                    "n": 3,
                    "half": 0.5,
                    "big": 5e9,
                    "none": None,
                    "list": [True, {"a": []}],
                    "infinite": "Infinity",
                    "below": "-Infinity",
                    "minus": -0.5,
                    "million": 1e6,
                }
            },
            "typedFilterMetadata": {"t": {"typeUrl": "type.test/x", "value": "AQ=="}},
        },
        "routeMetadataContext": {},
    },
    **added(["a"]),
    "source_principal": "spiffe://mesh/ns/default",
}

WHOLE: Final[dict[str, tuple[Any, Json]]] = {
    "every kind of field": (_full(), FULL),
    "an empty request has no attributes": (CheckRequest(), added()),
    "raw bytes are base64": (
        check(raw_body=b"\xff\x00"),
        {"attributes": {"request": {"http": {"path": "/", "rawBody": "/wA="}}}, **added()},
    ),
}
"""Name -> request and its whole input document."""

ADDED: Final[dict[str, tuple[Any, Json]]] = {
    # paths
    "segments": (check("/a/b"), added(["a", "b"])),
    "no path": (check(""), added([""])),
    "leading slashes go, others stay": (check("///a//b/"), added(["a", "", "b", ""])),
    "an escaped slash separates": (check("/a%2Fb"), added(["a", "b"])),
    "an escaped leading slash goes": (check("/%2Fa"), added(["a"])),
    "dots stay": (check("/a/../b/%2e%2E"), added(["a", "..", "b", ".."])),
    "plus stays in a path": (check("/a+b"), added(["a+b"])),
    "escaped once only": (check("/%2541"), added(["%41"])),
    "unicode": (check("/%C3%A9/é"), added(["é", "é"])),
    "a fragment is part of the path": (check("/a#b"), added(["a#b"])),
    "an escaped question mark is no query": (check("/a%3Fb=c"), added(["a?b=c"])),
    "a broken escape in the path": (check("/%zz"), MALFORMED),
    "a cut escape in the path": (check("/a%2"), MALFORMED),
    "a percent sign alone": (check("/100%"), MALFORMED),
    # queries
    "values are lists": (check("/?a=1&b=2&a=3"), added(query={"a": ["1", "3"], "b": ["2"]})),
    "no value, empty value, empty name": (check("/?a&b=&=c&&"), added(query={"a": [""], "b": [""], "": ["c"]})),
    "plus is a space": (check("/?a+b=c+d"), added(query={"a b": ["c d"]})),
    "escapes": (check("/?%61=%26%3D%2B"), added(query={"a": ["&=+"]})),
    "later equals signs stay": (check("/?a=b=c"), added(query={"a": ["b=c"]})),
    "only the first question mark divides": (check("/?a=?b"), added(query={"a": ["?b"]})),
    "a semicolon": (check("/?a=1;b=2"), MALFORMED),
    "an escaped semicolon": (check("/?a=1%3Bb"), added(query={"a": ["1;b"]})),
    "a broken escape in a name": (check("/?%z=1"), MALFORMED),
    "a broken escape in a value": (check("/?a=%1"), MALFORMED),
    # JSON
    "json": (json_body('{"a": [1, "x", null]}'), added(body={"a": [1, "x", None]})),
    "json in `body`": (check(headers={"content-type": "application/json"}, body="[1]"), added(body=[1])),
    "a scalar is json": (json_body("7"), added(body=7)),
    "null is json": (json_body("null"), added(body=None)),
    "big integers are exact": (json_body("[123456789012345678901]"), added(body=[123456789012345678901])),
    "a charset does not matter": (
        check(headers={"content-type": "application/json; charset=utf-8"}, body="1"),
        added(body=1),
    ),
    "the content type is found anywhere": (
        check(headers={"content-type": "x application/jsonx"}, body="1"),
        added(body=1),
    ),
    "the content type has its case": (check(headers={"content-type": "Application/JSON"}, body="1"), added()),
    "json suffixes are not read": (check(headers={"content-type": "application/ld+json"}, body="{"), added()),
    "text is not read": (check(headers={"content-type": "text/plain"}, body="{"), added()),
    "no content type": (check(body="{"), added()),
    "no json at all": (json_body(""), added()),
    "broken json": (json_body("{"), MALFORMED),
    "blank json": (json_body(" "), MALFORMED),
    "bytes after the json": (json_body("{} {}"), MALFORMED),
    "a byte order mark": (json_body(b"\xef\xbb\xbf{}"), MALFORMED),
    "not a number": (json_body("NaN"), MALFORMED),
    "a leading zero": (json_body("01"), MALFORMED),
    "a control character": (json_body('"\x01"'), MALFORMED),
    "bytes that are not utf-8": (json_body(b'["\xff\xe2\x82"]'), added(body=["\ufffd\ufffd\ufffd"])),
    "lone surrogates": (
        json_body(r'["\ud800", "\udc00x", "\ud83d\ude00", "\\ud800", "\ud800\ud800\udc00"]'),
        added(body=["\ufffd", "\ufffdx", "\U0001f600", r"\ud800", "\ufffd\U00010000"]),
    ),
    # cut bodies
    "envoy says partial": (json_body("{}", x_envoy_auth_partial_body="true"), added(truncated=True)),
    "envoy says partial of any type": (
        check(headers={"x-envoy-auth-partial-body": "true"}, body="x"),
        added(truncated=True),
    ),
    "partial in another case is not": (json_body("{}", x_envoy_auth_partial_body="True"), added(body={})),
    "announced more than received": (json_body("{}", content_length="3"), added(truncated=True)),
    "announced as received": (json_body("{}", content_length="2"), added(body={})),
    "announced less than received": (json_body("{}", content_length="1"), added(body={})),
    "announced in bytes, not characters": (json_body('"é"', content_length="4"), added(body="é")),
    "minus one": (json_body("{}", content_length="-1"), added(body={})),
    "a plus sign": (json_body("{}", content_length="+2"), added(body={})),
    "no integer": (json_body("{}", content_length="2 "), MALFORMED),
    "no integer: underscore": (json_body("{}", content_length="1_0"), MALFORMED),
    "an integer over 64 bits": (json_body("{}", content_length="9223372036854775808"), MALFORMED),
    "a length without a body": (json_body("", content_length="x"), added()),
    # forms
    "form": (form_body("a=1&a=2&b=x+y"), added(body={"a": ["1", "2"], "b": ["x y"]})),
    "an empty form": (form_body(""), added()),
    "a form with a broken escape": (form_body("a=%"), MALFORMED),
    "a form with a semicolon": (form_body("a=1;b"), MALFORMED),
    # multipart
    "multipart": (
        multipart(
            '--B\nContent-Disposition: form-data; name="a"\n\none\n'
            "--B\nContent-Disposition: form-data; name=a; filename=\"f.txt\"; filename*=UTF-8''f\n\ntwo\n\n"
            '--B\ncontent-type: application/json\ncontent-disposition: form-data; name="j"\n\n{"n": 1}\n--B--\n'
        ),
        added(body={"a": ["one", "two\r\n"], "j": [{"n": 1}]}),
    ),
    "multipart without a final line break": (
        multipart('--B\nContent-Disposition: form-data; name="a"\n\n\n--B--'),
        added(body={"a": [""]}),
    ),
    "multipart with a preamble and an epilogue": (
        multipart('pre\n--B  \nContent-Disposition: form-data; name="a"\n\n--Bx\n--B-- \nafter --B'),
        added(body={"a": ["--Bx"]}),
    ),
    "a part with an empty body and no line break": (
        multipart('--B\nContent-Disposition: form-data; name="a"\n\n--B--'),
        added(body={"a": [""]}),
    ),
    "parts without a form name are left out": (
        multipart(
            '--B\n\nx\n--B\nContent-Disposition: attachment; name="a"\n\ny\n'
            "--B\nContent-Disposition: form-data\n\nz\n--B--"
        ),
        added(body={}),
    ),
    "a quoted boundary": (
        multipart(
            '--a b\nContent-Disposition: form-data; name="a"\n\nx\n--a b--', 'multipart/form-data; boundary="a b"'
        ),
        added(body={"a": ["x"]}),
    ),
    "no parts at all": (multipart("--B--"), added(body={})),
    "line feeds alone": (
        check(
            headers={"content-type": "multipart/form-data; boundary=B"},
            body='--B\nContent-Disposition: form-data; name="a"\n\nx\n--B--\n',
        ),
        added(body={"a": ["x"]}),
    ),
    "quoted-printable": (
        multipart(
            '--B\nContent-Disposition: form-data; name="a"\nContent-Transfer-Encoding: quoted-printable\n\nx=3Dy\n--B--'
        ),
        added(body={"a": ["x=y"]}),
    ),
    "base64 is not decoded": (
        multipart('--B\nContent-Disposition: form-data; name="a"\nContent-Transfer-Encoding: base64\n\neA==\n--B--'),
        added(body={"a": ["eA=="]}),
    ),
    "a folded header": (
        multipart('--B\nContent-Disposition: form-data;\n name="a"\n\nx\n--B--'),
        added(body={"a": ["x"]}),
    ),
    "a nested multipart is not opened": (
        multipart(
            '--B\nContent-Disposition: form-data; name="a"\nContent-Type: multipart/mixed; boundary=C\n\n'
            "--C\n\nx\n--C--\n--B--"
        ),
        added(body={"a": ["--C\r\n\r\nx\r\n--C--"]}),
    ),
    "multipart without a boundary": (multipart("--B--", "multipart/form-data"), added()),
    "multipart with a broken parameter": (multipart("--B--", "multipart/form-data; boundary"), MALFORMED),
    "multipart with two boundaries": (multipart("--B--", "multipart/form-data; boundary=B; boundary=C"), MALFORMED),
    "multipart without its delimiter": (multipart("x"), MALFORMED),
    "multipart without its end": (multipart('--B\nContent-Disposition: form-data; name="a"\n\nx'), MALFORMED),
    "a part's header without a colon": (multipart("--B\nnonsense\n\nx\n--B--"), MALFORMED),
    "a part with broken json": (
        multipart('--B\nContent-Type: application/json\nContent-Disposition: form-data; name="a"\n\n{\n--B--'),
        MALFORMED,
    ),
    # gRPC without a descriptor
    "grpc without a descriptor is not read": (grpc_body(b"\x0a\x01x"), added(["shop.Orders", "Place"])),
}
"""Name -> request and what is added to it, or MALFORMED."""

_ORDER: Final = b"\x0a\x03cup\x10\x07\x1a\x01\xff"
_PLACE: Final = ["shop.Orders", "Place"]

GRPC: Final[dict[str, tuple[Any, Json]]] = {
    "a message, as protojson": (
        grpc_body(_ORDER),
        added(_PLACE, body={"itemName": "cup", "count": "7", "blob": "/w=="}),
    ),
    "an empty message": (grpc_body(b""), added(_PLACE, body={})),
    "a service that is not known": (grpc_body(_ORDER, "/shop.Nobody/Place"), added(["shop.Nobody", "Place"])),
    "a method that is not known": (grpc_body(_ORDER, "/shop.Orders/Nothing"), added(["shop.Orders", "Nothing"])),
    "a message in the place of a service": (grpc_body(_ORDER, "/shop.Order/Place"), added(["shop.Order", "Place"])),
    "a client stream": (grpc_body(_ORDER, "/shop.Orders/Stream"), added(["shop.Orders", "Stream"])),
    "a compressed message": (grpc_body(_ORDER, frame=b"\x01\x00\x00\x00\x01"), added(_PLACE)),
    "a cut message": (grpc_body(_ORDER, frame=b"\x00\x00\x00\x00\xff"), added(_PLACE, truncated=True)),
    "only the first message": (
        grpc_body(_ORDER + b"\x00", frame=b"\x00\x00\x00\x00\x05"),
        added(_PLACE, body={"itemName": "cup"}),
    ),
    "a message that does not decode": (grpc_body(b"\xff\xff"), MALFORMED),
    "a path that is not a method": (grpc_body(_ORDER, "/shop.Orders"), MALFORMED),
    "a frame shorter than its header": (grpc_body(b"", frame=b"\x00\x00"), MALFORMED),
    "a body that is text": (
        check("/shop.Orders/Place", headers={"content-type": "application/grpc"}, body="x"),
        added(_PLACE),
    ),
}
"""The same with `proto-descriptor`."""
