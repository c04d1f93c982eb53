"""RFC 8785 bytes and digests."""

from __future__ import annotations

import hashlib

import pytest

from authz.config import Limits
from authz.protocol import canonical
from authz.protocol.strict_json import parse


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"b":1,"a":[true,null,"x"]}', b'{"a":[true,null,"x"],"b":1}'),
        (
            b"[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001]",
            b"[333333333.3333333,1e+30,4.5,0.002,1e-27]",
        ),
        (b"[1.0,-0.0,-0,1e2,1e21,1e20]", b"[1,0,0,100,1e+21,100000000000000000000]"),
        (b'"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/"', '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()),
        (
            b'{"\\u20ac":1,"\\r":2,"\\ufb33":3,"1":4,"\\ud83d\\ude00":5,"\\u0080":6,"\\u00f6":7}',
            '{"\\r":2,"1":4,"\x80":6,"ö":7,"€":1,"😀":5,"\ufb33":3}'.encode(),
        ),
    ],
)
def test_the_canonical_form_is_that_of_the_rfc(body: bytes, expected: bytes) -> None:
    parsed = parse(body, Limits())
    assert canonical.dumps(parsed.value, simple=parsed.simple) == expected


def test_h2_key_order_does_not_change_a_digest_and_anything_else_does() -> None:
    def digest(body: bytes) -> str:
        parsed = parse(body, Limits())
        return canonical.digest(parsed.value, simple=parsed.simple)

    first = digest(b'{"a":1,"b":"\xc3\xa9"}')
    assert first == digest(b'{ "b" : "\\u00e9", "a" : 1.0 }')
    assert first == "sha256:" + hashlib.sha256('{"a":1,"b":"é"}'.encode()).hexdigest()
    for other in (b'{"a":"1","b":"\xc3\xa9"}', b'{"a":1,"b":"e\xcc\x81"}', b'{"a":1,"b":"\xc3\xa9","c":null}', b"{}"):
        assert digest(other) != first
