"""The questions that a condition may ask of a field: how each is written, checked and compiled.

Decides which operators there are, and what an operand may be; a slip in one is an error with its line, because a
pattern that never matches would be a rule that never holds. Must never hold an operator that the
library has no total function for. Trusts `authzlib.conditions`.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from zoneinfo import available_timezones

import re2

from authz.authoring.documents import PolicyFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.authoring.documents import Node
    from authz.model import JsonValue

Reader: TypeAlias = "Callable[[Node], Any]"

CLASSES: Final = (
    "aws_access_key",
    "github_token",
    "slack_token",
    "jwt",
    "bearer_token",
    "private_key",
    "assigned_secret",
    "payment_card",
    "iban",
    "ssn",
    "email",
)
"""Classes of sensitive values, those of `authzlib.detectors`."""
SECRETS: Final = CLASSES[:7]
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_SHORT_DAYS: Final = {day[:3].lower(): day for day in DAYS}
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DESTINATION: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_ZONE: Final = re.compile(r"[A-Za-z0-9_+/-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One question.

    Attributes:
        function: of `authzlib.conditions`, taking value and operand.
        operand: reads what is written after the operator.
        as_set: whether the function takes the operand, a list, as a set.
        negated: whether the question is the function's opposite.
        words: the question in a sentence, before its operand.
    """

    function: str
    operand: Reader
    words: str
    as_set: bool = False
    negated: bool = False


def text(node: Node) -> str:
    """A text that is not empty."""
    if not isinstance(node.value, str) or not node.value:
        raise PolicyFileError(node.line, f"{_shown(node)} is not a text")
    return node.value


def texts(node: Node) -> list[str]:
    """A text, or a list of different texts."""
    found = [text(item) for item in _items(node)]
    if len({*found}) < len(found):
        raise PolicyFileError(node.line, "the list names a text twice")
    return found


def number(node: Node) -> int | float:
    """A number."""
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise PolicyFileError(node.line, f"{_shown(node)} is not a number")
    return node.value


def count(node: Node) -> int:
    """A whole number that is not negative."""
    if isinstance(node.value, bool) or not isinstance(node.value, int) or node.value < 0:
        raise PolicyFileError(node.line, f"{_shown(node)} is not a whole number from 0")
    return node.value


def truth(node: Node) -> bool:
    """True or false."""
    if not isinstance(node.value, bool):
        raise PolicyFileError(node.line, f"{_shown(node)} is neither true nor false")
    return node.value


def scalar(node: Node) -> str | int | float | bool:
    """A text, a number, true or false."""
    if not isinstance(node.value, str | int | float | bool):
        raise PolicyFileError(node.line, f"{_shown(node)} is not a text, a number, true or false")
    return node.value


def scalars(node: Node) -> list[JsonValue]:
    """A list of texts, of numbers, or of truths: one kind, for a value of another kind is not understood."""
    found: list[JsonValue] = [scalar(item) for item in _items(node)]
    kinds = {float if type(item) is int else type(item) for item in found}
    if len(kinds) > 1:
        raise PolicyFileError(node.line, "the list mixes texts, numbers or truths")
    return found


def patterns(node: Node) -> list[str]:
    """A pattern in RE2, or a list of them."""
    found = texts(node)
    for pattern in found:
        try:
            re2.compile(pattern, _quiet())
        except re2.error:
            raise PolicyFileError(node.line, f"`{pattern}` is no RE2 pattern") from None
    return found


@cache
def _quiet() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


def roots(node: Node) -> list[str]:
    """Folders."""
    found = texts(node)
    for root in found:
        if "//" in root or any(part in {".", ".."} for part in root.split("/")):
            raise PolicyFileError(node.line, f"`{root}` is no plain folder")
    return found


def destinations(node: Node) -> list[JsonValue]:
    """Hosts, as `host`, `*.host`, `host:port` or `http://host:port`."""
    found: list[JsonValue] = []
    for written in texts(node):
        parts = _DESTINATION.fullmatch(written)
        if parts is None:
            raise PolicyFileError(node.line, f"`{written}` is no host, *.host, host:port or http://host:port")
        port = {"port": int(parts["port"])} if parts["port"] else {}
        found.append({"scheme": parts["scheme"] or "https", "host": parts["host"].lower(), **port})
    return found


def domains(node: Node) -> list[str]:
    """Domains of e-mail addresses."""
    found = texts(node)
    for domain in found:
        if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", domain):
            raise PolicyFileError(node.line, f"`{domain}` is no domain")
    return [domain.lower() for domain in found]


def classes(node: Node) -> list[str]:
    """Classes of sensitive values; `secrets` is all that are credentials."""
    found = [name for each in texts(node) for name in (SECRETS if each == "secrets" else (each,))]
    for name in found:
        if name not in CLASSES:
            raise PolicyFileError(node.line, f"no class `{name}`: there are secrets, {', '.join(CLASSES)}")
    return sorted({*found})


def reads(node: Node) -> str:
    """The word `reads`."""
    if node.value != "reads":
        raise PolicyFileError(node.line, "the only thing to ask of an SQL text is `reads`")
    return "reads"


def span_s(node: Node) -> int:
    """A span of time in seconds: a whole number and s, m, h or d."""
    parts = _SPAN.fullmatch(str(node.value))
    if parts is None:
        raise PolicyFileError(node.line, f"{_shown(node)} is no span of time, such as 30s, 15m, 1h or 1d")
    return int(parts[1]) * _SECONDS[parts[2]]


def minute(node: Node) -> int:
    """Minutes since midnight, of a time such as 08:30."""
    parts = _CLOCK.fullmatch(str(node.value))
    if parts is None:
        raise PolicyFileError(node.line, f"{_shown(node)} is no time of day, such as 08:30")
    return int(parts[1]) * 60 + int(parts[2])


def days(node: Node) -> list[str]:
    """Days of the week: `mon`, or `mon-fri`, or a list of them."""
    found: list[str] = []
    for written in texts(node):
        first, dash, last = written.partition("-")
        ends = [_SHORT_DAYS.get(name) for name in (first, last if dash else first)]
        if None in ends:
            raise PolicyFileError(
                node.line, f"`{written}` is no day: write mon, tue, wed, thu, fri, sat, sun or mon-fri"
            )
        begin, end = (DAYS.index(str(day)) for day in ends)
        span = DAYS[begin : end + 1] if begin <= end else (*DAYS[begin:], *DAYS[: end + 1])
        found += span
    return [day for day in DAYS if day in found]


def zone(node: Node) -> str:
    """A zone of the IANA database."""
    name = text(node)
    known = _zones()
    if not _ZONE.fullmatch(name) or (known and name not in known):
        raise PolicyFileError(node.line, f"`{name}` is no time zone of the IANA database, such as Europe/Berlin")
    return name


@cache
def _zones() -> set[str]:
    return available_timezones()


def instant_ns(node: Node) -> int:
    """An instant with its offset (RFC 3339), in nanoseconds since 1970."""
    try:
        moment = dt.datetime.fromisoformat(str(node.value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PolicyFileError(node.line, f"{_shown(node)} is no instant, such as 2026-12-24T18:00:00Z")
    return int(moment.timestamp()) * 10**9


def _items(node: Node) -> list[Node]:
    if isinstance(node.value, list):
        if not node.value:
            raise PolicyFileError(node.line, "the list is empty")
        return node.value
    return [node]


def _shown(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if node.value is None:
        return "nothing"
    return f"`{str(node.value).lower() if isinstance(node.value, bool) else node.value}`"


OPERATORS: Final = {
    "equals": Operator(function="equals", operand=scalar, words="is"),
    "not_equals": Operator(function="equals", operand=scalar, negated=True, words="is not"),
    "above": Operator(function="above", operand=number, words="is above"),
    "at_least": Operator(function="at_least", operand=number, words="is at least"),
    "below": Operator(function="below", operand=number, words="is below"),
    "at_most": Operator(function="at_most", operand=number, words="is at most"),
    "in": Operator(function="one_of", operand=scalars, as_set=True, words="is one of"),
    "not_in": Operator(function="one_of", operand=scalars, as_set=True, negated=True, words="is none of"),
    "all_in": Operator(function="each_of", operand=scalars, as_set=True, words="has nothing but"),
    "any_in": Operator(function="any_of", operand=scalars, as_set=True, words="has one of"),
    "none_in": Operator(function="any_of", operand=scalars, as_set=True, negated=True, words="has none of"),
    "starts_with": Operator(function="starts_with", operand=texts, words="begins with"),
    "ends_with": Operator(function="ends_with", operand=texts, words="ends with"),
    "contains": Operator(function="holds_text", operand=texts, words="contains"),
    "matches": Operator(function="matches", operand=patterns, words="matches"),
    "longer_than": Operator(function="longer_than", operand=count, words="is longer than"),
    "exists": Operator(function="present", operand=truth, words="exists:"),
    "only": Operator(function="only_keys", operand=texts, as_set=True, words="has no keys but"),
    "path_below": Operator(function="path_below", operand=roots, words="is a path below"),
    "url_to": Operator(function="url_to", operand=destinations, words="is a URL at"),
    "email_to": Operator(function="email_to", operand=domains, words="is e-mail to"),
    "sql": Operator(function="sql_reads", operand=reads, words="is SQL that"),
    "holds": Operator(function="sensitive", operand=classes, as_set=True, words="holds"),
}
"""What may stand beside `field`."""

WITHIN: Final = "within"
"""The operator of `time:`: the operand is a window (`authzlib.conditions.within_hours`)."""
