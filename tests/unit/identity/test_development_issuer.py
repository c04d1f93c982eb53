from __future__ import annotations

import json
import logging
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authz.config import Issuer, Limits
from authz.encoding import decode_base64url
from authz.errors import ConfigError
from authz.identity import development_issuer
from authz.identity.clock_guard import ClockGuard
from authz.identity.development_issuer import KEY_FILE, _public_jwk, open_issuer
from authz.identity.jwks_source import open_jwks
from authz.identity.tokens import TokenVerifier, TrustedIssuer
from authz.reasons import TOKEN_EXPIRED, TOKEN_ISSUER, TOKEN_SIGNATURE
from tests.identity_fakes import Bench, SteppingClock, reason_of, signing_key

if TYPE_CHECKING:
    from pathlib import Path

    from authz.identity.development_issuer import DevelopmentIssuer


def verifier_of(issuer: DevelopmentIssuer, clock: SteppingClock) -> TokenVerifier:
    trusted = Issuer(issuer=issuer.issuer, audience=issuer.audience, jwks=str(issuer.jwks_path))
    keys = open_jwks(trusted, clock=clock, limits=Limits())
    return TokenVerifier([TrustedIssuer(issuer=trusted, keys=keys)], clock=ClockGuard(clock))


def test_its_tokens_are_accepted_where_it_is_configured(tmp_path: Path) -> None:
    issuer, clock = open_issuer(tmp_path), SteppingClock()
    token = issuer.mint(
        agent="planner", tenant="acme", session="s", scopes=["a", "b"], parents=["root"], ttl_s=60, clock=clock
    )
    verifier = verifier_of(issuer, clock)
    principal = verifier.verify(token)
    assert (principal.agent, principal.subject, principal.tenant) == ("planner", "planner", "acme")
    assert (principal.session, principal.scopes, principal.parents) == ("s", ("a", "b"), ("root",))
    clock.advance(60 + 30)
    assert reason_of(lambda: verifier.verify(token)) is TOKEN_EXPIRED


def test_its_tokens_are_refused_where_it_is_not_configured(tmp_path: Path) -> None:
    bench = Bench()
    token = open_issuer(tmp_path).mint(agent="a", tenant="acme", clock=bench.clock)
    assert bench.outcome(token) is TOKEN_ISSUER


def test_another_folders_tokens_are_refused(tmp_path: Path) -> None:
    one, other, clock = open_issuer(tmp_path / "one"), open_issuer(tmp_path / "other"), SteppingClock()
    forged = development_issuer.DevelopmentIssuer(key=other.key, jwks_path=one.jwks_path)
    token = forged.mint(agent="a", tenant="acme", clock=clock).split(".")
    genuine = one.mint(agent="a", tenant="acme", clock=clock).split(".")
    spliced = ".".join([genuine[0], *token[1:]])
    assert reason_of(lambda: verifier_of(one, clock).verify(spliced)) is TOKEN_SIGNATURE


def test_two_tokens_differ_in_their_jti(tmp_path: Path) -> None:
    issuer, clock = open_issuer(tmp_path), SteppingClock()
    payloads = [issuer.mint(agent="a", tenant="t", clock=clock).split(".")[1] for _ in range(2)]
    first, second = (json.loads(decode_base64url(payload)) for payload in payloads)
    assert first.pop("jti") != second.pop("jti")
    assert first == second


@pytest.mark.parametrize("ttl_s", [0, -1, 901])
def test_a_token_of_no_or_too_long_life_is_not_minted(tmp_path: Path, ttl_s: int) -> None:
    with pytest.raises(ConfigError, match="900"):
        open_issuer(tmp_path).mint(agent="a", tenant="t", ttl_s=ttl_s)


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    first, second = open_issuer(tmp_path / "new" / "state"), open_issuer(tmp_path / "new" / "state")
    assert first.key.private_bytes_raw() == second.key.private_bytes_raw()
    assert sorted(path.name for path in (tmp_path / "new" / "state").iterdir()) == [KEY_FILE, "jwks.json"]


def test_only_the_owner_can_read_the_key(tmp_path: Path) -> None:
    open_issuer(tmp_path)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o666])
def test_k4_a_key_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    open_issuer(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(ConfigError, match="open to other users"):
        open_issuer(tmp_path)


@pytest.mark.parametrize("kind", ["empty", "noise", "another algorithm", "public"])
def test_k4_a_key_file_without_an_ed25519_key_is_refused(tmp_path: Path, kind: str) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

    pem = {
        "empty": b"",
        "noise": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "another algorithm": signing_key("ES256").private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        "public": signing_key("EdDSA").pem(),
    }[kind]
    path = tmp_path / KEY_FILE
    path.write_bytes(pem)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not an Ed25519"):
        open_issuer(tmp_path)


def test_of_many_that_start_at_once_all_use_one_key(tmp_path: Path) -> None:
    keys: list[bytes] = []
    start = threading.Barrier(8)

    def first_use() -> None:
        start.wait()
        keys.append(open_issuer(tmp_path).key.private_bytes_raw())

    threads = [threading.Thread(target=first_use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_no_private_member_is_published(tmp_path: Path) -> None:
    (published,) = json.loads(open_issuer(tmp_path).jwks_path.read_bytes())["keys"]
    assert set(published) == {"kty", "crv", "x", "kid", "alg", "use"}


def test_the_kid_is_the_thumbprint_of_rfc_8037() -> None:
    d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
    jwk = _public_jwk(Ed25519PrivateKey.from_private_bytes(decode_base64url(d)))
    assert jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert jwk["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_neither_making_nor_trusting_it_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        issuer = open_issuer(tmp_path)
        assert "made a development issuer" in caplog.text
        caplog.clear()
        open_issuer(tmp_path)
        assert caplog.text == ""
        verifier_of(issuer, SteppingClock())
        assert "tokens of the development issuer are trusted" in caplog.text
    assert issuer.issuer.endswith(".invalid")
