"""Upstream tokens got by token exchange, kept until shortly before they expire, and fetched off the decision path.

Decides for whom a token is good: for the same principal with the same scopes on the same route, or, where a route
exchanges a token of this service's own, for every caller of the route. Must never make a decision wait: what is not at
hand is `UPSTREAM_CREDENTIAL`, and is fetched for the next call. Must never give one caller what was issued for another,
nor hold more than a bounded number of them.

Trusts the endpoint's word on how long a token lives. Callers' tokens are held in memory while they are exchanged anew.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from authz.errors import UnavailableError
from authz.reasons import UPSTREAM_CREDENTIAL

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent import futures

    from authz.clock import Clock
    from authz.identity.token_exchange import Issued
    from authz.model import Principal

    Exchange: TypeAlias = Callable[[str], Issued]

log: Final = logging.getLogger(__name__)
MAX_TOKENS: Final = 10_000
WORKERS: Final = 4
MARGIN_S: Final = 5.0
"""A token is not used in its last seconds: it must live until the tool has read it."""
REFRESH_SHARE: Final = 0.25
"""A token that is in use is fetched anew once this share of its life is left."""
RETRY_S: Final = 1.0
"""After a failure, the endpoint is not asked again for this caller for so long."""
_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Kept:
    """One caller's token at one route. Times are monotonic, in nanoseconds; `subject` is what was last exchanged."""

    subject: str
    value: str = ""
    until_ns: int = 0
    refresh_ns: int = 0
    is_asked: bool = False
    not_before_ns: int = 0


class ExchangedTokens:
    """The tokens of one route. Thread-safe.

    Args:
        exchange: asks the endpoint; blocks.
        own: reads this service's own token, exchanged for all callers; None exchanges each caller's.
        pool: where exchanges run.
    """

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        pool: futures.Executor,
        own: Callable[[], str] | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._exchange = exchange
        self._now_ns = clock.monotonic_ns
        self._pool = pool
        self._own = own
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, _Kept] = OrderedDict()

    def start(self) -> None:
        """Fetch what is the same for all callers, so that the first finds it."""
        if self._own is not None:
            self._wanted(None, self._own())

    def of(self, principal: Principal, token: str) -> str:
        """The value of `authorization` towards the tool.

        Raises:
            UnavailableError: UPSTREAM_CREDENTIAL; it is not at hand, and is being fetched.
        """
        key, subject = (None, self._own()) if self._own is not None else (_key(principal), token)
        if not subject:
            raise UnavailableError(UPSTREAM_CREDENTIAL, "the caller has no token that could be exchanged")
        kept = self._wanted(key, subject)
        if self._now_ns() >= kept.until_ns:
            raise UnavailableError(UPSTREAM_CREDENTIAL)
        return kept.value

    def _wanted(self, key: object, subject: str) -> _Kept:
        """The entry, which is fetched if it is due."""
        now = self._now_ns()
        with self._lock:
            kept = self._kept.setdefault(key, _Kept(subject))
            kept.subject = subject
            self._kept.move_to_end(key)
            if len(self._kept) > self._max_tokens:
                self._kept.popitem(last=False)
            if kept.is_asked or now < max(kept.refresh_ns, kept.not_before_ns):
                return kept
            kept.is_asked = True
        self._pool.submit(self._fetch, kept)
        return kept

    def _fetch(self, kept: _Kept) -> None:
        try:
            issued = self._exchange(kept.subject)
        except UnavailableError as error:
            log.warning("%s", error.detail)
            self._settle(kept, None)
        except Exception:
            log.exception("a token exchange failed")
            self._settle(kept, None)
        else:
            self._settle(kept, issued)

    def _settle(self, kept: _Kept, issued: Issued | None) -> None:
        now = self._now_ns()
        with self._lock:
            kept.is_asked = False
            kept.not_before_ns = now + int(RETRY_S * _NS)
            if issued is not None:
                kept.value = f"Bearer {issued.token}"
                kept.refresh_ns = now + int(issued.life_s * (1 - REFRESH_SHARE) * _NS)
                kept.until_ns = now + int(max(issued.life_s - MARGIN_S, 0.0) * _NS)


def _key(principal: Principal) -> object:
    """Whose token it is: all that an endpoint could read in the caller's, but for its name and its times."""
    return (
        principal.issuer,
        principal.tenant,
        principal.agent,
        principal.subject,
        principal.session,
        principal.scopes,
        principal.parents,
        principal.client,
    )
