"""`authz serve` with pinned keys, as a process: tampered archives change nothing, and a restart forgets nothing."""

from __future__ import annotations

import gzip
import json
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from authz.policy import archive
from authz.policy.sources import beside
from authz.policy.trust import SIGNATURES
from tests.e2e.serving import ask, serving, tool_call
from tests.e2e.stack import eventually
from tests.publisher import RELEASE, STRANGER, Publisher, public_pem

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

LIFE = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2126-01-01T00:00:00Z", "change_id": "c-1"}
POLICY = """package authz

decision := {{"effect": "deny", "reason": "golden"}} if {{
	input.agent.id == "mallory"
}} else := {{"effect": "allow", "reason": "{reason}"}}
"""
ALLOW_ALL = b'package authz\n\ndecision := {"effect": "allow", "reason": "all"}\n'


def bundle(sequence: int, **files: bytes) -> Publisher:
    """A revision that gives its number as the reason, and denies its golden set."""
    policy = {"policy.rego": POLICY.format(reason=f"release-{sequence}").encode()}
    golden = {"golden/deny.json": b'[{"agent": {"id": "mallory"}}]'}
    return Publisher(sequence=sequence, declared=LIFE, files={**policy, **golden, **files})


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "release.pem").write_bytes(public_pem(RELEASE.private))
    settings = {
        "version": 1,
        "policy": {"watch_s": 0.05, "trust": {"keys": {"release": str(tmp_path / "release.pem")}}},
    }
    (tmp_path / "authz.yaml").write_text(yaml.safe_dump(settings))
    place = tmp_path / "policy" / "bundle.tar.gz"
    place.parent.mkdir()
    place.write_bytes(bundle(5).packed())
    return place


def started(policy: Path) -> AbstractContextManager[Served]:
    state = policy.parent.parent
    return serving(state, "--config", str(state / "authz.yaml"), "--state", str(state / "state"), policy=policy)


def reason(served: Served) -> str:
    with served.channel() as channel:
        return str(dict(ask(channel, tool_call(served.token())).dynamic_metadata.items())["reason"])


def degraded(served: Served) -> str:
    with urllib.request.urlopen(f"http://{served.ready['diagnostics']}/readyz", timeout=5) as answer:
        document: dict[str, Any] = json.load(answer)
    return str(document.get("degraded", {}).get("policy", ""))


def is_degraded(served: Served, code: str) -> bool:
    return degraded(served) == code


def put(policy: Path, packed: bytes) -> None:
    """As a publisher does: whole or not at all."""
    draft = policy.with_name("draft")
    draft.write_bytes(packed)
    draft.replace(policy)


def swapped(of: Publisher) -> bytes:
    return archive.write(archive.read(of.packed()) | {"policy.rego": ALLOW_ALL})


CORPUS = {
    "BUNDLE_UNSIGNED": bundle(6).unsigned(),
    "BUNDLE_KEY": bundle(6).packed(STRANGER.token(bundle(6).payload())),
    "BUNDLE_DIGEST": swapped(bundle(6)),
    "BUNDLE_FILES": archive.write(archive.read(bundle(6).packed()) | {"more.rego": ALLOW_ALL}),
    "BUNDLE_SIGNATURE_COUNT": bundle(6).packed(*(s.token(bundle(6).payload()) for s in (RELEASE, STRANGER))),
    "BUNDLE_SIGNATURE": archive.write(archive.read(bundle(6).packed()) | {SIGNATURES: b"x"}),
    "BUNDLE_ARCHIVE": bundle(6).packed()[:-20],
    "BUNDLE_RATIO": gzip.compress(bytes(8 << 20)),
    "BUNDLE_REGRESSION": bundle(4).packed(),
    "BUNDLE_MISMATCH": bundle(5, **{"extra.rego": b"package extra\n"}).packed(),
    "BUNDLE_EXPIRED": bundle(6).bent(declared={**LIFE, "expires_at": "2026-01-02T00:00:00Z"}).packed(),
    "BUNDLE_ID": bundle(6).bent(declared={**LIFE, "bundle_id": "refunds"}).packed(),
    "BUNDLE_FAST_FORWARD": bundle(10**9).packed(),
    "BUNDLE_INVALID": bundle(6, **{"policy.rego": b"package authz\n\ndecision := {"}).packed(),
    "BUNDLE_GOLDEN": bundle(6, **{"policy.rego": ALLOW_ALL}).packed(),
}


def test_f2_every_tampered_archive_is_refused_by_its_own_code_while_the_last_good_one_serves(policy: Path) -> None:
    with started(policy) as served:
        assert (reason(served), degraded(served)) == ("release-5", "")
        for code, packed in CORPUS.items():
            put(policy, packed)
            assert eventually(partial(is_degraded, served, code))
            assert reason(served) == "release-5"
        put(policy, bundle(7).packed())
        assert eventually(lambda: reason(served) == "release-7")
        assert degraded(served) == ""
        record = served.records()[-1]
        assert (record["revision"], record["bundle_id"], record["change_id"]) == ("payments-7", "payments", "c-1")


@pytest.mark.parametrize("code", ["BUNDLE_UNSIGNED", "BUNDLE_REGRESSION", "BUNDLE_GOLDEN"])
def test_f4_a_restart_before_a_refused_archive_is_from_the_copy(policy: Path, code: str) -> None:
    with started(policy) as served:
        assert reason(served) == "release-5"
        assert served.end() == 0
    put(policy, CORPUS[code])
    with started(policy) as served:
        assert (reason(served), degraded(served)) == ("release-5", code)
        assert served.end() == 0
    policy.unlink()
    with started(policy) as served:
        assert (reason(served), degraded(served)) == ("release-5", "BUNDLE_ARCHIVE")


def test_f4_a_signed_rollback_is_followed_in_service(policy: Path) -> None:
    with started(policy) as served:
        older = bundle(3)
        statement = older.rollback(
            supersedes=5, counter=5, issued_ns=1_767_300_000 * 10**9, expires_ns=4_000_000_000 * 10**9
        )
        beside(policy, older.packed(), "rollback").write_bytes(statement)
        put(policy, older.packed())
        assert eventually(lambda: reason(served) == "release-3")
        put(policy, bundle(5).packed())
        assert eventually(lambda: degraded(served) == "BUNDLE_QUARANTINED")
        assert reason(served) == "release-3"


def test_without_a_signed_bundle_nothing_starts(policy: Path) -> None:
    put(policy, bundle(5).unsigned())
    with pytest.raises(AssertionError, match="BUNDLE_UNSIGNED"), started(policy):
        pass


def test_without_pins_an_archive_is_opened_and_every_start_warns(policy: Path) -> None:
    put(policy, bundle(5).unsigned())
    with serving(policy.parent.parent, policy=policy) as served:
        assert reason(served) == "release-5"
        assert "the bundle archive is not verified" in (policy.parent.parent / "serve.log").read_text()
