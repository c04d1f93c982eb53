"""The signing keys of access tokens, as operators see and rotate them. Private halves have no message.

Decides how a ring of keys reads. When a key signs is the schedule's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError

from authz._gen.authz.control.v1 import keys_pb2 as pb
from authz.control.refusals import Code, RefusedError
from authz.identity.signing_keys import KeyState
from authz.reasons import KEYS_CHANGED

if TYPE_CHECKING:
    from authz.control.callers import Caller
    from authz.database import Database
    from authz.identity.signing_keys import KeyRing
    from authz.identity.signing_keys_sql import SigningKeys

_STATES: Final = {
    KeyState.NEXT: pb.KEY_STATE_NEXT,
    KeyState.SIGNING: pb.KEY_STATE_SIGNING,
    KeyState.RETIRING: pb.KEY_STATE_RETIRING,
    KeyState.WITHDRAWN: pb.KEY_STATE_WITHDRAWN,
}


class KeysService:
    """`authz.control.v1.Keys`."""

    def __init__(self, database: Database, keys: SigningKeys) -> None:
        self._database = database
        self._keys = keys

    def list_keys(self, _request: pb.ListKeysRequest, _caller: Caller) -> pb.ListKeysResponse:
        """Keys that are published or were withdrawn, oldest first."""
        return _message(*self._keys.published())

    def rotate_keys(self, request: pb.RotateKeysRequest, _caller: Caller) -> pb.ListKeysResponse:
        """Begin to sign with the next key."""
        try:
            with self._database.write() as connection:
                ring = self._keys.rotate(connection, emergency=request.emergency)
                now_ns = self._database.now_ns(connection)
        except IntegrityError:
            raise RefusedError(Code.ABORTED, KEYS_CHANGED) from None
        return _message(ring, now_ns)


def _message(ring: KeyRing, now_ns: int) -> pb.ListKeysResponse:
    answer = pb.ListKeysResponse()
    for key in ring.keys:
        state = ring.state(key, now_ns)
        if state is KeyState.RETIRED:
            continue
        message = answer.keys.add(kid=key.kid, algorithm=key.algorithm, state=_STATES[state])
        message.created_at.FromNanoseconds(key.created_ns)
        message.signs_from.FromNanoseconds(key.signs_from_ns)
        until_ns = ring.published_until_ns(key)
        if until_ns is not None:
            message.published_until.FromNanoseconds(until_ns)
    return answer
