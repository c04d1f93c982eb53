"""What the control plane tells sidecars of a rollout: which revision answers whom.

Decides the exact bytes, who may have written them, and whether a statement follows the one before: its version must be
higher, so that nothing old is taken twice. It is signed with the key of its scope's stream under a domain of its own,
and names its scope inside, so that no other signature and no other tenant's directive is taken for one. Must never be
read in part: an unknown or ill-typed member refuses all of it. Pure. Trusts `cryptography` for Ed25519 (RFC 8032).
"""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Final

import orjson
from cryptography.exceptions import InvalidSignature

from authz.encoding import decode_json_object
from authz.errors import BundleError
from authz.model import Word
from authz.policy.rollout_plan import State
from authz.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from authz.policy.rollout_plan import Rollout

DOMAIN: Final = b"authz-rollouts-v1\0"
"""Before every signed body."""
VERSION: Final = 1
MAX_BYTES: Final = 4096
DIGEST: Final = re.compile(r"[0-9a-f]{64}|")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Mode(Word):
    """Who is answered by the candidate: nobody (`BASELINE`, and `SHADOW`, which compares), a share, or everybody.

    With `STRICTER` everybody is answered by both, and the stricter answer counts.
    """

    BASELINE = "baseline"
    SHADOW = "shadow"
    CANARY = "canary"
    STRICTER = "stricter"
    ENFORCED = "enforced"


_MODES: Final = {
    State.SHADOW: Mode.SHADOW,
    State.CANARY: Mode.CANARY,
    State.STRICTER: Mode.STRICTER,
    State.ENFORCED: Mode.ENFORCED,
}


@value
class Directive:
    """One scope's, in force until one of a higher version comes. Digests are as in `Rollout`."""

    rollout: str
    scope: str
    version: int
    mode: Mode
    baseline: str
    candidate: str
    share: float
    salt: str
    wave: str
    """The stage's name."""
    since_ns: int
    """When the stage began: what is counted is counted for it."""
    guarded: bool
    """The trip wire may act; False where a person overruled the gates."""

    @property
    def serving(self) -> str:
        """The digest that answers whom the candidate does not, or answers everybody."""
        return self.candidate if self.mode is Mode.ENFORCED else self.baseline

    @property
    def compares(self) -> bool:
        """Whether calls are judged by both revisions."""
        return self.mode in (Mode.SHADOW, Mode.CANARY, Mode.STRICTER)


@value
class Statement:
    """A directive as it travels. Nothing in `body` is believed before `read`."""

    body: bytes
    signature: bytes
    kid: str


def directive(rollout: Rollout) -> Directive:
    """What a rollout asks of sidecars as it stands."""
    return Directive(
        rollout=rollout.id,
        scope=rollout.scope,
        version=rollout.version,
        mode=_MODES.get(rollout.state, Mode.BASELINE),
        baseline=rollout.baseline,
        candidate=rollout.candidate,
        share=rollout.share,
        salt=rollout.salt,
        wave=rollout.stage,
        since_ns=rollout.since_ns,
        guarded=not rollout.is_overruled,
    )


def sign(directed: Directive, key: Ed25519PrivateKey, kid: str) -> Statement:
    """The directive in its exact bytes, signed by the key of its scope's stream."""
    body = encode(directed)
    return Statement(body=body, signature=key.sign(DOMAIN + body), kid=kid)


def encode(directed: Directive) -> bytes:
    """The body that is signed."""
    return orjson.dumps({"v": VERSION, "type": "rollout"} | asdict(directed), option=orjson.OPT_SORT_KEYS)


def recalled(body: bytes) -> Directive:
    """A directive that was verified before, and kept where none but its reader writes.

    Raises:
        BundleError: BUNDLE_STATEMENT, it is none.
    """
    told = _document(body)
    if told.pop("v", None) != VERSION or told.pop("type", None) != "rollout":
        raise _refused("it is something else")
    return _directive(told)


def claimed_scope(statement: Statement) -> str:
    """The scope that a statement says it is for: only to find the keys that it is then verified by.

    Raises:
        BundleError: BUNDLE_STATEMENT.
    """
    found = _document(statement.body).get("scope")
    if not isinstance(found, str):
        raise _refused("it names no scope")
    return found


def read(statement: Statement, scope: str, keys: Mapping[str, Ed25519PublicKey]) -> Directive:
    """The directive, if a key of `scope` signed it for that scope.

    Raises:
        BundleError: BUNDLE_STATEMENT.
    """
    key = keys.get(statement.kid)
    if key is None:
        raise _refused("no key of its scope has this kid")
    try:
        key.verify(statement.signature, DOMAIN + statement.body)
    except InvalidSignature:
        raise _refused("the signature does not verify") from None
    told = recalled(statement.body)
    if told.scope != scope:
        raise _refused("it is for another scope")
    return told


def follows(told: Directive, before: Directive | None) -> bool:
    """Whether `told` takes the place of `before`; what is older, or the same again, does not."""
    return before is None or told.version > before.version


def _directive(told: dict[str, object]) -> Directive:
    types = {"version": int, "since_ns": int, "share": float, "guarded": bool}
    names = {field.name for field in fields(Directive)}
    if told.keys() != names or any(type(told[name]) is not types.get(name, str) for name in names):
        raise _refused("its members are not those of a directive")
    try:
        made = Directive(**(told | {"mode": Mode(str(told["mode"]))}))  # type: ignore[arg-type]  # types checked above
    except ValueError:
        raise _refused("its mode is unknown") from None
    digests = DIGEST.fullmatch(made.baseline) and DIGEST.fullmatch(made.candidate)
    is_known = made.candidate or made.mode is Mode.BASELINE
    counts = made.version >= 1 and made.since_ns >= 0 and 0 <= made.share <= 1
    if not (digests and is_known and counts and _ID.fullmatch(made.rollout)):
        raise _refused("a member is out of its range")
    return made


def _document(body: bytes) -> dict[str, object]:
    if len(body) > MAX_BYTES:
        raise _refused("it is too long")
    try:
        return dict(decode_json_object(body))
    except ValueError as error:
        raise _refused(str(error)) from None


def _refused(how: str) -> BundleError:
    return BundleError(f"a rollout's directive is refused: {how}", code="BUNDLE_STATEMENT")
