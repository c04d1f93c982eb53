"""Lessons: a recorded call that must never be answered so again, as a case of a decision table (requirement P5).

Decides how a record becomes a case, and that a case is whole: what the record masks is given by whoever writes the
lesson, where a rule of the policy reads it; elsewhere the mask stays, for it changes nothing. Must never write a case
that the policy cannot be held to, and never change a case that is there. Trusts the record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import yaml

from authz.authoring.replay import UnreadableError, read_record
from authz.errors import ConfigError
from authz.policy.decision_table import Case, read_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from authz.authoring.replay import Recorded
    from authz.model import JsonObject, JsonValue
    from authz.policy.engine import Unknown

HEAD: Final = "# Calls that went wrong once; `authz test add --from-record ID` writes them.\ncases:\n"


def find(lines: Iterable[bytes], decision: str) -> Recorded:
    """The recorded call with this decision id.

    Raises:
        ConfigError: there is none, or its input was not recorded.
    """
    wanted = decision.encode()
    for line in lines:
        if wanted not in line:
            continue
        try:
            recorded = read_record(line)
        except UnreadableError:
            continue
        if recorded is None and orjson.loads(line).get("decision_id") == decision:
            raise ConfigError(
                f"the record of {decision} has no input",
                remedy="no policy was asked, or the service runs with audit.record_inputs: off",
            )
        if recorded and recorded.id == decision:
            return recorded
    raise ConfigError(f"no record of decision {decision}", remedy="give the folder that holds it with --records")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A call and what must come of it.

    Attributes:
        unknown: masked places of the input that nobody has filled in.
    """

    case: Case
    unknown: tuple[Unknown, ...]


def lesson(recorded: Recorded, name: str, want: JsonObject, filled: Mapping[Unknown, JsonValue]) -> Lesson:
    """A case of the recorded call, with values in the places that were masked.

    Raises:
        ConfigError: a value is given for a place that is not there.
    """
    asked: JsonObject = orjson.loads(recorded.input_json)
    for path, value in filled.items():
        _put(asked, path, value)
    left = tuple(path for path in recorded.unknown if path not in filled)
    return Lesson(case=Case(name=name, input=asked, want=want), unknown=left)


def _put(asked: JsonObject, path: Unknown, value: JsonValue) -> None:
    place: Any = asked
    try:
        for name in path[:-1]:
            place = place[int(name)] if isinstance(place, list) else place[name]
        last: Any = int(path[-1]) if isinstance(place, list) else path[-1]
        place[last]  # what is not there is not replaced
        place[last] = value
    except (KeyError, IndexError, ValueError, TypeError):
        raise ConfigError(f"the recorded input has no {'.'.join(path)}") from None


def extended(file: Path, case: Case) -> str:
    """The text that `file` should have: as it is, comments too, with this case at its end.

    Raises:
        ConfigError: the file is no table, ends in something else than its cases, or has a case of this name.
    """
    text = file.read_text("utf-8") if file.exists() else HEAD
    before = read_table(file).cases if file.exists() else ()
    if any(known.name == case.name for known in before):
        raise ConfigError(f"{file} has a case `{case.name}` already", remedy="give another --name")
    parts: JsonObject = {"name": case.name, "input": case.input, "want": case.want}
    made = text + ("" if text.endswith("\n") else "\n") + _item(parts, _indent(text))
    try:
        cases = yaml.safe_load(made)["cases"]
    except (yaml.YAMLError, TypeError, KeyError):
        cases = []
    if len(cases) != len(before) + 1 or cases[-1] != parts:
        raise ConfigError(
            f"{file} does not end in its cases", remedy="move `cases:` to its end, or give another --table"
        )
    return made


def _item(parts: JsonObject, indent: str) -> str:
    text = yaml.safe_dump([parts], sort_keys=False, width=120)
    return "".join(f"{indent}{line}\n" for line in text.rstrip("\n").split("\n"))


def _indent(text: str) -> str:
    """That of the items below `cases:`."""
    item = re.search(r"^cases:.*\n(?:\s*#.*\n|\s*\n)*( *)- ", text, re.MULTILINE)
    return item[1] if item else "  "
