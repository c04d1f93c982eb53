"""The values of a policy written in YAML: rules, whom they speak of, and their conditions.

Decides what a rule is, and nothing of what it means: `writing` gives the meaning in Rego, and the interpreter in
tests/properties says the same in Python. Must never hold a value that the language has no words for; `reading` makes
these and checks them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from authz.model import Effect, Mode, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import JsonObject, JsonValue, Risk

ANY = "*"
"""Every name."""


@dataclass(frozen=True, slots=True, order=True)
class ToolName:
    """A tool as a rule writes it, `server/name` or `name`; an empty server is every server."""

    server: str
    name: str

    @property
    def is_http(self) -> bool:
        """Whether it is an operation of a plain HTTP API, `METHOD path-template`."""
        verb, _, path = self.name.partition(" ")
        return verb.isupper() and path.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Whom and what a rule speaks of. Names may be patterns (`authzlib.grants`); empty is every one.

    Attributes:
        methods: JSON-RPC or HTTP methods; empty is what calls a tool.
    """

    tenants: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    tools: tuple[ToolName, ...] = ()
    methods: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = (Phase.CALL,)
    risks: tuple[Risk, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One question about one field.

    Attributes:
        path: names below `input`.
        operator: a row of `operators.OPERATORS`.
        operand: as the library's function takes it.
        optional: whether a call may come without the field; then the condition stops nothing.
    """

    path: tuple[str, ...]
    operator: str
    operand: JsonValue
    line: int
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """Holds where its part does not."""

    part: Condition
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class All:
    """Holds where all of its parts do."""

    parts: tuple[Condition, ...]
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Any:
    """Holds where one of its parts does."""

    parts: tuple[Condition, ...]
    line: int


Condition: TypeAlias = Test | Not | All | Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Redactions:
    """What a sanitize replaces: places, and every value of some classes wherever it stands."""

    places: tuple[JsonObject, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of one file.

    Attributes:
        name: `file/id`, as decisions name it.
        place: `file:line`, the file relative to the policy's folder.
        when: conditions that must all hold.
        obligations: approval, charges and tags, as the decision has them.
    """

    name: str
    place: str
    line: int
    effect: Effect
    reason: str
    message: str = ""
    mode: Mode = Mode.BLOCK
    match: Match
    when: tuple[Condition, ...] = ()
    redactions: Redactions | None = None
    obligations: JsonObject = field(default_factory=dict)

    @property
    def allows(self) -> bool:
        """Whether it opens a door; every other rule narrows."""
        return self.effect is Effect.ALLOW


def tests_of(conditions: tuple[Condition, ...]) -> Iterator[Test]:
    """Every question that some conditions ask."""
    for condition in conditions:
        if isinstance(condition, Test):
            yield condition
        elif isinstance(condition, Not):
            yield from tests_of((condition.part,))
        else:
            yield from tests_of(condition.parts)
