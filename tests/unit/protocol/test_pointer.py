"""RFC 6901 pointers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.protocol import pointer

if TYPE_CHECKING:
    from authz.model import JsonObject

DOCUMENT: JsonObject = {"foo": ["bar", {"x": 1}], "": 0, "a/b": 1, "m~n": 8, "~1": 9, " ": 7, "null": None}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", DOCUMENT), ("/foo", DOCUMENT["foo"]), ("/foo/0", "bar"), ("/foo/1/x", 1), ("/", 0), ("/a~1b", 1),
        ("/m~0n", 8), ("/~01", 9), ("/ ", 7), ("/null", None),
    ],
)  # fmt: skip
def test_a_pointer_finds_its_value(path: str, value: object) -> None:
    assert pointer.find(DOCUMENT, path) == value


@pytest.mark.parametrize(
    "path", ["/absent", "/foo/2", "/foo/-", "/foo/-1", "/foo/00", "/foo/01", "/foo/+1", "/foo/0/0", "/foo/\u0661"]
)
def test_a_pointer_that_leads_nowhere_finds_nothing(path: str) -> None:
    assert pointer.find(DOCUMENT, path) is None


@pytest.mark.parametrize("path", ["foo", " /foo", "/~", "/~2", "/a~"])
def test_what_is_no_pointer_is_an_error(path: str) -> None:
    with pytest.raises(ValueError, match="not a JSON pointer"):
        pointer.find(DOCUMENT, path)


def test_leaves_are_named_by_pointers_that_find_them() -> None:
    found = dict(pointer.leaves({"a/b": [1, {"~": "x"}], "": None, "e": {}, "l": []}))
    assert found == {"/a~1b/0": 1, "/a~1b/1/~0": "x", "/": None}
