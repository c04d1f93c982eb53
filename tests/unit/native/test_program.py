from __future__ import annotations

from typing import Any

import pytest

from authz.native import Reply, StreamReply


@pytest.mark.parametrize(
    "arguments",
    [
        {"answer": b"", "allow": True},
        {"answer": "text", "allow": True},
        {"answer": None, "allow": False},
        {"answer": b"a", "allow": True, "record": "text", "sequence": 1},
        {"answer": b"a", "allow": True, "record": b"", "sequence": 1},
        {"answer": b"a", "allow": True, "record": b"{}"},
    ],
)
def test_a2_a_reply_that_would_be_no_answer_cannot_be_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Reply(**arguments)


@pytest.mark.parametrize("answers", [(b"",), ("text",), (b"a", None)])
def test_a_stream_reply_that_would_be_no_answer_cannot_be_made(answers: Any) -> None:
    with pytest.raises(TypeError):
        StreamReply(answers=answers)
