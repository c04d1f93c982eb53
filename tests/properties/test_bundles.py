"""A generated corpus of tampered archives: each is refused, and with the reason of what was done to it."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from authz.errors import BundleError
from authz.policy import archive
from authz.policy.archive import BOUNDS
from authz.policy.manifest import written
from authz.policy.trust import SIGNATURES, Seen, Verified, content_digest
from authz.reasons import BUNDLE_CODES
from tests.publisher import DAY_NS, NOW_NS, RELEASE, SECURITY, STRANGER, Publisher, taken, trust

BUNDLE = Publisher(
    files={
        "authz/rules.rego": b"package authz.rules\n\nlimit := 10\n",
        "limits/data.json": b'{"acme":10}',
        "golden/deny.json": b'[{"agent":{"id":"mallory"}}]',
    },
    declared={"tenants": ["acme"]},
)
PACKED = BUNDLE.packed()
FILES = archive.read(PACKED)
SIGNED = sorted(BUNDLE.content())
SERVED = trust(tenants=("acme",))

NAMES = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,3}\.(rego|json)", fullmatch=True)
BYTES = st.binary(max_size=64)


def judged(packed: bytes, seen: Seen | None = None) -> Verified | str:
    """What it became, or the code it was refused with. Nothing else may come of any bytes."""
    try:
        return taken(replace(BUNDLE.candidate(), archive=packed), SERVED, seen)
    except BundleError as error:
        return error.code if error.code in BUNDLE_CODES else pytest.fail(str(error))


def repacked(changes: dict[str, bytes | None]) -> bytes:
    files = {**FILES, **changes}
    return archive.write({path: content for path, content in files.items() if content is not None})


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"") -> bytes:
    """The signed archive with one more entry at its end."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for path, written_ in FILES.items():
            header = tarfile.TarInfo(path)
            header.size = len(written_)
            made.addfile(header, io.BytesIO(written_))
        header = tarfile.TarInfo(name)
        header.type, header.linkname, header.size = kind, target, len(content)
        made.addfile(header, io.BytesIO(content))
    return gzip.compress(tar.getvalue())


@given(st.binary(max_size=400))
@example(b"")
@example(PACKED[:-1])
def test_f2_any_bytes_are_refused_with_a_code(garbage: bytes) -> None:
    assert isinstance(judged(garbage), str)


@given(st.integers(0, len(PACKED) * 8 - 1))
@example(2087)
def test_f2_a_bit_that_is_flipped_anywhere_changes_nothing_or_is_refused(bit: int) -> None:
    flipped = bytearray(PACKED)
    flipped[bit // 8] ^= 1 << bit % 8
    outcome = judged(bytes(flipped))
    # What is signed is the files, not how gzip wrote them: a time in its header may change, and a run of
    # zeros may be copied from one byte further back (RFC 1951 section 3.2.3).
    assert isinstance(outcome, str) or outcome.files == BUNDLE.content()


@given(st.data())
def test_f2_a_bit_that_is_flipped_in_what_was_packed_is_refused_or_was_padding(data: st.DataObject) -> None:
    tar = bytearray(gzip.decompress(PACKED))
    bit = data.draw(st.integers(0, len(tar) * 8 - 1))
    tar[bit // 8] ^= 1 << bit % 8
    outcome = judged(gzip.compress(bytes(tar)))
    assert isinstance(outcome, str) or outcome.files == BUNDLE.content()


@given(st.sampled_from([path for path in SIGNED if path != ".manifest"]), BYTES)
def test_f2_a_swapped_file_is_refused(path: str, content: bytes) -> None:
    assume(content != FILES[path])
    assert judged(repacked({path: content})) in {"BUNDLE_DIGEST", "BUNDLE_JSON"}


@given(st.permutations(SIGNED))
def test_f2_files_that_changed_places_are_refused(order: list[str]) -> None:
    assume(order != SIGNED)
    moved: dict[str, bytes | None] = {path: FILES[other] for path, other in zip(SIGNED, order, strict=True)}
    assert judged(repacked(moved)) in {"BUNDLE_DIGEST", "BUNDLE_JSON"}


@given(st.sets(st.sampled_from(SIGNED), min_size=1))
def test_f2_missing_files_are_refused(missing: set[str]) -> None:
    assert judged(repacked(dict.fromkeys(missing))) == "BUNDLE_FILES"


@given(NAMES, BYTES)
def test_f2_an_extra_file_is_refused(name: str, content: bytes) -> None:
    assume(name not in FILES)
    assume(name.rpartition("/")[2] not in {"data.json", "patch.json", "plan.json"})
    assert judged(repacked({name: content})) == "BUNDLE_FILES"


@given(NAMES, st.sampled_from([tarfile.SYMTYPE, tarfile.LNKTYPE]), st.text(max_size=30))
def test_f2_a_link_is_refused(name: str, kind: bytes, target: str) -> None:
    assert judged(entry(name, kind, target.encode("ascii", "ignore").decode())) == "BUNDLE_ENTRY"


@given(st.lists(st.sampled_from(["..", "a", "."]), min_size=1, max_size=5), st.booleans())
def test_f2_a_path_that_climbs_is_refused(segments: list[str], absolute: bool) -> None:  # noqa: FBT001 - drawn
    assume({"..", "."} & {*segments[1:]} or segments[0] == "..")
    name = "/" * absolute + "/".join([*segments, "x.rego"])
    assert judged(entry(name)) == "BUNDLE_PATH"


@given(st.sampled_from(SIGNED), st.booleans())
def test_f2_a_second_entry_of_a_name_is_refused(path: str, upper: bool) -> None:  # noqa: FBT001 - drawn
    name = path.upper() if upper else path
    assert judged(entry(name, content=b"package x\n")) == "BUNDLE_DUPLICATE"


@given(st.integers(1 << 20, BOUNDS.file_bytes))
def test_f2_a_bomb_is_refused(size: int) -> None:
    assert judged(entry("x/bomb.json", content=bytes(size))) in {"BUNDLE_RATIO", "BUNDLE_SIZE"}


@given(st.lists(st.sampled_from([RELEASE, SECURITY, STRANGER]), max_size=3))
def test_f1_any_other_number_or_maker_of_signatures_is_refused(signers: list[Any]) -> None:
    tokens = [signer.token(BUNDLE.payload()) for signer in signers]
    outcome = judged(repacked({SIGNATURES: orjson.dumps({"signatures": tokens})}))
    if signers == [RELEASE]:
        assert isinstance(outcome, Verified)
    else:
        assert outcome == {0: "BUNDLE_UNSIGNED", 1: "BUNDLE_KEY"}.get(len(signers), "BUNDLE_SIGNATURE_COUNT")


@given(BYTES)
def test_f1_signatures_that_are_none_are_refused(signatures: bytes) -> None:
    assert judged(repacked({SIGNATURES: signatures})) in {"BUNDLE_SIGNATURE", "BUNDLE_UNSIGNED"}


@given(st.integers(1, 10**6), st.integers(0, 10**7))
def test_f4_f6_what_is_not_a_step_ahead_is_refused(before: int, sequence: int) -> None:
    seen = Seen(bundle_id="payments", sequence=before, digest="0" * 64)
    outcome = judged(BUNDLE.bent(sequence=sequence).packed(), seen)
    expected = (
        "BUNDLE_MANIFEST"
        if sequence < 1
        else "BUNDLE_REGRESSION"
        if sequence < before
        else "BUNDLE_MISMATCH"
        if sequence == before
        else "BUNDLE_FAST_FORWARD"
        if sequence > before + SERVED.max_step
        else ""
    )
    assert (outcome if isinstance(outcome, str) else "") == expected


@given(st.integers(-365, 365))
def test_f5_a_bundle_lives_until_it_expires(days: int) -> None:
    assume(days != 0)
    created, expires = NOW_NS - 400 * DAY_NS, NOW_NS + days * DAY_NS
    declared = {"tenants": ["acme"], "created_at": written(created), "expires_at": written(expires)}
    outcome = judged(BUNDLE.bent(declared=declared).packed())
    assert (outcome == "BUNDLE_EXPIRED") == (days < 0)


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_bundle_for_other_tenants_is_refused(tenants: list[str]) -> None:
    assert judged(BUNDLE.bent(declared={"tenants": tenants}).packed()) == "BUNDLE_TENANT"


@given(st.dictionaries(NAMES, BYTES, min_size=1, max_size=6))
def test_what_is_written_is_read_back_and_known_by_its_files(files: dict[str, bytes]) -> None:
    folders = {path[:end] for path in files for end in range(len(path)) if path[end] == "/"}
    if folders.isdisjoint(files):
        assert archive.read(archive.write(files)) == files
    assert content_digest(files) == content_digest(dict(reversed(files.items())))
    path = min(files)
    assert content_digest(files) != content_digest({**files, path: files[path] + b"x"})


@pytest.mark.parametrize("field", ["cosignatures", "rollback", "timestamp"])
@given(document=st.binary(max_size=100))
def test_f8_nothing_beside_an_archive_can_do_more_than_refuse_it(field: str, document: Any) -> None:
    candidate = BUNDLE.candidate(**{field: document})
    both = trust(RELEASE, SECURITY, threshold=2, tenants=("acme",), fresh=True)
    with pytest.raises(BundleError) as refused:
        taken(candidate, both, Seen(bundle_id="payments", sequence=99, digest="0"))
    assert refused.value.code in BUNDLE_CODES
