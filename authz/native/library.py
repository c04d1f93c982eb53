"""The entrance: one loaded library for the process, and what can be opened with it.

Decides nothing. Must be loaded after any fork, and only once; `load` sees to the latter.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from authz.native.boundary import Boundary, library_name, problem
from authz.native.engine import Policy
from authz.native.log import Log
from authz.native.transport import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.native.boundary import Json, Problem
    from authz.native.engine import Contract, PolicyOptions
    from authz.native.log import LogOptions
    from authz.native.program import Program
    from authz.native.transport import ServerOptions

_PACKAGE: Final = Path(__file__).resolve().parent.parent


class Library:
    """The loaded library. Thread-safe."""

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Load the library beside this package, or the one at `path`; the same path is loaded once.

        Raises:
            NativeError: it is missing, is not ours, or speaks another ABI version.
        """
        return cls(_boundary(path or _PACKAGE / library_name()))

    def configure(
        self, *, max_procs: int = 0, program_threads: int = 0, gc_percent: int = 0, memory_limit_bytes: int = 0
    ) -> dict[str, int]:
        """Set the bounds of Go's runtime and tell those in force; zero leaves one as it is.

        Args:
            max_procs: GOMAXPROCS.
            program_threads: instead, so many more than the environment and the machine say: one for each thread of
                the program that comes and goes all the time.
            gc_percent: GOGC.
            memory_limit_bytes: GOMEMLIMIT.
        """
        asked = {
            "max_procs": max_procs,
            "program_threads": program_threads,
            "gc_percent": gc_percent,
            "memory_limit_bytes": memory_limit_bytes,
        }
        bounds: dict[str, int] = self._ask("AuthzConfigure", asked)
        return bounds

    def open_policy(self, options: PolicyOptions) -> Policy:
        """Read every file once, check it strictly (contract `agent`) and compile it.

        Raises:
            EngineError: nothing is loaded; `problems` has all that was found.
        """
        return Policy.open(self._boundary, options)

    def check(
        self, paths: Sequence[Path], schema: Path | None = None, contract: Contract = "agent"
    ) -> Sequence[Problem]:
        """What `opa check --strict` finds, tests included; where that is nothing, what is unwise.

        Args:
            paths: files and directories.
            schema: the JSON schema of every rule's input, or a directory that has it as `input.json` among others that
                annotations name. With one, input paths that do not exist are found.
            contract: whose builtins there are.
        """
        asked = {"paths": [str(path) for path in paths], "schema": str(schema or ""), "contract": contract}
        return tuple(map(problem, self._ask("AuthzCheck", asked)))

    def test(
        self, paths: Sequence[Path], *, beside: Sequence[Path] = (), contract: Contract = "agent", run: str = ""
    ) -> Json:
        """Run the Rego tests below `paths` as `opa test` would.

        Args:
            paths: the policy with its tests.
            beside: what the policy imports; its own tests are left alone.
            contract: whose builtins there are.
            run: a regular expression (RE2) over names such as `data.authz.policy_test.test_deny`; empty runs all.

        Returns:
            `results`: `{name, outcome: pass|fail|error|skip, location, cases, message, output, ns}`, `cases` those
            that failed of several; `coverage` of the policy's files: `{file, percent, rows}`, `rows` not evaluated.

        Raises:
            EngineError: the policy does not compile; `problems` has all that was found.
        """
        places = {"paths": [str(path.resolve()) for path in paths], "beside": [str(path.resolve()) for path in beside]}
        return self._ask("AuthzTest", {**places, "contract": contract, "run": run})

    def versions(self) -> dict[str, str]:
        """What the library is made of: `{opa, go}`."""
        made_of: dict[str, str] = self._boundary.document(self._boundary.lib.AuthzVersions)
        return made_of

    def take_prints(self) -> Json:
        """What policies printed since the last time: `{lines: [{location?, text}], dropped}`. Log it at debug level."""
        return self._boundary.document(self._boundary.lib.AuthzTakePrints)

    def engine_stats(self) -> dict[str, int]:
        """The cache of prepared queries and Go's heap: `{policies, queries, hits, misses, heap_bytes}`."""
        counters: dict[str, int] = self._boundary.document(self._boundary.lib.AuthzEngineStats)
        return counters

    def open_log(self, options: LogOptions) -> Log:
        """Open a log; its first segment is made at once.

        Raises:
            NativeError: the directory cannot be written to.
        """
        return Log.open(self._boundary, options)

    def serve(self, options: ServerOptions, program: Program, log: Log | None = None) -> Server:
        """Listen, and ask `program` for every answer. Health is NOT_SERVING until Server.set_serving.

        Raises:
            NativeError: the address, the certificates or the fallback answers are not usable.
        """
        return Server.open(self._boundary, options, program, log)

    def arm_fault(self, place: str) -> None:
        """Make the library panic once at a named place. For tests only."""
        name = place.encode()
        self._boundary.lib.AuthzArmFault(name, len(name))

    def _ask(self, function: str, options: Json) -> Json:
        encoded = json.dumps(options).encode()
        return self._boundary.document(getattr(self._boundary.lib, function), encoded, len(encoded))


@cache
def _boundary(path: Path) -> Boundary:
    return Boundary(path)
