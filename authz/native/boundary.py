"""The C boundary: declarations, loading, and the one way a call crosses it.

Decides whether a library may be used at all: its ABI version must be ours, and the process must not have
forked since (Go's threads do not survive a fork). Must never pass on a status it does not know as success.
Trusts the sizes that the library reports.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cffi import FFI

from authz.errors import AuthzError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CData: TypeAlias = Any
"""What cffi makes of a C value: its structs and libraries have no static type."""
Json: TypeAlias = Any
"""A document of the library's, in the shape that native/ gives it."""

ABI_VERSION: Final = 4
RESULT_BYTES: Final = 64 << 10
"""What an answer may measure without a second crossing; larger ones cost one more call and one copy."""

_OK: Final = 0
_UNDEFINED: Final = 1
_CLAIM: Final = ctypes.PYFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
_REMEDY: Final = "Run `make build`, or install a wheel for this platform."
_NANOSECONDS: Final = 1_000_000_000

# The same as native/abi.h and the exports in native/abi*.go; a change to any of them raises ABI_VERSION.
_DECLARATIONS: Final = """
typedef struct {
  uint8_t *data;
  size_t capacity;
  size_t size;
  int32_t status;
  uint64_t pending;
} authz_result;

uint32_t AuthzAbiVersion(void);
void AuthzTake(uint64_t, authz_result *);
void AuthzConfigure(const uint8_t *, size_t, authz_result *);
void AuthzOpenPolicy(const uint8_t *, size_t, const uint8_t *, size_t, authz_result *);
void AuthzClosePolicy(uint64_t);
void AuthzPrepare(uint64_t, const uint8_t *, size_t, authz_result *);
void AuthzEvaluate(uint64_t, const uint8_t *, size_t, int64_t, authz_result *);
void AuthzEvaluateUnknown(
    uint64_t, const uint8_t *, size_t, const uint8_t *, size_t, int64_t, authz_result *);
void AuthzExplain(uint64_t, const uint8_t *, size_t, int64_t, authz_result *);
void AuthzCheck(const uint8_t *, size_t, authz_result *);
void AuthzTest(const uint8_t *, size_t, authz_result *);
void AuthzVersions(authz_result *);
void AuthzTakePrints(authz_result *);
void AuthzEngineStats(authz_result *);
void AuthzArmFault(const uint8_t *, size_t);
void AuthzOpenLog(const uint8_t *, size_t, authz_result *);
void AuthzAppend(uint64_t, const uint8_t *, size_t, uint64_t, authz_result *);
void AuthzVoid(uint64_t, uint64_t);
void AuthzLogStats(uint64_t, authz_result *);
void AuthzCloseLog(uint64_t);
void AuthzServe(const uint8_t *, size_t, uint64_t, authz_result *);
void AuthzTurn(uint64_t, uint32_t, const uint8_t *, size_t, authz_result *);
void AuthzSetServing(uint64_t, int32_t, authz_result *);
void AuthzDrain(uint64_t, int64_t, authz_result *);
void AuthzServerStats(uint64_t, authz_result *);
void AuthzSend(uint64_t, uint64_t, const uint8_t *, size_t, authz_result *);
void AuthzCloseStream(uint64_t, uint64_t, const uint8_t *, size_t, authz_result *);
"""


class NativeError(AuthzError):
    """The library cannot be used, or refused an operation.

    Args:
        message: what is wrong.
        code: stable, for callers that tell cases apart.
        remedy: what to do about it, one sentence.
    """

    exit_code = 3

    def __init__(self, message: str, *, code: str = "native", remedy: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place in a policy's source; row and column count from one."""

    file: str
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a policy, or worth knowing of it."""

    code: str
    message: str
    location: Location | None = None

    def __str__(self) -> str:
        return f"{self.location or 'policy'}: {self.code}: {self.message}"


class EngineError(NativeError):
    """The engine's answer instead of a result.

    `code` is one of `timeout`, `conflict`, `builtin`, `type`, `with_merge`, `input`, `internal` for an
    evaluation; `invalid_policy`, `load`, `options`, `entrypoint`, `entrypoint_undefined` for a policy;
    `panic` for a bug in the library. The message never quotes the input.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, location: Location | None, problems: tuple[Problem, ...]) -> None:
        super().__init__(f"{location or 'engine'}: {message}", code=code)
        self.location = location
        self.problems = problems


def location(document: Json) -> Location | None:
    """The library's location as a value."""
    return None if document is None else Location(**document)


def problem(document: Json) -> Problem:
    """The library's problem as a value."""
    place = location(document.get("location"))
    return Problem(code=document["code"], message=document["message"], location=place)


def nanoseconds(seconds: float) -> int:
    """Durations cross the boundary as whole nanoseconds."""
    return int(seconds * _NANOSECONDS)


class Boundary:
    """One loaded library. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.ffi = FFI()
        self.ffi.cdef(_DECLARATIONS)
        self.lib: CData = _open(self.ffi, path)
        # PyDLL keeps the GIL: the claim is one instruction, and letting go of the GIL there could cost
        # another thread's whole turn between the claim and the record.
        self.claim: Callable[[int], int] = _CLAIM(("AuthzClaim", ctypes.PyDLL(os.fspath(path))))
        self._results: deque[tuple[CData, CData]] = deque()
        self._owner = os.getpid()

    def call(self, function: Callable[..., None], *arguments: object) -> bytes | None:
        """Cross once, and again only for an answer that did not fit. None means undefined.

        Raises:
            NativeError: the library refused; EngineError where the engine did.
        """
        result, memory = self._borrow()
        function(*arguments, result)
        if result.pending:
            return self._take(result.pending, result.size)
        try:
            return self.answer(result.status, bytes(self.ffi.buffer(memory, result.size)))
        finally:
            self._results.append((result, memory))

    def document(self, function: Callable[..., None], *arguments: object) -> Json:
        """Like `call`, for answers that are JSON."""
        answer = self.call(function, *arguments)
        return json.loads(answer) if answer else None

    def _borrow(self) -> tuple[CData, CData]:
        if os.getpid() != self._owner:
            raise NativeError("the process forked after the library was loaded", remedy="Load it after the fork.")
        try:
            # Not a thread-local: a signal's callback may cross while its own thread is still reading.
            return self._results.pop()
        except IndexError:
            return self._allocate(RESULT_BYTES)

    def _allocate(self, size: int) -> tuple[CData, CData]:
        memory = self.ffi.new("uint8_t[]", size)
        return self.ffi.new("authz_result *", {"data": memory, "capacity": size}), memory

    def _take(self, pending: int, size: int) -> bytes | None:
        result, memory = self._allocate(size)
        self.lib.AuthzTake(pending, result)
        return self.answer(result.status, bytes(self.ffi.buffer(memory, result.size)))

    def answer(self, status: int, content: bytes) -> bytes | None:
        """An answer as the library tells it: its content, None where it is undefined, or the error that it is.

        Raises:
            NativeError: the library refused; EngineError where the engine did.
        """
        if status == _OK:
            return content
        if status == _UNDEFINED:
            return None
        failure = json.loads(content)
        code, message = failure["code"], failure["message"]
        if code == "failed":
            raise NativeError(message)
        place, problems = location(failure.get("location")), tuple(map(problem, failure.get("problems") or ()))
        raise EngineError(code, message, place, problems)


def _open(ffi: FFI, path: Path) -> CData:
    try:
        library: CData = ffi.dlopen(os.fspath(path))
    except OSError as error:
        raise NativeError(f"the native library does not load: {path.name}", remedy=_REMEDY) from error
    try:
        found = library.AuthzAbiVersion()
    except AttributeError as error:
        raise NativeError(f"{path.name} is not authz's native library", remedy=_REMEDY) from error
    verify_abi(found)
    return library


def verify_abi(found: int) -> None:
    """Refuse a library that was built for another version of this package.

    Raises:
        NativeError: the versions differ; calling on would read memory at the wrong places.
    """
    if found != ABI_VERSION:
        message = f"the native library has ABI {found}, this package needs {ABI_VERSION}"
        raise NativeError(message, remedy=_REMEDY)


def library_name() -> str:
    """The file's name beside the package, by platform."""
    return "_native.dylib" if sys.platform == "darwin" else "_native.so"
