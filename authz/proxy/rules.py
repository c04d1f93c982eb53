"""The rules of `authz lint envoy`: stable ids, severities and remedies, in one table.

Decides nothing by itself; `lint.py` finds. An id may be added and never renamed, since people switch rules on by name.
"""

from __future__ import annotations

from typing import Final

from authz.policy.lint import Rule, Severity

_ERRORS: Final = {
    # What is not judged at all
    "nothing-protected": "put envoy.filters.http.ext_authz before the router; envoy/sidecar.yaml shows how",
    "unprotected": "put ext_authz on every listener that forwards, or remove the listener",
    "bypass": "remove the listener, or let it lead through the HTTP filters",
    "route-disabled": "remove `disabled`; answer unjudged paths by direct_response, which forwards nothing",
    "partly-enabled": "let the filter run on every request: no matcher, no `disabled`, filter_enabled at 100 %",
    "shadow-mode": "switch it off; `mode: flag` in the policy tries a rule out and keeps the record",
    "upgrade": "remove it: after an upgrade there are no requests to judge (attack A7)",
    "order": "ext_authz first, then ext_proc, then the router",
    # What is judged on less than the whole
    "body-missing": "with_request_body: {max_request_bytes: 1048576, pack_as_bytes: true}, on every route",
    "body-partial": "judge whole bodies or none: allow_partial_message: false, and no BUFFERED_PARTIAL",
    "body-text": "pack_as_bytes: true",
    "body-too-large": "lower max_request_bytes, or raise limits.max_message_bytes of the service",
    # What is allowed when something fails
    "failure-mode-allow": "failure_mode_allow: false, so that no failure allows",
    "timeout-long": "timeout: 0.2s",
    "timeout-short": "timeout: 0.2s: with less, the service's own denials never arrive",
    # What changes after the decision
    "route-cache": "clear_route_cache: false and route_cache_action: RETAIN, so that the judged route is the one taken",
    "sanitize-promised": "add the ext_proc filter of envoy/sidecar.yaml, or say authz.ext_proc: 'false'",
    "answers-promised": "add the ext_proc filter for answers: lists stay unfiltered and kills cut no stream without it",
    "observability-mode": "switch it off: nothing is redacted while Envoy does not wait for answers",
    "mode-override": "allow_mode_override: false: the modes are part of the promise",
    "no-immediate-response": "disable_immediate_response: false: it is how a failed redaction ends the request",
    "leg": "initial_metadata: [{key: x-leg, value: request}], or `duplex` for answers",
    "metadata-forged": "let no other filter write to envoy.filters.http.ext_authz: redactions rest on it",
    "metadata": "metadata_options: {forwarding_namespaces: {untyped: [envoy.filters.http.ext_authz]}}",
    "encoding": "request_headers_to_remove: [accept-encoding]: an encoded answer cannot be inspected and is refused",
    # How the service is asked
    "api-version": "transport_api_version: V3",
    "http-service": "ask over gRPC: grpc_service",
    "plaintext": "use a Unix socket or loopback, or a transport_socket with TLS",
}
_WARNINGS: Final = {
    "not-seen": "lint what the control plane serves as well",
    "path-changed": "forward the path as it was judged: switch it off, and configure exact paths",
    "timeout-default": "say timeout: 0.2s, above the service's deadline of 0.12 s",
    "body-limit": "max_request_bytes: 1048576, so that the service's own answer names the limit",
    "validate-mutations": "validate_mutations: true",
    "encode-raw-headers": "encode_raw_headers: true: headers that are not UTF-8 are then seen, not replaced (A12)",
    "no-matcher": "run ext_proc only where the decision asked for it: ExtensionWithMatcher, as in envoy/sidecar.yaml",
}

RULES: Final[dict[str, Rule]] = {
    **{name: Rule(name, Severity.ERROR, remedy) for name, remedy in _ERRORS.items()},
    **{name: Rule(name, Severity.WARNING, remedy) for name, remedy in _WARNINGS.items()},
}
