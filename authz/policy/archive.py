"""A bundle archive (tar.gz): read without trusting a byte of it, written so that the same files give the same bytes.

Decides which archives are read at all (F2, F14): one gzip member, a plain tar of files and folders, within bounds of
size, count, depth and ratio, with paths that every system spells alike. All of that is judged in memory, before any
file is handed on; nothing is ever unpacked to a disk. Must never repair an archive or skip what it does not know: a
second reader might see in it what this one does not. For the same reason what is read here is written again with
`write` before another program opens it.

Trusts `zlib` for the inflating, bounded, and `tarfile` for the fields of one header.
"""

from __future__ import annotations

import os
import re
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


MAX_BYTES: Final = 32 << 20
"""By default, packed and unpacked: gzip does not help what is larger than the engine takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an archive may weigh. The engine's own (native/internal/engine/snapshot.go) stand behind these."""

    archive_bytes: int = MAX_BYTES
    total_bytes: int = MAX_BYTES
    file_bytes: int = MAX_BYTES
    entries: int = 4096
    depth: int = 16
    path_characters: int = 200
    ratio: int = 250
    """Bytes that one byte may unpack to. Policies and grants stay below 100; deflate ends at 1032."""


BOUNDS: Final = Bounds()


def bounds(most_bytes: int) -> Bounds:
    """The same bounds but for this many bytes."""
    return Bounds(archive_bytes=most_bytes, total_bytes=most_bytes, file_bytes=most_bytes)


MODE: Final = 0o600
"""As OPA writes files."""

SHIPPED: Final = 6
"""How hard archives are packed: as OPA does."""
STORED: Final = 0
"""Not at all, for what stays in this process."""

_BLOCK: Final = tarfile.BLOCKSIZE
_GZIP: Final = 16 + zlib.MAX_WBITS
_CHUNK: Final = 1 << 16
_SMALL: Final = 1 << 16
"""An archive that unpacks to no more than this is no bomb, whatever its ratio: tar pads with zeros."""
_LARGE: Final = 1 << 20
"""What takes long enough to copy that a decision would notice."""
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_.@+=~-]+")
# What may stand in an extended header: it names no other file and no other size than the header after it.
_HARMLESS: Final = frozenset({"atime", "ctime", "mtime", "uid", "gid", "uname", "gname", "comment"})
_HEADERS: Final = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)


def read(archive: bytes, bounds: Bounds = BOUNDS) -> dict[str, bytes]:
    """The files of an archive by their paths, without a leading slash, in the archive's order.

    Raises:
        BundleError: BUNDLE_SIZE, BUNDLE_RATIO, BUNDLE_COUNT, BUNDLE_DEPTH over a bound; BUNDLE_PATH a path that is not
            plain; BUNDLE_ENTRY a link, a device or another kind; BUNDLE_DUPLICATE two paths that are one on some
            system; BUNDLE_ARCHIVE not a whole tar.gz.
    """
    files: dict[str, bytes] = {}
    spelled: dict[str, str] = {}
    for count, (header, content) in enumerate(_entries(_unzip(archive, bounds), bounds), 1):
        if count > bounds.entries:
            raise BundleError(f"the archive holds over {bounds.entries} entries", code="BUNDLE_COUNT")
        if header.isdir() and header.name in {"", ".", "/"}:
            continue  # the root itself, as `tar -C folder .` writes it
        path = _plain(header.name, bounds)
        _claim(path, spelled, is_file=header.isreg())
        if header.isreg():
            files[path] = content
    return files


def write(files: Mapping[str, bytes], *, level: int = SHIPPED) -> bytes:
    """The archive of these files; the same files always give the same bytes (on the same zlib).

    The form is OPA's own: paths begin with a slash, mode 0600, no owner, no times. Files are sorted.

    Raises:
        BundleError: BUNDLE_PATH for a path that could not be read back.
    """
    parts: list[bytes] = []
    for path in sorted(files):
        header = tarfile.TarInfo(f"/{_plain(path, BOUNDS)}")
        header.size, header.mode = len(files[path]), MODE
        try:
            parts.append(header.tobuf(tarfile.USTAR_FORMAT))
        except ValueError as error:
            raise BundleError(f"the path does not fit a tar header: {path}", code="BUNDLE_PATH") from error
        parts += [files[path], bytes(-len(files[path]) % _BLOCK)]
    parts.append(bytes(2 * _BLOCK))
    packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    pieces = (memoryview(part)[at : at + _LARGE] for part in parts for at in range(0, len(part), _LARGE))
    return gathered([*map(packer.compress, pieces), packer.flush()])


def gathered(pieces: Sequence[bytes | memoryview]) -> bytes:
    """The pieces as one. Megabytes are copied by the kernel: `join` would hold the interpreter's lock meanwhile."""
    size = sum(map(len, pieces))
    if size < _LARGE or not hasattr(os, "memfd_create"):
        return b"".join(pieces)
    with os.fdopen(os.memfd_create("bundle"), "wb+", buffering=0) as memory:
        memory.writelines(pieces)
        memory.seek(0)
        whole = memory.read(size)
    if len(whole) != size:
        raise MemoryError
    return whole


def _unzip(archive: bytes, bounds: Bounds) -> bytearray:
    if len(archive) > bounds.archive_bytes:
        raise BundleError(f"the archive is over {bounds.archive_bytes} bytes", code="BUNDLE_SIZE")
    if not archive:
        raise _broken("it is empty or not there")
    # Beside the files: a header for each, and what fills their last blocks.
    most = bounds.total_bytes + 2 * _BLOCK * (bounds.entries + 1) + tarfile.RECORDSIZE
    inflate, unpacked, at, tail = zlib.decompressobj(_GZIP), bytearray(), 0, b""
    try:
        while not inflate.eof and (pending := tail or archive[at : at + _CHUNK]):
            at += 0 if tail else len(pending)
            unpacked += inflate.decompress(pending, _CHUNK)
            tail = inflate.unconsumed_tail
            if len(unpacked) > max(_SMALL, bounds.ratio * len(archive)):
                raise BundleError(f"a byte of the archive unpacks to over {bounds.ratio}", code="BUNDLE_RATIO")
            if len(unpacked) > most:
                raise BundleError(f"the archive unpacks to over {bounds.total_bytes} bytes", code="BUNDLE_SIZE")
    except zlib.error:
        raise _broken("it is not gzip") from None
    # A second member is what other readers go on with, and what this one would never have looked at.
    if not inflate.eof or inflate.unused_data or at < len(archive):
        raise _broken("it is cut short" if not inflate.eof else "bytes follow the gzip member")
    return unpacked


def _entries(tar: bytearray, bounds: Bounds) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Files and folders in their order; the end must be marked, and nothing may follow it."""
    offset, total, whole = 0, 0, memoryview(tar)
    while any(tar[offset : offset + _BLOCK]):
        header = _header(bytes(tar[offset : offset + _BLOCK]))
        start = offset + _BLOCK
        content = gathered([whole[start : start + header.size]])
        if header.size < 0 or len(content) < header.size:
            raise _broken("it is cut short")
        if header.type in _HEADERS:
            _check_extension(content)
        elif header.type not in (*_FILES, tarfile.DIRTYPE):
            raise BundleError(f"not a file but a link, a device or another kind: {header.name!r}", code="BUNDLE_ENTRY")
        else:
            total += header.size
            if header.size > bounds.file_bytes or total > bounds.total_bytes:
                raise BundleError("the archive's files are over the bounds", code="BUNDLE_SIZE")
            yield header, content
        offset = start + header.size + -header.size % _BLOCK
    if len(tar) < offset + 2 * _BLOCK or tar.count(0, offset) != len(tar) - offset:
        raise _broken("its end is not marked" if len(tar) < offset + 2 * _BLOCK else "bytes follow its end")


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        raise _broken("a header cannot be read") from None


def _check_extension(content: bytes) -> None:
    """Refuse a header that would give the next entry another name, size or kind than its own header does."""
    try:
        keys = {line.split(" ", 1)[1].split("=", 1)[0] for line in content.decode("utf-8").splitlines()}
    except (UnicodeDecodeError, IndexError):
        raise _broken("an extended header cannot be read") from None
    if not keys <= _HARMLESS:
        raise BundleError("an extended header changes an entry; write plain ustar", code="BUNDLE_ENTRY")


def _plain(name: str, bounds: Bounds) -> str:
    """The path without one leading `/` (OPA's form) or `./` (tar's)."""
    path = name.removeprefix("./") if name.startswith("./") else name.removeprefix("/")
    segments = path.split("/")
    if len(path) > bounds.path_characters or not all(map(_SEGMENT.fullmatch, segments)) or {".", ".."} & {*segments}:
        raise BundleError(f"not a plain path: {name[: bounds.path_characters]!r}", code="BUNDLE_PATH")
    if len(segments) > bounds.depth:
        raise BundleError(f"a path is over {bounds.depth} folders deep", code="BUNDLE_DEPTH")
    return path


def _claim(path: str, spelled: dict[str, str], *, is_file: bool) -> None:
    """Give a path and its folders one spelling and one kind; a system that folds case would make two paths one."""
    segments = path.split("/")
    folders = ["/".join(segments[:depth]) for depth in range(1, len(segments) + (not is_file))]
    clash = any(spelled.setdefault(folder.casefold(), f"{folder}/") != f"{folder}/" for folder in folders)
    if clash or (is_file and path.casefold() in spelled):
        raise BundleError(f"two entries are one path on some systems: {path!r}", code="BUNDLE_DUPLICATE")
    spelled.setdefault(path.casefold(), path)


def _broken(how: str) -> BundleError:
    return BundleError(f"not a bundle archive: {how}", code="BUNDLE_ARCHIVE")
