"""How the control plane says no: a code that gRPC and Connect both know, and a reason of the catalogue.

Decides how each code reads in each protocol (https://connectrpc.com/docs/protocol#error-codes). A service raises
`RefusedError`; the dispatcher records it and both servers write it. Must never hold a secret or say whether a thing
exists to somebody who may not see it: those two cases have one answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from authz.errors import AuthzError
from authz.reasons import CONTROL_REQUEST

if TYPE_CHECKING:
    from authz.reasons import Reason


@dataclass(frozen=True, slots=True)
class _Row:
    grpc: int
    http: int


class Code(Enum):
    """Why a call was refused. A member's lower-case name is Connect's word for it."""

    CANCELED = _Row(1, 499)
    INVALID_ARGUMENT = _Row(3, 400)
    DEADLINE_EXCEEDED = _Row(4, 504)
    NOT_FOUND = _Row(5, 404)
    ALREADY_EXISTS = _Row(6, 409)
    PERMISSION_DENIED = _Row(7, 403)
    RESOURCE_EXHAUSTED = _Row(8, 429)
    FAILED_PRECONDITION = _Row(9, 400)
    ABORTED = _Row(10, 409)
    OUT_OF_RANGE = _Row(11, 400)
    UNIMPLEMENTED = _Row(12, 501)
    INTERNAL = _Row(13, 500)
    UNAVAILABLE = _Row(14, 503)
    UNAUTHENTICATED = _Row(16, 401)

    @property
    def word(self) -> str:
        """As Connect writes it."""
        return self.name.lower()


class RefusedError(AuthzError):
    """A call is refused; nothing was done.

    Args:
        code: how it is answered.
        reason: the row of the catalogue.
        detail: says more for a person; never a secret.
    """

    def __init__(self, code: Code, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.code}: {detail or reason.summary}")
        self.code = code
        self.reason = reason
        self.message = detail or reason.summary


def malformed(detail: str) -> RefusedError:
    """A request that no method takes as it is; `detail` says what of it, without its values."""
    return RefusedError(Code.INVALID_ARGUMENT, CONTROL_REQUEST, detail)
