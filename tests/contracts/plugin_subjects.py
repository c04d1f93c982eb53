"""The subjects of the parity suite: the parts of contract `envoy`, `authz serve`, and opa-envoy-plugin's own binary."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import pytest
from google.protobuf import json_format

from authz._gen.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from authz.edge.plugin_body import GrpcMethods
from authz.edge.plugin_input import plugin_input
from authz.edge.reply import REASON
from authz.errors import InvalidRequestError, PolicyError
from authz.model import Effect, Mode
from authz.policy.envoy_contract import input_json, interpret
from tests.contracts.plugin_cases import MALFORMED, check, descriptor_set
from tests.contracts.plugin_results import ERROR, Answer
from tests.contracts.programs import running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from authz.model import Verdict

RESULT = "x-result"
"""The policy under test answers with what this header holds, and with its own input where there is none."""
REGO = f"""
package envoy.authz

given := input.attributes.request.http.headers["{RESULT}"]

allow := json.unmarshal(given) if given

allow := {{"allowed": true, "dynamic_metadata": {{"input": json.marshal(input)}}}} if not given

# Without a rule that reads it, ours would deny truncated bodies.
truncated if input.truncated_body
"""
SECONDS = 10


class Subject(Protocol):
    """Reads requests and answers with results as one side of the comparison does."""

    def read(self, request: Any) -> Any:
        """The input document, or MALFORMED."""

    def answer(self, result: str) -> Answer | str:
        """What Envoy is told when the policy's result is this JSON, empty for undefined; or ERROR."""


@contextmanager
def subject(name: str, directory: Path, configuration: dict[str, Any]) -> Iterator[Subject]:
    """`parts`, `served` or `plugin`, with the plugin's own configuration keys."""
    if name == "parts":
        yield Parts(configuration)
        return
    port = free_port()
    options, policy = _files(directory, port, configuration)
    if name == "served":
        # The first calls of a cold process on a busy machine are not what is compared.
        patient = directory / "authz.yaml"
        patient.write_text(f"limits: {{deadline_s: {SECONDS}}}\npolicy: {{evaluation_s: {SECONDS}}}\n")
        files = [f"--config={patient}", f"--opa-config={options}", f"--policy={policy}"]
        command = [sys.executable, "-m", "authz", "serve", "--diagnostics=", *files]
    else:
        private = ["--addr=127.0.0.1:0", "--diagnostic-addr=127.0.0.1:0", "--disable-telemetry"]
        command = [_plugin(), "run", "--server", *private, f"--config-file={options}", str(policy)]
    with running(command, port, directory / "log"), closing(Served(port)) as served:
        yield served


def _plugin() -> str:
    binary = os.environ.get("OPA_ENVOY_PLUGIN")
    if not binary:
        pytest.skip("OPA_ENVOY_PLUGIN does not name the plugin's binary: only ours is held to the expectations")
    return binary


def _files(directory: Path, port: int, configuration: dict[str, Any]) -> tuple[Path, Path]:
    (directory / "set.pb").write_bytes(descriptor_set())
    if "proto-descriptor" in configuration:
        configuration = {**configuration, "proto-descriptor": str(directory / "set.pb")}
    (directory / "policy.rego").write_text(REGO)
    plugins = {"envoy_ext_authz_grpc": {"addr": f"127.0.0.1:{port}", **configuration}}
    (directory / "opa.json").write_text(json.dumps({"plugins": plugins}))
    return directory / "opa.json", directory / "policy.rego"


class Parts:
    """The parts of contract `envoy`, put together."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self._dry_run = configuration.get("dry-run", False)
        self._parse_body = not configuration.get("skip-request-body-parse", False)
        self._grpc_methods = GrpcMethods(descriptor_set()) if "proto-descriptor" in configuration else None

    def read(self, request: Any) -> Any:
        parsed = CheckRequest.FromString(request.SerializeToString())
        try:
            document = plugin_input(parsed, parse_body=self._parse_body, grpc_methods=self._grpc_methods)
        except InvalidRequestError as error:
            return MALFORMED if error.reason.http_status == 400 else str(error)
        return json.loads(input_json(document, reads_truncated_body=True))

    def answer(self, result: str) -> Answer | str:
        try:
            verdict = interpret(result.encode() or None, dry_run=self._dry_run)
        except PolicyError:
            return ERROR
        return _acted_on(verdict)


class Served:
    """A running service, asked over gRPC."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._check: Callable[..., Any] = self._channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=CheckRequest.SerializeToString,
            response_deserializer=CheckResponse.FromString,
        )

    def read(self, request: Any) -> Any:
        response = self._check(request, timeout=SECONDS, wait_for_ready=True)
        if response.status.code:
            return MALFORMED if response.denied_response.status.code == 400 else str(response)
        return json.loads(response.dynamic_metadata.fields["input"].string_value)

    def answer(self, result: str) -> Answer | str:
        headers = {RESULT: result or "undefined"}
        try:
            response = self._check(check(headers=headers), timeout=SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            return ERROR if error.code() is grpc.StatusCode.UNKNOWN else str(error)
        if any(each.header.key == REASON for each in response.denied_response.headers):
            return ERROR
        return _read_response(response)

    def close(self) -> None:
        self._channel.close()


def _acted_on(verdict: Verdict) -> Answer:
    changes = verdict.headers
    allowed = verdict.effect is Effect.ALLOW or verdict.mode is Mode.FLAG
    return Answer(
        allowed=allowed,
        status=200 if allowed else verdict.http_status or 0,
        body=verdict.body or "",
        headers=_flat(changes.upsert),
        response_headers=_flat(changes.response),
        remove=changes.remove,
        query_set=tuple(sorted(changes.query_set, key=lambda pair: pair[0])),
        query_remove=changes.query_remove,
        metadata={key: value for key, value in verdict.metadata.items() if key != "decision_id"},
    )


def _flat(headers: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, values in sorted(headers.items()) for value in values)


def _read_response(response: Any) -> Answer:
    metadata = json_format.MessageToDict(response.dynamic_metadata)
    assert metadata.pop("decision_id")
    if response.status.code:
        denied = response.denied_response
        # Without a denied_response Envoy answers 403 with no body.
        status = denied.status.code if response.HasField("denied_response") else 403
        return Answer(
            allowed=False, status=status, body=denied.body, headers=_options(denied.headers), metadata=metadata
        )
    ok = response.ok_response
    return Answer(
        allowed=True,
        headers=_options(ok.headers),
        response_headers=_options(ok.response_headers_to_add),
        remove=tuple(ok.headers_to_remove),
        query_set=tuple(
            sorted(((each.key, each.value) for each in ok.query_parameters_to_set), key=lambda pair: pair[0])
        ),
        query_remove=tuple(ok.query_parameters_to_remove),
        metadata=metadata,
    )


def _options(options: Any) -> tuple[tuple[str, str], ...]:
    pairs = [(each.header.key, each.header.value) for each in options]
    # Names come in the order of a Go map, the values of one name in the policy's order; sorting by name is stable.
    return tuple(sorted(pairs, key=lambda pair: pair[0]))
