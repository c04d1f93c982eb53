"""Every rule by which a bundle is trusted. Bytes in, a verified bundle or a refusal with a code of its own out; no I/O.

The shape is python-tuf's (`ngclient/_internal/trusted_metadata_set.py`): this module decides, and a shell around it
(`admission`) fetches, stores and swaps. `verify` goes through numbered steps in an order that matters: no document of a
bundle is parsed before a pinned key has signed the list of its files.

1.  The archive is safe to read (`archive`), and holds no file with a meaning for OPA that it has not here (F2).
2.  `.signatures.json` holds one token, in ES256, by a pinned key, for our scope (F1, F3).
3.  The files are exactly those that were signed, byte for byte, or value for value where OPA signs values (F2).
4.  It was not quarantined before. It is known by the digest of its files, so packing it anew hides nothing (F12).
5.  The manifest can be understood whole.
6.  Its signers are those pinned for this path and bundle, and as many different keys as their threshold (F8).
7.  It is the bundle that was served here before: another one by the same signer is no update.
8.  It is meant for every tenant that is served, and its signers may speak for the tenants it names.
9.  It was made, and has not expired.
10. This engine is new enough for it, and its input holds what it needs.
11. Its sequence is not behind the counter, not the counter's with other files, not far ahead of it (F4, F6).
12. Where freshness is asked for, a recent signed statement says that it is the newest (F5).

What this module must never do: take a key, an algorithm, a time or a counter from the bundle's own word; believe an
unsigned byte; change `Seen`, which moves only when the shell has put the bundle in service.

A rollback statement is the one way behind the counter for what is *fetched*; a revision that was verified and active
here before may return without (`returning`), with everything but steps 11 and 12 judged anew (contracts §10).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import filterfalse
from typing import TYPE_CHECKING, Final

from authz.errors import BundleError
from authz.policy import archive
from authz.policy.manifest import MANIFEST, read_manifest, version
from authz.policy.signature import HASH, digest, parse, signed_form
from authz.policy.signature import verify as verify_token
from authz.policy.statements import read_rollback, read_timestamp, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.model import JsonValue
    from authz.policy.manifest import Manifest
    from authz.policy.pinned import Signers, Trust
    from authz.policy.signature import Key, Token
    from authz.policy.statements import Rollback

SIGNATURES: Final = ".signatures.json"
GOLDEN: Final = "golden/deny.json"
LEEWAY_NS: Final = 60 * 10**9
"""By how much a signer's clock may be ahead of ours."""
REMEMBERED: Final = 64
"""Digests of revisions that were active, and of quarantined ones, that are kept."""

_ENTRY: Final = ("name", "hash", "algorithm")
# What OPA would do something with that the service does not: deltas that are never signed, compiled policies, plans,
# manifests in other forms, and data in YAML, of which it signs a reading that is its own.
_FOREIGN: Final = ("patch.json", "policy.wasm", "plan.json", "plan.pb", "data.yaml", "data.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a service remembers between two bundles; `admission` keeps it on the disk."""

    bundle_id: str = ""
    sequence: int = 0
    """The counter: nothing before it is fetched any more."""
    counted: str = ""
    """Digest of the bundle that has the counter's sequence; empty after a rollback."""
    digest: str = ""
    """Of the bundle that was taken last."""
    stated_ns: int = 0
    """When the last freshness statement was issued."""
    activated: tuple[str, ...] = ()
    """Digests that were verified and active, the last one at the end."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    """Digest to the code it was refused with."""

    def quarantine(self, refused: str, code: str) -> Seen:
        """With one more bundle that is never tried again."""
        kept = {**self.quarantined, refused: code}
        return replace(self, quarantined=dict(list(kept.items())[-REMEMBERED:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An archive and what lay beside it. None of it is believed."""

    path: str
    archive: bytes
    cosignatures: bytes | None = None
    rollback: bytes | None = None
    timestamp: bytes | None = None

    @property
    def sha256(self) -> str:
        """Of the archive, in hex: what it is stored and reported by."""
        return sha256(self.archive).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A bundle that may be opened."""

    digest: str
    manifest: Manifest
    files: Mapping[str, bytes]
    """What was signed, without the signatures; the engine must be given these bytes."""
    signed_by: tuple[str, ...]
    seen: Seen
    """What is to be remembered once the bundle is in service."""
    fresh_until_ns: int | None = None
    """Until when the last freshness statement counts; None: none is asked for."""

    @property
    def golden(self) -> bytes | None:
        """The inputs that must be denied, where the bundle brings any."""
        return self.files.get(GOLDEN)


def verify(candidate: Candidate, trust: Trust, seen: Seen, *, now_ns: int, returning: bool = False) -> Verified:
    """Take a bundle through all steps.

    Raises:
        BundleError: with the code of the first step that refuses it.
    """
    packed = archive.read(candidate.archive, trust.bounds)  # 1
    paths = list(_content(packed))
    token = _one_token(packed)  # 2
    by = verify_token(token, trust.keys.values())
    signed = _signed_files(token, trust.scope)
    files = _signed_forms(packed, paths, signed)  # 3
    identity = _listed_digest(signed)
    _check_quarantine(identity, seen)  # 4
    manifest = read_manifest(files.get(MANIFEST, b""))  # 5
    signers = _signers(trust, candidate.path, manifest.bundle_id)  # 6
    signed_by = _signed_by(by, candidate.cosignatures, signed, trust, signers)
    _check_identity(manifest, seen)  # 7
    _check_tenants(manifest, trust, signers)  # 8
    _check_life(manifest, now_ns)  # 9
    _check_needs(manifest, trust)  # 10
    if returning:
        after = _return(identity, seen)
    else:
        after = _check_sequence(candidate, manifest, identity, trust, signers, seen, now_ns)  # 11
        after = _check_freshness(candidate, manifest, identity, trust, after, now_ns)  # 12
    max_age_ns = round(trust.freshness.max_age_s * 1e9) if trust.freshness else None
    return Verified(
        digest=identity,
        manifest=manifest,
        files=files,
        signed_by=signed_by,
        seen=_remember(after, manifest, identity),
        fresh_until_ns=None if max_age_ns is None else after.stated_ns + max_age_ns,
    )


def content_digest(files: Mapping[str, bytes]) -> str:
    """What a bundle is known by: SHA-256 over its files' names and hashes, in the form that `sha256sum` prints."""
    return _listed_digest({path: digest(files[path]) for path in files if path != SIGNATURES})


def content(packed: Mapping[str, bytes]) -> dict[str, bytes]:
    """What is signed of an archive's files: all but the signatures, each in its signed form.

    Raises:
        BundleError: BUNDLE_CONTENT for a file that OPA would read otherwise, BUNDLE_JSON for JSON that is not strict.
    """
    return {path: signed_form(path, packed[path]) for path in _content(packed)}


def hashes(files: Mapping[str, bytes]) -> list[JsonValue]:
    """The claim `files` of a signature: OPA's form, in a constant order. `files` are in their signed form."""
    return [
        {"name": path, "hash": digest(files[path]), "algorithm": HASH} for path in sorted(files) if path != SIGNATURES
    ]


def _content(packed: Mapping[str, bytes]) -> Iterator[str]:
    """The paths of what is signed."""
    for path in packed:
        name = path.rpartition("/")[2]
        # OPA takes each of these names in any folder, and any name that ends in `.manifest`.
        nested = path not in {SIGNATURES, MANIFEST} and (name == SIGNATURES or name.endswith(MANIFEST))
        if nested or name in _FOREIGN or name.endswith(".manifest.pb"):
            raise BundleError(f"a bundle may not hold {path}", code="BUNDLE_CONTENT")
        if path != SIGNATURES:
            yield path


def _check_quarantine(identity: str, seen: Seen) -> None:
    if code := seen.quarantined.get(identity):
        raise BundleError(f"sha256:{identity[:12]} was refused before: {code}", code="BUNDLE_QUARANTINED")


def _one_token(packed: Mapping[str, bytes]) -> Token:
    found = tokens(packed[SIGNATURES]) if SIGNATURES in packed else []
    if not found:
        raise BundleError("the bundle is not signed", code="BUNDLE_UNSIGNED")
    if len(found) > 1:
        # OPA takes one; what the others were for, it would not have checked.
        raise BundleError("more than one signature is in the archive", code="BUNDLE_SIGNATURE_COUNT")
    return parse(found[0])


def _signed_files(token: Token, scope: str) -> dict[str, str]:
    """The hashes that a signature is over, by path."""
    # A statement is signed with the same keys, and is no signature of a bundle.
    if token.typ not in {"", "JWT"}:
        raise BundleError("a signature was made for another purpose", code="BUNDLE_SIGNATURE")
    if token.payload.get("scope", "") != scope:
        raise BundleError("the signature is for another scope", code="BUNDLE_SCOPE")
    listed = token.payload.get("files")
    signed: dict[str, str] = {}
    for entry in listed if isinstance(listed, list) else [None]:
        name, value, algorithm = (entry.get(key) for key in _ENTRY) if isinstance(entry, dict) else (None,) * 3
        if not isinstance(name, str) or not isinstance(value, str) or name in signed:
            raise BundleError("the signature's list of files cannot be read", code="BUNDLE_SIGNATURE")
        if algorithm != HASH:
            raise BundleError(f"{name} is not hashed with {HASH}", code="BUNDLE_ALGORITHM")
        signed[name] = value.lower()
    return signed


def _signed_forms(packed: Mapping[str, bytes], paths: list[str], signed: Mapping[str, str]) -> dict[str, bytes]:
    if signed.keys() != {*paths}:
        odd = min(signed.keys() ^ {*paths})
        raise BundleError(f"signed and packed files differ: {odd}", code="BUNDLE_FILES")
    return {path: _signed_form(path, packed[path], signed[path]) for path in paths}


def _signed_form(path: str, content: bytes, expected: str) -> bytes:
    # What is packed in its signed form already need not be parsed, which would hold up decisions where data is large.
    if digest(content) != expected:
        content = signed_form(path, content)
        if digest(content) != expected:
            raise BundleError(f"{path} is not what was signed", code="BUNDLE_DIGEST")
    return content


def _listed_digest(hashed: Mapping[str, str]) -> str:
    return digest("".join(f"{hashed[path]}  {path}\n" for path in sorted(hashed)).encode())


def _signers(trust: Trust, path: str, bundle_id: str) -> Signers:
    for entry in trust.signers:
        if entry.fits(path, bundle_id):
            return entry
    raise BundleError(f"nobody is named who may sign `{bundle_id}` here", code="BUNDLE_SIGNERS")


def _signed_by(
    first: Key, cosignatures: bytes | None, signed: Mapping[str, str], trust: Trust, signers: Signers
) -> tuple[str, ...]:
    """The names of the keys that signed, each key once. A further signature that does not hold is not counted."""
    if first.name not in signers.keys:
        raise BundleError(f"key `{first.name}` may not sign this bundle", code="BUNDLE_SIGNERS")
    pinned, found = trust.named(signers.keys), {first.name}
    for text in tokens(cosignatures) if cosignatures else []:
        with suppress(BundleError):
            token = parse(text)
            if _signed_files(token, trust.scope) == signed:
                found.add(verify_token(token, pinned).name)
    if len(found) < signers.threshold:
        raise BundleError(f"{len(found)} of {signers.threshold} keys have signed", code="BUNDLE_THRESHOLD")
    return tuple(sorted(found))


def _check_identity(manifest: Manifest, seen: Seen) -> None:
    if seen.bundle_id not in {"", manifest.bundle_id}:
        raise BundleError(f"this is `{manifest.bundle_id}`, not `{seen.bundle_id}`", code="BUNDLE_ID")


def _check_tenants(manifest: Manifest, trust: Trust, signers: Signers) -> None:
    if manifest.tenants and not {*trust.tenants} <= {*manifest.tenants}:
        raise BundleError("the bundle is not for every tenant that is served here", code="BUNDLE_TENANT")
    # A bundle for no tenant in particular is one for all of them.
    if signers.tenants is not None and (not manifest.tenants or not {*manifest.tenants} <= {*signers.tenants}):
        raise BundleError("its signers may not speak for the bundle's tenants", code="BUNDLE_TENANT")


def _check_life(manifest: Manifest, now_ns: int) -> None:
    if manifest.created_ns > now_ns + LEEWAY_NS:
        raise BundleError("the bundle was made in the future", code="BUNDLE_NOT_YET")
    if manifest.expires_ns <= now_ns:
        raise BundleError("the bundle has expired", code="BUNDLE_EXPIRED")


def _check_needs(manifest: Manifest, trust: Trust) -> None:
    if manifest.min_engine and trust.engine and version(trust.engine) < version(manifest.min_engine):
        raise BundleError(f"it needs OPA {manifest.min_engine}, this is {trust.engine}", code="BUNDLE_ENGINE")
    missing = (
        [] if trust.input_fields is None else [*filterfalse(trust.input_fields.__contains__, manifest.requires_input)]
    )
    if missing:
        raise BundleError(f"the input holds no `{missing[0]}`", code="BUNDLE_INPUT")


def _return(identity: str, seen: Seen) -> Seen:
    if identity not in seen.activated:
        raise BundleError("only what was verified and active here may return", code="BUNDLE_REGRESSION")
    return seen


def _check_sequence(
    candidate: Candidate,
    manifest: Manifest,
    identity: str,
    trust: Trust,
    signers: Signers,
    seen: Seen,
    now_ns: int,
) -> Seen:
    """What the counter will be; the bundle in service is never behind it, whatever its sequence."""
    sequence = manifest.sequence
    if identity in {seen.digest, seen.counted}:
        return seen
    if sequence > seen.sequence:
        if seen.sequence and sequence - seen.sequence > trust.max_step:
            raise BundleError(f"the sequence is over {trust.max_step} ahead", code="BUNDLE_FAST_FORWARD")
        return replace(seen, sequence=sequence, counted=identity)
    if sequence == seen.sequence:
        raise BundleError(f"sequence {sequence} was seen with other files", code="BUNDLE_MISMATCH")
    if candidate.rollback is None:
        raise BundleError(f"sequence {sequence} is behind {seen.sequence}", code="BUNDLE_REGRESSION")
    rollback = read_rollback(candidate.rollback, trust.named(signers.keys), signers.threshold)
    _check_rollback(rollback, manifest, identity, seen, now_ns)
    # What is withdrawn does not come back by being served again.
    for withdrawn in filter(None, {seen.digest, seen.counted}):
        seen = seen.quarantine(withdrawn, "BUNDLE_WITHDRAWN")
    return replace(seen, sequence=rollback.counter, counted="")


def _check_rollback(rollback: Rollback, manifest: Manifest, identity: str, seen: Seen, now_ns: int) -> None:
    about = (rollback.bundle_id, rollback.sequence, rollback.digest)
    refusals = {
        "it is about another bundle": about != (manifest.bundle_id, manifest.sequence, identity),
        "it has expired": rollback.expires_ns <= now_ns,
        "it was issued in the future": rollback.issued_ns > now_ns + LEEWAY_NS,
        "its signers did not know of the sequence seen here": rollback.supersedes < seen.sequence,
        "its counter is out of range": not rollback.sequence <= rollback.counter <= rollback.supersedes,
    }
    for why, holds in refusals.items():
        if holds:
            raise BundleError(f"the rollback statement is refused: {why}", code="BUNDLE_STATEMENT")


def _check_freshness(
    candidate: Candidate, manifest: Manifest, identity: str, trust: Trust, seen: Seen, now_ns: int
) -> Seen:
    if trust.freshness is None:
        return seen
    if candidate.timestamp is None:
        raise BundleError("no freshness statement lies beside the bundle", code="BUNDLE_STALE")
    stated = read_timestamp(candidate.timestamp, trust.named(trust.freshness.keys))
    oldest = max(seen.stated_ns, now_ns - round(trust.freshness.max_age_s * 1e9))
    if stated.bundle_id != manifest.bundle_id or stated.issued_ns > now_ns + LEEWAY_NS:
        raise BundleError("the freshness statement is about another bundle or time", code="BUNDLE_STATEMENT")
    if stated.issued_ns < oldest or stated.expires_ns <= now_ns:
        raise BundleError("the freshness statement is too old", code="BUNDLE_STALE")
    if stated.sequence != manifest.sequence:
        raise BundleError(f"sequence {stated.sequence} is the newest, this is {manifest.sequence}", code="BUNDLE_STALE")
    if stated.digest != identity:
        raise BundleError("the freshness statement names other files", code="BUNDLE_MISMATCH")
    return replace(seen, stated_ns=stated.issued_ns)


def _remember(seen: Seen, manifest: Manifest, identity: str) -> Seen:
    before = tuple(digest for digest in seen.activated if digest != identity)
    activated = (*before, identity)[-REMEMBERED:]
    return replace(seen, bundle_id=manifest.bundle_id, digest=identity, activated=activated)
