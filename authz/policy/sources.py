"""Which files belong to a policy: its folders and files, the library they import, and the tables that test it.

Decides nothing about what is in them. Must never take a hidden folder's files, which the engine does not either.
Trusts the operator's paths.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from authz.errors import BundleError, ConfigError
from authz.policy.archive import MAX_BYTES
from authz.policy.engine import PolicySource
from authz.policy.trust import Candidate
from authz.resources import shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Beside: TypeAlias = Literal["sig", "rollback", "timestamp"]

TABLES: Final = (".yaml", ".yml")
MANIFEST: Final = ".manifest"
READ: Final = (".rego", ".json", *TABLES)
"""What the engine reads in a folder, beside manifests."""

MAX_STATEMENT_BYTES: Final = 8 << 20
"""A further signature lists every file again."""
KINDS: Final[tuple[Beside, ...]] = ("sig", "rollback", "timestamp")


def existing(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The paths, absolute.

    Raises:
        ConfigError: one of them is not there.
    """
    found = tuple(path.resolve() for path in paths)
    missing = next((given for given, path in zip(paths, found, strict=True) if not path.exists()), None)
    if missing is not None:
        raise ConfigError(
            f"no policy at `{missing}`", remedy="give a folder, a .rego file or a bundle archive, or run `authz init`"
        )
    return found


def library_beside(paths: Iterable[Path], contract: Literal["agent", "envoy"]) -> tuple[Path, ...]:
    """The policy library, where the contract has it and the paths do not hold it themselves."""
    library = shared("rego").resolve()
    within = any(library == path or library in path.parents or path in library.parents for path in paths)
    return (library,) if contract == "agent" and not within else ()


def read_archive(path: Path, most_bytes: int = MAX_BYTES) -> bytes:
    """A bundle archive, no further than it may weigh; the engine judges what it unpacks to.

    Raises:
        BundleError: BUNDLE_SIZE when it is larger.
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(content) > most_bytes:
        raise BundleError(f"{path} is over {most_bytes} bytes", code="BUNDLE_SIZE")
    return content


def beside(path: Path, archive: bytes, kind: Beside) -> Path:
    """Where the further signatures of an archive lie, or a statement about it: named by its bytes, in its folder."""
    return path.with_name(f"{hashlib.sha256(archive).hexdigest()}.{kind}.json")


def read_candidate(path: Path, most_bytes: int = MAX_BYTES) -> Candidate:
    """An archive with what lies beside it; nothing of it is believed yet.

    Raises:
        BundleError: BUNDLE_SIZE when a file is larger than it may be.
        ConfigError: a file cannot be read.
    """
    content = read_archive(path, most_bytes)
    further, rollback, timestamp = (_read_statement(beside(path, content, kind)) for kind in KINDS)
    return Candidate(
        path=path.as_posix(), archive=content, cosignatures=further, rollback=rollback, timestamp=timestamp
    )


def archive_source(path: Path, contract: Literal["agent", "envoy"], most_bytes: int = MAX_BYTES) -> PolicySource:
    """An archive as the whole policy, with what lies beside it; it is verified before it is opened.

    One that is not there is an empty one: it is refused like any other, and the last good one stands in for it.

    Raises:
        BundleError, ConfigError: see `read_candidate`.
    """
    candidate = read_candidate(path, most_bytes) if path.exists() else Candidate(path=path.as_posix(), archive=b"")
    return PolicySource(
        archive=candidate.archive, candidate=candidate, origin=path, contract=contract, most_bytes=most_bytes
    )


def read_again(source: PolicySource) -> PolicySource:
    """The same source as it stands now; folders and files are read by the engine.

    Raises:
        BundleError, ConfigError: see `read_candidate`.
    """
    return archive_source(source.origin, source.contract, source.most_bytes) if source.origin else source


def stored_archive(path: Path, like: PolicySource) -> PolicySource:
    """A copy of an archive, in the place of the one that it was copied from.

    Raises:
        BundleError, ConfigError: see `read_candidate`.
    """
    copy = read_candidate(path, like.most_bytes)
    candidate = replace(copy, path=like.candidate.path) if like.candidate else None
    return replace(like, paths=(), archive=copy.archive, candidate=candidate)


def what_lies_beside(candidate: Candidate | None) -> dict[Beside, bytes]:
    """The further signatures and statements of a candidate, by kind."""
    if candidate is None:
        return {}
    found = zip(KINDS, (candidate.cosignatures, candidate.rollback, candidate.timestamp), strict=True)
    return {kind: content for kind, content in found if content is not None}


def _read_statement(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_STATEMENT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(content) > MAX_STATEMENT_BYTES:
        raise BundleError(f"{path.name} is over {MAX_STATEMENT_BYTES} bytes", code="BUNDLE_SIZE")
    return content


def tables_below(paths: Iterable[Path]) -> Iterator[Path]:
    """Decision tables: YAML files in folders named `tests`, and those given themselves."""
    for path in paths:
        if path.is_file() and path.suffix in TABLES:
            yield path
        elif path.is_dir():
            yield from (
                found for found in sorted(path.rglob("tests/*")) if found.suffix in TABLES and not _hidden(found, path)
            )


def files_below(root: Path) -> Iterator[Path]:
    """What the engine reads of one path of a policy, in a constant order."""
    if root.is_file():
        yield root
        return
    for found in sorted(root.rglob("*")):
        read = found if found.name != MANIFEST else found.parent
        if (read != found or found.suffix in READ) and not _hidden(read, root) and found.is_file():
            yield found


def _hidden(found: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in found.relative_to(root).parts)
