"""The challenge and the document, as the official MCP client reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp.client.auth.utils import (
    build_protected_resource_metadata_discovery_urls,
    extract_resource_metadata_from_www_auth,
    extract_scope_from_www_auth,
)
from mcp.shared.auth import ProtectedResourceMetadata

from authz.config import Config, Issuer, Route
from authz.identity import metadata
from authz.model import Check
from authz.reasons import SCOPE, TOKEN_EXPIRED, TOKEN_MISSING

if TYPE_CHECKING:
    from authz.reasons import Reason

CONFIG = Config(
    routes=(Route(path="/mcp", scopes=("tools:read", "tools:write")),),
    issuers=(Issuer(issuer="https://issuer.example", audience="authz", jwks="unused"),),
)
SERVER = "http://127.0.0.1:10000/mcp"


def request(url: str, method: str = "POST") -> Check:
    parts = urlsplit(url)
    return Check(method=method, scheme=parts.scheme, host=parts.netloc, path=parts.path)


def refused(reason: Reason) -> httpx2.Response:
    challenge = metadata.challenge(reason, request(SERVER), CONFIG.routes[0])
    return httpx2.Response(reason.http_status, headers={"www-authenticate": challenge})


@pytest.mark.parametrize("reason", [TOKEN_MISSING, TOKEN_EXPIRED, SCOPE])
def test_the_client_finds_the_document_and_the_scopes_in_the_challenge(reason: Reason) -> None:
    response = refused(reason)
    location = extract_resource_metadata_from_www_auth(response)
    assert location == "http://127.0.0.1:10000/.well-known/oauth-protected-resource/mcp"
    assert extract_scope_from_www_auth(response) == "tools:read tools:write"


def test_every_url_that_the_client_tries_gives_the_document_of_its_server() -> None:
    location = extract_resource_metadata_from_www_auth(refused(TOKEN_MISSING))
    tried = build_protected_resource_metadata_discovery_urls(location, SERVER)
    assert len(tried) == 3
    for url in tried:
        answer = metadata.answer(request(url, "GET"), CONFIG)
        assert answer is not None
        document = ProtectedResourceMetadata.model_validate_json(answer.body)
        assert str(document.resource) == SERVER
        assert [str(server).rstrip("/") for server in document.authorization_servers] == ["https://issuer.example"]
        assert document.scopes_supported == ["tools:read", "tools:write"]
