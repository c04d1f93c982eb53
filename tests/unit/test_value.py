from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, field, fields, replace

import pytest

from authz import model
from authz.value import value


@value
class Point:
    x: int
    y: int = 2
    names: list[str] = field(default_factory=list)


@value
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number <= 0:
            raise ValueError("not positive")


def test_a_value_is_made_by_name_with_its_defaults() -> None:
    point = Point(x=1)
    assert (point.x, point.y, point.names) == (1, 2, [])
    assert Point(x=1).names is not point.names
    assert repr(point) == "Point(x=1, y=2, names=[])"


@pytest.mark.parametrize("arguments", [{}, {"x": 1, "z": 2}])
def test_what_is_missing_or_unknown_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(**arguments)  # type: ignore[arg-type]


def test_a_value_cannot_be_changed_once_made() -> None:
    point = Point(x=1)
    with pytest.raises(FrozenInstanceError):
        point.x = 3  # type: ignore[misc]
    with pytest.raises((FrozenInstanceError, TypeError)):
        point.other = 3  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        del point.x
    assert point.x == 1


def test_equal_values_are_equal_and_are_copied_whole() -> None:
    point = Point(x=1, names=["a"])
    assert point == Point(x=1, names=["a"]) != Point(x=2, names=["a"])
    assert replace(point, x=3) == Point(x=3, names=["a"])
    assert copy.deepcopy(point) == point
    assert type(copy.copy(point)) is Point


def test_a_value_is_verified_when_it_is_made() -> None:
    assert Positive(number=1).number == 1
    with pytest.raises(ValueError, match="not positive"):
        Positive(number=0)


@pytest.mark.parametrize("made", [model.Check(), model.Revision(), model.HeaderChanges()])
def test_the_values_of_a_decision_are_frozen(made: object) -> None:
    name = fields(made)[0].name  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        setattr(made, name, "other")
