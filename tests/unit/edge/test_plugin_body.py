"""Bodies: what the parity suite does not ask, and refusals by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pb2

from authz.edge.plugin_body import GrpcMethods, parsed_body
from authz.edge.plugin_multipart import parts
from authz.edge.plugin_url import MAX_PARAMETERS, parsed_path, parsed_query
from authz.errors import ConfigError, InvalidRequestError
from authz.reasons import (
    BODY_GRPC,
    BODY_MULTIPART,
    HTTP_FORM,
    HTTP_PATH,
    HTTP_QUERY,
    JSON_DEPTH,
    JSON_DUP_KEY,
    JSON_SYNTAX,
    MCP_BODY_LENGTH,
)

if TYPE_CHECKING:
    from pathlib import Path

    from authz.reasons import Reason

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=B"


@pytest.mark.parametrize(
    ("content_type", "content", "reason"),
    [
        (JSON, b"{", JSON_SYNTAX),
        (JSON, b'{"a": 1, "a": 1}', JSON_DUP_KEY),
        (JSON, b"[" * 300 + b"]" * 300, JSON_DEPTH),
        (FORM, b"a=%", HTTP_FORM),
        (FORM, b"a;b", HTTP_FORM),
        (MULTIPART, b"x", BODY_MULTIPART),
        (MULTIPART, b"--B\r\n\r\nx", BODY_MULTIPART),
        ("multipart/form-data; boundary=", b"x", BODY_MULTIPART),
        ('multipart/form-data; boundary=""', b"--\r\n\r\nx\r\n----", BODY_MULTIPART),
    ],
)
def test_a_body_that_does_not_read_is_refused_by_its_kind(content_type: str, content: bytes, reason: Reason) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parsed_body({"content-type": content_type}, content, content, [], None)
    assert caught.value.reason is reason
    assert reason.http_status == 400


def test_a_refusal_never_repeats_the_body() -> None:
    for content_type, content in (
        (JSON, b'{"secret7f3a": 1, "secret7f3a": 2}'),
        (MULTIPART, b"--B\r\nsecret7f3a\r\n\r\n"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            parsed_body({"content-type": content_type}, content, content, [], None)
        assert "secret7f3a" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_length_that_is_no_number_is_refused_before_the_body_is_read() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parsed_body({"content-type": JSON, "content-length": "0x2"}, b"{", b"{", [], None)
    assert caught.value.reason is MCP_BODY_LENGTH


@pytest.mark.parametrize("path", ["/%", "/%4", "/%zz", "/%%34", "/a%2"])
def test_a_broken_escape_in_the_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parsed_path(path)
    assert caught.value.reason is HTTP_PATH


def test_too_many_parameters_are_refused() -> None:
    assert len(parsed_query("&".join(f"a{i}" for i in range(MAX_PARAMETERS)))) == MAX_PARAMETERS
    with pytest.raises(InvalidRequestError) as caught:
        parsed_query("&" * MAX_PARAMETERS)
    assert caught.value.reason is HTTP_QUERY


def test_a_part_never_reaches_past_the_closing_delimiter() -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--B--\r\n--B\r\n\r\n2\r\n--B--'
    assert [part.content for part in parts(body, "B")] == [b"1"]


def test_a_delimiter_inside_a_line_is_content() -> None:
    body = b"--B\r\n\r\nx--B\r\n--Bee\r\n\r\n--B--"
    assert [part.content for part in parts(body, "B")] == [b"x--B\r\n--Bee\r\n"]


@pytest.mark.parametrize(
    ("raw", "segments"),
    [(b"\x00" * 4, ["s", "m"]), (b"\x00" * 5, ["s"]), (b"\x00" * 5, ["s", "m", "x"])],
)
def test_a_broken_grpc_body_is_refused(raw: bytes, segments: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        GrpcMethods(b"").read(raw, segments)
    assert caught.value.reason is BODY_GRPC


def test_a_descriptor_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pb"):
        GrpcMethods.load(tmp_path / "none.pb")


def test_a_descriptor_set_that_is_broken_or_lacks_an_import_is_refused() -> None:
    lacking = descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["b.proto"])
    for content in (b"\xff", descriptor_pb2.FileDescriptorSet(file=[lacking]).SerializeToString()):
        with pytest.raises(ConfigError, match="FileDescriptorSet"):
            GrpcMethods(content)
