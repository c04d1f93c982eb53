"""Data that lost its content on the way: an update of data alone is held to the data before it (F13).

Decides two things about a bundle whose modules are those in service, byte for byte: that no data file, and no list or
object of some size within one, loses more than a share of itself at once; and that what was there keeps its kind. A
list that is null, an object that is empty, a name that is blank: each is how an export that failed half-way looks, and
each would make rules quietly undefined. A bundle that changes its modules too is somebody's change of mind, and is for
a rollout to judge. Must never repair data, nor show a value of it.

Files are parsed up to `PARSED_BYTES`, because a parser holds up decisions; larger ones are judged by their size alone.
Pure. Trusts that both bundles were verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import jiter

from authz.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATA: Final = "data.json"
MODULE: Final = ".rego"
PARSED_BYTES: Final = 4 << 20
COUNTED: Final = 10
"""Entries from which on a loss is a share and no handful."""
SIZED_BYTES: Final = 1024
"""As `COUNTED`, for a whole file."""
DEPTH: Final = 6
TOLD: Final = 10


def hold_data(before: Mapping[str, bytes], after: Mapping[str, bytes], *, share: float) -> None:
    """Refuse an update of data alone that lost too much.

    Args:
        before: the files of the bundle in service.
        after: those of the candidate.
        share: how much may go at once; 1 is all of it, and checks nothing.

    Raises:
        BundleError: BUNDLE_SHRINK, or BUNDLE_SHAPE; its problems name places and no values.
    """
    if share >= 1 or _modules(before) != _modules(after):
        return
    for path in (path for path in before if path.rpartition("/")[2] == DATA and before[path] != after.get(path)):
        was, now = before[path], after.get(path, b"")
        if len(was) >= SIZED_BYTES and len(now) < len(was) * (1 - share):
            raise _shrunk([f"{path}: {len(was)} bytes were {len(now)} then"])
        if max(len(was), len(now)) > PARSED_BYTES:
            continue
        lost = list(_lost(_parsed(was), _parsed(now), path.removesuffix(DATA).strip("/"), share, DEPTH))
        if shrunk := [place for place, is_shape in lost if not is_shape]:
            raise _shrunk(shrunk)
        if lost:
            problems = [place for place, _ in lost[:TOLD]]
            raise BundleError("data has lost what was there", code="BUNDLE_SHAPE", problems=problems)


def _modules(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path.endswith(MODULE)}


def _parsed(content: bytes) -> Any:  # noqa: ANN401 - any JSON
    # Signed data is strict JSON already; what is missing has lost everything.
    return jiter.from_json(content, cache_mode="none") if content else None


def _lost(was: Any, now: Any, place: str, share: float, depth: int) -> Iterator[tuple[str, bool]]:  # noqa: ANN401
    """Places that lost something, and whether it is their kind."""
    if _is_blank(was):
        return
    if _is_blank(now):
        yield f"{place or 'data'}: is blank now", True
    elif _kind(was) != _kind(now):
        yield f"{place or 'data'}: was {_kind(was)}, is {_kind(now)}", True
    elif isinstance(was, (dict, list)):
        if len(was) >= COUNTED and len(now) < len(was) * (1 - share):
            yield f"{place or 'data'}: of {len(was)} entries {len(now)} are left", False
        elif isinstance(was, dict):
            for name in was if depth else ():
                if name in now:
                    yield from _lost(was[name], now[name], f"{place}/{name}".lstrip("/"), share, depth - 1)
        elif any(map(_is_blank, now)) and not any(map(_is_blank, was)):
            yield f"{place}: holds entries that are blank", True


def _is_blank(found: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether nothing is there: no list of nothing is a list."""
    return found is None or found in ("", [], {})


def _kind(found: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(found, dict):
        return "an object"
    if isinstance(found, list):
        return "a list"
    if isinstance(found, str):
        return "text"
    return "true or false" if isinstance(found, bool) else "a number"


def _shrunk(places: list[str]) -> BundleError:
    return BundleError("data has lost too much at once", code="BUNDLE_SHRINK", problems=places[:TOLD])
