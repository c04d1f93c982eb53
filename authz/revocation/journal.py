"""What a sidecar knows of one stream, on its disk, for a start without network.

Decides what lies in the folder: signed messages as they came, in the order in which they were applied, each durable
before it is reported; for each epoch a snapshot and the batches after it. What was cut off at the end of the file was
never reported, and is cut off when the next one is appended. Whoever reads it verifies each message again: nothing here
is believed for lying here.

Must never forget in silence: a write that fails is said, and what it left behind is taken back.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from authz.encoding import decode_base64url, decode_json_object, encode_base64url
from authz.revocation.entries import MAX_BODY_BYTES, Signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from authz.model import JsonValue

_HEAD: Final = struct.Struct(">III")
_MAX_PART: Final = 1024
_SNAPSHOT: Final = "snapshot-"
_ENTRIES: Final = "entries-"
_HEARTBEAT: Final = "heartbeat"
_KEYS: Final = "keys.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """What is kept of one epoch."""

    epoch: int
    snapshot: Signed | None
    content: bytes
    batches: tuple[Signed, ...]


def folder_of(root: Path, stream: str) -> Path:
    """Where a stream's journal lies. A digest, because no name of a tenant may be a path."""
    return root / sha256(stream.encode()).hexdigest()[:32]


def keep_keys(root: Path, keys: Mapping[str, Mapping[str, Ed25519PublicKey]]) -> None:
    """Keep whom each stream is taken from, so that journals can be verified without network.

    Raises:
        OSError: it is not kept.
    """
    document = {
        stream: {kid: encode_base64url(key.public_bytes_raw()) for kid, key in trusted.items()}
        for stream, trusted in keys.items()
    }
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _put(root, _KEYS, orjson.dumps(document))


def kept_keys(root: Path) -> dict[str, dict[str, Ed25519PublicKey]]:
    """What `keep_keys` kept; nothing where it is missing or damaged."""
    try:
        document = decode_json_object((root / _KEYS).read_bytes())
        return {stream: _public_keys(kids) for stream, kids in document.items()}
    except (OSError, ValueError):
        return {}


class Journal:
    """The folder of one stream. One thread uses it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._epoch = 0
        self._size = 0

    @property
    def size_bytes(self) -> int:
        """Of the batches since the last snapshot."""
        return self._size

    def chapters(self) -> Iterator[Chapter]:
        """Everything that is kept, oldest epoch first. What it holds must still be verified.

        Raises:
            OSError: it cannot be read.
        """
        if not self._folder.is_dir():
            return
        names = {path.name for path in self._folder.iterdir()}
        epochs = {int(name.partition("-")[2]) for name in names if name.startswith((_SNAPSHOT, _ENTRIES))}
        for epoch in sorted(epochs):
            snapshot, content = None, b""
            if f"{_SNAPSHOT}{epoch}" in names:
                snapshot, content = _split((self._folder / f"{_SNAPSHOT}{epoch}").read_bytes())
            batches: tuple[Signed, ...] = ()
            if f"{_ENTRIES}{epoch}" in names:
                batches = tuple(_frames((self._folder / f"{_ENTRIES}{epoch}").read_bytes()))
            yield Chapter(epoch=epoch, snapshot=snapshot, content=content, batches=batches)

    def heartbeat(self) -> Signed | None:
        """The last one that was kept; None where none was, or it is damaged."""
        try:
            return next(_frames((self._folder / _HEARTBEAT).read_bytes()), None)
        except OSError:
            return None

    def append(self, epoch: int, batch: Signed) -> None:
        """Keep a batch: it is on the disk when this returns.

        Raises:
            OSError: it is not, and nothing of it is.
        """
        file = self._opened(epoch)
        frame = _frame(batch)
        try:
            written = os.write(file, frame)
            if written != len(frame):
                raise OSError(28, "the disk is full")  # noqa: TRY301 - as the system would say at the next byte
            os.fdatasync(file)
        except OSError:
            # A torn frame in the middle would hide all that comes after it.
            try:
                os.ftruncate(file, self._size)
            except OSError:
                self.close()  # whoever opens it again cuts it off
            raise
        self._size += len(frame)

    def replace(self, epoch: int, description: Signed, content: bytes) -> None:
        """Keep a snapshot in the place of what is kept of its epoch; earlier epochs stay.

        Raises:
            OSError: it is not kept, and what was kept still is.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _put(self._folder, f"{_SNAPSHOT}{epoch}", _frame(description) + content)
        self.close()
        # Batches that the snapshot holds too are skipped at the next start, so a crash in between loses nothing.
        (self._folder / f"{_ENTRIES}{epoch}").unlink(missing_ok=True)

    def beat(self, heartbeat: Signed) -> None:
        """Keep the latest heartbeat: how old the journal is at the next start. Not synced: an older one only ages it.

        Raises:
            OSError: it is not kept.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._folder / f".{_HEARTBEAT}"
        draft.write_bytes(_frame(heartbeat))
        draft.replace(self._folder / _HEARTBEAT)

    def close(self) -> None:
        """Let go of the open file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._size = 0

    def _opened(self, epoch: int) -> int:
        if self._file is None or self._epoch != epoch:
            self.close()
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{_ENTRIES}{epoch}"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                whole = path.read_bytes()
                self._size = sum(len(_frame(kept)) for kept in _frames(whole))
                if self._size != len(whole):
                    os.ftruncate(file, self._size)
                _sync(self._folder)
            except OSError:
                os.close(file)
                raise
            self._file, self._epoch = file, epoch
        return self._file


def _put(folder: Path, name: str, octets: bytes) -> None:
    draft = folder / f".{name}"
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(octets)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        draft.unlink(missing_ok=True)  # or a disk that is full stays so by what it could not take
        raise
    draft.replace(folder / name)
    _sync(folder)


def _public_keys(kids: JsonValue) -> dict[str, Ed25519PublicKey]:
    if not isinstance(kids, dict):
        raise ValueError("not keys by kid")  # noqa: TRY004 - one error type, as for every other damage
    return {kid: Ed25519PublicKey.from_public_bytes(decode_base64url(str(key))) for kid, key in kids.items()}


def _frame(signed: Signed) -> bytes:
    kid = signed.kid.encode()
    return _HEAD.pack(len(kid), len(signed.signature), len(signed.body)) + kid + signed.signature + signed.body


def _frames(octets: bytes) -> Iterator[Signed]:
    """Whole frames; ends where one was cut off, or where none begins."""
    start = 0
    while (end := _end(octets, start)) is not None:
        yield _signed(octets, start)
        start = end


def _end(octets: bytes, start: int) -> int | None:
    if len(octets) < start + _HEAD.size:
        return None
    kid, signature, body = _HEAD.unpack_from(octets, start)
    end: int = start + _HEAD.size + kid + signature + body
    fits = kid <= _MAX_PART and signature <= _MAX_PART and body <= MAX_BODY_BYTES and end <= len(octets)
    return end if fits else None


def _signed(octets: bytes, start: int) -> Signed:
    kid, signature, body = _HEAD.unpack_from(octets, start)
    at = start + _HEAD.size
    return Signed(
        kid=octets[at : at + kid].decode("ascii", "replace"),
        signature=octets[at + kid : at + kid + signature],
        body=octets[at + kid + signature : at + kid + signature + body],
    )


def _split(octets: bytes) -> tuple[Signed | None, bytes]:
    end = _end(octets, 0)
    return (None, b"") if end is None else (_signed(octets, 0), octets[end:])


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
