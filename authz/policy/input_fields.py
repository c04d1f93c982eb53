"""What the input of each contract can hold, for bundles that say what they need (`requires_input`).

Decides nothing: under contract `agent` the published schema does, under contract `envoy` opa-envoy-plugin's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from authz.policy.rates import is_rate
from authz.resources import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLUGIN: Final = frozenset({"attributes", "parsed_body", "parsed_path", "parsed_query", "truncated_body", "version"})


@dataclass(frozen=True, slots=True)
class InputFields:
    """The dotted paths that a bundle may ask for."""

    paths: frozenset[str]
    has_rates: bool = False

    def __contains__(self, path: object) -> bool:
        """Whether it is one of them, or a count that is kept."""
        return path in self.paths or (self.has_rates and isinstance(path, str) and is_rate(path))


def input_fields(contract: Literal["agent", "envoy"]) -> InputFields:
    """What the contract has."""
    if contract == "envoy":
        return InputFields(_PLUGIN)
    schema = orjson.loads((shared("rego") / "schemas" / "input.json").read_bytes())
    return InputFields(frozenset(_paths(schema, "")), has_rates=True)


def _paths(schema: dict[str, Any], place: str) -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        path = f"{place}.{name}" if place else name
        yield path
        yield from _paths(inner, path)
