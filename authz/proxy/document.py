"""An Envoy configuration with the place of every value, so that a finding can name its line.

Decides how YAML and JSON are read: Envoy takes field names in snake_case and in camelCase, and both are one here. Must
never guess at what is absent: a missing value is falsy and stands where its parent does.

Trusts nothing; the file is only looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

from authz.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands; rows and columns count from one."""

    value: object
    row: int
    col: int

    def __bool__(self) -> bool:
        return self.value is not None

    def at(self, *names: str) -> Node:
        """The member below these names, or an absent one at the place of the last that is there."""
        node = self
        for name in names:
            members = node.members()
            node = members[name] if name in members else Node(None, node.row, node.col)
        return node

    def members(self) -> Mapping[str, Node]:
        """The fields of an object; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def each(self) -> Iterator[Node]:
        """The elements of a list; none for anything else."""
        yield from self.value if isinstance(self.value, list) else ()

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every member below, with its name, however deep."""
        for name, member in self.members().items():
            yield name, member
            yield from member.walk()
        for element in self.each():
            yield from element.walk()

    @property
    def is_true(self) -> bool:
        """Whether it is there and true."""
        return self.value is True

    @property
    def text(self) -> str:
        """A scalar as text; empty where it is absent."""
        return "" if self.value is None or isinstance(self.value, dict | list) else str(self.value)

    @property
    def number(self) -> float | None:
        """A number, or a duration's seconds; None for anything else."""
        found = _DURATION.fullmatch(self.text)
        if found:
            return float(found[1])
        return float(self.value) if isinstance(self.value, int | float) and not isinstance(self.value, bool) else None

    def is_type(self, *names: str) -> bool:
        """Whether its `@type` is one of these messages, named by their last parts."""
        return self.at("@type").text.endswith(tuple(f".{name}" for name in names))


def read(path: Path) -> Node:
    """The whole file.

    Raises:
        ConfigError: it cannot be read, or is not one YAML or JSON object.
    """
    try:
        tree = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, yaml.MappingNode):
        raise ConfigError(f"{path}: not an Envoy configuration: the file is not one object")
    return _node(tree)


def _node(tree: yaml.Node) -> Node:
    value: object
    if isinstance(tree, yaml.MappingNode):
        value = {_CAMEL.sub(r"_\1", str(key.value)).lower(): _node(member) for key, member in tree.value}
    elif isinstance(tree, yaml.SequenceNode):
        value = [_node(element) for element in tree.value]
    else:
        value = yaml.SafeLoader("").construct_object(tree)
    return Node(value, tree.start_mark.line + 1, tree.start_mark.column + 1)
