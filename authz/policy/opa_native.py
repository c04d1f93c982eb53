"""Engine adapter: OPA as a library in this process (design §5). The default.

Decides nothing: it gives the library's coded errors their reasons. Must never let a code it does not know
pass as anything but a failure. Trusts the library to keep its deadlines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from authz.errors import BundleError, PolicyError, UnavailableError
from authz.native import EngineError, Evaluation, NativeError, PolicyOptions
from authz.policy.engine import UndecidableError, complete, entrypoint_names
from authz.reasons import POLICY_ERROR, POLICY_TIMEOUT, POLICY_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from authz import native
    from authz.model import JsonValue
    from authz.policy.engine import PolicySource, Steps, Unknown

_EVALUATION_FAILED: Final = frozenset({"builtin", "conflict", "type", "with_merge", "internal"})


class NativeEngine:
    """Opens policies with a loaded library."""

    def __init__(self, library: native.Library, *, max_bytes: int = 0) -> None:
        self._library = library
        self._max_bytes = max_bytes

    def open(self, source: PolicySource) -> NativePolicy:
        """Read and compile; see `Engine.open`."""
        options = PolicyOptions(
            paths=source.paths, archive=source.archive, contract=source.contract, max_bytes=self._max_bytes
        )
        try:
            return NativePolicy(self._library.open_policy(options))
        except EngineError as error:
            raise _refused(error) from error
        except NativeError as error:
            raise UnavailableError(POLICY_UNAVAILABLE) from error


class NativePolicy:
    """One compiled policy of the library."""

    def __init__(self, policy: native.Policy) -> None:
        self._policy = policy
        self.input_paths: Final = frozenset(reference.path for reference in policy.references)
        self._read = frozenset(path[0] for path in self.input_paths if path)
        self._reads_whole = () in self.input_paths
        self.digest: Final = policy.digest
        self.revision: Final = policy.revision
        self.metadata: Final[Mapping[str, JsonValue]] = policy.metadata
        self.warnings: Final = tuple(map(str, policy.warnings))

    def reads(self, field: str) -> bool:
        """Whether some rule surely reads `input.<field>`."""
        return field in self._read

    def may_read(self, field: str) -> bool:
        """Whether some rule may read `input.<field>`."""
        return field in self._read or self._reads_whole

    def query(self, entrypoint: str) -> NativeQuery:
        """Prepare an entrypoint; see `Policy.query`."""
        try:
            return NativeQuery(self._policy.prepare("/".join(entrypoint_names(entrypoint))))
        except EngineError as error:
            raise BundleError(f"`{entrypoint}`: {error}") from error

    def close(self) -> None:
        """Free it; evaluations under way finish."""
        self._policy.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class NativeQuery:
    """One prepared entrypoint of the library."""

    def __init__(self, query: native.Query) -> None:
        self._query = query

    def evaluate(self, input_json: bytes, deadline_s: float) -> bytes | None:
        """Ask; see `Query.evaluate`."""
        return complete(self.ask(input_json, deadline_s))

    def ask(self, input_json: bytes, deadline_s: float) -> Steps[bytes | None]:
        """Ask in steps; see `Query.ask`."""
        try:
            return (yield Evaluation(self._query, input_json, deadline_s))
        except EngineError as error:
            raise _failed(error) from error
        except NativeError as error:
            raise UnavailableError(POLICY_UNAVAILABLE) from error

    def evaluate_unknown(self, input_json: bytes, unknown: Sequence[Unknown], deadline_s: float) -> bytes | None:
        """Like `evaluate`, where the values at some places are not known, as in a record that masks them.

        Raises:
            UndecidableError: the result may depend on them.
            PolicyError: as `Query.evaluate`.
            UnavailableError: as `Query.evaluate`.
        """
        if not unknown:
            return self.evaluate(input_json, deadline_s)
        try:
            return self._query.evaluate_unknown(input_json, unknown, deadline_s)
        except EngineError as error:
            if error.code == "undecidable":
                raise UndecidableError from None
            raise _failed(error) from error
        except NativeError as error:
            raise UnavailableError(POLICY_UNAVAILABLE) from error


def _refused(error: EngineError) -> BundleError:
    code = "BUNDLE_SIZE" if error.code == "size" else "BUNDLE_INVALID"
    return BundleError(str(error), code=code, problems=tuple(map(str, error.problems)))


def _failed(error: EngineError) -> PolicyError | UnavailableError:
    # The rule's place stays in the cause: a detail reaches the caller, and policies are not theirs to map.
    if error.code == "timeout":
        return PolicyError(POLICY_TIMEOUT)
    if error.code in _EVALUATION_FAILED:
        return PolicyError(POLICY_ERROR, f"{POLICY_ERROR.summary}: {error.code}")
    # `panic`, `input` and codes of a later library: the engine's fault, not the policy's.
    return UnavailableError(POLICY_UNAVAILABLE, f"{POLICY_UNAVAILABLE.summary}: {error.code}")
