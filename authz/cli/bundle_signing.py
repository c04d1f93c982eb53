"""The commands of `authz bundle` that take a private key: `key`, `sign`, `cosign`, `rollback`, `timestamp`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from authz.cli.files import create, read, replace
from authz.cli.output import Output, OutputOption, document, pairs
from authz.clock import SystemClock
from authz.policy import archive as archives
from authz.policy import signing
from authz.policy.manifest import MANIFEST, read_manifest, written
from authz.policy.signature import read_private_key, read_public_key
from authz.policy.signing import (
    Signer,
    cosign_statement,
    new_key,
    sign_archive,
    sign_statement,
    state_newest,
    state_rollback,
)
from authz.policy.sources import beside, read_archive
from authz.policy.trust import content, content_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

ArchiveArgument = Annotated[Path, typer.Argument(help="Bundle archive (tar.gz).", show_default=False)]
KeyOption = Annotated[Path, typer.Option(help="Private key in PEM, on P-256.", show_default=False)]
KeyIdOption = Annotated[str, typer.Option(help="Name by which verifiers know the key.", show_default=False)]
ScopeOption = Annotated[str, typer.Option(help="Scope that the signature is for.")]


def key(
    name: Annotated[str, typer.Argument(help="Name of the key; NAME.pem and NAME.pub.pem are written.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a key to sign with. NAME.pem is secret; NAME.pub.pem is what sidecars pin."""
    pair, private, public = new_key(), Path(f"{name}.pem"), Path(f"{name}.pub.pem")
    create(private, pair.private, 0o600)
    create(public, pair.public, 0o644)
    made = {"private": private, "public": public, "fingerprint": read_public_key(name, pair.public).fingerprint}
    show(made, output)


def sign(
    archive: ArchiveArgument,
    key: KeyOption,
    key_id: KeyIdOption,
    scope: ScopeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Sign an archive with ES256, in OPA's form. It replaces the signature before; `cosign` adds further ones."""
    packed = sign_archive(read_archive(archive), _signer(key, key_id), scope)
    replace(archive, packed)
    show({"signed": archive, **identity(content(archives.read(packed)), packed), "key": key_id}, output)


def cosign(
    file: Annotated[Path, typer.Argument(help="Signed archive, or a statement (.json).", show_default=False)],
    key: KeyOption,
    key_id: KeyIdOption,
    scope: ScopeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a further signature, for a threshold of keys. Beside an archive, or to a statement over the same claims."""
    signer = _signer(key, key_id)
    if file.suffix == ".json":
        place, signed = file, cosign_statement(read(file), signer)
    else:
        packed = read_archive(file)
        place = beside(file, packed, "sig")
        signed = signing.cosign(packed, signer, scope, read(place) if place.exists() else None)
    replace(place, signed)
    show({"signed": place, "key": key_id}, output)


def rollback(
    archive: ArchiveArgument,
    key: KeyOption,
    key_id: KeyIdOption,
    supersedes: Annotated[int, typer.Option(min=1, help="Newest sequence that is published.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; for people.", show_default=False)],
    counter: Annotated[
        int | None, typer.Option(min=1, help="Where the counter goes on, to recover a sequence that ran away.")
    ] = None,
    valid_hours: Annotated[float, typer.Option(min=0.1, help="How long the statement can be used.")] = 24.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """State that an older archive is to be taken again. For a threshold, `cosign` adds signatures."""
    packed = read_archive(archive)
    statement = state_rollback(
        packed,
        supersedes=supersedes,
        counter=supersedes if counter is None else counter,
        reason=reason,
        issued_ns=SystemClock().unix_ns(),
        hours=valid_hours,
    )
    place = beside(archive, packed, "rollback")
    replace(place, sign_statement(statement, _signer(key, key_id)))
    show({"statement": place, **statement.claims}, output)


def timestamp(
    archive: ArchiveArgument,
    key: KeyOption,
    key_id: KeyIdOption,
    valid_hours: Annotated[float, typer.Option(min=0.1, help="How long the statement can be used.")] = 24.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """State that an archive is the newest. For sidecars that ask for freshness; to be renewed before it expires."""
    packed = read_archive(archive)
    statement = state_newest(packed, issued_ns=SystemClock().unix_ns(), hours=valid_hours)
    place = beside(archive, packed, "timestamp")
    replace(place, sign_statement(statement, _signer(key, key_id)))
    show({"statement": place, **statement.claims}, output)


def identity(files: Mapping[str, bytes], packed: bytes) -> dict[str, Any]:
    """What an archive is known by."""
    manifest = read_manifest(files.get(MANIFEST, b""))
    return {
        "bundle_id": manifest.bundle_id,
        "revision": manifest.revision,
        "sequence": manifest.sequence,
        "digest": content_digest(files),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "expires_at": written(manifest.expires_ns),
    }


def _signer(file: Path, name: str) -> Signer:
    return Signer(read_private_key(read(file)), name)


def show(told: Mapping[str, Any], output: Output) -> None:
    """Print what was found or made."""
    if output is Output.JSON:
        document(told)
    else:
        pairs(in_words(told))


def in_words(told: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as people read them."""
    return {name: ", ".join(value) if isinstance(value, list) else value for name, value in told.items()}
