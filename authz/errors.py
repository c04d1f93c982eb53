"""What can go wrong, by whose fault it is. Every class carries a stable reason.

    AuthzError
    ├── ConfigError              the operator's: refuse to start (exit 2)
    ├── InvalidRequestError      the caller's: becomes a deny with `reason`
    ├── PolicyError              the policy's: becomes a deny with `reason`
    ├── UnavailableError         a part of ours: becomes a deny with `reason` (exit 3)
    ├── BundleError              a candidate policy's: the last good revision stays
    ├── EntryError               a stream of kills is forged or unreadable; what is known stays
    └── ProgramError             a program that is needed is missing or died (exit 3)

Decides nothing. Messages are lower case, one line, without secrets, tokens or arguments; what a caller
gives is named by position or type, never repeated. `pdp.py` turns the middle three into denials, so none
of them ever reaches Envoy as a gRPC error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.reasons import Reason


class AuthzError(Exception):
    """The root. Never raised itself.

    Attributes:
        exit_code: of a command that ends with it (contracts §2).
        remedy: what to do about it, one sentence; may be empty.
        problems: where several were found; each reads as one line.
    """

    exit_code: ClassVar[int] = 1
    remedy: str = ""
    problems: tuple[Any, ...] = ()


class ConfigError(AuthzError):
    """The configuration is wrong or unsafe; nothing starts.

    Args:
        message: what is wrong and where (file, key).
        remedy: what to do about it, one sentence.
    """

    exit_code = 2

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class DenialError(AuthzError):
    """The base of every error that ends one decision as a deny with a reason of its own."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.code}: {detail or reason.summary}")
        self.reason = reason
        self.detail = detail


class InvalidRequestError(DenialError):
    """The caller's request is refused.

    Args:
        reason: the row of the catalogue.
        detail: says more for a person; names positions and types, never values.
        offset: byte offset in the body, where one is known.
        challenge: value of `WWW-Authenticate`, on 401 and insufficient scope.
        message_id: the JSON-RPC id to echo, where it could be read.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        offset: int | None = None,
        challenge: str = "",
        message_id: str | int | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.offset = offset
        self.challenge = challenge
        self.message_id = message_id


class PolicyError(DenialError):
    """The policy gave no usable decision: undefined, wrong shape, failed, or too slow."""


class UnavailableError(DenialError):
    """A part that the decision needs is not available."""

    exit_code = 3


class BundleError(AuthzError):
    """A candidate policy is refused; the active one stays.

    Args:
        message: what is wrong.
        code: stable, a row of `reasons.BUNDLE_CODES`.
        problems: one line each, "file:row: code: message", all that were found.
    """

    def __init__(self, message: str, *, code: str = "BUNDLE_INVALID", problems: Sequence[str] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.problems = tuple(problems)


class EntryError(AuthzError):
    """A message of a stream of kills is not taken; what was known before it stays.

    Args:
        reason: KILL_FORGED (not signed by the stream's key, or signed for another stream), KILL_UNREADABLE (signed, but
            not in a form that is known here).
        message: what is wrong; names members and types, never values.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason.code}: {message}")
        self.reason = reason


class ProgramError(AuthzError):
    """A program that is needed, such as Envoy, is missing, died or never became ready.

    Args:
        message: which one, and what it did.
        remedy: what to do about it, or the end of the program's log.
    """

    exit_code = 3

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
