"""The commands of `authz bundle` that publish: `push`, `pull`, `list`, `history`, `hold`, `release`, `retire`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote, unquote, urlsplit

import typer

from authz._gen.authz.control.v1 import bundles_pb2 as pb
from authz.bundles import read_token, s3_signer
from authz.cli.bundle_signing import ArchiveArgument, identity, show
from authz.cli.control_client import CA, ControlOption, connect
from authz.cli.files import replace
from authz.cli.messages import as_json, instant
from authz.cli.output import Output, OutputOption, document, line
from authz.cli.state import StateOption
from authz.clock import SystemClock
from authz.errors import BundleError, ConfigError, ProgramError
from authz.model import PLATFORM
from authz.policy import archive as archives
from authz.policy.archive import MAX_BYTES
from authz.policy.manifest import MANIFEST, read_manifest
from authz.policy.origin_file import FileOrigin
from authz.policy.origin_http import HttpOrigin
from authz.policy.publishing import publish_file, publish_http
from authz.policy.sources import beside, read_candidate
from authz.policy.trust import content

if TYPE_CHECKING:
    from authz.cli.control_client import ControlClient
    from authz.policy.origin import Offer, Origin
    from authz.policy.trust import Candidate

TenantOption = Annotated[str, typer.Option(help="Tenant that the bundle belongs to, at the control plane.")]
PlatformOption = Annotated[bool, typer.Option("--platform", help="Instead: the platform's.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The bundle's id.")]
Sha256Argument = Annotated[str, typer.Argument(metavar="SHA256", help="Of the archive; see `history`.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the record.")]
TokenFileOption = Annotated[
    Path | None, typer.Option(help="Bearer token for a URL, USER:PASSWORD for a registry, ID:SECRET for S3.")
]
S3RegionOption = Annotated[str, typer.Option(help="Sign requests to a URL for this region, as S3 wants it.")]
_KINDS: Final = {
    pb.BUNDLE_EVENT_KIND_PUSHED: "pushed",
    pb.BUNDLE_EVENT_KIND_HELD: "held",
    pb.BUNDLE_EVENT_KIND_RELEASED: "released",
    pb.BUNDLE_EVENT_KIND_RETIRED: "retired",
    pb.BUNDLE_EVENT_KIND_COLLECTED: "collected",
}


def push(
    archive: ArchiveArgument,
    tenant: TenantOption = "",
    platform: PlatformOption = False,
    to: Annotated[str, typer.Option(help="Instead of the control plane: https://…, oci://… or file:///PATH.")] = "",
    token_file: TokenFileOption = None,
    s3_region: S3RegionOption = "",
    reason: ReasonOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Publish a signed archive with what lies beside it. The control plane verifies it by the keys that it pins."""
    candidate = read_candidate(archive)
    files = content(archives.read(candidate.archive))
    if to:
        _put(candidate, to, token_file, s3_region)
        show({"pushed": to, **identity(files, candidate.archive)}, output)
        return
    request = pb.PushBundleRequest(
        tenant=_tenant(tenant, platform=platform),
        name=read_manifest(files.get(MANIFEST, b"")).bundle_id,
        archive=candidate.archive,
        statements=pb.Statements(
            cosignatures=candidate.cosignatures or b"",
            rollback=candidate.rollback or b"",
            timestamp=candidate.timestamp or b"",
        ),
        reason=reason,
    )
    _show(connect(control, state).send("Bundles/PushBundle", request, pb.Revision), output)


def pull(
    archive: Annotated[Path, typer.Argument(help="Where to write it.", show_default=False)],
    name: Annotated[str, typer.Option(help="The bundle's id, at the control plane.")] = "",
    tenant: TenantOption = "",
    platform: PlatformOption = False,
    source: Annotated[str, typer.Option(help="Instead of the control plane: https://…, oci://… or file:///PATH.")] = "",
    token_file: TokenFileOption = None,
    s3_region: S3RegionOption = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Fetch the newest archive and what lies beside it. Nothing is verified: `authz bundle verify` does that."""
    if bool(name) == bool(source):
        raise ConfigError("what to pull is not said", remedy="give --name with --tenant or --platform, or --source")
    if source:
        found = _origin(source, token_file, s3_region)
    else:
        found = _published(connect(control, state), _tenant(tenant, platform=platform), name)
    offer = _read(found)
    packed = offer.archive or b""
    for kind, statement in offer.beside.items():
        replace(beside(archive, packed, kind), statement)
    replace(archive, packed)
    files = content(archives.read(packed))
    show({"pulled": archive, **identity(files, packed), "beside": sorted(offer.beside)}, output)


def list_(
    tenant: TenantOption = "",
    platform: PlatformOption = False,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the bundles that the control plane serves. Those of a tenant, or of the platform."""
    request = pb.ListBundlesRequest(tenant=_tenant(tenant, platform=platform))
    answer = connect(control, state).call("Bundles/ListBundles", request, pb.ListBundlesResponse)
    if output is Output.JSON:
        document([as_json(each) for each in answer.bundles])
        return
    for each in answer.bundles:
        line(f"{each.name}  {each.revision}  expires {instant(each.expires_at)}  {each.sha256}")


def history(
    name: NameArgument,
    tenant: TenantOption = "",
    platform: PlatformOption = False,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every revision of a name. Who published it, and what was done with it."""
    request = pb.ReadHistoryRequest(tenant=_tenant(tenant, platform=platform), name=name)
    answer = connect(control, state).call("Bundles/ReadHistory", request, pb.ReadHistoryResponse)
    if output is Output.JSON:
        document(as_json(answer))
        return
    for revision in answer.revisions:
        line("  ".join(filter(None, (revision.revision, revision.sha256, _marks(revision)))))
    line()
    for event in answer.events:
        words = (instant(event.at), _KINDS.get(event.kind, "?"), event.sha256[:12], event.by or "-", event.reason)
        line("  ".join(filter(None, words)))


def hold(
    name: NameArgument,
    sha256: Sha256Argument,
    reason: ReasonOption,
    tenant: TenantOption = "",
    platform: PlatformOption = False,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a revision under legal hold. Its content stays until the hold is released."""
    named: Any = {"tenant": _tenant(tenant, platform=platform), "name": name, "sha256": sha256, "reason": reason}
    request = pb.HoldRevisionRequest(**named)
    _show(connect(control, state).call("Bundles/HoldRevision", request, pb.Revision), output)


def release(
    name: NameArgument,
    sha256: Sha256Argument,
    reason: ReasonOption,
    tenant: TenantOption = "",
    platform: PlatformOption = False,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a legal hold."""
    named: Any = {"tenant": _tenant(tenant, platform=platform), "name": name, "sha256": sha256, "reason": reason}
    request = pb.ReleaseRevisionRequest(**named)
    _show(connect(control, state).call("Bundles/ReleaseRevision", request, pb.Revision), output)


def retire(
    name: NameArgument,
    sha256: Sha256Argument,
    reason: ReasonOption,
    tenant: TenantOption = "",
    platform: PlatformOption = False,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Serve a revision no more. Sidecars that have it serve on with it until another one is pushed, or it expires."""
    named: Any = {"tenant": _tenant(tenant, platform=platform), "name": name, "sha256": sha256, "reason": reason}
    request = pb.RetireRevisionRequest(**named)
    _show(connect(control, state).call("Bundles/RetireRevision", request, pb.Revision), output)


def _tenant(tenant: str, *, platform: bool) -> str:
    if bool(tenant) == platform:
        raise ConfigError("a bundle belongs to a tenant or to the platform", remedy="give --tenant T, or --platform")
    return tenant or PLATFORM


def _put(candidate: Candidate, target: str, token_file: Path | None, s3_region: str) -> None:
    if target.startswith("file:///"):
        publish_file(candidate, _path(target))
    elif target.startswith("oci:"):
        from authz.policy.oci import publish_oci  # noqa: PLC0415 - an extra

        publish_oci(candidate, target, token=_token(token_file), roots=_roots())
    else:
        sign = s3_signer(s3_region, token_file) if s3_region else None
        publish_http(candidate, target, token="" if sign else _token(token_file), sign=sign, roots=_roots())


def _origin(source: str, token_file: Path | None, s3_region: str) -> Origin:
    if source.startswith("file:///"):
        return FileOrigin(_path(source), archive_bytes=MAX_BYTES)
    token = (lambda: _token(token_file)) if token_file else None
    if source.startswith("oci:"):
        from authz.policy.oci import OciOrigin  # noqa: PLC0415 - an extra

        return OciOrigin(source, SystemClock(), token=token, roots=_roots(), archive_bytes=MAX_BYTES)
    if s3_region:
        sign = s3_signer(s3_region, token_file)
        return HttpOrigin(source, SystemClock(), sign=sign, roots=_roots(), archive_bytes=MAX_BYTES)
    return HttpOrigin(source, SystemClock(), token=token, roots=_roots(), archive_bytes=MAX_BYTES)


def _published(client: ControlClient, tenant: str, name: str) -> Origin:
    path = "/".join(quote(part, safe="") for part in filter(None, (tenant, name)))
    url = f"{client.url}/bundles/{path}"
    return HttpOrigin(url, SystemClock(), token=lambda: client.credential, roots=_roots(), archive_bytes=MAX_BYTES)


def _read(found: Origin) -> Offer:
    try:
        return found.read("")
    except BundleError as error:
        if error.code == "BUNDLE_FETCH":
            raise ProgramError(str(error), remedy="is it published there, and may you read it?") from None
        raise


def _path(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _token(file: Path | None) -> str:
    try:
        return read_token(file) if file else ""
    except (OSError, ValueError):
        raise ConfigError("--token-file cannot be read", remedy="give the name of a file") from None


def _roots() -> Path | None:
    return Path(roots) if (roots := os.environ.get(CA)) else None


def _show(revision: pb.Revision, output: Output) -> None:
    if output is Output.JSON:
        document(as_json(revision))
        return
    told = {name: getattr(revision, name) for name in ("name", "revision", "sequence", "digest", "sha256", "pushed_by")}
    show(
        {
            "tenant": revision.tenant or "platform",
            **told,
            "signed_by": list(revision.signed_by),
            "expires_at": instant(revision.expires_at),
            "state": _marks(revision),
        },
        output,
    )


def _marks(revision: pb.Revision) -> str:
    """What has become of it, in words."""
    marks = {
        "served": revision.newest,
        "held": revision.HasField("held_at"),
        "retired": revision.HasField("retired_at"),
        "collected": revision.HasField("collected_at"),
    }
    return ", ".join(word for word, holds in marks.items() if holds)
