"""`authz bundle`: build, sign, verify, inspect and compare bundles, sign statements about them, and publish them."""

from __future__ import annotations

import os
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
import typer

from authz.authoring.compiling import hold_current
from authz.cli import VARIABLES, as_written, group
from authz.cli.bundle_publishing import history, hold, list_, pull, push, release, retire
from authz.cli.bundle_signing import (
    ArchiveArgument,
    ScopeOption,
    cosign,
    identity,
    in_words,
    key,
    rollback,
    show,
    sign,
    timestamp,
)
from authz.cli.files import read, replace
from authz.cli.output import Output, OutputOption, document, line, pairs
from authz.clock import SystemClock
from authz.config import Config, Policy
from authz.errors import BundleError, ConfigError
from authz.native import Library
from authz.policy import archive as archives
from authz.policy.activation import hold_golden
from authz.policy.building import Sources, declared_by
from authz.policy.building import build as build_files
from authz.policy.bundle_diff import compare
from authz.policy.delta import PATCH
from authz.policy.delta import make as make_delta
from authz.policy.engine import PolicySource
from authz.policy.manifest import MANIFEST, moment, read_manifest, written
from authz.policy.opa_native import NativeEngine
from authz.policy.pinned import Signers, Trust
from authz.policy.signature import parse, read_public_key
from authz.policy.sources import library_beside, read_archive, read_candidate
from authz.policy.statements import tokens
from authz.policy.trust import GOLDEN, SIGNATURES, Seen, content
from authz.policy.trust import verify as verify_bundle
from authz.wiring import policy_activation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.policy.bundle_diff import Changes
    from authz.policy.manifest import Manifest

DAYS: Final = 90
"""How long a bundle is good for where nobody says: a forgotten mirror then stops."""


def build(
    source: Annotated[Path, typer.Argument(help="Folder of the bundle's sources.", show_default=False)],
    archive: ArchiveArgument,
    bundle_id: Annotated[str | None, typer.Option(help="Name of the bundle; default: the manifest's.")] = None,
    sequence: Annotated[int | None, typer.Option(help="Greater than any before; default: the manifest's.")] = None,
    revision: Annotated[str, typer.Option(help="Default: the manifest's, or BUNDLE-SEQUENCE.")] = "",
    change_id: Annotated[str | None, typer.Option(help="The change that it comes from.")] = None,
    created_at: Annotated[
        str | None, typer.Option(help="RFC 3339; default: the manifest's, SOURCE_DATE_EPOCH, or now.")
    ] = None,
    valid_days: Annotated[
        int | None, typer.Option(min=1, help="Days until it expires; default: the manifest's time, or 90 days.")
    ] = None,
    contract: Annotated[Literal["agent", "envoy"], typer.Option(help="What the policy is written for.")] = "agent",
    output: OutputOption = Output.TABLE,
) -> None:
    """Build an archive and try it. It must compile, answer, and deny its golden set; the same sources give the same."""
    if not source.is_dir():
        raise ConfigError(f"{source} is no folder", remedy="give the folder that holds the bundle's .manifest")
    hold_current([source])
    library = next(iter(library_beside([source.resolve()], contract)), None)
    named = {"bundle_id": bundle_id, "sequence": sequence, "change_id": change_id}
    declared = {name: value for name, value in named.items() if value is not None}
    life = _life(source, created_at, valid_days)
    sources = Sources(folder=source, library=library, contract=contract, revision=revision, declared=declared | life)
    engine = Library.load()
    files = build_files(sources, NativeEngine(engine))
    made = archives.write(files)
    config = Config(policy=Policy(paths=(archive,), contract=contract))
    active = policy_activation(config, engine).activate(PolicySource(archive=made, contract=contract))
    if GOLDEN in files:
        hold_golden(active, files[GOLDEN])
    replace(archive, made)
    show({"archive": archive, **identity(files, made), "files": len(files), "bytes": len(made)}, output)


def verify(
    archive: ArchiveArgument,
    key: Annotated[list[str], typer.Option(help="NAME=FILE of a public key; repeatable.", show_default=False)],
    threshold: Annotated[int, typer.Option(min=1, help="How many of the keys must have signed.")] = 1,
    tenant: Annotated[list[str] | None, typer.Option(help="Tenant that it must serve; repeatable.")] = None,
    after: Annotated[int, typer.Option(min=0, help="Sequence that was seen before: the counter.")] = 0,
    scope: ScopeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Verify an archive as a sidecar does that pins these keys. Exit 1 when it is refused, with the code."""
    pinned = {name: read_public_key(name, read(Path(file))) for name, file in map(_named, key)}
    trust = Trust(
        keys=pinned,
        signers=(Signers(keys=tuple(pinned), threshold=threshold),),
        scope=scope,
        tenants=tuple(tenant or ()),
        engine=Library.load().versions()["opa"],
    )
    try:
        candidate = read_candidate(archive)
        verified = verify_bundle(candidate, trust, Seen(sequence=after), now_ns=SystemClock().unix_ns())
    except BundleError as error:
        show({"verified": False, "code": error.code, "why": str(error)}, output)
        raise typer.Exit(1) from None
    told = identity(verified.files, candidate.archive)
    show({"verified": True, **told, "signed_by": list(verified.signed_by)}, output)


def inspect(archive: ArchiveArgument, output: OutputOption = Output.TABLE) -> None:
    """Show what an archive says of itself. Nothing is verified: anybody may have written it."""
    packed = read_archive(archive)
    found = archives.read(packed)
    files = content(found)
    listed = {path: len(files[path]) for path in sorted(files)}
    claimed = [parse(token).kid for token in tokens(found[SIGNATURES])] if SIGNATURES in found else []
    told = {**identity(files, packed), **_described(read_manifest(files.get(MANIFEST, b""))), "claims_keys": claimed}
    if output is Output.JSON:
        document(told | {"files": listed})
        return
    pairs(in_words(told))
    for path, size in listed.items():
        line(f"{size:>9}  {path}")


def diff(
    before: Annotated[Path, typer.Argument(help="Bundle archive.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="Bundle archive.", show_default=False)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what differs between two archives. Files, rules, manifest entries and shapes of data; no values of data."""
    first, second = (content(archives.read(read_archive(path))) for path in (before, after))
    changes = compare(first, second)
    if output is Output.JSON:
        document({"differ": any(changes.values()), **{kind: asdict(found) for kind, found in changes.items()}})
    else:
        _print_changes(changes)


def delta(
    before: Annotated[Path, typer.Argument(help="Bundle archive that others have.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="Signed archive that comes next.", show_default=False)],
    made: Annotated[Path, typer.Argument(metavar="DELTA", help="Where to write it.", show_default=False)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Make OPA's delta bundle of two archives. They differ in data alone; the control plane makes its own at `push`."""
    first, second = read_archive(before), read_archive(after)
    packed = make_delta(first, second)
    replace(made, packed)
    operations = orjson.loads(archives.read(packed)[PATCH])["data"]
    told = {"delta": made, "operations": len(operations), "bytes": len(packed), "instead_of": len(second)}
    show({**told, "from": sha256(first).hexdigest(), "to": sha256(second).hexdigest()}, output)


def _described(manifest: Manifest) -> dict[str, Any]:
    return {
        "change_id": manifest.change_id,
        "created_at": written(manifest.created_ns),
        "min_engine": manifest.min_engine,
        "requires_input": list(manifest.requires_input),
        "tenants": list(manifest.tenants),
    }


def _life(source: Path, created_at: str | None, valid_days: int | None) -> dict[str, str]:
    """The bundle's times: as flags say, else as the sources declare, else from SOURCE_DATE_EPOCH or the clock."""
    declared = declared_by(source)
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and not epoch.isdecimal():
        raise ConfigError("SOURCE_DATE_EPOCH is not a number of seconds")
    now = written(int(epoch) * 10**9 if epoch else SystemClock().unix_ns())
    created = created_at or declared.get("created_at") or now
    given = declared.get("expires_at") if valid_days is None else None
    days = DAYS if valid_days is None else valid_days
    return {
        "created_at": created,
        "expires_at": given or written(moment(created, "created_at") + days * 86_400 * 10**9),
    }


def _named(option: str) -> tuple[str, str]:
    name, equals, file = option.partition("=")
    if not (name and equals and file):
        raise ConfigError("--key is not NAME=FILE", remedy="write it as --key release=release.pub.pem")
    return name, file


def _print_changes(changes: Mapping[str, Changes]) -> None:
    for kind, found in changes.items():
        for word, places in (("added", found.added), ("removed", found.removed), ("changed", found.changed)):
            for place in places:
                line(f"{kind:<9} {word:<8} {place}")
    if not any(changes.values()):
        line("no difference")


EXAMPLES = """
Examples:

  authz bundle key release

  authz bundle build bundles/starter starter.tar.gz

  authz bundle sign starter.tar.gz --key release.pem --key-id release

  authz bundle verify starter.tar.gz --key release=release.pub.pem
"""

bundle: Final = group("Build, sign, verify, compare and publish policy bundles.", EXAMPLES)
_EXAMPLES: Final[dict[Callable[..., None], str]] = {
    key: "authz bundle key release",
    build: """
  authz bundle build bundles/starter starter.tar.gz

  authz bundle build --sequence 8 --valid-days 30 policy/ policy.tar.gz
""",
    sign: "authz bundle sign starter.tar.gz --key release.pem --key-id release",
    cosign: """
  authz bundle cosign starter.tar.gz --key security.pem --key-id security

  authz bundle cosign 5f0c…9a.rollback.json --key security.pem --key-id security
""",
    verify: """
  authz bundle verify starter.tar.gz --key release=release.pub.pem

  authz bundle verify starter.tar.gz --key a=a.pub.pem --key b=b.pub.pem --threshold 2 --after 7
""",
    inspect: """
  authz bundle inspect starter.tar.gz

  authz bundle inspect --output json starter.tar.gz
""",
    diff: "authz bundle diff running.tar.gz candidate.tar.gz",
    delta: "authz bundle delta starter-7.tar.gz starter-8.tar.gz delta.tar.gz",
    rollback: """
  authz bundle rollback starter-7.tar.gz --supersedes 8 --reason 'denies payroll' --key release.pem --key-id release
""",
    timestamp: "authz bundle timestamp starter.tar.gz --key time.pem --key-id time --valid-hours 24",
    push: """
  authz bundle push starter.tar.gz --tenant acme --reason 'release 7'

  authz bundle push starter.tar.gz --to https://mirror.example/acme/starter.tar.gz --token-file token
""",
    pull: """
  authz bundle pull starter.tar.gz --name starter --tenant acme

  authz bundle pull starter.tar.gz --source https://mirror.example/acme/starter.tar.gz
""",
    list_: "authz bundle list --tenant acme",
    history: "authz bundle history starter --tenant acme",
    hold: "authz bundle hold starter 5f0c…9a --tenant acme --reason 'case 12'",
    release: "authz bundle release starter 5f0c…9a --tenant acme --reason 'case 12 is closed'",
    retire: "authz bundle retire starter 5f0c…9a --tenant acme --reason 'it denies payroll'",
}
for _command, _examples in _EXAMPLES.items():
    bundle.command(
        _command.__name__.rstrip("_"),
        epilog=as_written(f"Examples:\n\n  {_examples.strip()}"),
        context_settings=VARIABLES,
    )(_command)
