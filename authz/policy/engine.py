"""The engine port: what the rest of the service may ask of an engine that runs Rego.

Decides the shapes only. An engine must never answer past its deadline, never reach further than the
policy it was opened with, and never turn a failure into a result: `None` means undefined and nothing else.
Trusts the caller to have verified where a policy came from; what a result means is judged by the contract
(`agent_contract`, `envoy_contract`).

Adapters: `opa_native` (OPA as a library, in this process) and `opa_server` (OPA over HTTP).
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, TypeVar

from authz.errors import BundleError
from authz.policy.archive import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from authz.model import JsonValue
    from authz.policy.trust import Candidate

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySource:
    """Where a policy comes from: files and directories, or the bytes of one bundle archive.

    Empty means the policy that the engine already holds, which only a server can.
    """

    paths: tuple[Path, ...] = ()
    archive: bytes | None = None
    candidate: Candidate | None = None
    """The archive with what lay beside it, for a service that verifies."""
    origin: Path | None = None
    """Where the archive was read; it is looked at again there."""
    contract: Literal["agent", "envoy"] = "agent"
    most_bytes: int = MAX_BYTES
    """Of an archive that is read."""

    @property
    def watched(self) -> tuple[Path, ...]:
        """What changes when the policy does."""
        return self.paths if self.origin is None else (self.origin, *sorted(self.origin.parent.glob("*.json")))

    def __post_init__(self) -> None:
        if self.paths and self.archive is not None:
            message = "a policy is read from paths or from an archive, not from both"
            raise ValueError(message)


class Evaluation(Protocol):
    """The part of a question to an engine that another thread may do meanwhile."""

    def run(self) -> bytes | None:
        """Do it here and now: the result, or an error of the engine's own, to be thrown into the steps that asked."""
        ...


Unknown: TypeAlias = tuple[str, ...]
"""A place in an input whose value is not known: names, and indices in decimal."""


class UndecidableError(Exception):
    """A result may depend on a part of the input that is not known."""


T = TypeVar("T")
Steps: TypeAlias = Generator[Evaluation, bytes | None, T]
"""Work that yields each evaluation which it needs, and is sent its result or thrown its error."""


def complete(steps: Steps[T]) -> T:
    """Take steps to their end on this thread."""
    try:
        evaluation = next(steps)
        while True:
            try:
                result = evaluation.run()
            except Exception as error:  # noqa: BLE001 - it is for the steps to judge
                evaluation = steps.throw(error)
            else:
                evaluation = steps.send(result)
    except StopIteration as ended:
        value: T = ended.value
        return value


class Query(Protocol):
    """One entrypoint of one policy, prepared once. Safe for use by many threads at once."""

    def ask(self, input_json: bytes, deadline_s: float) -> Steps[bytes | None]:
        """Like `evaluate`, in steps: what runs them may do other work while the engine evaluates."""
        ...

    def evaluate(self, input_json: bytes, deadline_s: float) -> bytes | None:
        """The entrypoint's value as JSON, or None where it is undefined.

        Args:
            input_json: the whole input document, one JSON value that our own side wrote.
            deadline_s: seconds after which the evaluation is abandoned.

        Raises:
            PolicyError: POLICY_ERROR when the evaluation failed, POLICY_TIMEOUT at the deadline.
            UnavailableError: POLICY_UNAVAILABLE when the engine cannot be asked.
        """
        ...


class Policy(Protocol):
    """One compiled revision. It never changes; a new revision is a new `Policy`."""

    @property
    def digest(self) -> str:
        """SHA-256 of what was loaded, in hex; empty where the engine does not show its files."""
        ...

    @property
    def revision(self) -> str:
        """The bundle's own name for itself; empty where it has none."""
        ...

    @property
    def metadata(self) -> Mapping[str, JsonValue]:
        """The bundle manifest's `metadata`."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know of this policy, one line each, "file:row: code: message"."""
        ...

    @property
    def input_paths(self) -> Collection[tuple[str, ...]]:
        """Where rules read the input, each as far as it is constant; empty where the engine does not tell."""
        ...

    def reads(self, field: str) -> bool:
        """Whether some rule surely reads `input.<field>`; for what is granted to those who do. A doubt is False."""
        ...

    def may_read(self, field: str) -> bool:
        """Whether some rule may read `input.<field>`; for what is withheld from those who do not. A doubt is True."""
        ...

    def query(self, entrypoint: str) -> Query:
        """Prepare an entrypoint, such as `authz/decision`.

        Raises:
            BundleError: the policy has nothing there; it would deny everything without a word.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds for this policy, once no query of it runs."""
        ...

    def __enter__(self) -> Self:
        """Close the policy at the end of the block."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        ...


class Engine(Protocol):
    """Opens policies."""

    def open(self, source: PolicySource) -> Policy:
        """Read and compile a policy whole.

        Raises:
            BundleError: the policy does not load; every problem found is in it.
            UnavailableError: POLICY_UNAVAILABLE when the engine cannot be asked.
        """
        ...


def entrypoint_names(entrypoint: str) -> tuple[str, ...]:
    """The names of an entrypoint, such as `authz/decision`, without what would mean more in a URL or a reference.

    Raises:
        BundleError: it is not a path of names.
    """
    names = tuple(entrypoint.strip("/").split("/"))
    if not all(map(_NAME.fullmatch, names)):
        raise BundleError(f"`{entrypoint}` is not a path of names")
    return names
