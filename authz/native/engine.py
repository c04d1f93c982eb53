"""Policies and queries of the library's engine.

Decides nothing: it opens a policy, prepares an entrypoint and hands over JSON. Must never turn a failure
into a result: `None` is undefined and nothing else. What a result means is judged by its contract.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from authz.native.boundary import location, nanoseconds, problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from authz.model import JsonValue
    from authz.native.boundary import Boundary, Json, Location, Problem

Contract: TypeAlias = Literal["agent", "envoy"]

_JSON: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """What to load: files and directories as `opa run` would, or one bundle archive (tar.gz)."""

    paths: tuple[Path, ...] = ()
    archive: bytes | None = None
    contract: Contract = "agent"
    max_bytes: int = 0
    """Of all files unpacked, and of one; 0 is the library's own bound."""

    def encoded(self) -> bytes:
        """As the library reads it."""
        paths = [str(path) for path in self.paths]
        return _JSON({"paths": paths, "contract": self.contract, "max_bytes": self.max_bytes}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One place where a policy reads its input; `path` ends where it stops being constant."""

    path: tuple[str, ...]
    location: Location | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A question to a query, as `Query.evaluate` takes it, for whoever can have it answered elsewhere."""

    query: Query
    input_json: bytes
    deadline_s: float

    def run(self) -> bytes | None:
        """Answer it here and now; see `Query.evaluate`."""
        return self.query.evaluate(self.input_json, self.deadline_s)


class Query:
    """An entrypoint of a policy, prepared once. Thread-safe; good until its policy is closed."""

    def __init__(self, boundary: Boundary, handle: int) -> None:
        self._boundary = boundary
        self.handle = handle

    def evaluate(self, input_json: bytes, deadline_s: float) -> bytes | None:
        """The entrypoint's value as JSON, or None where it is undefined.

        Args:
            input_json: one JSON document that our own side wrote.
            deadline_s: seconds after which the engine stops the evaluation.

        Raises:
            EngineError: with a code, and the rule's place where there is one.
        """
        boundary = self._boundary
        return boundary.call(
            boundary.lib.AuthzEvaluate, self.handle, input_json, len(input_json), nanoseconds(deadline_s)
        )

    def evaluate_unknown(self, input_json: bytes, unknown: Sequence[Sequence[str]], deadline_s: float) -> bytes | None:
        """Like `evaluate`, where the values at some places of the input are not known, as in a masked record.

        Args:
            input_json: one JSON document, with anything at those places.
            unknown: paths of names and of indices in decimal.
            deadline_s: seconds after which the engine stops the evaluation.

        Raises:
            EngineError: with the code `undecidable` where the result may depend on what is not known.
        """
        boundary, places = self._boundary, _JSON([list(path) for path in unknown]).encode()
        return boundary.call(
            boundary.lib.AuthzEvaluateUnknown,
            self.handle,
            input_json,
            len(input_json),
            places,
            len(places),
            nanoseconds(deadline_s),
        )

    def explain(self, input_json: bytes, deadline_s: float) -> Json:
        """The same evaluation with everything seen on the way. Slow; for people, never on the path of a call.

        Returns:
            `result` (absent where undefined) or `error`; `rules` that gave a value, in order: `{name, location}`;
            `failed` conditions: `{rule, text, location}`; `prints`; `profile`: `{rule, location, evaluations, ns}`.
        """
        boundary = self._boundary
        return boundary.document(
            boundary.lib.AuthzExplain, self.handle, input_json, len(input_json), nanoseconds(deadline_s)
        )


class Policy:
    """One compiled policy. Thread-safe; a context manager that closes itself."""

    def __init__(self, boundary: Boundary, document: Json) -> None:
        self._boundary = boundary
        self._handle: int = document["handle"]
        self.digest: str = document["digest"]
        """SHA-256, in hex, over the sorted files that were read, names included."""
        self.revision: str = document["revision"]
        """The bundle manifest's; empty where there is none."""
        self.metadata: dict[str, JsonValue] = document["metadata"]
        """The bundle manifest's `metadata`."""
        self.annotations: list[dict[str, JsonValue]] = document["annotations"] or []
        """Rego metadata, as `opa inspect --annotations` shows it."""
        self.warnings: Sequence[Problem] = tuple(map(problem, document["warnings"]))
        """What an operator should know, such as builtins that reach the network."""
        self.references: Sequence[Reference] = tuple(map(_reference, document["references"]))
        """Every read of `input`."""

    @classmethod
    def open(cls, boundary: Boundary, options: PolicyOptions) -> Self:
        """Load and compile; see Library.open_policy."""
        encoded, archive = options.encoded(), options.archive
        null = boundary.ffi.NULL
        arguments = (encoded, len(encoded), null if archive is None else archive, len(archive or b""))
        return cls(boundary, boundary.document(boundary.lib.AuthzOpenPolicy, *arguments))

    def prepare(self, entrypoint: str) -> Query:
        """Prepare a path such as `authz/decision`; the same one is prepared once.

        Raises:
            EngineError: `entrypoint` if it is no path, `entrypoint_undefined` if nothing is there.
        """
        path = entrypoint.encode()
        prepared = self._boundary.document(self._boundary.lib.AuthzPrepare, self._handle, path, len(path))
        return Query(self._boundary, prepared["handle"])

    def close(self) -> None:
        """Let go of the policy and its queries; evaluations under way finish. Closing twice is harmless."""
        self._boundary.lib.AuthzClosePolicy(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _reference(document: Json) -> Reference:
    return Reference(path=tuple(document["path"]), location=location(document.get("location")))
