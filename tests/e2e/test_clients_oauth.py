"""From a 401 to a call: the official client's OAuth provider finds its way by what `authz up` says of itself alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider, SignedJWTParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

from tests.e2e.clients.agents import POLICY, Patient, mcp_server, records, text
from tests.e2e.stack import PATIENCE_S, up
from tests.token_desk import claims_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

    from tests.e2e.stack import Up

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]

REDIRECT = "http://127.0.0.1:1/callback"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("s")
    with mcp_server(folder / "server.log") as url, up(folder / "u", url, policy=POLICY) as running:
        yield running


class Storage:
    """What a client keeps: in memory."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class AuthorizationServer:
    """Answers for the issuer's origin, whose name resolves nowhere: one client, who is always granted."""

    def __init__(self, office: Up) -> None:
        self.office = office
        self.issuer = str(office.ready["issuer"])
        self.asked: list[str] = []
        self.resource = ""
        self.state = ""

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        answers: dict[str, Any] = {
            "/.well-known/oauth-authorization-server": {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "registration_endpoint": f"{self.issuer}/register",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
            },
            "/register": {"client_id": "client", "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"},
            "/token": {"access_token": self.office.token(), "token_type": "Bearer", "expires_in": 300},
        }
        if request.url.path == "/token":
            self.resource = parse_qs(request.content.decode())["resource"][0]
        found = answers.get(request.url.path)
        status = 404 if found is None else 201 if request.url.path == "/register" else 200
        return httpx2.Response(status, json=found)

    async def send_person(self, url: str) -> None:
        self.state = parse_qs(urlsplit(url).query)["state"][0]

    async def return_person(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code="code", state=self.state)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_oauth_client_finds_the_issuer_gets_a_token_and_calls(office: Up, mode: str) -> None:
    server = AuthorizationServer(office)
    provider = OAuthClientProvider(
        office.url,
        OAuthClientMetadata.model_validate({"redirect_uris": [REDIRECT], "client_name": "agent"}),
        Storage(),
        redirect_handler=server.send_person,
        callback_handler=server.return_person,
    )
    async with (
        httpx2.AsyncClient(
            auth=provider,
            timeout=PATIENCE_S,
            transport=Patient(),
            mounts={server.issuer: httpx2.MockTransport(server.answer)},
        ) as http,
        Client(streamable_http_client(office.url, http_client=http), mode=mode) as client,
    ):
        assert text(await client.call_tool("read", {"path": "/a"})) == "The contents of /a."
    assert server.asked == ["/.well-known/oauth-authorization-server", "/register", "/token"]
    assert server.resource == office.url


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_agent_with_a_key_of_its_own_finds_the_control_plane_gets_a_token_and_calls(
    office: Up, mode: str
) -> None:
    """The official client's private_key_jwt against the token endpoint of `authz up`; no server of the test's own."""
    office.token()  # registers the agent, and keeps its key in the state folder
    client_id, key = "acme/agent", Path(office.ready["state"]) / "agents" / "agent@acme.pem"
    signed = SignedJWTParameters(
        issuer=client_id, subject=client_id, signing_key=key.read_text(), signing_algorithm="EdDSA"
    )
    storage = Storage()
    provider = PrivateKeyJWTOAuthProvider(
        office.url,
        storage,
        client_id=client_id,
        assertion_provider=signed.create_assertion_provider(),
        issuer=str(office.ready["issuer"]),
    )
    async with (
        httpx2.AsyncClient(auth=provider, timeout=PATIENCE_S, transport=Patient()) as http,
        Client(streamable_http_client(office.url, http_client=http), mode=mode) as client,
    ):
        assert text(await client.call_tool("read", {"path": "/a"})) == "The contents of /a."
    assert storage.tokens is not None
    assert storage.tokens.token_type == "Bearer"
    assert claims_of(storage.tokens.access_token)["client_id"] == client_id


@pytest.mark.parametrize("path", ["", "/mcp"])
def test_the_document_is_found_with_and_without_the_route_s_path(office: Up, path: str) -> None:
    base = office.url.removesuffix("/mcp")
    document = httpx2.get(f"{base}/.well-known/oauth-protected-resource{path}").json()
    assert document["resource"] == office.url
    assert document["authorization_servers"] == [office.ready["issuer"]]


def test_the_challenge_leads_to_the_document_and_is_on_record(office: Up) -> None:
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}
    answer = httpx2.post(office.url, json=message, headers={"mcp-protocol-version": "2025-11-25"})
    assert answer.status_code == 401
    assert f'resource_metadata="{office.url.removesuffix("/mcp")}/.well-known' in answer.headers["www-authenticate"]
    assert records(office)[-1]["reason"] == "TOKEN_MISSING"


@pytest.mark.parametrize("path", ["/.well-known/oauth-protected-resource/other", "/.well-known/openid-configuration"])
def test_what_is_not_published_is_not_found_behind(office: Up, path: str) -> None:
    answer = httpx2.get(office.url.removesuffix("/mcp") + path)
    assert answer.status_code in {403, 404}
    assert json.loads(answer.content)["code"] == "PATH_UNKNOWN"
