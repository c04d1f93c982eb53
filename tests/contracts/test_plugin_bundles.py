"""A service that OPA's own configuration describes follows its bundle, from a real HTTP server, by its token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from authz.config import load
from authz.policy.manifest import written
from authz.policy.plugin_configuration import plugin_configuration
from authz.wiring import Sidecar
from tests.contracts.test_bundle_origins import Shelf, sends, serving
from tests.e2e.stack import eventually
from tests.publisher import DAY_NS, RELEASE, STRANGER, Publisher, public_pem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.publisher import Signer

POLICY = b"package envoy.authz\n\nimport rego.v1\n\ndefault allow := true\n"
PATIENCE_S = 20.0


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    with serving(made):
        yield made


def release(signer: Signer = RELEASE) -> Publisher:
    now_ns = time.time_ns()
    life = {"created_at": written(now_ns - DAY_NS), "expires_at": written(now_ns + DAY_NS)}
    return Publisher(declared=life, files={"policy.rego": POLICY}, roots=("envoy",), signer=signer)


def configured(shelf: Shelf, folder: Path, *, signed: bool) -> Sidecar:
    """What `authz serve --opa-config` composes."""
    bundle: dict[str, Any] = {"service": "acme", "resource": "b.tar.gz", "persist": True, "polling": FAST}
    document = {
        "services": {"acme": {"url": shelf.url, "credentials": {"bearer": {"token": "${TOKEN}"}}}},
        "bundles": {"authz": bundle | ({"signing": {"keyid": RELEASE.name}} if signed else {})},
        "keys": {RELEASE.name: {"algorithm": "ES256", "key": public_pem(RELEASE.private).decode()}},
        "persistence_directory": str(folder / "opa"),
        "plugins": {"envoy_ext_authz_grpc": {"addr": "127.0.0.1:0", "path": "envoy/authz/allow"}},
    }
    told = plugin_configuration(yaml.safe_dump(document), {"TOKEN": "hunter2"})
    insecure = {} if signed else {"policy.insecure_unverified_bundles": True}
    return Sidecar(load(None, dict(told.overrides) | {"listen.diagnostics": ""} | insecure))


FAST = {"min_delay_seconds": 1, "max_delay_seconds": 1}


@pytest.mark.parametrize("signed", [True, False])
def test_a_bundle_is_followed_with_its_token_as_opas_configuration_says(
    shelf: Shelf, tmp_path: Path, *, signed: bool
) -> None:
    publisher = release()
    shelf.answers["/b.tar.gz"] = sends(publisher.packed() if signed else publisher.unsigned(), etag='"1"')
    sidecar = configured(shelf, tmp_path, signed=signed)
    sidecar.start()
    try:
        eventually(lambda: sidecar.activation.revision.revision == "payments-10", PATIENCE_S)
        assert sidecar.unready() == {}
        assert {headers["authorization"] for _, headers in shelf.asked} == {"Bearer hunter2"}
    finally:
        sidecar.stop()


def test_f1_a_bundle_that_the_named_key_has_not_signed_never_answers(shelf: Shelf, tmp_path: Path) -> None:
    shelf.answers["/b.tar.gz"] = sends(release(STRANGER).packed(), etag='"1"')
    sidecar = configured(shelf, tmp_path, signed=True)
    sidecar.start()
    try:
        eventually(lambda: sidecar.degraded().get("policy") == "BUNDLE_KEY", PATIENCE_S)
        assert sidecar.unready() == {"policy": "none is active"}
    finally:
        sidecar.stop()
