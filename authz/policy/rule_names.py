"""What a rule is called where people read of it: as decisions name it, at the place where its author wrote it.

Decides nothing: an outcome says both in its own source (`rule`, and `source` where it was compiled from YAML), and any
other rule has its name in Rego and its place there. Trusts the engine's account of a rule.
"""

from __future__ import annotations

import re
from typing import Any, Final

_RULE: Final = re.compile(r'"rule": "([^"]+)"')
_SOURCE: Final = re.compile(r'"source": "([^"]+)"')


def named(rule: dict[str, Any]) -> str:
    """The name that decisions have for it, else its name in Rego."""
    found = _RULE.search(rule["source"])
    name: str = found[1] if found else rule["name"].removeprefix("data.")
    return name


def written(rule: dict[str, Any]) -> str:
    """Where it was written in YAML, "file:row"; empty where it was not."""
    found = _SOURCE.search(rule["source"])
    return f"{rule['location']['file'].rpartition('/')[0]}/{found[1]}" if found else ""


def place(rule: dict[str, Any]) -> str:
    """Where it stands in Rego, "file:row"."""
    return f"{rule['location']['file']}:{rule['location']['row']}"
