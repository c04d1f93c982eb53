"""Bundles and signatures that OPA makes are taken here, and ours by OPA: the real command, both ways."""

from __future__ import annotations

import http.client
import json
import subprocess
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import BundleError
from authz.policy import archive
from authz.policy.signature import canonical, digest, parse
from authz.policy.signing import Signer as SigningKey
from authz.policy.signing import sign_archive
from authz.policy.statements import tokens
from authz.policy.trust import SIGNATURES, Candidate
from tests.contracts.programs import opa, running
from tests.e2e.stack import eventually
from tests.ports import free_port
from tests.publisher import RELEASE, STRANGER, Publisher, pem, public_pem, taken, trust

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

DATA = b'{"limits": {"acme": 1.50, "\\u00e9": [1e3, -0.5, true, null, "\\u2028<&>"]}, "big": 12345678901234567}'
BUNDLE = Publisher(
    files={
        "policy.rego": b'package authz\n\ndecision := {"effect": "deny", "limit": data.limits.acme}\n',
        "limits/data.json": b'{"acme": 10.0}',
        "golden/deny.json": b'[{"agent": {"id": "mallory"}}]',
        "tests/decisions.yaml": b"cases: []\n",
    }
)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "release.pem").write_bytes(pem(RELEASE.private))
    (tmp_path / "release.pub.pem").write_bytes(public_pem(RELEASE.private))
    (tmp_path / "stranger.pub.pem").write_bytes(public_pem(STRANGER.private))
    return tmp_path


def run(*arguments: object, folder: Path, fails: bool = False) -> str:
    ran = subprocess.run(
        [opa(), *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode != 0) == fails, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def rooted(bundle: Publisher) -> Publisher:
    """With roots for its data."""
    manifest = orjson.loads(bundle.content()[".manifest"]) | {"roots": ["authz", "limits"]}
    return bundle.bent(files={**bundle.files, ".manifest": orjson.dumps(manifest)})


def verifying(folder: Path, public: str = "release.pub.pem") -> list[str]:
    """Arguments of a command that verifies."""
    key = ["--verification-key", str(folder / public), "--signing-alg", "ES256"]
    return ["--bundle", str(folder / "bundle.tar.gz"), *key]


def test_opa_run_takes_our_signature_and_answers_from_the_bundle(keys: Path) -> None:
    (keys / "bundle.tar.gz").write_bytes(rooted(BUNDLE).packed())
    port = free_port()
    command = [opa(), "run", "--server", "--addr", f"127.0.0.1:{port}", "--disable-telemetry"]
    with running([*command, *verifying(keys)], port, keys / "log"):
        assert decision(port) == {"effect": "deny", "limit": 10.0}


def test_opa_with_keys_in_its_configuration_takes_our_bundle_by_the_name_of_its_key(keys: Path) -> None:
    (keys / "bundle.tar.gz").write_bytes(rooted(BUNDLE).packed())
    configuration = {
        "keys": {"release": {"algorithm": "ES256", "key": public_pem(RELEASE.private).decode()}},
        "bundles": {"payments": {"resource": f"file://{keys}/bundle.tar.gz", "signing": {"keyid": "release"}}},
    }
    (keys / "opa.json").write_text(json.dumps(configuration))
    port = free_port()
    command = [opa(), "run", "--server", "--addr", f"127.0.0.1:{port}", "--disable-telemetry"]
    with running([*command, "--config-file", str(keys / "opa.json")], port, keys / "log"):
        # OPA listens before it has loaded the bundle.
        assert eventually(lambda: decision(port)) == {"effect": "deny", "limit": 10.0}


def decision(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/v1/data/authz/decision")
        return json.load(connection.getresponse()).get("result")
    finally:
        connection.close()


def test_opa_refuses_our_bundle_under_another_key(keys: Path) -> None:
    (keys / "bundle.tar.gz").write_bytes(rooted(BUNDLE).packed())
    assert "verify" in run("build", *verifying(keys, "stranger.pub.pem"), folder=keys, fails=True)


def test_what_is_tampered_with_is_refused_by_both(keys: Path) -> None:
    files = archive.read(rooted(BUNDLE).packed()) | {"policy.rego": b"package authz\n\ndecision := {}\n"}
    (keys / "bundle.tar.gz").write_bytes(archive.write(files))
    assert "digest mismatch" in run("build", *verifying(keys), folder=keys, fails=True)
    with pytest.raises(BundleError, match="BUNDLE_DIGEST"):
        taken(Candidate(path="", archive=archive.write(files)))


def test_what_opa_sign_signs_is_taken(keys: Path) -> None:
    unsigned = rooted(BUNDLE).unsigned()
    (keys / "bundle.tar.gz").write_bytes(unsigned)
    run("sign", "--signing-alg", "ES256", "--signing-key", "release.pem", "--bundle", "bundle.tar.gz", folder=keys)
    files = archive.read(unsigned) | {SIGNATURES: (keys / ".signatures.json").read_bytes()}
    verified = taken(Candidate(path="", archive=archive.write(files)))
    assert verified.digest == rooted(BUNDLE).digest()
    assert verified.signed_by == ("release",)
    assert parse(tokens(files[SIGNATURES])[0]).kid == ""


def test_a_further_signature_by_opa_sign_counts(keys: Path) -> None:
    bundle = rooted(BUNDLE)
    (keys / "bundle.tar.gz").write_bytes(bundle.packed())
    run("sign", "--signing-alg", "ES256", "--signing-key", "release.pem", "--bundle", "bundle.tar.gz", folder=keys)
    first = bundle.bent(signer=STRANGER)
    candidate = first.candidate(cosignatures=(keys / ".signatures.json").read_bytes())
    assert taken(candidate, trust(RELEASE, STRANGER, threshold=2)).signed_by == ("release", "stranger")


def test_what_opa_build_builds_and_signs_is_taken(keys: Path) -> None:
    source = keys / "source"
    for path, content in rooted(BUNDLE).content().items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    (source / "limits" / "data.json").rename(source / "limits" / "data.yaml")
    signing = ["--signing-alg", "ES256", "--signing-key", "../release.pem"]
    named = ["--verification-key-id", "release", "--output", "../built.tar.gz"]
    run("build", "--bundle", ".", *signing, *named, folder=source)
    verified = taken(Candidate(path="", archive=(keys / "built.tar.gz").read_bytes()))
    assert orjson.loads(verified.files["data.json"]) == {"limits": {"acme": 10}}
    assert verified.manifest.revision == "payments-10"


def test_an_archive_that_we_sign_again_is_still_opas(keys: Path) -> None:
    unsigned = rooted(BUNDLE).unsigned()
    signed = sign_archive(unsigned, SigningKey(RELEASE.private, "release"))
    (keys / "bundle.tar.gz").write_bytes(signed)
    run("build", *verifying(keys), "--output", "out.tar.gz", folder=keys)
    with tarfile.open(fileobj=BytesIO((keys / "out.tar.gz").read_bytes())) as built:
        assert "/.manifest" in built.getnames()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=3)
@given(documents=st.lists(JSON, min_size=60, max_size=60))
def test_g8_opa_and_this_hash_the_same_text_of_any_data(
    documents: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("data")
    (folder / "release.pem").write_bytes(pem(RELEASE.private))
    written = {f"d{number}/data.json": json.dumps(value).encode() for number, value in enumerate(documents)}
    (folder / "bundle.tar.gz").write_bytes(archive.write(written))
    run("sign", "--signing-alg", "ES256", "--signing-key", "release.pem", "--bundle", "bundle.tar.gz", folder=folder)
    payload: Any = parse(tokens((folder / ".signatures.json").read_bytes())[0]).payload
    theirs = {each["name"]: each["hash"] for each in payload["files"]}
    assert theirs == {path: digest(canonical(content)) for path, content in written.items()}
