"""`authz bundle push`, `pull` and what goes with them: to a control plane, to a server of files, to a folder."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from authz.config import BundleTrust
from authz.control.config import Publishing
from authz.policy.sources import beside
from tests.control_planes import control_plane
from tests.publisher import RELEASE, SECURITY, Publisher, public_pem
from tests.unit.cli.conftest import run  # noqa: F401 - a fixture
from tests.web_servers import answering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.control_planes import Running
    from tests.unit.cli.conftest import Run

LIFE = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2126-01-01T00:00:00Z"}
BUNDLE = Publisher(sequence=1, declared=LIFE)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("plane")
    (folder / "release.pem").write_bytes(public_pem(RELEASE.private))
    trust = BundleTrust(keys={"release": folder / "release.pem"})
    with control_plane(folder / "state", bundles=Publishing(trust=trust)) as started:
        yield started


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    file = tmp_path / "bundle.tar.gz"
    file.write_bytes(BUNDLE.packed())
    beside(file, BUNDLE.packed(), "sig").write_bytes(BUNDLE.cosigned(SECURITY))
    return file


def at(plane: Running) -> list[object]:
    return ["--state", plane.plane.state]


def test_what_is_pushed_is_listed_pulled_held_and_retired(
    plane: Running,
    archive: Path,
    run: Run,  # noqa: F811
) -> None:
    pushed = run(
        "bundle", "push", archive, "--tenant", "acme", "--reason", "first", "--output", "json", *at(plane)
    ).document()
    assert (pushed["tenant"], pushed["name"], pushed["signed_by"]) == ("acme", "payments", ["release"])
    sha256 = pushed["sha256"]
    listed = run("bundle", "list", "--tenant", "acme", *at(plane)).out
    assert listed.startswith("payments  payments-1  expires 2126-01-01T00:00:00Z")
    copy = archive.with_name("copy.tar.gz")
    pulled = run("bundle", "pull", copy, "--name", "payments", "--tenant", "acme", "--output", "json", *at(plane))
    assert (pulled.code, pulled.document()["beside"]) == (0, ["sig"])
    assert copy.read_bytes() == archive.read_bytes()
    assert beside(copy, copy.read_bytes(), "sig").read_bytes() == BUNDLE.cosigned(SECURITY)
    named = ("payments", sha256, "--tenant", "acme", "--reason", "case 12")
    assert "served, held" in run("bundle", "hold", *named, *at(plane)).out
    refused = run("bundle", "retire", *named, *at(plane))
    assert (refused.code, "REVISION_HELD" in refused.err) == (1, True)
    run("bundle", "release", *named, *at(plane))
    assert "retired" in run("bundle", "retire", *named, *at(plane)).out
    told = run("bundle", "history", "payments", "--tenant", "acme", *at(plane)).out
    assert [line.split()[1] for line in told.splitlines() if "case 12" in line] == ["retired", "released", "held"]
    assert run("bundle", "pull", copy, "--name", "payments", "--tenant", "acme", *at(plane)).code == 3


def test_what_the_control_plane_refuses_has_the_trust_rules_code(
    plane: Running,
    archive: Path,
    run: Run,  # noqa: F811
) -> None:
    archive.write_bytes(BUNDLE.bent(signer=SECURITY).packed())
    refused = run("bundle", "push", archive, "--tenant", "acme", *at(plane))
    assert (refused.code, "BUNDLE_KEY" in refused.err) == (1, True)


@pytest.mark.parametrize("chosen", [[], ["--tenant", "acme", "--platform"]])
def test_whose_bundle_it_is_must_be_said(
    plane: Running,
    archive: Path,
    run: Run,  # noqa: F811
    chosen: list[str],
) -> None:
    assert run("bundle", "push", archive, *chosen, *at(plane)).code == 2
    assert run("bundle", "list", *chosen, *at(plane)).code == 2
    assert run("bundle", "pull", archive, *chosen, *at(plane)).code == 2


def test_a_folder_is_a_place_to_publish(archive: Path, tmp_path: Path, run: Run) -> None:  # noqa: F811
    (tmp_path / "mirror").mkdir()
    target = f"file://{tmp_path}/mirror/payments.tar.gz"
    assert run("bundle", "push", archive, "--to", target).code == 0
    copy = tmp_path / "copy.tar.gz"
    assert run("bundle", "pull", copy, "--source", target, "--output", "json").document()["beside"] == ["sig"]
    assert copy.read_bytes() == archive.read_bytes()
    assert run("bundle", "pull", copy, "--source", f"file://{tmp_path}/nowhere.tar.gz").code == 3
    assert run("bundle", "push", archive, "--to", f"file://{tmp_path}/nowhere/payments.tar.gz").code == 3


def test_a_server_of_files_is_a_place_to_publish(archive: Path, tmp_path: Path, run: Run) -> None:  # noqa: F811
    files: dict[str, bytes] = {}
    order: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            allowed = self.headers["authorization"] == "Bearer secret"
            body = self.rfile.read(int(self.headers["content-length"]))
            if allowed:
                files[self.path] = body
                order.append(self.path)
            self._answer(201 if allowed else 403)

        def do_GET(self) -> None:
            self._answer(200 if self.path in files else 404, files.get(self.path, b""))

        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with answering(Answers) as host:
        target = f"http://{host}/acme/payments.tar.gz"
        assert run("bundle", "push", archive, "--to", target).code == 3
        (tmp_path / "token").write_text("secret\n")
        assert run("bundle", "push", archive, "--to", target, "--token-file", tmp_path / "token").code == 0
        # Whoever finds the archive finds what lies beside it too.
        assert order[-1] == "/acme/payments.tar.gz"
        copy = tmp_path / "copy.tar.gz"
        assert run("bundle", "pull", copy, "--source", target, "--output", "json").document()["beside"] == ["sig"]
        assert copy.read_bytes() == archive.read_bytes()
    refused = run("bundle", "push", archive, "--to", "http://mirror.example/payments.tar.gz")
    assert (refused.code, "https" in refused.err) == (2, True)
