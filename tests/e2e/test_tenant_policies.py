"""Two tenants' own policies over a platform's, through a control plane: each narrows its own calls, and fails alone."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import yaml

from authz._gen.authz.control.v1 import bundles_pb2 as pb
from authz.config import BundleTrust
from authz.control.config import Publishing
from tests.control_planes import control_plane
from tests.e2e.serving import ask, serving, tool_call
from tests.e2e.stack import eventually
from tests.e2e.test_published_policy import status
from tests.e2e.test_signed_policy import LIFE, POLICY
from tests.publisher import RELEASE, Publisher, Signer, public_pem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.control_planes import Running
    from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

ACME, GLOBEX = Signer("acme"), Signer("globex")
OWN = b"""package authz

decision := {"effect": "deny", "reason": "too_much", "mode": mode} if {
	input.args.amount > data.most
} else := {"effect": "allow", "reason": "own", "risk": "read"}

mode := "block" if input.agent.id != "mallory" else := "flag"
"""


def bundle(sequence: int, tenant: str, signer: Signer, most: int, **files: bytes) -> Publisher:
    """A tenant's own, which denies calls for more than `most`."""
    written = {"policy.rego": OWN, "data.json": orjson.dumps({"most": most})}
    declared = LIFE | {"bundle_id": "own", "tenants": [tenant]}
    return Publisher(
        sequence=sequence, declared=declared, files={**written, **files}, signer=signer, roots=("authz", "most")
    )


def push(plane: Running, tenant: str, name: str, published: Publisher) -> pb.Revision:
    request = pb.PushBundleRequest(tenant=tenant, name=name, archive=published.packed())
    return plane.ask("Bundles/PushBundle", request, pb.Revision)


def base(sequence: int) -> Publisher:
    files = {"policy.rego": POLICY.format(reason=f"base-{sequence}").encode()}
    return Publisher(sequence=sequence, declared=LIFE | {"bundle_id": "base"}, files=files)


def pinned(folder: Path) -> dict[str, str]:
    """The files of everybody's public keys, by name."""
    files = {signer.name: folder / f"{signer.name}.pem" for signer in (RELEASE, ACME, GLOBEX)}
    for signer in (RELEASE, ACME, GLOBEX):
        files[signer.name].write_bytes(public_pem(signer.private))
    return {name: str(path) for name, path in files.items()}


@contextmanager
def started(folder: Path, control: tuple[str, ...]) -> Iterator[Served]:
    signers = [{"keys": ["release"]}, *({"keys": [name], "tenants": [name]} for name in ("acme", "globex"))]
    bundles = [{"name": "base"}, *({"tenant": name, "name": "own"} for name in ("acme", "globex"))]
    policy = {
        "trust": {"keys": pinned(folder), "signers": signers},
        "bundles": [{"poll_s": 1, **each} for each in bundles],
    }
    (folder / "authz.yaml").write_text(yaml.safe_dump({"version": 1, "policy": policy}))
    flags = ("--config", str(folder / "authz.yaml"), "--state", str(folder / "state"), *control)
    with serving(folder, *flags, policy=None) as served:
        yield served


def reason(served: Served, tenant: str, amount: int = 1, agent: str = "research-agent") -> str:
    token = served.token(agent, tenant)
    with served.channel() as channel:
        answer = ask(channel, tool_call(token, "pay", amount=amount))
    return str(dict(answer.dynamic_metadata.items())["reason"])


def says(served: Served, tenant: str, wanted: str, amount: int = 1) -> bool:
    return reason(served, tenant, amount) == wanted


def readiness(served: Served) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{served.ready['diagnostics']}/readyz", timeout=5) as answer:
        document: dict[str, Any] = orjson.loads(answer.read())
    return document


def test_each_tenant_narrows_its_own_calls_and_fails_alone(tmp_path: Path) -> None:
    trust = BundleTrust(keys={name: Path(path) for name, path in pinned(tmp_path).items()})
    with control_plane(tmp_path / "control", bundles=Publishing(trust=trust)) as plane:
        invitation = plane.invite("acme", "globex", "initech")
        control = ("--control", plane.url, "--enrol", invitation, "--revocation", "none")
        with started(tmp_path, control) as served:
            assert status(served)["waiting_for"] == {"policy": "none is active"}
            push(plane, "", "base", base(1))
            # Who has no bundle of its own is judged by the platform's; who has one that is not here is denied.
            assert eventually(partial(says, served, "initech", "base-1"))
            assert reason(served, "acme") == "POLICY_TENANT_UNAVAILABLE"
            assert readiness(served)["degraded"]["policy of acme"] == "POLICY_TENANT_UNAVAILABLE"

            push(plane, "acme", "own", bundle(1, "acme", ACME, most=10))
            assert eventually(partial(says, served, "acme", "base-1"))
            assert reason(served, "acme", amount=11) == "too_much"
            assert (reason(served, "initech", amount=11), reason(served, "globex")) == (
                "base-1",
                "POLICY_TENANT_UNAVAILABLE",
            )
            # What the platform blocks stays blocked, whatever the tenant flags or allows.
            assert reason(served, "acme", amount=11, agent="mallory") == "golden"

            # Signed by another tenant's key; then by its own.
            push(plane, "globex", "own", bundle(1, "globex", ACME, most=100))
            assert eventually(
                lambda: status(served)["policy"]["tenants"]["globex"]["source"]["code"] == "BUNDLE_SIGNERS"
            )
            assert reason(served, "globex") == "POLICY_TENANT_UNAVAILABLE"
            push(plane, "globex", "own", bundle(2, "globex", GLOBEX, most=100))
            assert eventually(partial(says, served, "globex", "base-1"))
            assert [reason(served, tenant, amount=11) for tenant in ("acme", "globex")] == ["too_much", "base-1"]

            # One that does not compile changes nothing for anybody.
            push(
                plane, "acme", "own", bundle(2, "acme", ACME, 99, **{"policy.rego": b"package authz\n\ndecision := {"})
            )
            assert eventually(lambda: readiness(served)["degraded"] == {"policy of acme": "BUNDLE_INVALID"})
            assert reason(served, "acme", amount=11) == "too_much"
            push(plane, "", "base", base(2))
            assert eventually(partial(says, served, "acme", "base-2"))
            assert eventually(partial(says, served, "acme", "too_much", 11))

            shown = subprocess.run(
                [sys.executable, "-m", "authz", "status", "--diagnostics", served.ready["diagnostics"]],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            ).stdout
            assert shown.index("bundle_id   base") < shown.index("\npolicy of acme\n") < shown.rindex("BUNDLE_INVALID")

            record = served.records()[-1]
            assert (record["revision"], record["bundle_id"]) == ("payments-2", "base")
            assert record["bundles"] == {
                "base": {"revision": "payments-2"},
                "acme/own": {"revision": "payments-1", "change_id": "c-1"},
            }
            assert (record["result"]["effect"], record["tenant_result"]["reason"]) == ("allow", "too_much")
            assert served.end() == 0
    with started(tmp_path, control) as served:
        found = [reason(served, tenant, amount=11) for tenant in ("acme", "globex", "initech")]
        assert found == ["too_much", "base-2", "base-2"]
