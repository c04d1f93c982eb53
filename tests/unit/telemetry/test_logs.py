from __future__ import annotations

import io
import logging
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from authz.errors import UnavailableError
from authz.reasons import POLICY_UNAVAILABLE
from authz.telemetry.logs import configure
from tests.decisions import MASKER

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def logging_to(stream: io.StringIO, level: str = "info") -> Iterator[logging.Logger]:
    root, ours = logging.getLogger(), logging.getLogger("authz")
    before = (root.handlers[:], root.level, ours.level)
    root.handlers = []
    try:
        configure(level, MASKER.text, stream)
        yield logging.getLogger("authz.test")
    finally:
        root.handlers, level_before, ours_before = before
        root.setLevel(level_before)
        ours.setLevel(ours_before)
        logging.captureWarnings(capture=False)


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_its_event_and_the_known_fields() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        log.info("policy activated", extra={"revision": "r7", "decision_id": "d", "count": 3})
    (line,) = logged(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "policy activated",
        "logger": "authz.test",
        "decision_id": "d",
        "revision": "r7",
        "count": 3,
    }


def test_fields_that_are_not_in_the_table_are_left_out() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        log.warning("refused", extra={"arguments": {"iban": "c4n4ry"}, "token": "c4n4ry"})
    assert "c4n4ry" not in stream.getvalue()


def test_secrets_in_any_text_are_masked() -> None:
    stream = io.StringIO()
    with logging_to(stream) as log:
        log.warning("key AKIAIOSFODNN7EXAMPLE", extra={"address": "https://app:hunter22@collector/"})
    assert "AKIA" not in stream.getvalue()
    assert "hunter22" not in stream.getvalue()


def test_an_exception_shows_its_types_and_places_but_no_value() -> None:
    stream = io.StringIO()
    c4n4ry = "c4n4ry"
    with logging_to(stream) as log:
        try:
            try:
                int(c4n4ry)
            except ValueError as error:
                raise UnavailableError(POLICY_UNAVAILABLE, "no engine") from error
        except UnavailableError:
            log.exception("decision failed")
    (line,) = logged(stream)
    outer, inner = line["exception"]
    assert outer["type"] == "UnavailableError"
    assert outer["message"] == "POLICY_UNAVAILABLE: no engine"
    assert inner["type"] == "ValueError"
    assert "message" not in inner
    assert inner["places"][0].startswith("test_logs.py:")
    assert "'c4n4ry'" not in stream.getvalue()
    assert "base 10" not in stream.getvalue()


def test_j12_no_text_breaks_a_line_or_drives_a_terminal() -> None:
    hostile = 'x\n{"level":"info"}\r\x1b[2J\x9b1m\u2028'
    for stream in (io.StringIO(), Terminal()):
        with logging_to(stream) as log:
            log.warning("name %s", hostile, extra={"path": hostile})
        assert len(stream.getvalue().splitlines()) == 1
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", stream.getvalue())


def test_on_a_terminal_people_read_text() -> None:
    stream = Terminal()
    with logging_to(stream) as log:
        log.warning("kills are unavailable", extra={"seconds": 2.5})
        log.error("decision failed", exc_info=UnavailableError(POLICY_UNAVAILABLE))
    first, second, *places = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning kills are unavailable seconds=2.5", first)
    assert second.endswith("error   decision failed")
    assert places[0].strip() == "UnavailableError"


@pytest.mark.parametrize(("level", "events"), [("debug", ["d", "i", "w"]), ("info", ["i", "w"]), ("error", [])])
def test_the_level_is_ours_and_libraries_speak_from_warning_on(level: str, events: list[str]) -> None:
    stream = io.StringIO()
    with logging_to(stream, level) as log:
        log.debug("d")
        log.info("i")
        log.warning("w")
        logging.getLogger("library").info("library")
    assert [line["event"] for line in logged(stream)] == events


def test_warnings_are_logged() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with logging_to(stream):
            warnings.warn("old api", DeprecationWarning, stacklevel=1)
    assert "old api" in logged(stream)[0]["event"]
