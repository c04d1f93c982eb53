"""Deltas: what leads from any data to any other, as OPA reads it and as a sidecar does; and what must come of none."""

from __future__ import annotations

import copy
import json
import zlib
from dataclasses import replace
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from authz.errors import BundleError
from authz.policy import archive, delta
from authz.policy.signature import canonical
from tests.publisher import Publisher, taken

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(["", "a/b", "~1", "%7E", "é"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.sampled_from([1.5, 1e300, -0.25]) | NAMES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=15,
)


def released(sequence: int, **data: Any) -> Publisher:
    """A bundle with these documents, by their folders."""
    files = {f"{folder}/data.json": json.dumps(document).encode() for folder, document in data.items()}
    return Publisher(sequence=sequence, files=files).bent(
        files={**files, ".manifest": rooted(Publisher(sequence=sequence, files=files), *data)}
    )


def rooted(publisher: Publisher, *roots: str) -> bytes:
    return orjson.dumps(orjson.loads(publisher.content()[".manifest"]) | {"roots": ["authz", *roots]})


def patched(tree: Any, operations: list[dict[str, Any]]) -> Any:
    """What OPA makes of a tree: its manual's "Delta Bundle Patch Operations", written anew."""
    tree = copy.deepcopy(tree)
    for operation in operations:
        path = [unquote(part).replace("~1", "/").replace("~0", "~") for part in operation["path"].strip("/").split("/")]
        parent = tree
        for name in path[:-1]:
            parent = parent[int(name)] if isinstance(parent, list) else parent[name]
        last: Any = int(path[-1]) if isinstance(parent, list) else path[-1]
        match operation["op"]:
            case "remove":
                del parent[last]
            case "upsert" if isinstance(parent, list):
                assert last <= len(parent)
                parent.insert(last, operation["value"])
            case "replace" | "upsert":
                assert operation["op"] == "upsert" or isinstance(parent, list) or last in parent
                parent[last] = operation["value"]
    return tree


@given(JSON, JSON)
@example([1, 2, 3], [1, 3])
@example([1], [1, 1, 1])
@example([1, 2, 3], [0, 1, 2, 4, 5, 3])
@example([1, 2, 3, 4, 5, 6], [2, 3, 7, 5, 8, 9])
@example([1, [2], 3, [4]], [1, [5], 3, [6], 7])
@example({"a": 1, "c": 3}, {"b": 2})
@example({"a": 1, "b": {"x": []}, "c": 3}, {"b": {"x": [1]}})
@example({"": 1, "a": 2}, {"": 1, "a": 3})
@example({"a": 1.5}, {"a": 1.50001})
def test_f13_a_delta_makes_of_any_data_the_next_for_sidecars_and_for_opa(before: Any, after: Any) -> None:
    assume(canonical(json.dumps(before).encode()) != canonical(json.dumps(after).encode()))
    base, target = released(1, limits=before).packed(), released(2, limits=after).packed()
    made = delta.make(base, target)
    assert delta.apply(base, made) == target
    operations = orjson.loads(archive.read(made)["patch.json"])["data"]
    assert operations
    assert patched({"limits": before}, operations) == {"limits": after}
    assert delta.is_delta(made)
    assert not delta.is_delta(target)


SMALL, NEXT = released(1, limits={"acme": 10, "globex": [1, 2]}), released(2, limits={"acme": 11, "globex": [1, 3]})
BASE, TARGET = SMALL.packed(), NEXT.packed()
DELTA = delta.make(BASE, TARGET)
FILES = archive.read(DELTA)


def made_of(packed: bytes, base: bytes = BASE) -> bytes | str:
    """The archive that came of it, or the code it was refused with. Nothing else may come of any bytes."""
    try:
        return delta.apply(base, packed)
    except BundleError as error:
        return error.code


@given(st.integers(0, len(DELTA) * 8 - 1))
def test_f2_a_bit_of_a_delta_that_is_flipped_changes_nothing_or_is_refused(bit: int) -> None:
    flipped = bytearray(DELTA)
    flipped[bit // 8] ^= 1 << bit % 8
    assert made_of(bytes(flipped)) == TARGET or isinstance(made_of(bytes(flipped)), str)


@given(st.sampled_from(sorted(FILES)), st.integers(0, 2**16), st.integers(0, 7))
def test_f2_a_bit_of_what_lies_in_a_delta_makes_no_other_archive(path: str, place: int, bit: int) -> None:
    content = bytearray(FILES[path])
    content[place % len(content)] ^= 1 << bit
    outcome = made_of(archive.write({**FILES, path: bytes(content)}))
    # What OPA alone reads is not in the archive that a sidecar makes.
    assert isinstance(outcome, str) or (path == "patch.json" and outcome == TARGET)


SPLICES = st.lists(st.tuples(st.integers(-2, 40), st.integers(-2, 40), st.text(max_size=6)), max_size=4)
TOUCHED = st.sampled_from(
    ["limits/data.json", "policy.rego", ".manifest", "data.json", "../data.json", "authz/data.json"]
)


def telling(**told: Any) -> bytes:
    """The delta with other splices."""
    splices = {"from": sha256(BASE).hexdigest(), "to": sha256(TARGET).hexdigest(), **told}
    return archive.write({**FILES, "splices.json": orjson.dumps(splices)})


@given(st.dictionaries(TOUCHED, SPLICES, max_size=2))
def test_f13_whatever_a_delta_says_nothing_comes_of_it_but_what_it_promises(files: dict[str, Any]) -> None:
    assert made_of(telling(files=files)) in {TARGET, "BUNDLE_DELTA", "BUNDLE_DELTA_EMPTY"}


@given(JSON)
def test_f13_a_delta_that_promises_what_it_makes_is_judged_as_that_archive_is(document: Any) -> None:
    before, text = archive.read(BASE)["limits/data.json"], canonical(json.dumps(document).encode())
    assume(text != archive.read(TARGET)["limits/data.json"])
    forged = archive.write({**archive.read(TARGET), "limits/data.json": text})
    packed = telling(to=sha256(forged).hexdigest(), files={"limits/data.json": [[0, len(before), text.decode()]]})
    assert made_of(packed) == forged
    with pytest.raises(BundleError, match="BUNDLE_DIGEST"):
        taken(replace(NEXT.candidate(), archive=forged))


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda content: zlib.compress(content, wbits=31)))
def test_f2_any_bytes_are_no_delta(garbage: bytes) -> None:
    assert isinstance(made_of(garbage), str)
    assert not delta.is_delta(garbage)
