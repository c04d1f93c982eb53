"""YAML and JSON as their author wrote them, each value with its line.

Decides what a scalar is: YAML 1.2's core schema, in decimal, so that `no`, `18:00` and `010` are text and never become
something else on the way. Must never drop or merge anything: a repeated key, an alias, a tag or a second document
refuses the file, because a reader of the file would see another policy than the one that is compiled. Trusts nothing.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import yaml

from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

Scalar: TypeAlias = str | int | float | bool | None

MAX_DEPTH: Final = 32
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Scalar]] = {"": None, "null": None, "~": None, "true": True, "false": False}
_EXACT: Final = 2**53


class PolicyFileError(ConfigError):
    """One place of a file that does not say a policy."""

    def __init__(self, line: int, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.line = line


REMEDY: Final = "what this language has no word for is written in Rego beside it: docs/policy-library.md"


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar, a list of nodes, or a mapping of names to nodes. Lines count from one."""

    value: Scalar | list[Node] | dict[str, Node]
    line: int


def read(file: Path) -> Node:
    """The one document of a file.

    Raises:
        PolicyFileError: it cannot be read as one document of plain values.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyFileError(1, f"{error.strerror}") from error
    except UnicodeDecodeError:
        raise PolicyFileError(1, "not UTF-8") from None
    return parse(text)


def parse(text: str) -> Node:
    """The one document of a text; see `read`."""
    try:
        return _document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyFileError(line, f"not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise PolicyFileError(1, f"not YAML: {' '.join(str(error).split())}") from None


def _document(events: Iterator[Any]) -> Node:
    found: list[Node] = []
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent) and found:
            _refuse(event, "a second document begins here")
        elif isinstance(event, yaml.NodeEvent):
            found.append(_node(event, events, 0))
    if not found:
        raise PolicyFileError(1, "the file is empty")
    return found[0]


def _node(event: Any, events: Iterator[Any], depth: int) -> Node:  # noqa: ANN401 - PyYAML's events have no types
    line = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent) or event.anchor:
        _refuse(event, "anchors and aliases are not taken: write the value out")
    if event.tag:
        _refuse(event, "tags are not taken")
    if depth > MAX_DEPTH:
        _refuse(event, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(event, yaml.ScalarEvent):
        return Node(_scalar(event), line)
    if isinstance(event, yaml.SequenceStartEvent):
        return Node(list(_items(events, depth)), line)
    return Node(_mapping(events, depth), line)


def _items(events: Iterator[Any], depth: int) -> Iterator[Node]:
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        yield _node(event, events, depth + 1)


def _mapping(events: Iterator[Any], depth: int) -> dict[str, Node]:
    found: dict[str, Node] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, depth + 1)
        name = event.value if isinstance(event, yaml.ScalarEvent) else None
        if name is None:
            raise PolicyFileError(key.line, "a key is a name")
        if name in found:
            raise PolicyFileError(key.line, f"`{name}` is set twice, first on line {found[name].line}")
        found[name] = _node(next(events), events, depth + 1)
    return found


def _scalar(event: Any) -> Scalar:  # noqa: ANN401 - PyYAML's events have no types
    text: str = event.value
    if event.style:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _exact(event, text)
    if _NUMBER.fullmatch(text):
        return _finite(event, float(text))
    return text


def _exact(event: Any, text: str) -> int:  # noqa: ANN401 - PyYAML's events have no types
    # Sixteen digits hold every integer that a double does, and a longer text is not worth reading (contracts §4).
    if len(text.lstrip("-")) > len(str(_EXACT)) or not -_EXACT < int(text) < _EXACT:
        _refuse(event, "a number beyond 2^53 has no exact value: calls that carry one are refused")
    return int(text)


def _finite(event: Any, number: float) -> float:  # noqa: ANN401 - PyYAML's events have no types
    if number in (float("inf"), float("-inf")):
        _refuse(event, "the number is too large")
    return number


def _refuse(event: Any, message: str) -> NoReturn:  # noqa: ANN401 - PyYAML's events have no types
    raise PolicyFileError(event.start_mark.line + 1, message)


def mapping(node: Node, what: str, known: Collection[str], *, needed: Iterable[str] = ()) -> dict[str, Node]:
    """The members of a mapping that has no others than those known, and all that are needed.

    Raises:
        PolicyFileError: it is none, or one is missing or unknown; the nearest known one is named.
    """
    if not isinstance(node.value, dict):
        refuse(node, f"{what} is not a mapping")
    for name, value in node.value.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f", did you mean `{near[0]}`?" if near else ""
            raise PolicyFileError(value.line, f"{what} has no `{name}`{meant}", remedy=REMEDY)
    for name in needed:
        if name not in node.value:
            refuse(node, f"{what} needs `{name}`")
    return node.value


def refuse(node: Node, message: str) -> NoReturn:
    """Say what is wrong at a node."""
    raise PolicyFileError(node.line, message)
