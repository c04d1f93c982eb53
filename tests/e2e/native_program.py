"""A tiny program behind the native transport, run as a process of its own by test_native_*.py.

Each check says in its bytes what shall happen to it. Records say what was answered, so that tests can
compare what went over the wire with what is in the log.
"""

from __future__ import annotations

import itertools
import json
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from authz.native import (
    Library,
    LogOptions,
    Program,
    Reply,
    ServerOptions,
    StreamReply,
)

if TYPE_CHECKING:
    from authz.native import (
        Claim,
    )

PATIENCE_S = 20.0
FALLBACK = {reason: f"library: {reason}".encode() for reason in ("SYS_INTERNAL", "SYS_DEADLINE", "AUDIT_UNAVAILABLE")}


class Answers:
    """Checks and streams, scripted by their own bytes."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._gate = threading.Semaphore(0)

    def check(self, request: bytes, claim: Claim) -> Reply:
        command, _, argument = request.partition(b":")
        if command == b"raise":
            raise ValueError("scripted")
        if command == b"exit":
            raise SystemExit(1)
        if command in {b"none", b"text", b"empty"}:
            claim.commit()
            wrong: dict[bytes, Any] = {b"none": None, b"text": "text", b"empty": Reply}
            return wrong[command] if command != b"empty" else Reply(answer=b"", allow=True)
        self._prepare(command, argument)
        if command == b"unaware":
            time.sleep(1.0)
            return self._recorded("allow", request, allow=True)
        if not claim.commit():
            return self._recorded("SYS_DEADLINE", request, allow=False)
        if command == b"broken":
            return Reply(answer=b"allow", allow=True, record=b"{}\n{}", sequence=next(self._numbers))
        return self._recorded("deny" if command == b"deny" else "allow", request, allow=command != b"deny")

    def _prepare(self, command: bytes, argument: bytes) -> None:
        if command == b"arm":
            self._library.arm_fault(argument.decode())
        if command == b"slow":
            time.sleep(float(argument.partition(b"#")[0]))
        if command == b"hold":
            tell({"held": argument.decode()})
            self._gate.acquire(timeout=PATIENCE_S)
        if command == b"free":
            self._gate.release()

    def refuse(self, reason: str, request: bytes, written: bytes | None) -> Reply:
        if request == b"raise:twice":
            raise ValueError("scripted again")
        return self._recorded(reason, request, allow=False, amends=written is not None)

    def _recorded(self, answer: str, request: bytes, *, allow: bool, amends: bool = False) -> Reply:
        with self._lock:
            sequence = next(self._numbers)
        record = {"sequence": sequence, "answer": answer, "request": request[:40].decode("latin-1"), "amends": amends}
        return Reply(answer=answer.encode(), allow=allow, record=json.dumps(record).encode(), sequence=sequence)


class Streams:
    """Echoes, and remembers nothing."""

    def open(self, stream: int, opening: dict[str, Any]) -> StreamReply:
        metadata = opening["metadata"].get("x-note", [""])[0]
        return StreamReply(answers=(f"opened {stream} {metadata}".encode(),))

    def message(self, _stream: int, message: bytes, claim: Claim) -> StreamReply:
        if message == b"raise":
            raise ValueError("scripted")
        claim.commit()
        return StreamReply(answers=(b"echo " + message,) * 2, end=message == b"end")

    def close(self, stream: int) -> None:
        tell({"closed": stream})

    def refuse(self, _stream: int, reason: str, _message: bytes, _written: bytes | None) -> StreamReply:
        return StreamReply(answers=(reason.encode(),), end=True)


def tell(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main() -> int:
    options = json.loads(sys.argv[1])
    if limit := options.pop("file_bytes", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    library = Library.load()
    answers = Answers(library)
    log = library.open_log(LogOptions(directory=Path(options.pop("directory")), retry_s=0.05))
    server = library.serve(
        ServerOptions(fallback=FALLBACK, stream_fallback=FALLBACK, **({"listen": "127.0.0.1:0"} | options)),
        Program(check=answers.check, refuse=answers.refuse, streams=Streams()),
        log,
    )
    server.set_serving(True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    tell({"address": server.address})
    try:
        while not stop.wait(0.05):
            pass
        code = 0
    except KeyboardInterrupt:
        code = 130
    drained = server.drain(5.0)
    log.close()
    tell({"drained": drained, **server.stats()})
    return code


if __name__ == "__main__":
    sys.exit(main())
