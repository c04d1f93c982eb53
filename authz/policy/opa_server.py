"""Engine adapter: an OPA server over HTTP, for installations that already run one (`policy.opa_url`).

Decides nothing. The server holds its own policies, so this adapter opens none: it asks what is there. Must
never build a path from a caller's data (CVE-2025-46569), follow a redirect, retry, or take any answer but a
whole 200 for a result; no `result` in it means undefined, and everything else that is not OPA's own
evaluation error means the engine is unavailable (G9). A server that is silent past the deadline is
unavailable too: whether the policy or the server is slow cannot be told from here.

Trusts the server's answers, so it is asked on loopback or over TLS only. Why not `opa-python-client`:
docs/adr/opa-server-adapter.md.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import orjson
import urllib3

from authz.errors import BundleError, ConfigError, PolicyError, UnavailableError
from authz.loopback import is_loopback
from authz.policy.engine import entrypoint_names
from authz.reasons import POLICY_ERROR, POLICY_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from authz.model import JsonObject, JsonValue
    from authz.policy.engine import PolicySource, Steps

OPEN_S: Final = 5.0
"""For listing the policies at start; evaluations have deadlines of their own."""
CONNECTIONS: Final = 64

_OK: Final = 200


class ServerEngine:
    """Asks the OPA server at `url`, such as `http://127.0.0.1:8181`. Thread-safe.

    Raises:
        ConfigError: not a plain http or https URL, or plaintext to another machine, where a forged `true` allows.
    """

    def __init__(self, url: str, *, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ConfigError(f"`{url}` is not the address of an OPA server", remedy="write http://127.0.0.1:8181")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ConfigError(f"plaintext to `{parts.hostname}` could be forged into an allow", remedy="use https")
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.connection_from_url(url, maxsize=CONNECTIONS, headers=headers)

    def open(self, source: PolicySource) -> ServerPolicy:
        """Look at the policies that the server holds; see `Engine.open`.

        Raises:
            ConfigError: `source` names a policy, which a server would have to load by itself.
        """
        if source.paths or source.archive is not None:
            raise ConfigError(
                "an OPA server loads its own policies", remedy="give either policy paths or an OPA server"
            )
        modules = self._list("/v1/policies") or []
        bundles = self._list("/v1/data/system/bundles") or {}
        return ServerPolicy(self, modules, bundles, strict=source.contract == "agent")

    def ask(self, method: str, path: str, body: bytes | None, deadline_s: float) -> JsonObject:
        """One request and its JSON answer.

        Raises:
            PolicyError: POLICY_ERROR when OPA says that the evaluation failed.
            UnavailableError: POLICY_UNAVAILABLE on anything else that is not a whole 200.
        """
        # A repeated question would double the time, and a redirect would let another server answer.
        try:
            response = self._pool.request(method, path, body=body, timeout=deadline_s, retries=False, redirect=False)
            document = orjson.loads(response.data)
        except (urllib3.exceptions.HTTPError, orjson.JSONDecodeError) as error:
            raise UnavailableError(POLICY_UNAVAILABLE) from error
        # Exactly 200: a proxy's 201 or 304 is nobody's decision.
        if response.status != _OK or not isinstance(document, dict):
            raise _failed(document)
        return document

    def _list(self, path: str) -> Any:  # noqa: ANN401 - JSON
        return self.ask("GET", path, None, OPEN_S).get("result")

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()


class ServerPolicy:
    """What the server held when it was opened. The server may change it at any time, which no digest here notices."""

    def __init__(
        self, engine: ServerEngine, modules: list[dict[str, Any]], bundles: dict[str, Any], *, strict: bool
    ) -> None:
        manifests = [bundle.get("manifest", {}) for _, bundle in sorted(bundles.items())]
        self._engine = engine
        self._strict = strict
        self._rules = frozenset(rule for module in modules for rule in _rules(module["ast"]))
        self._read = frozenset(_input_fields([module["ast"] for module in modules]))
        self.digest: Final = _digest(modules)
        self.revision: Final = next((manifest["revision"] for manifest in manifests if manifest.get("revision")), "")
        self.metadata: Final[JsonObject] = {
            key: value for manifest in manifests for key, value in (manifest.get("metadata") or {}).items()
        }
        self.warnings: Final[tuple[str, ...]] = ()
        self.input_paths: Final = frozenset[tuple[str, ...]]()

    def reads(self, field: str) -> bool:
        """Whether some rule surely reads `input.<field>`."""
        return field in self._read

    def may_read(self, field: str) -> bool:
        """Whether some rule may read `input.<field>`; one that asks for the phase may speak about any."""
        return self.reads(field) or self.reads("phase")

    def query(self, entrypoint: str) -> ServerQuery:
        """Name an entrypoint; see `Policy.query`."""
        names = entrypoint_names(entrypoint)
        # Either may be the longer: an entrypoint names a package, a rule, or a part of a rule's value.
        if not any(rule[: len(names)] == names[: len(rule)] for rule in self._rules):
            raise BundleError(f"`{entrypoint}`: no rule of the OPA server is there")
        options = "?strict-builtin-errors=true" if self._strict else ""
        return ServerQuery(self._engine, f"/v1/data/{'/'.join(names)}{options}")

    def close(self) -> None:
        """Nothing is held: the policies are the server's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ServerQuery:
    """One entrypoint of the server."""

    def __init__(self, engine: ServerEngine, path: str) -> None:
        self._engine = engine
        self._path = path

    def ask(self, input_json: bytes, deadline_s: float) -> Steps[bytes | None]:
        """Ask, all in one step: this thread waits for the server."""
        yield from ()
        return self.evaluate(input_json, deadline_s)

    def evaluate(self, input_json: bytes, deadline_s: float) -> bytes | None:
        """Ask; see `Query.evaluate`."""
        document = self._engine.ask("POST", self._path, b'{"input":' + input_json + b"}", deadline_s)
        # OPA answers 200 without `result` where the rule is undefined.
        return orjson.dumps(document["result"]) if "result" in document else None


def _failed(document: JsonValue) -> PolicyError | UnavailableError:
    errors = document.get("errors") if isinstance(document, dict) else None
    codes = [error.get("code") for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    if any(isinstance(code, str) and code.startswith("eval_") for code in codes):
        return PolicyError(POLICY_ERROR)
    return UnavailableError(POLICY_UNAVAILABLE)


def _digest(modules: list[dict[str, Any]]) -> str:
    """SHA-256 over names and sources, each with its length before it, so that no two lists read the same."""
    digest = hashlib.sha256()
    for module in sorted(modules, key=lambda module: module["id"]):
        for text in (module["id"].encode(), module["raw"].encode()):
            digest.update(len(text).to_bytes(8) + text)
    return digest.hexdigest()


def _rules(module: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The path of each rule below `data`, up to where it stops being constant."""
    package = [term["value"] for term in module["package"]["path"][1:]]
    for rule in module.get("rules", []):
        names = [term["value"] for term in rule["head"]["ref"] if isinstance(term["value"], str)]
        yield (*package, *names)


def _input_fields(document: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """X of every `input.X` in a syntax tree as OPA writes it."""
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            match node:
                case {"type": "ref", "value": [{"value": "input"}, {"type": "string", "value": str(field)}, *_]}:
                    yield field
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
