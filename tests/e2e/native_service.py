"""Starts tests/e2e/native_program.py and talks to it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc

if TYPE_CHECKING:
    from types import TracebackType

CHECK = "/envoy.service.auth.v3.Authorization/Check"
PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


class NativeService:
    """One process; its records are read from disk after it ended."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        arguments = json.dumps({"directory": str(directory), **options})
        with (directory / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("native_program.py")), arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.address: str = self.line()["address"]
        self.channel = grpc.insecure_channel(
            self.address, options=[("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        )

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.stderr()
        document: dict[str, Any] = json.loads(line)
        return document

    def check(self, request: bytes, timeout: float = 10.0) -> str:
        answer: bytes = self.channel.unary_unary(CHECK, bytes, bytes)(request, timeout=timeout)
        return answer.decode()

    def begin(self, request: bytes) -> grpc.Future[bytes]:
        return self.channel.unary_unary(CHECK, bytes, bytes).future(request, timeout=10.0)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> dict[str, Any]:
        """Signal, wait for the end, and give the program's last line."""
        self.process.send_signal(number)
        document = self.line()
        while "drained" not in document:
            document = self.line()
        self.process.wait(10)
        return document

    def records(self) -> list[dict[str, Any]]:
        lines = [line for file in sorted(self.directory.glob("*.jsonl")) for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def answers(self) -> list[str]:
        return [record["answer"] for record in self.records()]

    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.channel.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
