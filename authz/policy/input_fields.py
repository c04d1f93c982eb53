"""What the input of each contract can hold, for bundles that say what they need (`requires_input`).

Decides nothing: under contract `agent` the published schema does, under contract `envoy` opa-envoy-plugin's input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from authz.resources import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLUGIN: Final = frozenset({"attributes", "parsed_body", "parsed_path", "parsed_query", "truncated_body", "version"})


def input_fields(contract: Literal["agent", "envoy"]) -> frozenset[str]:
    """The dotted paths that a bundle may ask for."""
    if contract == "envoy":
        return _PLUGIN
    schema = orjson.loads((shared("rego") / "schemas" / "input.json").read_bytes())
    return frozenset(_paths(schema, ""))


def _paths(schema: dict[str, Any], place: str) -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        path = f"{place}.{name}" if place else name
        yield path
        yield from _paths(inner, path)
