"""Bundles in an OCI registry: a real one where there is one, for us and a stock OPA; and one that does its worst."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
import yaml

from authz.clock import SystemClock
from authz.errors import BundleError, ConfigError, ProgramError
from authz.policy.oci import ARCHIVE_TYPE, MANIFEST_TYPE, OciOrigin, publish_oci
from authz.policy.trust import Candidate
from tests.contracts.programs import opa, running
from tests.e2e.stack import eventually
from tests.ports import free_port
from tests.publisher import RELEASE, SECURITY, Publisher, public_pem
from tests.web_servers import answering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIFE = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2126-01-01T00:00:00Z"}
MOST = 1 << 20


def bundle(sequence: int) -> Publisher:
    policy = b'package authz\n\ndecision := {"effect": "deny", "reason": "release-%d"}\n' % sequence
    return Publisher(sequence=sequence, declared=LIFE, files={"policy.rego": policy})


def candidate(sequence: int) -> Candidate:
    made = bundle(sequence)
    return Candidate(path="", archive=made.packed(), cosignatures=made.cosigned(SECURITY))


def origin(host: str, **options: Any) -> OciOrigin:
    settings: dict[str, Any] = {"archive_bytes": MOST} | options
    return OciOrigin(f"oci://{host}/policies/payments:prod", SystemClock(), **settings)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry (Debian's docker-registry), by its host and port."""
    program = os.environ.get("OCI_REGISTRY") or shutil.which("docker-registry")
    if not program:
        pytest.skip("no OCI registry: install docker-registry, or set OCI_REGISTRY to its path")
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "content")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "log": {"level": "error"},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(settings))
    with running([program, "serve", str(folder / "config.yml")], port, folder / "log"):
        yield f"127.0.0.1:{port}"


def test_what_is_pushed_to_a_registry_is_read_with_what_lies_beside_it(registry: str) -> None:
    publish_oci(candidate(1), f"oci://{registry}/policies/payments:prod")
    reader = origin(registry)
    offer = reader.read("")
    assert (offer.archive, offer.beside) == (candidate(1).archive, {"sig": candidate(1).cosignatures})
    assert offer.tag == reader.tag(candidate(1).archive)
    assert reader.read(offer.tag).archive is None
    publish_oci(candidate(2), f"oci://{registry}/policies/payments:prod")
    assert reader.read(offer.tag).archive == candidate(2).archive
    with pytest.raises(BundleError, match="BUNDLE_SIZE"):
        origin(registry, archive_bytes=100).read("")
    with pytest.raises(BundleError, match="BUNDLE_FETCH"):
        OciOrigin(f"oci://{registry}/policies/absent:prod", SystemClock(), archive_bytes=MOST).read("")


@pytest.mark.e2e
def test_a_stock_opa_follows_the_registry(registry: str, tmp_path: Path) -> None:
    publish_oci(candidate(1), f"oci://{registry}/policies/opa:prod")
    configuration = {
        "services": {"registry": {"url": f"http://{registry}", "type": "oci"}},
        "keys": {"release": {"algorithm": "ES256", "key": public_pem(RELEASE.private).decode()}},
        "bundles": {
            "payments": {
                "service": "registry",
                "resource": f"{registry}/policies/opa:prod",
                "signing": {"keyid": "release"},
                "polling": {"min_delay_seconds": 1, "max_delay_seconds": 1},
            }
        },
        "persistence_directory": str(tmp_path / "opa"),
    }
    (tmp_path / "opa.json").write_text(json.dumps(configuration))
    port = free_port()
    command = [opa(), "run", "--server", "--addr", f"127.0.0.1:{port}", "--disable-telemetry"]

    def reason() -> Any:
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/data/authz/decision").json()
        return answer.get("result", {}).get("reason")

    with running([*command, "-c", str(tmp_path / "opa.json")], port, tmp_path / "log"):
        assert eventually(lambda: reason() == "release-1")
        publish_oci(candidate(2), f"oci://{registry}/policies/opa:prod")
        assert eventually(lambda: reason() == "release-2")


class Hostile:
    """A registry of one bundle that a test bends: what it answers, by path."""

    def __init__(self) -> None:
        archive = candidate(1).archive
        self.digest = f"sha256:{hashlib.sha256(archive).hexdigest()}"
        self.asked: list[tuple[str, str]] = []
        layer = {"mediaType": ARCHIVE_TYPE, "digest": self.digest, "size": len(archive)}
        self.manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": [layer]}
        self.blob = archive
        self.location = ""
        self.challenge = ""
        self.host = ""

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append((path, authorization))
        if self.challenge and not authorization:
            return 401, {"www-authenticate": self.challenge}, b""
        if path.startswith("/v2/policies/payments/manifests/"):
            return 200, {"content-type": MANIFEST_TYPE}, json.dumps(self.manifest).encode()
        if self.location:
            return 307, {"location": self.location}, b""
        return 200, {}, self.blob


@contextmanager
def serving(hostile: Hostile) -> Iterator[None]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hostile.answer(self.path, self.headers.get("authorization", ""))
            self.send_response(status)
            for name, text in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with answering(Answers) as hostile.host:
        yield


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    made = Hostile()
    with serving(made):
        yield made


def refusal(hostile: Hostile, **options: Any) -> str:
    with pytest.raises(BundleError) as refused:
        origin(hostile.host, **options).read("")
    return str(refused.value)


def test_a_registry_in_a_few_lines_is_read(hostile: Hostile) -> None:
    assert origin(hostile.host).read("").archive == candidate(1).archive


def test_f2_a_blob_that_is_not_what_the_manifest_says_is_refused(hostile: Hostile) -> None:
    hostile.blob = candidate(2).archive
    assert "not what the manifest says" in refusal(hostile)


@pytest.mark.parametrize("target", ["http://registry.example/blob", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_f18_a_redirect_away_from_tls_is_not_followed(hostile: Hostile, target: str) -> None:
    hostile.location = target
    assert refusal(hostile).startswith("BUNDLE_FETCH")


def test_f18_no_password_is_sent_to_a_token_service_without_tls(hostile: Hostile) -> None:
    hostile.challenge = 'Bearer realm="http://tokens.example/token",service="x"'
    assert "without TLS" in refusal(hostile, token=lambda: "ann:secret")


def test_a_registry_that_asks_for_a_password_gets_it_and_nobody_else_does(hostile: Hostile) -> None:
    hostile.challenge = 'Basic realm="registry"'
    assert origin(hostile.host, token=lambda: "ann:secret").read("").archive
    assert {authorization for path, authorization in hostile.asked if path != "/v2/"} == {"", "Basic YW5uOnNlY3JldA=="}
    hostile.manifest = {}
    assert "secret" not in refusal(hostile, token=lambda: "ann:secret")


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"layers": []},
        {"layers": "x"},
        {"layers": [{"mediaType": ARCHIVE_TYPE}]},
        {"layers": [{"mediaType": ARCHIVE_TYPE, "digest": "sha256:0"}] * 2},
        {"layers": [{"mediaType": "text/plain", "digest": "x"}] * 100},
        {"layers": [1]},
        [],
        None,
    ],
)
def test_a_manifest_that_is_no_bundles_is_refused(hostile: Hostile, manifest: Any) -> None:
    hostile.manifest = manifest
    assert refusal(hostile).startswith("BUNDLE_FETCH")


def test_f14_no_more_is_read_than_an_archive_may_weigh(hostile: Hostile) -> None:
    assert refusal(hostile, archive_bytes=100).startswith("BUNDLE_SIZE")


def test_nobody_there_is_told_at_once() -> None:
    with pytest.raises(BundleError, match="BUNDLE_FETCH"):
        origin("127.0.0.1:1").read("")
    with pytest.raises(ProgramError):
        publish_oci(candidate(1), "oci://127.0.0.1:1/policies/payments:prod")


@pytest.mark.parametrize("reference", ["oci://", "oci://host", "https://host/x", "oci://user:secret@host/x:1"])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(ConfigError) as refused:
        OciOrigin(reference, SystemClock(), archive_bytes=MOST)
    assert "secret" not in str(refused.value)


def test_the_client_is_loaded_by_those_alone_who_name_a_registry() -> None:
    code = "import sys, authz.wiring, authz.cli.bundle; sys.exit('oras' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
