"""`authz bundle`: from sources to a verified archive, and every no with its code."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.policy import archive, delta
from authz.policy.trust import SIGNATURES

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "bundles" / "starter"
CREATED = "2026-11-01T00:00:00Z"
MANIFEST = {
    "roots": ["authz", "limits"],
    "metadata": {"authz": {"bundle_id": "payments", "sequence": 7, "tenants": ["acme"]}},
}
POLICY = """package authz

default decision := {"effect": "deny", "reason": "nobody"}

decision := {"effect": "allow", "reason": "known"} if input.agent.id == "payer"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return tmp_path


@pytest.fixture
def source(folder: Path) -> Path:
    files = {
        ".manifest": orjson.dumps(MANIFEST).decode(),
        "policy.rego": POLICY,
        "policy_test.rego": "package authz_test\n\ntest_x if true\n",
        "limits/data.yaml": "acme: 10\nnames: [yes, '2026-01-01']\n",
        "golden/deny.json": '[{"agent": {"id": "mallory"}}]',
        "tests/decisions.yaml": "cases: []\n",
        "README.md": "not part of it",
        ".hidden/policy.rego": "package hidden\n",
    }
    for path, text in files.items():
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / path).write_text(text)
    return folder / "source"


@pytest.fixture
def keys(run: Run) -> dict[str, str]:
    for name in ("release", "security"):
        assert run("bundle", "key", name).code == 0
    return {name: f"{name}.pem" for name in ("release", "security")}


def built(run: Run, source: Path, *options: object, name: str = "b.tar.gz") -> Any:
    made = run("bundle", "build", source, name, "--output", "json", *options)
    assert made.code == 0, made.err
    return made.document()


def signed(run: Run, source: Path, *options: object, name: str = "b.tar.gz") -> Any:
    built(run, source, *options, name=name)
    return run("bundle", "sign", name, "--key", "release.pem", "--key-id", "release", "--output", "json").document()


def refusal(run: Run, name: str, *options: object) -> str:
    told = run("bundle", "verify", name, "--key", "release=release.pub.pem", "--output", "json", *options)
    assert told.code == 1
    document = told.document()
    assert document["verified"] is False
    assert document["code"] in document["why"]
    return str(document["code"])


def test_what_is_built_and_signed_verifies(run: Run, source: Path, keys: dict[str, str]) -> None:
    made = signed(run, source)
    told = run("bundle", "verify", "b.tar.gz", "--key", "release=release.pub.pem", "--output", "json")
    assert told.code == 0
    document = told.document()
    assert (document["verified"], document["signed_by"], document["digest"]) == (True, ["release"], made["digest"])
    assert (document["bundle_id"], document["sequence"], document["revision"]) == ("payments", 7, "payments-7")
    assert document["sha256"] == hashlib.sha256(Path("b.tar.gz").read_bytes()).hexdigest()
    assert keys


def test_a_bundle_holds_what_is_served_and_nothing_else(run: Run, source: Path) -> None:
    built(run, source)
    files = archive.read(Path("b.tar.gz").read_bytes())
    assert sorted(files) == [".manifest", "golden/deny.json", "limits/data.json", "policy.rego", "tests/decisions.yaml"]
    assert orjson.loads(files["limits/data.json"]) == {"acme": 10, "names": ["yes", "2026-01-01"]}


def test_the_library_comes_along_where_it_is_used(run: Run) -> None:
    built(run, STARTER)
    files = archive.read(Path("b.tar.gz").read_bytes())
    assert "authzlib/combining/combining.rego" in files
    assert not any(path.endswith("_test.rego") for path in files)
    assert "authzlib" in orjson.loads(files[".manifest"])["roots"]


def test_the_same_sources_give_the_same_bytes(run: Run, source: Path, tmp_path: Path) -> None:
    first = built(run, source, "--created-at", CREATED, name="a.tar.gz")
    elsewhere = tmp_path / "elsewhere"
    source.rename(elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
    second = built(run, elsewhere, "--created-at", CREATED, name="c.tar.gz")
    assert (first["digest"], first["sha256"]) == (second["digest"], second["sha256"])
    assert Path("a.tar.gz").read_bytes() == Path("c.tar.gz").read_bytes()


def test_source_date_epoch_stands_for_the_clock(run: Run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1793491200")
    built(run, source)
    told = run("bundle", "inspect", "b.tar.gz", "--output", "json").document()
    assert (told["created_at"], told["expires_at"]) == ("2026-11-01T00:00:00Z", "2027-01-30T00:00:00Z")


def test_signing_again_gives_the_same_archive(run: Run, source: Path, keys: dict[str, str]) -> None:
    first = signed(run, source, "--created-at", CREATED)
    assert signed(run, source, "--created-at", CREATED) == first
    assert run("bundle", "sign", "b.tar.gz", "--key", keys["release"], "--key-id", "release").code == 0
    assert hashlib.sha256(Path("b.tar.gz").read_bytes()).hexdigest() == first["sha256"]


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("policy.rego", "package authz\n\ndecision := {", "BUNDLE_INVALID"),
        ("policy.rego", "package elsewhere\n\nx := 1\n", "BUNDLE_INVALID"),
        ("policy.rego", POLICY.replace("mallory", "x").replace('"deny"', '"allow"'), "BUNDLE_GOLDEN"),
        ("golden/deny.json", '[{"agent": {"id": "payer"}}]', "BUNDLE_GOLDEN"),
        ("golden/deny.json", "[]", "BUNDLE_GOLDEN"),
        (".manifest", '{"metadata": {"authz": {"bundle_id": "payments"}}}', "BUNDLE_MANIFEST"),
        (".manifest", '{"metadata": []}', "BUNDLE_MANIFEST"),
        (".manifest", "{", "BUNDLE_MANIFEST"),
        ("limits/data.yaml", "a: [", "BUNDLE_INVALID"),
        ("data.json", '{"a": 1, "a": 2}', "BUNDLE_JSON"),
    ],
)
def test_a_bundle_that_would_be_refused_is_not_built(run: Run, source: Path, file: str, text: str, code: str) -> None:
    (source / file).write_text(text)
    ended = run("bundle", "build", source, "b.tar.gz")
    assert (ended.code, ended.out) == (1, "")
    assert code in ended.err
    assert not Path("b.tar.gz").exists()


def test_two_data_files_in_one_folder_are_an_error(run: Run, source: Path) -> None:
    (source / "limits" / "data.json").write_text("{}")
    ended = run("bundle", "build", source, "b.tar.gz")
    assert (ended.code, "limits/data.json" in ended.err) == (2, True)


def test_a_folder_without_modules_is_no_bundle(run: Run, folder: Path) -> None:
    assert run("bundle", "build", folder / "nowhere", "b.tar.gz").code == 2
    (folder / "empty").mkdir()
    assert run("bundle", "build", folder / "empty", "b.tar.gz", "--sequence", "1", "--bundle-id", "x").code == 2


def test_each_refusal_is_told_by_its_code(run: Run, source: Path, keys: dict[str, str]) -> None:
    built(run, source)
    assert refusal(run, "b.tar.gz") == "BUNDLE_UNSIGNED"
    signed(run, source)
    assert refusal(run, "b.tar.gz", "--threshold", "2", "--key", "security=security.pub.pem") == "BUNDLE_THRESHOLD"
    assert refusal(run, "b.tar.gz", "--tenant", "beta") == "BUNDLE_TENANT"
    assert refusal(run, "b.tar.gz", "--after", "8") == "BUNDLE_REGRESSION"
    assert refusal(run, "b.tar.gz", "--scope", "production") == "BUNDLE_SCOPE"
    signed(run, source, "--created-at", "2020-01-01T00:00:00Z")
    assert refusal(run, "b.tar.gz") == "BUNDLE_EXPIRED"
    assert run("bundle", "sign", "b.tar.gz", "--key", keys["security"], "--key-id", "security").code == 0
    assert refusal(run, "b.tar.gz") == "BUNDLE_KEY"


def test_further_signatures_lie_beside_the_archive(run: Run, source: Path, keys: dict[str, str]) -> None:
    made = signed(run, source)
    for _ in range(2):
        ended = run("bundle", "cosign", "b.tar.gz", "--key", keys["security"], "--key-id", "security")
        assert ended.code == 0
    beside = Path(f"{made['sha256']}.sig.json")
    assert len(orjson.loads(beside.read_bytes())["signatures"]) == 1
    pins = ["--key", "release=release.pub.pem", "--key", "security=security.pub.pem", "--threshold", "2"]
    told = run("bundle", "verify", "b.tar.gz", *pins, "--output", "json")
    assert told.document()["signed_by"] == ["release", "security"]


def test_f4_a_rollback_statement_is_made_for_one_archive(run: Run, source: Path, keys: dict[str, str]) -> None:
    made = signed(run, source)
    signer = ["--key", keys["release"], "--key-id", "release"]
    stated = run("bundle", "rollback", "b.tar.gz", "--supersedes", "9", "--reason", "r", *signer, "--output", "json")
    document = stated.document()
    assert (document["sequence"], document["digest"], document["counter"]) == (7, made["digest"], 9)
    place = Path(document["statement"])
    assert place.name == f"{made['sha256']}.rollback.json"
    assert run("bundle", "cosign", place, "--key", keys["security"], "--key-id", "security").code == 0
    assert len(orjson.loads(place.read_bytes())["signatures"]) == 2
    ended = run("bundle", "verify", "b.tar.gz", "--key", "release=release.pub.pem", "--after", "9")
    assert ended.code == 1
    assert "BUNDLE_STATEMENT" in ended.out
    assert run("bundle", "rollback", "b.tar.gz", "--supersedes", "9", "--reason", "r", *signer).code == 0
    assert run("bundle", "verify", "b.tar.gz", "--key", "release=release.pub.pem", "--after", "9").code == 0


def test_a_freshness_statement_is_made_for_one_archive(run: Run, source: Path, keys: dict[str, str]) -> None:
    made = signed(run, source)
    signer = ["--key", keys["security"], "--key-id", "time"]
    document = run("bundle", "timestamp", "b.tar.gz", *signer, "--output", "json").document()
    assert document["digest"] == made["digest"]
    assert Path(document["statement"]).name == f"{made['sha256']}.timestamp.json"


def test_inspect_shows_what_nobody_vouches_for(run: Run, source: Path, keys: dict[str, str]) -> None:
    signed(run, source)
    told = run("bundle", "inspect", "b.tar.gz", "--output", "json").document()
    assert (told["bundle_id"], told["tenants"], told["claims_keys"]) == ("payments", ["acme"], ["release"])
    assert told["files"]["policy.rego"] == len(POLICY)
    table = run("bundle", "inspect", "b.tar.gz").out
    assert "golden/deny.json" in table
    assert keys


def test_diff_shows_files_rules_manifest_and_shapes_but_no_values(run: Run, source: Path) -> None:
    built(run, source, name="a.tar.gz")
    (source / "policy.rego").write_text(POLICY.replace("payer", "buyer") + "\nhelper := 1\n")
    (source / "limits" / "data.yaml").write_text("acme: a-secret-name\nbeta: {x: 1}\n")
    built(run, source, "--sequence", "8", "--created-at", CREATED)
    changes = run("bundle", "diff", "a.tar.gz", "b.tar.gz", "--output", "json").document()
    assert changes["differ"] is True
    assert changes["files"]["changed"] == [".manifest", "limits/data.json", "policy.rego"]
    assert changes["rules"] == {"added": ["data.authz.helper"], "removed": [], "changed": ["data.authz.decision"]}
    assert "metadata.authz.sequence: 7 -> 8" in changes["manifest"]["changed"]
    assert changes["data"] == {
        "added": ["data.limits.beta", "data.limits.beta.x"],
        "removed": ["data.limits.names", "data.limits.names[]"],
        "changed": ["data.limits.acme: number -> string"],
    }
    table = run("bundle", "diff", "a.tar.gz", "b.tar.gz").out
    assert "rules     changed  data.authz.decision" in table
    assert "a-secret-name" not in table
    assert run("bundle", "diff", "b.tar.gz", "b.tar.gz").out == "no difference\n"


def test_a_delta_is_made_of_two_archives_that_differ_in_data_alone(
    run: Run, source: Path, keys: dict[str, str]
) -> None:
    assert keys
    signed(run, source, "--created-at", CREATED, name="before.tar.gz")
    (source / "limits" / "data.yaml").write_text("acme: 11\nnames: [yes, '2026-01-01']\n")
    signed(run, source, "--created-at", CREATED, "--sequence", "8", name="after.tar.gz")
    told = run("bundle", "delta", "before.tar.gz", "after.tar.gz", "delta.tar.gz", "--output", "json").document()
    made = Path("delta.tar.gz").read_bytes()
    assert (told["operations"], told["bytes"]) == (1, len(made))
    assert delta.apply(Path("before.tar.gz").read_bytes(), made) == Path("after.tar.gz").read_bytes()
    again = run("bundle", "delta", "before.tar.gz", "before.tar.gz", "again.tar.gz")
    assert (again.code, "BUNDLE_DELTA_EMPTY" in again.err, Path("again.tar.gz").exists()) == (1, True, False)


def test_a_key_is_never_replaced_and_its_secret_is_its_owners(run: Run, keys: dict[str, str]) -> None:
    secret = Path(keys["release"]).read_bytes()
    assert run("bundle", "key", "release").code == 2
    assert Path(keys["release"]).read_bytes() == secret
    assert Path(keys["release"]).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "b.tar.gz", "--key", "release.pub.pem"],
        ["verify", "b.tar.gz", "--key", "release=missing.pem"],
        ["verify", "b.tar.gz", "--key", "release=release.pem"],
        ["verify", "missing.tar.gz", "--key", "release=release.pub.pem"],
        ["verify", "b.tar.gz", "--key", "release=release.pub.pem", "--threshold", "2"],
        ["sign", "b.tar.gz", "--key", "release.pub.pem", "--key-id", "release"],
        ["inspect", "missing.tar.gz"],
    ],
)
def test_what_cannot_be_used_is_told_and_exits_2(
    run: Run, source: Path, keys: dict[str, str], arguments: list[str]
) -> None:
    signed(run, source)
    assert keys
    assert run("bundle", *arguments).code == 2


def test_f2_an_archive_that_would_climb_out_is_neither_shown_nor_signed(
    run: Run, source: Path, keys: dict[str, str]
) -> None:
    built(run, source)
    files = archive.read(Path("b.tar.gz").read_bytes())
    Path("b.tar.gz").write_bytes(archive.write({**files, "x/patch.json": b"{}", SIGNATURES: b"{}"}))
    for command in (["inspect", "b.tar.gz"], ["sign", "b.tar.gz", "--key", keys["release"], "--key-id", "release"]):
        ended = run("bundle", *command)
        assert (ended.code, "BUNDLE_CONTENT" in ended.err) == (1, True)


def test_a_bundle_says_which_rates_its_rules_read(run: Run, source: Path) -> None:
    (source / ".manifest").write_bytes(orjson.dumps(MANIFEST | {"roots": [""]}))
    rule = 'package authz\n\nmany if input.facts.session.rates.%s["60"] > 20\n'
    (source / "rates.rego").write_text(rule % "calls")
    (source / "denied.rego").write_text(rule % "denied")
    built(run, source)
    manifest = orjson.loads(archive.read(Path("b.tar.gz").read_bytes())[".manifest"])
    assert manifest["metadata"]["authz"]["requires_input"] == [
        "facts.session.rates.calls.60",
        "facts.session.rates.denied.60",
    ]
    (source / "rates.rego").write_text(rule % "spawns")
    refused = run("bundle", "build", source, "c.tar.gz")
    assert refused.code == 1
    assert "BUNDLE_INPUT: the input holds no `facts.session.rates.spawns.60`" in refused.err
    assert not Path("c.tar.gz").exists()
