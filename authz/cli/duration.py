"""Spans of time as people write them: `90s`, `15m`, `8h`, `30d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from authz.errors import ConfigError

LONGEST: Final = timedelta(days=3650)
_UNITS: Final = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", re.ASCII)


def span(text: str) -> timedelta:
    """The span that `text` says.

    Raises:
        ConfigError: it is not a number and a unit, or ten years and more.
    """
    found = _SPAN.fullmatch(text)
    means = timedelta(**{_UNITS[found[2]]: float(found[1])}) if found else LONGEST
    if means >= LONGEST:
        raise ConfigError(f"`{text}` is not a span of time", remedy="write it as 90s, 15m, 8h or 30d")
    return means
