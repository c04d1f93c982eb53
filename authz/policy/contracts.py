"""How a policy's result is read, by the contract that it is written for.

Decides nothing: each contract's own module does.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from authz.policy import agent_contract, envoy_contract

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.model import Verdict

INTERPRET: Final[Mapping[str, Callable[[bytes | None], Verdict]]] = MappingProxyType(
    {"agent": agent_contract.interpret, "envoy": envoy_contract.interpret}
)
