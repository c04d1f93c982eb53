"""A whole control plane publishes: over HTTP to operators, over mutual TLS to sidecars, and to a stock OPA as it is."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest

from authz._gen.authz.control.v1 import bundles_pb2 as pb
from authz._gen.authz.control.v1 import operators_pb2, sidecars_pb2
from authz.config import BundleTrust
from authz.control.config import Publishing
from authz.errors import ProgramError
from authz.policy.origin_http import LONG_POLL
from authz.policy.registry import PIECE_BYTES
from tests.contracts.programs import opa, running
from tests.control_planes import control_plane
from tests.e2e.stack import eventually
from tests.ports import free_port
from tests.publisher import RELEASE, STRANGER, Publisher, public_pem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.control_planes import Running

LIFE = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2126-01-01T00:00:00Z"}


def bundle(sequence: int, **files: bytes) -> Publisher:
    policy = b'package authz\n\ndecision := {"effect": "deny", "reason": "release-%d"}\n' % sequence
    return Publisher(sequence=sequence, declared=LIFE, files={"policy.rego": policy, **files})


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("plane")
    (folder / "release.pem").write_bytes(public_pem(RELEASE.private))
    bundles = Publishing(trust=BundleTrust(keys={"release": folder / "release.pem"}), bundle_bytes=8 << 20)
    with control_plane(folder / "state", bundles=bundles) as started:
        yield started


def post(plane: Running, method: str, message: Any, credential: str | None = None) -> httpx.Response:
    shown = plane.credential if credential is None else credential
    headers = {"content-type": "application/proto", **({"authorization": f"Bearer {shown}"} if shown else {})}
    return httpx.post(
        f"{plane.url}/authz.control.v1.{method}", content=message.SerializeToString(), headers=headers, timeout=30
    )


def push(plane: Running, tenant: str, published: Publisher, **statements: bytes) -> str:
    request = pb.PushBundleRequest(tenant=tenant, name="payments", archive=published.packed())
    for kind, content in statements.items():
        setattr(request.statements, kind, content)
    answer = post(plane, "Bundles/PushBundle", request)
    assert answer.status_code == 200, answer.text
    return pb.Revision.FromString(answer.content).sha256


def get(plane: Running, path: str, credential: str | None = None, **headers: str) -> httpx.Response:
    shown = plane.credential if credential is None else credential
    return httpx.get(
        f"{plane.url}/bundles/{path}",
        headers={**({"authorization": f"Bearer {shown}"} if shown else {}), **headers},
        timeout=30,
    )


def viewer(plane: Running, tenant: str, name: str) -> str:
    wanted = operators_pb2.Operator(
        id=name, credential=True, grants=[operators_pb2.Grant(role=operators_pb2.ROLE_VIEWER, tenant=tenant)]
    )
    request = operators_pb2.CreateOperatorRequest(operator=wanted)
    return plane.ask("Operators/CreateOperator", request, operators_pb2.CreateOperatorResponse).credential


def test_a_get_answers_the_newest_with_its_etag_and_304_to_who_has_it(plane: Running) -> None:
    published = bundle(1)
    sha256 = push(plane, "etags", published)
    answer = get(plane, "etags/payments")
    assert (answer.status_code, answer.content) == (200, published.packed())
    assert answer.headers["etag"] == f'"sha256:{sha256}"'
    assert answer.headers["content-length"] == str(len(published.packed()))
    again = get(plane, "etags/payments", **{"if-none-match": f'W/{answer.headers["etag"]}, "other"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
    push(plane, "etags", bundle(2))
    assert get(plane, "etags/payments", **{"if-none-match": answer.headers["etag"]}).status_code == 200


def test_f16_two_hundred_that_ask_at_once_are_each_given_the_whole_bundle(plane: Running) -> None:
    published = bundle(1, **{"authz/blocks/data.json": b'"%s"' % os.urandom(1 << 17).hex().encode()})
    push(plane, "herd", published)
    headers = {"authorization": f"Bearer {plane.credential}"}
    request = urllib.request.Request(f"{plane.url}/bundles/herd/payments", headers=headers)  # noqa: S310 - ours
    together = threading.Barrier(200)

    def pull(_: int) -> bytes:
        together.wait(30)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - ours
            content: bytes = answer.read()
        return content

    with ThreadPoolExecutor(200) as clients:
        assert {*clients.map(pull, range(200))} == {published.packed()}


def test_k5_a_bundle_is_read_by_who_may_read_its_tenant_and_by_no_other(plane: Running) -> None:
    push(plane, "mine", bundle(1))
    mine, theirs = viewer(plane, "mine", "mine-viewer"), viewer(plane, "theirs", "their-viewer")
    assert get(plane, "mine/payments", mine).status_code == 200
    refused = {
        name: get(plane, path, shown)
        for name, path, shown in (
            ("other", "mine/payments", theirs),
            ("absent", "nowhere/payments", theirs),
            ("stranger", "mine/payments", ""),
            ("forged", "mine/payments", "authz_operator_x"),
            ("beside", f"mine/{'a' * 64}.sig.json", theirs),
            ("platform", "payments", mine),
            ("deltas", "../deltas/mine/payments", theirs),
            ("their deltas", "../deltas/nowhere/payments", theirs),
        )
    }
    assert {name: answer.status_code for name, answer in refused.items()} == {
        "other": 403,
        "absent": 403,
        "stranger": 401,
        "forged": 401,
        "beside": 403,
        "platform": 403,
        "deltas": 403,
        "their deltas": 403,
    }
    assert refused["other"].content == refused["absent"].content
    assert get(plane, "mine/other", mine).status_code == 404


def test_what_lies_beside_an_archive_is_read_by_its_digest(plane: Running) -> None:
    sha256 = push(plane, "beside", bundle(1), timestamp=b'{"signatures": []}')
    assert get(plane, f"beside/{sha256}.timestamp.json").json() == {"signatures": []}
    assert get(plane, f"beside/{sha256}.rollback.json").status_code == 404
    assert get(plane, f"elsewhere/{sha256}.timestamp.json").status_code == 404


def test_a_long_poll_is_answered_when_something_is_published_and_else_when_it_is_over(plane: Running) -> None:
    etag = f'"sha256:{push(plane, "polls", bundle(1))}"'
    asked = {"if-none-match": etag, "prefer": "modes=snapshot,delta;wait=1"}
    over = get(plane, "polls/payments", **asked)
    assert (over.status_code, over.headers["content-type"]) == (304, LONG_POLL)
    answers: list[httpx.Response] = []
    asked["prefer"] = "modes=snapshot,delta;wait=25"
    waiting = threading.Thread(target=lambda: answers.append(get(plane, "polls/payments", **asked)))
    waiting.start()
    time.sleep(0.3)  # whenever it comes, the answer must be the new one
    push(plane, "polls", bundle(2))
    waiting.join()
    assert (answers[0].status_code, answers[0].headers["content-type"]) == (200, LONG_POLL)
    assert answers[0].content == bundle(2).packed()


def test_a_large_archive_is_read_of_known_callers_alone_and_within_its_bound(plane: Running) -> None:
    huge = bundle(2, **{"data.json": b'{"big": "%s"}' % os.urandom(3 << 20).hex().encode()})
    request = pb.PushBundleRequest(tenant="large", name="payments", archive=huge.packed())
    assert post(plane, "Bundles/PushBundle", request, "").status_code == 413
    assert post(plane, "Bundles/PushBundle", request, "authz_operator_x").status_code == 413
    assert push(plane, "large", huge)
    request.archive = bytes(17 << 20)
    assert post(plane, "Bundles/PushBundle", request).status_code == 413


def test_a_refused_push_says_the_trust_rules_code_and_is_on_record(plane: Running) -> None:
    request = pb.PushBundleRequest(tenant="refused", name="payments", archive=bundle(1).bent(signer=STRANGER).packed())
    answer = post(plane, "Bundles/PushBundle", request)
    assert (answer.status_code, answer.headers["x-authz-reason"]) == (400, "BUNDLE_KEY")
    actions = plane.ask(
        "Operators/ListActions", operators_pb2.ListActionsRequest(tenant="refused"), operators_pb2.ListActionsResponse
    )
    assert [(each.outcome, each.subject) for each in actions.actions] == [("BUNDLE_KEY", "payments")]


def test_e10_a_sidecar_reads_its_tenants_bundles_and_the_platforms_and_no_others(
    plane: Running, tmp_path: Path
) -> None:
    large = bundle(1, **{"data.json": b'{"big": "%s"}' % os.urandom(PIECE_BYTES).hex().encode()})
    for tenant in ("acme", "globex", ""):
        push(plane, tenant, large)
    member = plane.joined(tmp_path, "acme")

    def newest(tenant: str) -> sidecars_pb2.Newest:
        request = sidecars_pb2.ReadNewestRequest(tenant=tenant, name="payments")
        return member.control.call("ReadNewest", request, sidecars_pb2.Newest)

    found = newest("acme")
    pieces = [
        member.control.call(
            "PullPiece",
            sidecars_pb2.PullPieceRequest(tenant="acme", name="payments", sha256=found.sha256, position=position),
            sidecars_pb2.Piece,
        ).content
        for position in range(2)
    ]
    assert (b"".join(pieces), found.size) == (large.packed(), len(large.packed()))
    assert newest("").sha256 == found.sha256
    for tenant in ("globex", "nowhere"):
        with pytest.raises(ProgramError, match="CONTROL_FORBIDDEN"):
            newest(tenant)
    state = sidecars_pb2.BundleState(tenant="acme", name="payments", sha256=found.sha256)
    request = sidecars_pb2.ReportBundlesRequest(bundles=[state])
    member.control.call("ReportBundles", request, sidecars_pb2.ReportBundlesResponse)
    state.tenant = "globex"
    with pytest.raises(ProgramError, match="CONTROL_FORBIDDEN"):
        member.control.call(
            "ReportBundles", sidecars_pb2.ReportBundlesRequest(bundles=[state]), sidecars_pb2.ReportBundlesResponse
        )
    listed = plane.ask(
        "Sidecars/ListSidecars", sidecars_pb2.ListSidecarsRequest(tenant="acme"), sidecars_pb2.ListSidecarsResponse
    )
    assert [each.sha256 for each in listed.sidecars[0].bundles] == [found.sha256]


def configuration(plane: Running, tenant: str, folder: Path) -> Path:
    """OPA's own, as its manual writes it."""
    (folder / "token").write_text(viewer(plane, tenant, f"opa-{folder.name}"))
    written = {
        "services": {
            "authz": {"url": plane.url, "credentials": {"bearer": {"token_path": str(folder / "token")}}},
        },
        "keys": {"release": {"algorithm": "ES256", "key": public_pem(RELEASE.private).decode()}},
        "bundles": {
            "payments": {
                "service": "authz",
                "resource": f"bundles/{tenant}/payments",
                "signing": {"keyid": "release"},
                "polling": {"long_polling_timeout_seconds": 20},
            }
        },
    }
    (folder / "opa.json").write_text(json.dumps(written))
    return folder / "opa.json"


def reason(port: int, path: str = "/v1/data/authz/decision") -> Any:
    return httpx.get(f"http://127.0.0.1:{port}{path}").json().get("result", {}).get("reason")


@pytest.mark.e2e
def test_a_stock_opa_follows_the_registry_and_verifies_what_it_reads(plane: Running, tmp_path: Path) -> None:
    push(plane, "opa", bundle(1))
    port, config = free_port(), configuration(plane, "opa", tmp_path)
    command = [opa(), "run", "--server", "--addr", f"127.0.0.1:{port}", "--disable-telemetry", "-c", str(config)]
    with running(command, port, tmp_path / "log"):
        assert eventually(lambda: reason(port) == "release-1")
        push(plane, "opa", bundle(2))
        assert eventually(lambda: reason(port) == "release-2")


@pytest.mark.e2e
def test_a_stock_opa_envoy_plugin_follows_the_registry(plane: Running, tmp_path: Path) -> None:
    program = os.environ.get("OPA_ENVOY_PLUGIN") or shutil.which("opa-envoy-plugin")
    if not program:
        pytest.skip("no opa-envoy-plugin: set OPA_ENVOY_PLUGIN to its path")
    push(plane, "plugin", bundle(1))
    port, config = free_port(), configuration(plane, "plugin", tmp_path)
    with_plugin = json.loads(config.read_text())
    with_plugin["plugins"] = {"envoy_ext_authz_grpc": {"addr": f"127.0.0.1:{free_port()}", "path": "authz/decision"}}
    config.write_text(json.dumps(with_plugin))
    command = [program, "run", "--server", "--addr", f"127.0.0.1:{port}", "--disable-telemetry", "-c", str(config)]
    with running(command, port, tmp_path / "log"):
        assert eventually(lambda: reason(port) == "release-1")
        push(plane, "plugin", bundle(2))
        assert eventually(lambda: reason(port) == "release-2")
