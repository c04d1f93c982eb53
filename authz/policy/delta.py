"""Delta bundles: what changed in the data from one archive to the next, for who has the first.

Decides when two archives differ in data alone, what says so, and what it makes of the first one. The whole archive
stays the truth: a delta proves nothing and needs no signature of its own. It carries the next archive's manifest and
its signatures, and what it makes is that archive, byte for byte, or is refused; then `trust` judges it as if it had
come whole. So no delta can say more than its archive does, whoever made it (F2, F13).

Two readings of one change lie in it. `patch.json` is OPA's (https://www.openpolicyagent.org/docs/management-bundles,
"Delta Bundles"), whose operations are for a parsed document. To parse a large document would hold up the decisions of a
sidecar, so `splices.json` says the same of its text: which bytes give way to which.

Must never make a patch without operations, by which OPA would lose all data; nor one that reaches what is not of the
file that changed. Pure. Trusts neither the archives nor the delta.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

import orjson

from authz.errors import BundleError
from authz.policy import archive
from authz.policy.archive import BOUNDS
from authz.policy.data_change import Change, escaped, spliced
from authz.policy.manifest import MANIFEST
from authz.policy.signature import canonical_text, json_object, parsed
from authz.policy.trust import SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.policy.archive import Bounds
    from authz.policy.data_change import DataPath, Splice

PATCH: Final = "patch.json"
SPLICES: Final = "splices.json"
MOST_BYTES: Final = 1 << 20
"""Of a delta that is kept for others."""
PARSED_BYTES: Final = 4 << 20
"""What one may unpack to: its lists are parsed beside decisions, and nobody vouches for it."""
_DATA: Final = "data.json"
_FILES: Final = frozenset({MANIFEST, SIGNATURES, PATCH, SPLICES})
# What of a manifest may differ: OPA takes a delta only with the roots that it has.
_RELEASED: Final = ("revision", "metadata")


def make(base: bytes, target: bytes, bounds: Bounds = BOUNDS) -> bytes:
    """The delta that leads from one archive to the next.

    Raises:
        BundleError: BUNDLE_DELTA, with what stands against one: more than data changed, or it is packed in another way
            than here; BUNDLE_DELTA_EMPTY where no data changed; or as `archive.read` raises.
    """
    before, after = archive.read(base, bounds), archive.read(target, bounds)
    _check_same(before, after)
    changed = [path for path in sorted(after) if _is_data(path) and before[path] != after[path]]
    changes = {path: _change(path, before[path], after[path]) for path in changed}
    operations = [operation for change in changes.values() for operation in change.operations]
    if not operations:
        raise _empty()
    _check_reach(changes, after)
    splices = {path: [(*span, text.decode()) for *span, text in change.splices] for path, change in changes.items()}
    told = {"from": sha256(base).hexdigest(), "to": sha256(target).hexdigest(), "files": splices}
    made = archive.write(
        {
            MANIFEST: after[MANIFEST],
            **({SIGNATURES: after[SIGNATURES]} if SIGNATURES in after else {}),
            PATCH: canonical_text({"data": operations}),
            SPLICES: orjson.dumps(told),
        }
    )
    apply(base, made, bounds)
    return made


def apply(base: bytes, delta: bytes, bounds: Bounds = BOUNDS) -> bytes:
    """The archive that a delta makes of its base, byte for byte.

    Raises:
        BundleError: BUNDLE_DELTA_BASE, it is of another archive; BUNDLE_DELTA_EMPTY, it changes no data; BUNDLE_DELTA,
            it cannot be read or does not give the archive that it promises; or as `archive.read` raises.
    """
    packed = archive.read(delta, archive.bounds(PARSED_BYTES))
    if not {MANIFEST, PATCH, SPLICES} <= packed.keys() <= _FILES:
        raise _refused("it is not one of these")
    _check_patch(packed[PATCH])
    told = json_object(packed[SPLICES], "BUNDLE_DELTA")
    if told.get("from") != sha256(base).hexdigest():
        raise BundleError("the delta is of another archive than the one that is here", code="BUNDLE_DELTA_BASE")
    files = archive.read(base, bounds)
    for path, splices in _listed(told.get("files")):
        if not _is_data(path) or path not in files:
            raise _refused("it changes what is not data")
        files[path] = spliced(files[path], splices, bounds.file_bytes)
    files.pop(SIGNATURES, None)
    files |= {path: packed[path] for path in (MANIFEST, SIGNATURES) if path in packed}
    made = archive.write(files)
    if told.get("to") != sha256(made).hexdigest():
        raise _refused("it does not give the archive that it promises")
    return made


def is_delta(packed: bytes) -> bool:
    """Whether these bytes are a delta bundle, ours or another's, and no whole archive."""
    try:
        return len(packed) <= MOST_BYTES and PATCH in archive.read(packed)
    except BundleError:
        return False


def is_worth(delta: bytes, target: bytes) -> bool:
    """Whether it saves enough to be kept."""
    return len(delta) <= min(MOST_BYTES, len(target) // 2)


def _change(path: str, before: bytes, after: bytes) -> Change:
    change = Change()
    was, now = parsed(before), parsed(after)
    if (canonical_text(was), canonical_text(now)) != (before, after):
        raise _refused(f"{path} is not packed in the form that is signed")
    change.value(_folder(path), was, now, 0)
    return change


def _check_same(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    """All but data and the release's own words."""
    lasting = [
        {path: content for path, content in files.items() if path not in {MANIFEST, SIGNATURES} and not _is_data(path)}
        for files in (before, after)
    ]
    odd = sorted(path for path in lasting[0].keys() | lasting[1].keys() if lasting[0].get(path) != lasting[1].get(path))
    odd += sorted(path for path in before.keys() ^ after.keys() if _is_data(path))
    if odd:
        raise _refused(f"more than data changed: {odd[0]}")
    documents = [json_object(files.get(MANIFEST, b""), "BUNDLE_MANIFEST") for files in (before, after)]
    for document in documents:
        for name in _RELEASED:
            document.pop(name, None)
    if documents[0] != documents[1]:
        raise _refused("more than data changed: the roots of the manifest, or what is served of it")


def _check_reach(changes: Mapping[str, Change], files: Mapping[str, bytes]) -> None:
    """OPA keeps the data of all files in one tree: none of it may be changed but the file's that is meant."""
    told = json_object(files[MANIFEST], "BUNDLE_MANIFEST").get("roots")
    roots = told if isinstance(told, list) else [""]
    for path, change in changes.items():
        others = ["/" + "/".join(map(escaped, _folder(other))) for other in files if _is_data(other) and other != path]
        for operation in change.operations:
            place = str(operation["path"])
            if any(_is_within(place, other) for other in others):
                raise _refused(f"{path} changes as a whole, and another file's data lies within it")
            if place == "/" or not any(_is_within(f"/{root}".rstrip("/"), place) for root in roots):
                raise _refused(f"{path} changes where OPA patches nothing")


def _check_patch(content: bytes) -> None:
    patch = json_object(content, "BUNDLE_DELTA")
    if patch.get("data") == []:
        raise _empty()
    if patch.keys() != {"data"} or not isinstance(patch["data"], list):
        raise _refused("its patch is no list of operations")


def _listed(told: object) -> Iterator[tuple[str, list[Splice]]]:
    """The splices of each file."""
    if told == {}:
        raise _empty()
    if not isinstance(told, dict):
        raise _refused("its splices cannot be read")
    for path, splices in told.items():
        match splices:
            case [*found] if found and all(map(_is_splice, found)):
                yield path, [(start, end, text.encode()) for start, end, text in found]
            case _:
                raise _refused("its splices cannot be read")


def _is_splice(told: object) -> bool:
    return isinstance(told, list) and [type(part) for part in told] == [int, int, str]


def _is_data(path: str) -> bool:
    return path.rpartition("/")[2] == _DATA


def _folder(path: str) -> DataPath:
    """Where OPA keeps the data of a file."""
    return tuple(path.split("/")[:-1])


def _is_within(place: str, other: str) -> bool:
    """Whether `other` is `place` or lies below it."""
    return other == place or other.startswith(f"{place}/")


def _empty() -> BundleError:
    return BundleError("the delta changes no data", code="BUNDLE_DELTA_EMPTY")


def _refused(how: str) -> BundleError:
    return BundleError(f"no delta: {how}", code="BUNDLE_DELTA")
