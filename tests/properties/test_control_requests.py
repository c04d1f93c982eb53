"""Whatever is sent to the control plane: an answer or a refusal, and never a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import urllib3
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.control.forms import Binary, Json
from authz.control.permissions import METHODS, PACKAGE
from authz.control.refusals import Code, RefusedError
from authz.database import Database, migrate
from tests.control import operators_service, request_class, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.control import Plane

NAMES = st.sampled_from(
    [
        *("tenant", "id", "agent", "scope", "kind", "value", "reason", "expiresIn", "expires_in", "wait", "pageSize"),
        *("operator", "grants", "role", "credential", "subject", "certificateSan", "applied", "stream", "epoch", "csr"),
        *("tenants", "createdAt", "ceiling", "scopes", "names", "publicJwk", "page_token", "lifecycle", "unknown"),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "*", "acme", "1s", "-1s", "9e99s", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "\x00", "ROLE_ADMIN"]
    ),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    DOCUMENTS.map(lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS) if _is_json(value) else b"NaN"),
)
METHOD = st.sampled_from(sorted(METHODS))


def _is_json(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def read(form: Any, body: bytes, method: str) -> Any:
    """The message, or None where it is refused as it should be."""
    try:
        return form.read(body, request_class(method))
    except RefusedError as refusal:
        if refusal.code is not Code.INVALID_ARGUMENT:
            raise
        return None


@given(METHOD, BODIES)
def test_any_body_is_read_or_refused(method: str, body: bytes) -> None:
    """A refusal is `RefusedError` with INVALID_ARGUMENT, and nothing else is raised."""
    for form in (Json, Binary):
        message = read(form, body, method)
        if message is not None:
            assert read(form, form.write(message), method) == message


@given(METHOD, st.binary(max_size=100))
def test_both_forms_say_the_same(method: str, body: bytes) -> None:
    message = read(Binary, body, method)
    if message is None:
        return
    message.DiscardUnknownFields()
    assert json_format.ParseDict(orjson.loads(Json.write(message)), request_class(method)()) == message


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('control') / 'control.db'}")
    migrate(database)
    with running(database, Operators=operators_service(database)) as running_plane:
        yield running_plane
    database.close()


@pytest.fixture(scope="module")
def admin(plane: Plane) -> str:
    return plane.named("admin", ("admin", "*"))


@settings(max_examples=300)
@given(method=METHOD, body=BODIES)
def test_no_body_makes_the_control_plane_fail(plane: Plane, admin: str, method: str, body: bytes) -> None:
    path = f"/{PACKAGE}.{method}"
    for answer in (
        plane.http_bytes(path, body, f"Bearer {admin}"),
        plane.grpc_bytes(path, body, f"Bearer {admin}"),
    ):
        assert answer.code not in ("internal", "unknown", "cut off"), answer


@settings(max_examples=200)
@given(
    path=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=40),
    method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS"]),
    body=st.binary(max_size=30),
    content_type=st.sampled_from(["application/json", "application/connect+json", "text/plain", ""]),
)
def test_no_path_makes_the_control_plane_fail(
    plane: Plane, path: str, method: str, body: bytes, content_type: str
) -> None:
    url = urllib3.util.parse_url(plane.http.url)
    pool = urllib3.HTTPConnectionPool(str(url.host), url.port)
    answer = pool.urlopen(method, f"/{path}", body, {"content-type": content_type}, retries=False, redirect=False)
    pool.close()
    assert answer.status < 500 or answer.status == 501
