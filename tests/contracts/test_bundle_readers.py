"""Programs that read bundles under an identity which they can keep: a stock OPA with what its own manual offers."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from authz._gen.authz.control.v1 import operators_pb2
from authz.config import BundleTrust, Issuer
from authz.control.config import ControlConfig, OperatorAccess, Publishing, ServerTls, Tokens
from authz.control.http_server import HttpServer
from authz.errors import ConfigError
from authz.identity import jws
from authz.identity.oauth.clients import ASSERTION_TYPE
from tests.contracts.programs import opa, running
from tests.contracts.test_bundle_service import bundle, get, push, reason
from tests.control import new_authority
from tests.control import pem as certificate_pem
from tests.control_planes import control_plane
from tests.e2e.stack import eventually
from tests.identity_fakes import ABSENT, Forge, document, signing_key
from tests.ports import free_port
from tests.publisher import RELEASE, Signer, pem, public_pem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from tests.control_planes import Running

CLUSTER = "https://kubernetes.default.svc.cluster.local"
PROVIDER = "https://login.example"
CLIENT = "opa-payments"
ACCOUNT = "system:serviceaccount:payments:opa"
CLIENT_KEY = Signer("client")
KEYS = signing_key("RS256")


def issuers(folder: Path) -> tuple[Issuer, ...]:
    (folder / "jwks.json").write_bytes(document(KEYS.jwk("k1")))
    keys = str(folder / "jwks.json")
    return (
        Issuer(issuer=CLUSTER, audience="authz-control", jwks=keys, typ=""),
        Issuer(issuer=PROVIDER, audience="authz-control", jwks=keys),
    )


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "release.pem").write_bytes(public_pem(RELEASE.private))
    trust = BundleTrust(keys={"release": tmp_path / "release.pem"})
    with control_plane(tmp_path / "state", issuers=issuers(tmp_path), bundles=Publishing(trust=trust)) as started:
        yield started


def reader(plane: Running, issuer: str, subject: str) -> None:
    """A program that may read acme's, for as long as nobody removes it."""
    wanted = operators_pb2.Operator(
        id=CLIENT,
        automatic=True,
        subject=operators_pb2.Subject(issuer=issuer, subject=subject),
        grants=[operators_pb2.Grant(role=operators_pb2.ROLE_VIEWER, tenant="acme")],
    )
    made = plane.ask(
        "Operators/CreateOperator",
        operators_pb2.CreateOperatorRequest(operator=wanted),
        operators_pb2.CreateOperatorResponse,
    )
    assert not made.operator.HasField("expires_at")


def account_token(**claims: Any) -> str:
    """As the kubelet projects it: no `typ`, a list for `aud`, and claims of Kubernetes' own."""
    told = {
        "aud": ["authz-control"],
        "sub": ACCOUNT,
        "tenant": ABSENT,
        "iat": int(time.time()) - 5,
        "nbf": int(time.time()) - 5,
        "exp": int(time.time()) + 3607,
        "kubernetes.io": {"namespace": "payments", "serviceaccount": {"name": "opa", "uid": "1"}},
    }
    return Forge(KEYS, issuer=CLUSTER).token({"typ": ABSENT}, **(told | claims))


@contextmanager
def stock_opa(plane: Running, folder: Path, service: dict[str, Any], **keys: Any) -> Iterator[int]:
    """The port of a real OPA that follows acme's bundle."""
    written = {
        "services": {"authz": {"url": plane.url, **service}},
        "keys": {"release": {"algorithm": "ES256", "key": public_pem(RELEASE.private).decode()}, **keys},
        "bundles": {
            "payments": {
                "service": "authz",
                "resource": "bundles/acme/payments",
                "signing": {"keyid": "release"},
                "polling": {"min_delay_seconds": 1, "max_delay_seconds": 1},
            }
        },
    }
    (folder / "opa.json").write_text(json.dumps(written))
    port = free_port()
    command = [opa(), "run", "--server", "--addr", f"127.0.0.1:{port}", "--disable-telemetry", "-c"]
    with running([*command, str(folder / "opa.json")], port, folder / "log"):
        yield port


@pytest.mark.e2e
def test_a_stock_opa_reads_as_its_service_account_with_each_token_that_kubernetes_gives_it(
    plane: Running, tmp_path: Path
) -> None:
    reader(plane, CLUSTER, ACCOUNT)
    push(plane, "acme", bundle(1))
    token = tmp_path / "token"
    token.write_text(account_token(exp=int(time.time()) - 60, iat=int(time.time()) - 3600, nbf=ABSENT))
    with stock_opa(plane, tmp_path, {"credentials": {"bearer": {"token_path": str(token)}}}) as port:
        assert eventually(lambda: "Unauthorized" in (tmp_path / "log").read_text())
        assert reason(port) is None
        token.write_text(account_token())  # as the kubelet does, while OPA runs
        assert eventually(lambda: reason(port) == "release-1")
        push(plane, "acme", bundle(2))
        assert eventually(lambda: reason(port) == "release-2")


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "system:serviceaccount:payments:default"},
        {"sub": "system:serviceaccount:other:opa"},
        {"aud": ["https://kubernetes.default.svc"]},
        {"aud": ["authz-control", "vault"]},
        {"iss": PROVIDER},
    ],
)
def test_d6_another_service_account_and_a_token_for_somebody_else_read_nothing(
    plane: Running, claims: dict[str, Any]
) -> None:
    reader(plane, CLUSTER, ACCOUNT)
    push(plane, "acme", bundle(1))
    assert get(plane, "acme/payments", account_token()).status_code == 200
    assert get(plane, "acme/payments", account_token(**claims)).status_code == 401
    assert get(plane, "globex/payments", account_token()).status_code == 403


async def exchange(request: Request) -> Response:
    """An identity provider's token endpoint: client credentials by private_key_jwt (RFC 7523 section 2.2)."""
    asked = dict(await request.form())
    parsed = jws.parse(str(asked["client_assertion"]), frozenset({"alg", "typ"}))
    half = len(parsed.signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (parsed.signature[:half], parsed.signature[half:]))
    try:
        CLIENT_KEY.private.public_key().verify(encode_dss_signature(r, s), parsed.signed, ECDSA(SHA256()))
    except InvalidSignature:
        return JSONResponse({"error": "invalid_client"}, 401)
    assert (asked["grant_type"], asked["client_assertion_type"]) == ("client_credentials", ASSERTION_TYPE)
    now = int(time.time())
    claims = {"aud": "authz-control", "sub": str(parsed.claims["sub"]), "iat": now, "exp": now + 300, "tenant": ABSENT}
    token = Forge(KEYS, issuer=PROVIDER).token(None, **claims)
    return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": 300})


@contextmanager
def provider(folder: Path) -> Iterator[str]:
    """URL of its token endpoint; `roots.pem` in the folder says who signed its certificate."""
    authority = new_authority("provider")
    key, chain = authority.issue("localhost")
    (folder / "key.pem").write_bytes(key)
    (folder / "key.pem").chmod(0o600)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "roots.pem").write_bytes(certificate_pem(authority.certificate))
    app = Starlette(routes=[Route("/token", exchange, methods=["POST"])])
    server = HttpServer("127.0.0.1:0", app, ServerTls(certificate=folder / "chain.pem", key=folder / "key.pem"))
    server.start()
    try:
        yield f"{server.url.replace('127.0.0.1', 'localhost')}/token"
    finally:
        server.stop()


@pytest.mark.e2e
@pytest.mark.parametrize("signer", [CLIENT_KEY, Signer("stranger")], ids=["its key", "another key"])
def test_a_stock_opa_reads_with_tokens_that_it_gets_from_an_identity_provider_by_its_own_key(
    plane: Running, tmp_path: Path, signer: Signer
) -> None:
    reader(plane, PROVIDER, CLIENT)
    push(plane, "acme", bundle(1))
    with provider(tmp_path) as token_url:
        oauth2 = {
            "token_url": token_url,
            "grant_type": "client_credentials",
            "client_id": CLIENT,
            "signing_key": "client",
            "include_jti_claim": True,
            "additional_claims": {"iss": CLIENT, "sub": CLIENT, "aud": token_url},
        }
        service = {"credentials": {"oauth2": oauth2}, "tls": {"ca_cert": str(tmp_path / "roots.pem")}}
        private = {"algorithm": "ES256", "private_key": pem(signer.private).decode()}
        with stock_opa(plane, tmp_path, service, client=private) as port:
            if signer is CLIENT_KEY:
                assert eventually(lambda: reason(port) == "release-1")
            else:
                assert eventually(lambda: "Bundle load failed" in (tmp_path / "log").read_text())
                assert reason(port) is None


def test_d6_agents_tokens_name_no_operators_whatever_is_configured(tmp_path: Path) -> None:
    own = Issuer(issuer=PROVIDER, audience="authz-control", jwks="keys.json")
    config = ControlConfig(operators=OperatorAccess(issuers=(own,)), tokens=Tokens(issuer=PROVIDER))
    stated = config.model_copy(update={"control": config.control.model_copy(update={"state": tmp_path})})
    with pytest.raises(ConfigError, match="names no operators"):
        stated.verify()


def test_a_reader_that_is_removed_reads_no_more(plane: Running) -> None:
    reader(plane, CLUSTER, ACCOUNT)
    push(plane, "acme", bundle(1))
    plane.ask("Operators/DeleteOperator", operators_pb2.DeleteOperatorRequest(id=CLIENT), operators_pb2.Operator)
    assert get(plane, "acme/payments", account_token()).status_code == 401
