"""What a service has seen of its bundle, on its disk: the anti-rollback counter, and what is quarantined (F4, F12).

Decides when there is nothing to remember: only where there never was a file. A file that cannot be read is an error and
not a fresh start, which would let an older bundle in. Must never go back by itself: removing the file is the operator's
last resort, and forgets the counter. Trusts the owner of its folder.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import orjson

from authz.errors import BundleError
from authz.policy import durable
from authz.policy.trust import Seen

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "bundle.json"
_FIELDS: Final = {
    "bundle_id": str,
    "sequence": int,
    "counted": str,
    "digest": str,
    "stated_ns": int,
    "activated": list,
    "quarantined": dict,
}


class SeenFile:
    """One service's memory. Not thread-safe: activations take turns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def read(self) -> Seen:
        """What is remembered.

        Raises:
            BundleError: BUNDLE_STATE when the file cannot be read or is not one of these.
        """
        try:
            told: Any = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return Seen()
        except (OSError, ValueError) as error:
            raise self._unusable() from error
        if not isinstance(told, dict) or {name: type(told.get(name)) for name in told} != _FIELDS:
            raise self._unusable()
        return Seen(**(told | {"activated": tuple(told["activated"])}))

    def write(self, seen: Seen) -> None:
        """Remember, durably.

        Raises:
            BundleError: BUNDLE_STATE when it cannot be kept: a bundle must not answer before it is counted.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write(self._path, orjson.dumps(asdict(seen), option=orjson.OPT_INDENT_2))
        except OSError as error:
            raise self._unusable() from error

    def _unusable(self) -> BundleError:
        return BundleError(f"{self._path} cannot be used", code="BUNDLE_STATE")


class Forgetful:
    """Remembers nothing, for those who only look: `authz doctor`."""

    def read(self) -> Seen:
        """Nothing was seen."""
        return Seen()

    def write(self, seen: Seen) -> None:
        """Forget it."""
