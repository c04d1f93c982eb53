"""A control plane publishes, `authz serve` follows: what is pushed answers, what is tampered with does not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
import yaml

from authz._gen.authz.control.v1 import bundles_pb2 as pb
from authz._gen.authz.control.v1 import sidecars_pb2
from authz.config import BundleTrust
from authz.control.config import Publishing
from tests.control_planes import control_plane
from tests.e2e.serving import serving
from tests.e2e.stack import eventually
from tests.e2e.test_signed_policy import CORPUS, POLICY, bundle, degraded, is_degraded, put, reason
from tests.publisher import RELEASE, public_pem

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.control_planes import Running
    from tests.e2e.serving import Served
    from tests.publisher import Publisher

pytestmark = pytest.mark.e2e


def push(plane: Running, published: Publisher) -> pb.Revision:
    request = pb.PushBundleRequest(tenant="acme", name="payments", archive=published.packed())
    return plane.ask("Bundles/PushBundle", request, pb.Revision)


def settings(folder: Path, source: dict[str, Any]) -> Path:
    """The sidecar's configuration; it looks as often as it may."""
    (folder / "release.pem").write_bytes(public_pem(RELEASE.private))
    policy = {"trust": {"keys": {"release": str(folder / "release.pem")}}, "bundles": [{"poll_s": 1, **source}]}
    (folder / "authz.yaml").write_text(yaml.safe_dump({"version": 1, "policy": policy}))
    return folder / "authz.yaml"


def started(folder: Path, *flags: str) -> AbstractContextManager[Served]:
    return serving(
        folder, "--config", str(folder / "authz.yaml"), "--state", str(folder / "state"), *flags, policy=None
    )


def status(served: Served) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-m", "authz", "status", "--diagnostics", served.ready["diagnostics"], "--output", "json"],
        capture_output=True,
        check=False,
        timeout=30,
    )
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def says(served: Served, wanted: str) -> bool:
    return reason(served) == wanted


def test_what_is_pushed_answers_everywhere_and_a_restart_needs_no_control_plane(tmp_path: Path) -> None:
    settings(tmp_path, {"tenant": "acme", "name": "payments"})
    trust = BundleTrust(keys={"release": tmp_path / "release.pem"})
    with control_plane(tmp_path / "control", bundles=Publishing(trust=trust)) as plane:
        control = ("--control", plane.url, "--enrol", plane.invite("acme"), "--revocation", "none")
        with started(tmp_path, *control) as served:
            assert status(served)["waiting_for"] == {"policy": "none is active"}
            first = push(plane, bundle(1))
            assert eventually(partial(says, served, "release-1"))
            # Signed, published, and refused by the engine here: it serves on, and the control plane knows.
            bad = push(plane, bundle(2, **{"policy.rego": b"package authz\n\ndecision := {"}))
            assert eventually(partial(is_degraded, served, "BUNDLE_INVALID"))
            assert reason(served) == "release-1"
            told = status(served)["policy"]
            assert told["quarantined"] == {bad.digest: "BUNDLE_INVALID"}
            assert (told["source"]["sha256"], told["source"]["refused"]) == (first.sha256, bad.sha256)

            def reported() -> list[tuple[str, str, str]]:
                request = sidecars_pb2.ListSidecarsRequest(tenant="acme")
                listed = plane.ask("Sidecars/ListSidecars", request, sidecars_pb2.ListSidecarsResponse)
                return [(each.sha256, each.refused, each.code) for each in listed.sidecars[0].bundles]

            assert eventually(lambda: reported() == [(first.sha256, bad.sha256, "BUNDLE_INVALID")])
            push(plane, bundle(3))
            assert eventually(partial(says, served, "release-3"))
            assert degraded(served) == ""
            assert served.end() == 0
    with started(tmp_path, *control) as served:
        assert reason(served) == "release-3"
        assert eventually(partial(is_degraded, served, "BUNDLE_FETCH"))
        assert reason(served) == "release-3"


def limited(sequence: int, *limits: int) -> Publisher:
    """A release that is data for the most part, its reason too."""
    policy = POLICY.replace('"{reason}"', "data.authz.limits.reason").format()
    names = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(200)]
    data = {"reason": f"release-{sequence}", "limits": limits, "names": names}
    return bundle(sequence, **{"policy.rego": policy.encode(), "authz/limits/data.json": json.dumps(data).encode()})


def test_f13_data_that_changed_comes_as_a_delta_and_data_that_was_lost_changes_nothing(tmp_path: Path) -> None:
    settings(tmp_path, {"tenant": "acme", "name": "payments"})
    trust = BundleTrust(keys={"release": tmp_path / "release.pem"})
    with control_plane(tmp_path / "control", bundles=Publishing(trust=trust)) as plane:
        control = ("--control", plane.url, "--enrol", plane.invite("acme"), "--revocation", "none")
        push(plane, limited(1, 1, 2))
        with started(tmp_path, *control) as served:
            assert eventually(partial(says, served, "release-1"))
            fetched = pieces(plane)
            second = push(plane, limited(2, 1, 2, 3))
            assert eventually(partial(says, served, "release-2"))
            lost = push(plane, limited(3))
            assert eventually(partial(is_degraded, served, "BUNDLE_SHAPE"))
            assert reason(served) == "release-2"
            told = status(served)["policy"]["source"]
            assert (told["sha256"], told["refused"]) == (second.sha256, lost.sha256)
            assert pieces(plane) == fetched > 0
            assert served.end() == 0
    with started(tmp_path, *control) as served:
        assert reason(served) == "release-2"


def pieces(plane: Running) -> float:
    """How many pieces of archives were pulled."""
    calls = httpx.get(f"{plane.url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in calls if 'method="Replication/PullPiece"' in line)


def test_f2_a_mirror_that_serves_tampered_archives_changes_nothing(tmp_path: Path) -> None:
    place = tmp_path / "mirror" / "bundle.tar.gz"
    place.parent.mkdir()
    settings(tmp_path, {"source": f"file://{place}"})
    put(place, bundle(5).packed())
    with started(tmp_path) as served:
        assert eventually(lambda: status(served)["status"] == "ready")
        for code in ("BUNDLE_UNSIGNED", "BUNDLE_DIGEST", "BUNDLE_REGRESSION", "BUNDLE_GOLDEN"):
            put(place, CORPUS[code])
            assert eventually(partial(is_degraded, served, code))
            assert reason(served) == "release-5"
