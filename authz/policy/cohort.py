"""Which agents a candidate policy answers: a fixed place for each agent in each rollout.

Decides by a hash of tenant and agent under the rollout's salt. An agent's place never moves while the rollout lasts, so
whoever is in a wave is in every later one; another rollout's salt deals the places anew, so that the same agents are
not the first each time. Must never depend on the call, or one agent would meet two policies within one task. Pure.
"""

from __future__ import annotations

import functools
from enum import StrEnum
from hashlib import sha256


class Cohort(StrEnum):
    """Whose policy answers a call while a rollout is under way."""

    BASELINE = "baseline"
    CANDIDATE = "candidate"


@functools.lru_cache(maxsize=16_384)
def place(salt: str, tenant: str, agent: str) -> float:
    """From 0 up to, but not including, 1: the same for the same three texts, everywhere and for ever."""
    total = sha256()
    for text in (salt, tenant, agent):
        # Lengths first: ("ab", "c") and ("a", "bc") are two places.
        encoded = text.encode()
        total.update(len(encoded).to_bytes(8, "big") + encoded)
    # 53 bits, as many as a double holds: more would round up to 1.
    return (int.from_bytes(total.digest()[:8], "big") >> 11) / (1 << 53)


def cohort(salt: str, share: float, tenant: str, agent: str) -> Cohort:
    """The candidate's where the agent's place lies within `share`."""
    return Cohort.CANDIDATE if place(salt, tenant, agent) < share else Cohort.BASELINE
