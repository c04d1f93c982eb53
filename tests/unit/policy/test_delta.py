"""Deltas: which archives have one, what it may hold, and what it costs."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.errors import BundleError
from authz.policy import archive, delta
from authz.policy.archive import Bounds
from tests.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Mapping


def release(sequence: int, files: Mapping[str, bytes], **manifest: Any) -> bytes:
    publisher = Publisher(sequence=sequence, files=files)
    told = orjson.loads(publisher.content()[".manifest"]) | {"roots": ["authz", "limits", "names"]} | manifest
    return publisher.bent(files={**files, ".manifest": orjson.dumps(told)}).packed()


LIMITS = b'{"acme":10,"globex":[1,2,3]}'
OTHERS = b'{"acme":10,"globex":[1,3]}'
BASE, TARGET = release(1, {"limits/data.json": LIMITS}), release(2, {"limits/data.json": OTHERS})
MADE = delta.make(BASE, TARGET)


def test_a_delta_holds_opas_operations_and_the_next_archives_own_words() -> None:
    held, target = archive.read(MADE), archive.read(TARGET)
    assert held.keys() == {".manifest", ".signatures.json", "patch.json", "splices.json"}
    assert (held[".manifest"], held[".signatures.json"]) == (target[".manifest"], target[".signatures.json"])
    assert orjson.loads(held["patch.json"]) == {"data": [{"op": "remove", "path": "/limits/globex/1"}]}
    assert orjson.loads(held["splices.json"]) == {
        "from": sha256(BASE).hexdigest(),
        "to": sha256(TARGET).hexdigest(),
        "files": {"limits/data.json": [[22, 24, ""]]},
    }


def test_names_are_written_as_opa_reads_them() -> None:
    target = release(2, {"limits/data.json": LIMITS[:-1] + b',"a/b ~%":null}'})
    patch = orjson.loads(archive.read(delta.make(BASE, target))["patch.json"])
    assert patch["data"] == [{"op": "upsert", "path": "/limits/a~1b%20~0%25", "value": None}]


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({"limits/data.json": LIMITS}, {"limits/data.json": OTHERS, "policy.rego": b"package authz\n"}, "policy.rego"),
        ({"limits/data.json": LIMITS}, {"limits/data.json": OTHERS, "golden/deny.json": b"[]"}, "golden/deny.json"),
        ({"limits/data.json": LIMITS}, {"limits/data.json": LIMITS, "names/data.json": b"{}"}, "names/data.json"),
        ({"limits/data.json": LIMITS, "names/data.json": b"{}"}, {"limits/data.json": OTHERS}, "names/data.json"),
        ({"data.json": b'{"authz":{},"limits":1}'}, {"data.json": b'{"authz":{},"limits":1,"x":1}'}, "patches nothing"),
        ({"data.json": b'{"":1}'}, {"data.json": b'{"":2}'}, "patches nothing"),
        (
            {"limits/data.json": b'{"a":{"b":1}}', "limits/a/data.json": b"{}"},
            {"limits/data.json": b'{"a":[]}', "limits/a/data.json": b"{}"},
            "another file's data",
        ),
    ],
)
def test_where_more_than_one_files_data_changed_there_is_no_delta(
    before: dict[str, bytes], after: dict[str, bytes], why: str
) -> None:
    with pytest.raises(BundleError, match=f"BUNDLE_DELTA.*{why}"):
        delta.make(release(1, before), release(2, after))


def test_other_roots_are_no_change_of_data() -> None:
    with pytest.raises(BundleError, match="roots"):
        delta.make(BASE, release(2, {"limits/data.json": OTHERS}, roots=["authz", "limits"]))


def test_f13_no_delta_is_made_that_changes_nothing() -> None:
    """OPA takes a patch without operations for an archive without data."""
    with pytest.raises(BundleError, match="BUNDLE_DELTA_EMPTY"):
        delta.make(BASE, release(2, {"limits/data.json": LIMITS}))


def test_an_archive_that_is_packed_in_another_way_has_no_delta() -> None:
    stored = archive.write(archive.read(TARGET), level=archive.STORED)
    with pytest.raises(BundleError, match=r"BUNDLE_DELTA.*promises"):
        delta.make(BASE, stored)
    spaced = archive.write({**archive.read(TARGET), "limits/data.json": b'{"acme": 10, "globex": [1, 3]}'})
    with pytest.raises(BundleError, match=r"BUNDLE_DELTA.*form that is signed"):
        delta.make(BASE, spaced)


def bent(**contents: object) -> bytes:
    held = archive.read(MADE)
    for name, content in contents.items():
        path = f"{name}.json"
        held[path] = orjson.dumps(
            orjson.loads(held[path]) | content if name == "splices" and isinstance(content, dict) else content
        )
    return archive.write(held)


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (bent(patch={"data": []}), "BUNDLE_DELTA_EMPTY"),
        (bent(patch=[]), "BUNDLE_DELTA"),
        (bent(patch=None), "BUNDLE_DELTA"),
        (bent(patch={"data": None}), "BUNDLE_DELTA"),
        (bent(patch={}), "BUNDLE_DELTA"),
        (bent(splices={"files": {}}), "BUNDLE_DELTA_EMPTY"),
        (bent(splices={"files": None}), "BUNDLE_DELTA"),
        (bent(splices=None), "BUNDLE_DELTA"),
        (bent(splices={"files": {"limits/data.json": []}}), "BUNDLE_DELTA"),
        (bent(splices={"files": {"limits/data.json": [[True, 2, ""]]}}), "BUNDLE_DELTA"),
        (bent(splices={"files": {"limits/data.json": [[9, 4, ""]]}}), "BUNDLE_DELTA"),
        (bent(splices={"files": {"limits/data.json": [[0, 4096, ""]]}}), "BUNDLE_DELTA"),
        (bent(splices={"files": {"limits/data.json": [[-1, 2, ""]]}}), "BUNDLE_DELTA"),
        (bent(splices={"files": {"policy.rego": [[0, 1, ""]]}}), "BUNDLE_DELTA"),
        (bent(splices={"files": {"authz/data.json": [[0, 0, "{}"]]}}), "BUNDLE_DELTA"),
        (bent(splices={"from": "0" * 64}), "BUNDLE_DELTA_BASE"),
        (bent(splices={"from": None}), "BUNDLE_DELTA_BASE"),
        (bent(splices={"to": "0" * 64}), "BUNDLE_DELTA"),
        (archive.write({**archive.read(MADE), "policy.rego": b""}), "BUNDLE_DELTA"),
        (TARGET, "BUNDLE_DELTA"),
        (b"", "BUNDLE_ARCHIVE"),
    ],
)
def test_f13_a_delta_that_is_blank_or_of_something_else_is_refused(packed: bytes, code: str) -> None:
    with pytest.raises(BundleError) as refusal:
        delta.apply(BASE, packed)
    assert refusal.value.code == code


def test_a_delta_is_of_one_archive_alone() -> None:
    with pytest.raises(BundleError, match="BUNDLE_DELTA_BASE"):
        delta.apply(TARGET, MADE)


def test_f14_what_a_delta_makes_is_within_the_bounds_of_an_archive() -> None:
    with pytest.raises(BundleError, match="BUNDLE_SIZE"):
        delta.apply(BASE, bent(splices={"files": {"limits/data.json": [[0, 0, "x" * 600]]}}), Bounds(file_bytes=599))


def test_f14_a_delta_that_would_hold_up_decisions_is_not_parsed() -> None:
    long = [[0, 0, "x" * delta.PARSED_BYTES]]
    with pytest.raises(BundleError, match=r"BUNDLE_SIZE|BUNDLE_RATIO"):
        delta.apply(BASE, bent(splices={"files": {"limits/data.json": long}}))


def test_a_delta_is_worth_keeping_where_it_saves_half() -> None:
    assert not delta.is_worth(MADE, TARGET)
    assert delta.is_worth(bytes(50), bytes(100))
    assert not delta.is_worth(bytes(delta.MOST_BYTES + 1), bytes(4 * delta.MOST_BYTES))
