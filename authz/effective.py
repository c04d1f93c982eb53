"""The configuration that a service runs by, and whether its files still say the same (F19).

Decides what belongs to it: every setting as flags, environment and files resolved to, and the contents of the public
files that are read once at the start: pinned keys, roots of certificates, descriptors. What a service reads again by
itself (policies, key sets, credentials) does not, nor does what it uses once (the enrolment token). Looks once a
minute: whoever changes a file under a running service must see that it has no effect yet, and whoever re-points a key,
a source or a log must be seen.

Must never show a value: names of settings at most, and a digest in which no credential is. Trusts the process's own
flags and environment, which nobody changes under it.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from authz.clock import Clock
    from authz.config import Config

log: Final = logging.getLogger(__name__)
LOOK_NS: Final = 60 * 10**9
FILES: Final = frozenset({"client_ca", "roots", "proto_descriptor"})
"""Settings that name a public file which is read once; and every file of `policy.trust.keys`."""
UNREADABLE: Final = "what its files say cannot be used"
# A URL may hold a password before its host, and a signature or a token after its path.
_CREDENTIAL: Final = re.compile(r"(?<=://)[^/@\s]*@|(?<=\?)\S+")


class Effective:
    """One service's. `look` is called now and again, on one thread.

    Args:
        config: what the service runs by.
        again: the same, resolved anew from the same flags and files; None where there are none to compare with.
    """

    def __init__(self, config: Config, again: Callable[[], Config] | None, clock: Clock) -> None:
        self._settings: Final = settings(config)
        self._again = again
        self._clock = clock
        self._looked_ns = clock.monotonic_ns()
        self.digest: Final = digest(self._settings)
        self.drift: tuple[str, ...] = ()
        """Settings that are no longer what this service runs by; empty where all are."""

    def look(self) -> None:
        """Compare, where a minute has passed since the last time."""
        now_ns = self._clock.monotonic_ns()
        if self._again is None or now_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now_ns
        try:
            found = differing(self._settings, settings(self._again()))
        except ConfigError as error:
            log.debug("%s", error)
            found = (UNREADABLE,)
        except Exception:
            # Whatever it is, the thread that looks does more than this, and drift is what must not be missed.
            log.exception("the configuration cannot be resolved again: a bug")
            found = (UNREADABLE,)
        if found != self.drift:
            self.drift = found
            if found:
                log.error("CONFIG_DRIFT: this service runs by another configuration: %s: restart it", ", ".join(found))
            else:
                log.warning("the configuration is again what this service runs by")


def settings(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name, and what each public file holds, as a digest."""
    found = dict(_flat(config.model_dump(mode="json")))
    found.pop("control.enrol", None)
    named = {name: path for name, path in found.items() if path and _is_read_once(name)}
    return found | {f"{name} (content)": _content(Path(path)) for name, path in named.items()}


def digest(found: Mapping[str, Any]) -> str:
    """SHA-256 in hex, the same for equal configurations; no credential goes into it."""
    shown = {name: _CREDENTIAL.sub("", value) if isinstance(value, str) else value for name, value in found.items()}
    return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the settings that differ, in order; items of a list count as the list."""
    absent = object()
    names = {name for name in {**before, **after} if before.get(name, absent) != after.get(name, absent)}
    return tuple(sorted({re.sub(r"\[\d+\].*| \(content\)", "", name) for name in names}))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - anything that JSON can say
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value:
        for number, each in enumerate(value):
            yield from _flat(each, f"{name}[{number}]")
    else:
        yield name, value


def _is_read_once(name: str) -> bool:
    return name.rpartition(".")[2] in FILES or name.startswith("policy.trust.keys.")


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
