"""Bundles in an object store that checks each request's signature and keeps only what is signed by whom it knows."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from authz.bundles import s3_signer
from authz.clock import SystemClock
from authz.config import PublishedBundle
from authz.errors import BundleError, ProgramError
from authz.policy.origin_http import HttpOrigin
from authz.policy.publishing import publish_http
from authz.policy.s3 import S3Signer
from authz.policy.trust import Candidate
from tests import sigv4
from tests.publisher import Publisher
from tests.web_servers import answering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGION, KEY, SECRET = "eu-west-1", "AKIAEXAMPLE", "a/secret+of-forty-or-so-characters"
PUBLISHER = Publisher()
CANDIDATE = Candidate(path="b.tar.gz", archive=PUBLISHER.packed(), cosignatures=PUBLISHER.cosigned(PUBLISHER.signer))
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass
class Store:
    """Objects by path, and why requests were refused."""

    objects: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    exchanges_bodies: bool = False
    url: str = ""


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()

    class Answers(BaseHTTPRequestHandler):
        def _admits(self, body: bytes) -> bool:
            headers = {name.lower(): text for name, text in self.headers.items()}
            made.tokens.append(headers.get("x-amz-security-token", ""))
            now = datetime.now(UTC)
            why = sigv4.refused(self.command, self.path, headers, body, {KEY: SECRET}, REGION, now)
            if why:
                made.refused.append(why)
                self._send(403, why.encode())
            return not why

        def do_GET(self) -> None:
            if self._admits(b""):
                content = made.objects.get(self.path)
                self._send(200 if content is not None else 404, content or b"")

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self._admits(b"another" if made.exchanges_bodies else body):
                made.objects[self.path] = body
                self._send(200, b"")

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with answering(Answers) as host:
        made.url = f"http://{host}/policies/b.tar.gz"
        yield made


def origin(store: Store, sign: S3Signer) -> HttpOrigin:
    return HttpOrigin(store.url, SystemClock(), sign=sign, archive_bytes=1 << 20)


def by(secret: str = SECRET, region: str = REGION, key: str = KEY) -> S3Signer:
    return S3Signer(region, lambda: f"{key}:{secret}")


def test_the_check_is_the_published_one() -> None:
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY_SHA256,
        "x-amz-date": "20130524T000000Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    }
    secrets = {"AKIAIOSFODNN7EXAMPLE": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
    now = datetime(2013, 5, 24, tzinfo=UTC)
    assert sigv4.refused("GET", "/test.txt", headers, b"", secrets, "us-east-1", now) == ""
    assert sigv4.refused("GET", "/other.txt", headers, b"", secrets, "us-east-1", now) == "SignatureDoesNotMatch"


def test_what_was_pushed_is_read_again_with_what_lies_beside_it(store: Store) -> None:
    publish_http(CANDIDATE, store.url, sign=by())
    offer = origin(store, by()).read("")
    assert (offer.archive, offer.beside) == (CANDIDATE.archive, {"sig": CANDIDATE.cosignatures})
    assert store.refused == []
    assert origin(store, by()).read(offer.tag).archive is None


@pytest.mark.parametrize(
    ("sign", "why"),
    [
        (by(secret="another"), "SignatureDoesNotMatch"),
        (by(region="us-east-1"), "AuthorizationHeaderMalformed"),
        (by(key="AKIASTRANGER"), "InvalidAccessKeyId"),
    ],
)
def test_a_store_refuses_whom_it_does_not_know_and_nothing_is_taken(store: Store, sign: S3Signer, why: str) -> None:
    with pytest.raises(ProgramError, match="403"):
        publish_http(CANDIDATE, store.url, sign=sign)
    with pytest.raises(BundleError, match="403"):
        origin(store, sign).read("")
    assert ({*store.refused}, store.objects) == ({why}, {})


def test_a_body_that_is_exchanged_on_the_way_is_not_what_was_signed(store: Store) -> None:
    store.exchanges_bodies = True
    with pytest.raises(ProgramError):
        publish_http(CANDIDATE, store.url, sign=by())
    assert store.refused == ["XAmzContentSHA256Mismatch"]


def test_credentials_in_a_file_are_read_again_and_a_session_is_shown(store: Store, tmp_path: Path) -> None:
    publish_http(CANDIDATE, store.url, sign=by())
    file = tmp_path / "credentials"
    file.write_text(f"{KEY}:outdated")
    reads = origin(store, s3_signer(REGION, file))
    with pytest.raises(BundleError):
        reads.read("")
    file.write_text(f"{KEY}:{SECRET}:session\n")
    assert reads.read("").archive == CANDIDATE.archive
    assert (store.refused, store.tokens[-1]) == (["SignatureDoesNotMatch"], "session")


@pytest.mark.parametrize("text", ["", "AKIAEXAMPLE", ":secret", "AKIAEXAMPLE:"])
def test_without_credentials_nothing_is_asked(store: Store, tmp_path: Path, text: str) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    with pytest.raises(BundleError, match="credentials cannot be read"):
        origin(store, s3_signer(REGION, file)).read("")
    with pytest.raises(ProgramError):
        publish_http(CANDIDATE, store.url, sign=s3_signer(REGION, file))
    assert store.tokens == []


def test_the_environments_credentials_count_where_no_file_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    signs = s3_signer(REGION, None)
    with pytest.raises(BundleError, match="credentials cannot be read"):
        origin(store, signs).read("")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    publish_http(CANDIDATE, store.url, sign=signs)
    assert origin(store, signs).read("").archive == CANDIDATE.archive


def test_the_commands_push_and_pull_with_the_environments_credentials(store: Store, tmp_path: Path) -> None:
    pushed, pulled = tmp_path / "pushed.tar.gz", tmp_path / "pulled.tar.gz"
    pushed.write_bytes(CANDIDATE.archive)
    environment = os.environ | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    for words in (("push", pushed, "--to", store.url), ("pull", pulled, "--source", store.url)):
        command = [sys.executable, "-m", "authz", "bundle", *map(str, words), "--s3-region", REGION]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
    assert pulled.read_bytes() == CANDIDATE.archive


def test_a_region_is_for_a_url_alone() -> None:
    with pytest.raises(ValueError, match="s3_region"):
        PublishedBundle(source="oci://registry/payments:prod", s3_region=REGION)
