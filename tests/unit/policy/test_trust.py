"""The trust rules, each by the attack that it stops. The publisher is bent; the rules see bytes alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.errors import BundleError, ConfigError
from authz.policy import archive
from authz.policy.manifest import MAX_SEQUENCE, written
from authz.policy.pinned import Signers
from authz.policy.signature import read_public_key
from authz.policy.statements import ROLLBACK, TIMESTAMP
from authz.policy.trust import GOLDEN, REMEMBERED, SIGNATURES, Seen
from tests.publisher import (
    DAY_NS,
    NOW_NS,
    RELEASE,
    SECURITY,
    STRANGER,
    TIME,
    Publisher,
    public_pem,
    taken,
    trust,
)

if TYPE_CHECKING:
    from authz.policy.pinned import Trust
    from authz.policy.trust import Candidate

BUNDLE = Publisher()
BOTH = trust(RELEASE, SECURITY, threshold=2)
FRESH = trust(fresh=True)


def code(candidate: Candidate, pins: Trust | None = None, seen: Seen | None = None, **options: Any) -> str:
    with pytest.raises(BundleError) as refused:
        taken(candidate, pins, seen, **options)
    return refused.value.code


def outcome(candidate: Candidate, pins: Trust) -> str:
    """The code it is refused with; empty when it is taken."""
    try:
        taken(candidate, pins)
    except BundleError as error:
        return error.code
    return ""


def seen(bundle: Publisher = BUNDLE, **changes: Any) -> Seen:
    """What is remembered once `bundle` is in service."""
    return replace(taken(bundle.candidate()).seen, **changes)


def repacked(changes: dict[str, bytes | None], bundle: Publisher = BUNDLE) -> Candidate:
    """The signed archive with other files under the same signature; None takes a file away."""
    files = {**archive.read(bundle.packed()), **changes}
    return replace(bundle.candidate(), archive=archive.write({k: v for k, v in files.items() if v is not None}))


def test_a_signed_bundle_is_taken_with_its_files_and_what_to_remember() -> None:
    verified = taken(BUNDLE.candidate())
    assert verified.files == BUNDLE.content()
    assert verified.signed_by == ("release",)
    assert verified.digest == BUNDLE.digest()
    assert (verified.manifest.bundle_id, verified.manifest.revision) == ("payments", "payments-10")
    assert verified.seen == Seen(
        bundle_id="payments",
        sequence=10,
        counted=BUNDLE.digest(),
        digest=BUNDLE.digest(),
        activated=(BUNDLE.digest(),),
    )
    assert verified.golden is None
    assert taken(BUNDLE.bent(files={GOLDEN: b"[]"}).candidate()).golden == b"[]"


def test_verifying_changes_nothing_that_is_remembered() -> None:
    before = Seen(sequence=3, bundle_id="payments")
    taken(BUNDLE.candidate(), seen=before)
    assert before == Seen(sequence=3, bundle_id="payments")


# Signatures


def test_f1_a_bundle_whose_signature_was_stripped_is_refused() -> None:
    assert code(replace(BUNDLE.candidate(), archive=BUNDLE.unsigned())) == "BUNDLE_UNSIGNED"
    assert code(repacked({SIGNATURES: b"{}"})) == "BUNDLE_UNSIGNED"
    assert code(repacked({SIGNATURES: b'{"signatures": []}'})) == "BUNDLE_UNSIGNED"


@pytest.mark.parametrize(
    "listed",
    [
        b"",
        b"[]",
        b'{"signatures": {}}',
        b'{"signatures": [1]}',
        b'{"signatures": ["x"], "plugin": "theirs"}',
        b'{"signatures": ["x"]}',
    ],
)
def test_f1_a_list_of_signatures_in_another_form_is_refused(listed: bytes) -> None:
    assert code(repacked({SIGNATURES: listed})) == "BUNDLE_SIGNATURE"


def test_f1_a_second_signature_in_the_archive_is_refused() -> None:
    tokens = [signer.token(BUNDLE.payload()) for signer in (RELEASE, SECURITY)]
    assert code(BUNDLE.candidate(*tokens), BOTH) == "BUNDLE_SIGNATURE_COUNT"


def test_f1_a_signature_of_a_stranger_is_refused() -> None:
    assert code(BUNDLE.candidate(STRANGER.token(BUNDLE.payload()))) == "BUNDLE_KEY"
    assert code(BUNDLE.candidate(STRANGER.token(BUNDLE.payload(), kid="release"))) == "BUNDLE_SIGNATURE"


def test_f1_a_signature_that_names_no_key_is_held_to_the_pinned_ones() -> None:
    assert taken(BUNDLE.candidate(RELEASE.token(BUNDLE.payload(), kid=""))).signed_by == ("release",)
    assert code(BUNDLE.candidate(STRANGER.token(BUNDLE.payload(), kid=""))) == "BUNDLE_SIGNATURE"


def test_f3_a_signature_for_another_scope_is_refused() -> None:
    scoped = BUNDLE.candidate(RELEASE.token(BUNDLE.payload() | {"scope": "production"}))
    assert code(scoped) == "BUNDLE_SCOPE"
    assert code(BUNDLE.candidate(), trust(scope="production")) == "BUNDLE_SCOPE"
    assert taken(scoped, trust(scope="production")).signed_by == ("release",)


def test_f3_a_statement_is_no_signature_of_a_bundle() -> None:
    assert code(BUNDLE.candidate(RELEASE.token(BUNDLE.payload(), typ=ROLLBACK))) == "BUNDLE_SIGNATURE"


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-1", "SHA-224", "", None, "sha-256"])
def test_f3_files_hashed_otherwise_are_refused(algorithm: Any) -> None:
    files = [{**entry, "algorithm": algorithm} for entry in BUNDLE.payload()["files"]]
    assert code(BUNDLE.candidate(RELEASE.token({"files": files}))) == "BUNDLE_ALGORITHM"


@pytest.mark.parametrize("files", [None, {}, "x", [1], [{"name": 1}], [{"name": "a", "hash": None}]])
def test_f3_a_list_of_files_in_another_form_is_refused(files: Any) -> None:
    assert code(BUNDLE.candidate(RELEASE.token({"files": files}))) == "BUNDLE_SIGNATURE"


def test_f3_a_file_that_is_signed_twice_is_refused() -> None:
    files = BUNDLE.payload()["files"]
    assert code(BUNDLE.candidate(RELEASE.token({"files": [*files, files[0]]}))) == "BUNDLE_SIGNATURE"


# Files


def test_f2_an_extra_file_is_refused() -> None:
    assert code(repacked({"more.rego": b"package authz\n"})) == "BUNDLE_FILES"


def test_f2_a_missing_file_is_refused() -> None:
    assert code(repacked({"policy.rego": None})) == "BUNDLE_FILES"


def test_f2_a_swapped_file_is_refused() -> None:
    assert code(repacked({"policy.rego": b"package authz\n"})) == "BUNDLE_DIGEST"


def test_f2_data_is_held_to_its_value() -> None:
    bundle = BUNDLE.bent(files={"data.json": b'{"limit": 10}'})
    assert taken(repacked({"data.json": b'{ "limit" : 10 }'}, bundle)).files["data.json"] == b'{"limit":10}'
    assert code(repacked({"data.json": b'{"limit": 10.0}'}, bundle)) == "BUNDLE_DIGEST"
    assert code(repacked({"data.json": b'{"limit": 10, "limit": 10}'}, bundle)) == "BUNDLE_JSON"


@pytest.mark.parametrize(
    "path",
    [
        "patch.json",
        "policy.wasm",
        "a/plan.json",
        "plan.pb",
        "a/.manifest",
        "other.manifest",
        ".manifest.pb",
        "a/.signatures.json",
        "data.yaml",
        "a/data.yml",
    ],
)
def test_f2_a_file_with_a_meaning_for_opa_that_it_has_not_here_is_refused(path: str) -> None:
    assert code(repacked({path: b"{}"})) == "BUNDLE_CONTENT"


@pytest.mark.parametrize("size", [0, 1, 100])
def test_f2_an_archive_that_is_none_is_refused(size: int) -> None:
    assert code(replace(BUNDLE.candidate(), archive=b"x" * size)) == "BUNDLE_ARCHIVE"


# The manifest


@pytest.mark.parametrize(
    "declared",
    [
        {"bundle_id": None},
        {"bundle_id": ""},
        {"bundle_id": "../payments"},
        {"bundle_id": 7},
        {"sequence": None},
        {"sequence": 0},
        {"sequence": -1},
        {"sequence": True},
        {"sequence": "10"},
        {"sequence": 10.5},
        {"created_at": None},
        {"expires_at": None},
        {"expires_at": "never"},
        {"expires_at": "2030-01-01T00:00:00"},
        {"expires_at": written(NOW_NS - 2 * DAY_NS)},
        {"min_engine": "latest"},
        {"tenants": "acme"},
        {"tenants": [1]},
        {"requires_input": [""]},
        {"change_id": 5},
        {"critical": ["x"]},
    ],
    ids=str,
)
def test_a_manifest_that_is_not_understood_whole_is_refused(declared: dict[str, Any]) -> None:
    assert code(BUNDLE.bent(declared=declared).candidate()) == "BUNDLE_MANIFEST"


@pytest.mark.parametrize("manifest", [b"{}", b'{"metadata": {}}', b'{"metadata": {"authz": []}}', b"[]"])
def test_a_manifest_that_declares_nothing_is_refused(manifest: bytes) -> None:
    assert code(BUNDLE.bent(files={".manifest": manifest}).candidate()) == "BUNDLE_MANIFEST"


def test_a_bundle_without_a_revision_is_refused() -> None:
    document = orjson.loads(BUNDLE.content()[".manifest"])
    del document["revision"]
    assert code(BUNDLE.bent(files={".manifest": orjson.dumps(document)}).candidate()) == "BUNDLE_MANIFEST"


# Who may sign


def test_f8_fewer_keys_than_the_threshold_are_refused() -> None:
    assert code(BUNDLE.candidate(), BOTH) == "BUNDLE_THRESHOLD"
    assert code(BUNDLE.candidate(cosignatures=b'{"signatures": []}'), BOTH) == "BUNDLE_THRESHOLD"


def test_f8_as_many_keys_as_the_threshold_are_enough() -> None:
    verified = taken(BUNDLE.candidate(cosignatures=BUNDLE.cosigned(SECURITY)), BOTH)
    assert verified.signed_by == ("release", "security")


def test_f8_one_key_is_counted_once() -> None:
    again = RELEASE.token(BUNDLE.payload() | {"iat": 1})
    twice = orjson.dumps({"signatures": [again, RELEASE.token(BUNDLE.payload())]})
    assert code(BUNDLE.candidate(cosignatures=twice), BOTH) == "BUNDLE_THRESHOLD"


def test_f8_one_key_is_not_pinned_under_two_names() -> None:
    keys = {name: read_public_key(name, public_pem(RELEASE.private)) for name in ("release", "security")}
    with pytest.raises(ConfigError, match="two names"):
        trust(RELEASE, SECURITY, threshold=2, keys=keys)


def test_f8_a_further_signature_over_another_bundle_is_not_counted() -> None:
    other = BUNDLE.bent(sequence=11).cosigned(SECURITY)
    assert code(BUNDLE.candidate(cosignatures=other), BOTH) == "BUNDLE_THRESHOLD"


@pytest.mark.parametrize("header", [{"kid": "release"}, {"typ": TIMESTAMP}])
def test_f8_a_further_signature_that_does_not_hold_is_not_counted(header: dict[str, str]) -> None:
    bad = orjson.dumps({"signatures": [SECURITY.token(BUNDLE.payload(), **header)]})
    assert code(BUNDLE.candidate(cosignatures=bad), BOTH) == "BUNDLE_THRESHOLD"


def test_f8_strangers_beside_enough_signatures_do_no_harm() -> None:
    beside = BUNDLE.cosigned(STRANGER, SECURITY)
    assert taken(BUNDLE.candidate(cosignatures=beside), BOTH).signed_by == ("release", "security")


def test_f8_during_a_rotation_either_key_will_do_and_afterwards_the_new_one_alone() -> None:
    old, new = BUNDLE.candidate(), BUNDLE.bent(signer=SECURITY).candidate()
    overlap = trust(RELEASE, SECURITY)
    assert taken(old, overlap).digest == taken(new, overlap).digest
    assert code(old, trust(SECURITY)) == "BUNDLE_KEY"
    # The same files under the new key are the same bundle: no new sequence is needed.
    assert taken(new, trust(SECURITY), seen()).seen.sequence == 10


def test_f8_a_pinned_key_signs_only_the_bundles_it_is_named_for() -> None:
    keys = {"release": RELEASE.key, "security": SECURITY.key}
    entries = (Signers(keys=("security",), bundle_id="payments"), Signers(keys=("release",)))
    assert code(BUNDLE.candidate(), trust(keys=keys, signers=entries)) == "BUNDLE_SIGNERS"
    taken(BUNDLE.bent(signer=SECURITY).candidate(), trust(keys=keys, signers=entries))
    taken(BUNDLE.bent(declared={"bundle_id": "other"}).candidate(), trust(keys=keys, signers=entries))


def test_f8_a_bundle_that_nobody_is_named_for_is_refused() -> None:
    assert code(BUNDLE.candidate(), trust(signers=(Signers(keys=("release",), bundle_id="b"),))) == "BUNDLE_SIGNERS"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ""),
        ("bundles/payments.tar.gz", ""),
        ("bundles/*", ""),
        ("*/payments.*", ""),
        ("*", "BUNDLE_SIGNERS"),
        ("bundles/other.tar.gz", "BUNDLE_SIGNERS"),
        ("bundles/*/payments.tar.gz", "BUNDLE_SIGNERS"),
    ],
)
def test_f8_a_key_can_be_pinned_for_a_path(pattern: str, expected: str) -> None:
    assert outcome(BUNDLE.candidate(), trust(signers=(Signers(keys=("release",), path=pattern),))) == expected


@pytest.mark.parametrize(
    "pins",
    [
        {"signers": ()},
        {"signers": (Signers(keys=()),)},
        {"signers": (Signers(keys=("unknown",)),)},
        {"signers": (Signers(keys=("release",), threshold=0),)},
        {"signers": (Signers(keys=("release", "release"), threshold=2),)},
    ],
    ids=["nobody", "no-keys", "unknown", "none-needed", "never-met"],
)
def test_pins_that_make_no_sense_are_refused_at_once(pins: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"policy\.trust"):
        trust(**pins)


def test_another_bundle_by_the_same_signer_is_no_update() -> None:
    other = BUNDLE.bent(sequence=11, declared={"bundle_id": "refunds"})
    assert code(other.candidate(), seen=seen()) == "BUNDLE_ID"


@pytest.mark.parametrize(
    ("served", "tenants", "expected"),
    [
        (("acme",), [], ""),
        (("acme",), ["acme", "beta"], ""),
        ((), ["acme"], ""),
        (("acme",), ["beta"], "BUNDLE_TENANT"),
        (("acme", "beta"), ["acme"], "BUNDLE_TENANT"),
    ],
)
def test_a_bundle_serves_only_the_tenants_it_is_for(served: tuple[str, ...], tenants: list[str], expected: str) -> None:
    assert outcome(BUNDLE.bent(declared={"tenants": tenants}).candidate(), trust(tenants=served)) == expected


@pytest.mark.parametrize(
    ("tenants", "expected"), [(["acme"], ""), (["acme", "beta"], "BUNDLE_TENANT"), ([], "BUNDLE_TENANT")]
)
def test_a_tenants_key_signs_for_that_tenant_alone(tenants: list[str], expected: str) -> None:
    pins = trust(signers=(Signers(keys=("release",), tenants=("acme",)),))
    assert outcome(BUNDLE.bent(declared={"tenants": tenants}).candidate(), pins) == expected


# Life and needs


def test_f5_a_bundle_that_has_expired_is_refused() -> None:
    taken(BUNDLE.candidate(), now_ns=NOW_NS + 30 * DAY_NS - 1)
    assert code(BUNDLE.candidate(), now_ns=NOW_NS + 30 * DAY_NS) == "BUNDLE_EXPIRED"


def test_a_bundle_from_the_future_is_refused() -> None:
    assert code(BUNDLE.candidate(), now_ns=NOW_NS - 2 * DAY_NS) == "BUNDLE_NOT_YET"
    taken(BUNDLE.candidate(), now_ns=NOW_NS - DAY_NS - 59 * 10**9)


@pytest.mark.parametrize(
    ("needed", "engine", "expected"),
    [
        ("1.22", "1.22.0", ""),
        ("1.22.0", "1.22.0", ""),
        ("1.9.0", "1.22.0", ""),
        ("1.22.1", "1.22.0", "BUNDLE_ENGINE"),
        ("2", "1.22.0", "BUNDLE_ENGINE"),
        ("2", "", ""),
    ],
)
def test_a_bundle_for_a_newer_engine_is_refused(needed: str, engine: str, expected: str) -> None:
    candidate = BUNDLE.bent(declared={"min_engine": needed}).candidate()
    assert outcome(candidate, trust(engine=engine)) == expected


def test_a_bundle_that_needs_more_input_than_there_is_is_refused() -> None:
    candidate = BUNDLE.bent(declared={"requires_input": ["agent", "facts.budgets"]}).candidate()
    taken(candidate)
    taken(candidate, trust(input_fields=frozenset({"agent", "facts.budgets"})))
    assert code(candidate, trust(input_fields=frozenset({"agent", "facts"}))) == "BUNDLE_INPUT"


# The counter


def test_f4_an_older_sequence_is_refused() -> None:
    assert code(BUNDLE.bent(sequence=9).candidate(), seen=seen()) == "BUNDLE_REGRESSION"


def test_f4_the_same_sequence_with_other_files_is_refused() -> None:
    other = BUNDLE.bent(files={"policy.rego": b"package authz\n"})
    assert code(other.candidate(), seen=seen()) == "BUNDLE_MISMATCH"


def test_f4_the_bundle_in_service_is_taken_again_however_it_is_packed() -> None:
    assert taken(BUNDLE.candidate(RELEASE.token(BUNDLE.payload() | {"iat": 5})), seen=seen()).seen == seen()


def test_f4_a_newer_sequence_moves_the_counter() -> None:
    newer = BUNDLE.bent(sequence=11)
    after = taken(newer.candidate(), seen=seen()).seen
    assert (after.sequence, after.digest) == (11, newer.digest())
    assert after.activated == (BUNDLE.digest(), newer.digest())


def test_f4_what_was_active_before_may_return_but_is_not_fetched() -> None:
    newer = BUNDLE.bent(sequence=11)
    after = taken(newer.candidate(), seen=seen()).seen
    assert code(BUNDLE.candidate(), seen=after) == "BUNDLE_REGRESSION"
    back = taken(BUNDLE.candidate(), seen=after, returning=True).seen
    assert (back.sequence, back.digest) == (11, BUNDLE.digest())
    # The newest is not locked out by it; whoever goes back for a fault of its own quarantines it.
    assert taken(newer.candidate(), seen=back).seen.digest == newer.digest()
    assert code(newer.candidate(), seen=back.quarantine(newer.digest(), "BUNDLE_GOLDEN")) == "BUNDLE_QUARANTINED"
    other = newer.bent(files={"policy.rego": b"package authz\n"})
    assert code(other.candidate(), seen=back) == "BUNDLE_MISMATCH"


def test_f4_a_rollback_withdraws_what_is_served_and_what_was_counted() -> None:
    newer = BUNDLE.bent(sequence=12)
    after = taken(newer.candidate(), seen=taken(BUNDLE.bent(sequence=11).candidate(), seen=seen()).seen).seen
    served = taken(BUNDLE.bent(sequence=11).candidate(), seen=after, returning=True).seen
    back = taken(BUNDLE.candidate(rollback=BUNDLE.rollback()), seen=served).seen
    for withdrawn in (newer, BUNDLE.bent(sequence=11)):
        assert code(withdrawn.candidate(), seen=back) == "BUNDLE_QUARANTINED"


def test_f4_only_what_was_active_before_may_return() -> None:
    assert code(BUNDLE.bent(sequence=9).candidate(), seen=seen(), returning=True) == "BUNDLE_REGRESSION"
    assert code(BUNDLE.bent(sequence=11).candidate(), seen=seen(), returning=True) == "BUNDLE_REGRESSION"


def test_f4_what_returns_is_judged_anew() -> None:
    late = NOW_NS + 31 * DAY_NS
    assert code(BUNDLE.candidate(), seen=seen(), returning=True, now_ns=late) == "BUNDLE_EXPIRED"
    assert code(BUNDLE.candidate(), trust(SECURITY), seen(), returning=True) == "BUNDLE_KEY"
    quarantined = seen().quarantine(BUNDLE.digest(), "BUNDLE_GOLDEN")
    assert code(BUNDLE.candidate(), seen=quarantined, returning=True) == "BUNDLE_QUARANTINED"


def test_f6_a_sequence_far_ahead_is_refused() -> None:
    taken(BUNDLE.bent(sequence=1010).candidate(), trust(max_step=1000), seen())
    assert code(BUNDLE.bent(sequence=1011).candidate(), trust(max_step=1000), seen()) == "BUNDLE_FAST_FORWARD"


def test_f6_a_service_that_has_seen_nothing_begins_anywhere() -> None:
    assert taken(BUNDLE.bent(sequence=20_261_121).candidate(), trust(max_step=1)).seen.sequence == 20_261_121


@pytest.mark.parametrize("sequence", [MAX_SEQUENCE, 2**63 - 1])
def test_f6_a_sequence_that_leaves_no_next_one_is_refused(sequence: int) -> None:
    assert code(BUNDLE.bent(sequence=sequence).candidate()) == "BUNDLE_FAST_FORWARD"


# Rollback statements

NEWER = BUNDLE.bent(sequence=12)


def test_f4_a_rollback_statement_is_the_way_back() -> None:
    back = taken(BUNDLE.candidate(rollback=BUNDLE.rollback()), seen=seen(NEWER)).seen
    assert (back.sequence, back.digest) == (12, BUNDLE.digest())
    assert code(NEWER.candidate(), seen=back) == "BUNDLE_QUARANTINED"
    assert taken(BUNDLE.candidate(), seen=back).seen.sequence == 12
    assert taken(BUNDLE.bent(sequence=13).candidate(), seen=back).seen.sequence == 13
    assert code(BUNDLE.bent(sequence=11).candidate(), seen=back) == "BUNDLE_REGRESSION"


@pytest.mark.parametrize(
    "claims",
    [
        {"bundle_id": "refunds"},
        {"sequence": 9},
        {"digest": "0" * 64},
        {"expires_ns": NOW_NS},
        {"issued_ns": NOW_NS + DAY_NS, "expires_ns": NOW_NS + 2 * DAY_NS},
        {"supersedes": 11, "counter": 11},
        {"counter": 9},
        {"counter": 13},
        {"reason": ""},
        {"supersedes": True},
    ],
    ids=str,
)
def test_f4_a_rollback_statement_about_anything_else_is_refused(claims: dict[str, Any]) -> None:
    statement = BUNDLE.rollback(**claims)
    assert code(BUNDLE.candidate(rollback=statement), seen=seen(NEWER)) == "BUNDLE_STATEMENT"


def test_f4_an_old_rollback_statement_does_not_undo_what_came_after_it() -> None:
    statement = BUNDLE.rollback()
    after = seen(BUNDLE.bent(sequence=13))
    assert code(BUNDLE.candidate(rollback=statement), seen=after) == "BUNDLE_STATEMENT"


@pytest.mark.parametrize("typ", ["JWT", TIMESTAMP, ""])
def test_f4_a_signature_for_another_purpose_is_no_rollback_statement(typ: str) -> None:
    assert code(BUNDLE.candidate(rollback=BUNDLE.rollback(typ=typ)), seen=seen(NEWER)) == "BUNDLE_STATEMENT"


@pytest.mark.parametrize("document", [b"", b"{}", b'{"signatures": []}', b'{"signatures": ["x"]}'])
def test_f4_a_rollback_statement_that_nobody_signed_is_refused(document: bytes) -> None:
    assert code(BUNDLE.candidate(rollback=document), seen=seen(NEWER)) == "BUNDLE_STATEMENT"


def test_f8_a_rollback_statement_needs_as_many_keys_as_the_bundle() -> None:
    first = taken(NEWER.candidate(cosignatures=NEWER.cosigned(SECURITY)), BOTH).seen
    alone = BUNDLE.candidate(cosignatures=BUNDLE.cosigned(SECURITY), rollback=BUNDLE.rollback(RELEASE))
    assert code(alone, BOTH, first) == "BUNDLE_STATEMENT"
    taken(replace(alone, rollback=BUNDLE.rollback(RELEASE, SECURITY)), BOTH, first)
    split = orjson.loads(BUNDLE.rollback(RELEASE))["signatures"] + [
        *orjson.loads(BUNDLE.rollback(SECURITY, reason="another"))["signatures"]
    ]
    assert code(replace(alone, rollback=orjson.dumps({"signatures": split})), BOTH, first) == "BUNDLE_STATEMENT"


def test_f6_a_rollback_statement_recovers_a_counter_that_ran_away() -> None:
    ran_away = BUNDLE.bent(sequence=900_000)
    statement = BUNDLE.rollback(supersedes=900_000, counter=10)
    back = taken(BUNDLE.candidate(rollback=statement), seen=seen(ran_away)).seen
    assert back.sequence == 10
    assert code(ran_away.candidate(), seen=back) == "BUNDLE_QUARANTINED"
    assert taken(BUNDLE.bent(sequence=11).candidate(), seen=back).seen.sequence == 11


def test_a_statement_beside_a_bundle_that_needs_none_is_not_read() -> None:
    taken(BUNDLE.candidate(rollback=b"nonsense"), seen=seen(BUNDLE.bent(sequence=9)))


# Freshness


def test_f5_without_a_freshness_statement_nothing_is_fetched_where_one_is_asked_for() -> None:
    assert code(BUNDLE.candidate(), FRESH) == "BUNDLE_STALE"
    assert taken(BUNDLE.candidate(timestamp=BUNDLE.timestamp()), FRESH).seen.stated_ns == NOW_NS


def test_f5_a_frozen_mirror_is_noticed() -> None:
    candidate = BUNDLE.candidate(timestamp=BUNDLE.timestamp())
    taken(candidate, FRESH, now_ns=NOW_NS + 3600 * 10**9)
    assert code(candidate, FRESH, now_ns=NOW_NS + 3601 * 10**9) == "BUNDLE_STALE"


def test_f5_an_older_bundle_than_the_statement_knows_is_refused() -> None:
    candidate = BUNDLE.candidate(timestamp=BUNDLE.bent(sequence=11).timestamp())
    assert code(candidate, FRESH) == "BUNDLE_STALE"


def test_f5_a_bundle_that_the_statement_does_not_know_yet_waits_for_one_that_does() -> None:
    candidate = BUNDLE.bent(sequence=11).candidate(timestamp=BUNDLE.timestamp())
    assert code(candidate, FRESH) == "BUNDLE_STALE"


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"digest": "0" * 64}, "BUNDLE_MISMATCH"),
        ({"bundle_id": "refunds"}, "BUNDLE_STATEMENT"),
        ({"issued_ns": NOW_NS + DAY_NS}, "BUNDLE_STATEMENT"),
        ({"expires_ns": NOW_NS}, "BUNDLE_STALE"),
        ({"signer": RELEASE}, "BUNDLE_STATEMENT"),
        ({"signer": STRANGER}, "BUNDLE_STATEMENT"),
        ({"typ": ROLLBACK}, "BUNDLE_STATEMENT"),
    ],
    ids=["digest", "bundle", "future", "expired", "release-key", "stranger", "purpose"],
)
def test_f5_a_freshness_statement_about_anything_else_is_refused(claims: dict[str, Any], expected: str) -> None:
    assert code(BUNDLE.candidate(timestamp=BUNDLE.timestamp(**claims)), FRESH) == expected


def test_f5_an_older_freshness_statement_than_the_last_is_refused() -> None:
    earlier = BUNDLE.candidate(timestamp=BUNDLE.timestamp(issued_ns=NOW_NS - 60 * 10**9))
    taken(earlier, FRESH)
    assert code(earlier, FRESH, seen(stated_ns=NOW_NS)) == "BUNDLE_STALE"


def test_f5_the_freshness_key_signs_no_bundles() -> None:
    assert code(BUNDLE.bent(signer=TIME).candidate(), FRESH) == "BUNDLE_SIGNERS"


# Quarantine


def test_f12_what_was_quarantined_is_refused_however_it_is_packed_or_signed() -> None:
    remembered = Seen().quarantine(BUNDLE.digest(), "BUNDLE_GOLDEN")
    again = BUNDLE.candidate(RELEASE.token(BUNDLE.payload() | {"iat": 7}))
    for candidate in (BUNDLE.candidate(), again, BUNDLE.bent(signer=SECURITY).candidate()):
        with pytest.raises(BundleError, match="BUNDLE_GOLDEN") as refused:
            taken(candidate, trust(RELEASE, SECURITY), remembered)
        assert refused.value.code == "BUNDLE_QUARANTINED"
    taken(BUNDLE.bent(sequence=11).candidate(), seen=remembered)


def test_what_is_remembered_does_not_grow_without_end() -> None:
    remembered = Seen()
    for number in range(3 * REMEMBERED):
        remembered = remembered.quarantine(f"{number}", "BUNDLE_GOLDEN")
        remembered = taken(BUNDLE.bent(sequence=number + 1).candidate(), seen=remembered).seen
    assert len(remembered.quarantined) == len(remembered.activated) == REMEMBERED
    assert f"{3 * REMEMBERED - 1}" in remembered.quarantined
