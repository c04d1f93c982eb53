"""The command line, run in this process."""

from __future__ import annotations

import io
import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import pytest

from authz.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def document(self) -> Any:
        return orjson.loads(self.out)


class Run(Protocol):
    def __call__(self, *arguments: object, stdin: bytes = b"") -> Ran: ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    for name in [name for name in os.environ if name.startswith("AUTHZ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    # Commands arrange the log for their process, which is ours.
    logging.disable(logging.NOTSET)
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
