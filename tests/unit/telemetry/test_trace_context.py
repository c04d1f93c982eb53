from __future__ import annotations

import pytest

from authz.telemetry.trace_context import parse
from tests.decisions import PARENT_ID, TRACE_ID, TRACEPARENT


def test_a_traceparent_is_joined() -> None:
    context = parse(TRACEPARENT)
    assert (context.trace_id, context.span_id, context.sampled) == (TRACE_ID, PARENT_ID, True)


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)])
def test_only_the_sampled_bit_samples(flags: str, sampled: bool) -> None:  # noqa: FBT001 - a table
    assert parse(f"00-{TRACE_ID}-{PARENT_ID}-{flags}").sampled is sampled


def test_a_later_version_may_say_more() -> None:
    assert parse(f"01-{TRACE_ID}-{PARENT_ID}-01-more").span_id == PARENT_ID


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}-01-more",
        f"00-{TRACE_ID}-{PARENT_ID}",
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}-{PARENT_ID}-01",
        f" 00-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}-01\n",
        f"{TRACEPARENT},{TRACEPARENT}",
        f"01-{TRACE_ID}-{PARENT_ID}-01-" + "x" * 1000,
        f"00-{TRACE_ID}-{PARENT_ID}-0\uff11",
    ],
)
def test_anything_else_begins_a_sampled_trace_of_its_own(header: str) -> None:
    context = parse(header)
    assert len(context.trace_id) == 32
    assert int(context.trace_id, 16)
    assert context.trace_id != TRACE_ID
    assert (context.span_id, context.sampled) == ("", True)
    assert parse(header).trace_id != context.trace_id
