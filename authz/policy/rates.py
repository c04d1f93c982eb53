"""Which counts of `facts.session.rates` a policy asks for, so that those are kept and no others.

Decides it by what the rules read and by what the manifest declares (`requires_input`), which is for Rego that computes
the name or the span. Must never let a policy into service that reads a count which nobody keeps: its rules would deny
every call, or stop none, without a word. Trusts the engine's list of what rules read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from authz.errors import BundleError
from authz.model import MOST_RATE_S, RATES, Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from authz.model import JsonValue

PATH: Final = ("facts", "session", "rates")
_SECONDS: Final = re.compile(r"[1-9][0-9]{0,4}")


def asked(read: Iterable[Sequence[str]], metadata: Mapping[str, JsonValue]) -> tuple[Rate, ...]:
    """The counts that a policy asks for, in a constant order.

    Args:
        read: paths of the input that its rules read, each as far as it is constant.
        metadata: of its manifest.

    Raises:
        BundleError: BUNDLE_INPUT, one of them is not kept by this service.
    """
    declared = (path.split(".") for path in _declared(metadata))
    return tuple(sorted({rate for path in (*read, *declared) if (rate := rate_at(path)) is not None}))


def rate_at(path: Sequence[str]) -> Rate | None:
    """The count at a path of the input; None where the path names none, or none in particular.

    Raises:
        BundleError: BUNDLE_INPUT, there is no such count.
    """
    name, spans = path[len(PATH) : len(PATH) + 1], path[len(PATH) + 1 :]
    if tuple(path[: len(PATH)]) != PATH or not name:
        return None
    if name[0] not in RATES or len(spans) > 1 or not all(map(_is_kept, spans)):
        raise BundleError(f"the input holds no `{'.'.join(path)}`", code="BUNDLE_INPUT")
    return Rate(name[0], int(spans[0])) if spans else None


def is_rate(path: str) -> bool:
    """Whether a dotted path is that of a count which is kept."""
    try:
        return rate_at(path.split(".")) is not None
    except BundleError:
        return False


def written(rate: Rate) -> str:
    """As `requires_input` has it."""
    return ".".join((*PATH, rate.name, str(rate.seconds)))


def _is_kept(seconds: str) -> bool:
    return _SECONDS.fullmatch(seconds) is not None and int(seconds) <= MOST_RATE_S


def _declared(metadata: Mapping[str, JsonValue]) -> Iterator[str]:
    authz = metadata.get("authz")
    needed = authz.get("requires_input") if isinstance(authz, dict) else None
    yield from (path for path in needed if isinstance(path, str)) if isinstance(needed, list) else ()
