"""The streams of kills in Redis, as their publisher writes them. Redis is the fast path and never the truth.

Decides what Redis holds of a stream, and whether Redis may be used at all: one that evicts would drop a stream of kills
without a word when its memory is full (E4), so it is refused. An entry's id is its place in the ledger: Redis itself
refuses a second writer, a duplicate and a step back. Must never trust what it reads there: anybody with write access
may have put it there, and the publisher checks its signature.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from authz.errors import AuthzError, ConfigError
from authz.revocation import redis_streams
from authz.revocation.publication_sql import PublicationState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from authz.revocation.entries import Signed

ANSWER_S: Final = 1.0
"""Longest wait for Redis: as long as sidecars wait before they ask the control plane themselves."""
_KEPT: Final = "noeviction"


class PublicationError(AuthzError):
    """Redis takes no entries. `state` says whether it is broken or was refused."""

    def __init__(self, state: PublicationState, detail: str) -> None:
        super().__init__(f"redis {state}: {detail}")
        self.state = state
        self.detail = detail


class MisplacedError(AuthzError):
    """Redis refused a message for its id or its key: the stream is not as it was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The two ends of a stream in Redis; ids are (epoch, sequence).

    `last` is the highest id that it ever had, `top` that of the last message which is there; they differ where messages
    at the end were removed. `signed` is that message, `first` the oldest one.
    """

    last: tuple[int, int]
    top: tuple[int, int] = (0, 0)
    signed: Signed | None = None
    first: Signed | None = None


BROKEN: Final = Tail(last=(1 << 64, 0))
"""The key holds something that is no stream."""


class RedisWriter:
    """One connection's worth of writing; for one thread.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user and password.

    Raises:
        ConfigError: the URL is none of these.
    """

    def __init__(self, url: str) -> None:
        try:
            # One try: the publisher looks again soon, and what it writes it may write twice.
            self._client: Any = redis.Redis.from_url(
                url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0)
            )
        except ValueError:
            raise ConfigError("the Redis URL is not one", remedy="give redis://, rediss:// or unix://") from None

    def require_no_eviction(self) -> None:
        """Refuse a Redis that drops streams when its memory is full.

        Raises:
            PublicationError: REFUSED, or FAILED where it does not answer.
        """
        with _failures_named():
            policy = self._client.info("memory").get("maxmemory_policy")
        if policy != _KEPT:
            detail = f"its maxmemory-policy is {policy or 'not told'}, so it may drop kills: set it to {_KEPT}"
            raise PublicationError(PublicationState.REFUSED, detail)

    def tails(self, streams: Sequence[str]) -> list[Tail | None]:
        """The end of each stream; None where there is no such key.

        Raises:
            PublicationError: Redis does not answer.
        """
        with _failures_named():
            asked = self._client.pipeline(transaction=False)
            for stream in streams:
                asked.xinfo_stream(redis_streams.entries_key(stream))
            return [_tail(answer) for answer in asked.execute(raise_on_error=False)]

    def put(self, stream: str, messages: Iterable[tuple[int, int, Signed]]) -> None:
        """Append messages, each with its epoch and last sequence.

        Raises:
            MisplacedError: see there.
            PublicationError: Redis does not answer, or takes nothing.
        """
        with _failures_named():
            sent = self._client.pipeline(transaction=False)
            for epoch, sequence, signed in messages:
                sent.xadd(
                    redis_streams.entries_key(stream),
                    redis_streams.fields(signed),
                    id=redis_streams.entry_id(epoch, sequence),
                    minid=redis_streams.oldest_id(epoch, sequence),
                    approximate=True,
                )
            _raise_first(sent.execute(raise_on_error=False))

    def beat(self, heartbeats: Sequence[tuple[str, Signed]]) -> None:
        """Publish a heartbeat on each stream.

        Raises:
            PublicationError: Redis does not answer, or takes nothing.
        """
        with _failures_named():
            sent = self._client.pipeline(transaction=False)
            for stream, signed in heartbeats:
                key = redis_streams.heartbeat_key(stream)
                sent.xadd(key, redis_streams.fields(signed), maxlen=redis_streams.MAX_HEARTBEATS, approximate=False)
            answers = sent.execute(raise_on_error=False)
            # Somebody wrote something else there, or used its ids up: begin that key anew.
            broken = [
                redis_streams.heartbeat_key(stream)
                for (stream, _), answer in zip(heartbeats, answers, strict=True)
                if _is_misplaced(answer)
            ]
            if broken:
                self._client.delete(*broken)
            _raise_first(answer for answer in answers if not _is_misplaced(answer))

    def reset(self, stream: str) -> None:
        """Remove what Redis holds of `stream`, for the publisher to write it again.

        Raises:
            PublicationError: Redis does not answer, or refuses.
        """
        with _failures_named():
            self._client.delete(redis_streams.entries_key(stream))

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


def _tail(answer: Any) -> Tail | None:  # noqa: ANN401 - whatever Redis said
    if isinstance(answer, redis.ResponseError):
        if "no such key" in str(answer):
            return None
        if not _is_misplaced(answer):
            raise answer
        return BROKEN
    if isinstance(answer, Exception):
        raise answer
    last = _id(answer["last-generated-id"])
    if not answer["last-entry"]:
        return Tail(last=last)
    (top, values), (_, oldest) = answer["last-entry"], answer["first-entry"]
    return Tail(last=last, top=_id(top), signed=redis_streams.signed(values), first=redis_streams.signed(oldest))


def _id(text: bytes) -> tuple[int, int]:
    epoch, _, sequence = text.partition(b"-")
    return int(epoch), int(sequence)


def _is_misplaced(answer: object) -> bool:
    """Whether Redis complains of the key or the id, and not of itself."""
    text = str(answer)
    return isinstance(answer, redis.ResponseError) and ("WRONGTYPE" in text or "ID" in text)


def _raise_first(answers: Iterable[object]) -> None:
    for answer in answers:
        if _is_misplaced(answer):
            raise MisplacedError("redis refused a message for its id or its key")
        if isinstance(answer, Exception):
            raise answer


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        # Redis' own words name no secret; an address would, so a connection's error is named by its kind.
        detail = str(error) if isinstance(error, redis.ResponseError) else type(error).__name__
        raise PublicationError(PublicationState.FAILED, detail) from None
