from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, RSAKey

from authz import reasons
from authz.config import Issuer, Limits
from authz.encoding import encode_base64url
from authz.errors import ConfigError, UnavailableError
from authz.identity.tokens import MAX_TOKEN_BYTES, TokenVerifier, TrustedIssuer
from tests.identity_fakes import ABSENT, NOW, Bench, FakeKeys, Forge, key_set, reason_of, signing_key

if TYPE_CHECKING:
    from joserfc.jwk import KeyParameters


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256", "PS256"])
def test_a_token_of_each_algorithm_is_accepted(algorithm: str) -> None:
    bench = Bench(forge=Forge(signing_key(algorithm)))
    assert bench.verifier.verify(bench.forge.token()).subject == "alice"


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256"])
def test_a_token_made_by_another_implementation_is_accepted(algorithm: str) -> None:
    named: KeyParameters = {"kid": "j1", "alg": algorithm}
    key = ECKey.generate_key("P-256", named) if algorithm == "ES256" else RSAKey.generate_key(2048, named)
    bench = Bench()
    bench.keys.current = key_set(key.as_dict(private=False))
    header = {"alg": algorithm, "kid": "j1", "typ": "at+jwt"}
    token = joserfc_jwt.encode(header, bench.forge.claims(), key, algorithms=[algorithm])
    assert bench.verifier.verify(token).tenant == "acme"


# --- algorithms and keys


def unsigned(algorithm: str, signature: str = "") -> str:
    header = encode_base64url(json.dumps({"alg": algorithm, "kid": "k1", "typ": "at+jwt"}).encode())
    return f"{header}.{encode_base64url(json.dumps(Forge(signing_key('EdDSA')).claims()).encode())}.{signature}"


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "NONE"])
@pytest.mark.parametrize("signature", ["", "AA", "e30"])
def test_d1_an_unsigned_token_is_refused(bench: Bench, algorithm: str, signature: str) -> None:
    assert bench.outcome(unsigned(algorithm, signature)) is reasons.TOKEN_ALG


@pytest.mark.parametrize("form", ["pem", "pem without newline", "jwk", "jwk document", "x", "empty"])
@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_d2_hmac_with_the_public_key_as_secret_is_refused(form: str, algorithm: str) -> None:
    bench = Bench(forge=Forge(signing_key(algorithm)))
    jwk = bench.forge.key.jwk("k1")
    secrets = {
        "pem": bench.forge.key.pem(),
        "pem without newline": bench.forge.key.pem().strip(),
        "jwk": json.dumps(jwk).encode(),
        "jwk document": json.dumps({"keys": [jwk]}).encode(),
        "x": base64.urlsafe_b64decode((jwk.get("x") or jwk["n"]) + "=="),
        "empty": b"",
    }
    signed = unsigned("HS256").removesuffix(".")
    tag = hmac.new(secrets[form], signed.encode(), hashlib.sha256).digest()
    assert bench.outcome(f"{signed}.{encode_base64url(tag)}") is reasons.TOKEN_ALG


def test_d2_a_published_symmetric_key_verifies_nothing(bench: Bench) -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    bench.keys.current = key_set({"kty": "oct", "k": encode_base64url(secret), "kid": "k1", "alg": "HS256"})
    signed = unsigned("HS256").removesuffix(".")
    tag = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    assert bench.outcome(f"{signed}.{encode_base64url(tag)}") is reasons.TOKEN_ALG
    assert bench.outcome(bench.forge.token()) is reasons.TOKEN_KID


@pytest.mark.parametrize("named", ["ES256", "RS256", "PS256"])
def test_d3_a_header_that_names_another_algorithm_than_the_key_is_refused(bench: Bench, named: str) -> None:
    assert bench.outcome(bench.forge.token({"alg": named})) is reasons.TOKEN_ALG


def test_d3_a_pss_signature_under_a_pkcs1_key_is_refused() -> None:
    bench = Bench(forge=Forge(signing_key("PS256")))
    bench.keys.current = key_set(signing_key("RS256").jwk("k1"))
    assert bench.outcome(bench.forge.token()) is reasons.TOKEN_ALG
    assert bench.outcome(bench.forge.token({"alg": "RS256"})) is reasons.TOKEN_SIGNATURE


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256", "PS256"])
def test_a_signature_by_another_key_is_refused(algorithm: str) -> None:
    bench = Bench(forge=Forge(signing_key(algorithm)))
    assert bench.outcome(Forge(signing_key(algorithm, 1)).token()) is reasons.TOKEN_SIGNATURE


def test_a_payload_under_another_tokens_signature_is_refused(bench: Bench) -> None:
    header, _, signature = bench.forge.token().split(".")
    payload = bench.forge.token(sub="mallory").split(".")[1]
    assert bench.outcome(f"{header}.{payload}.{signature}") is reasons.TOKEN_SIGNATURE


def test_d12_zero_ecdsa_signature_is_refused() -> None:
    bench = Bench(forge=Forge(signing_key("ES256")))
    signed = bench.forge.token().rpartition(".")[0]
    assert bench.outcome(f"{signed}.{encode_base64url(bytes(64))}") is reasons.TOKEN_SIGNATURE


# --- kid


@pytest.mark.parametrize("kid", ["k2", "K1", "../../dev/null", "' OR 1", "k1 ", "https://evil.example/key"])
def test_d5_a_kid_that_is_not_published_is_refused(bench: Bench, kid: str) -> None:
    assert bench.outcome(bench.forge.token({"kid": kid})) is reasons.TOKEN_KID


def test_d5_without_a_kid_one_key_is_enough_and_two_are_too_many(bench: Bench) -> None:
    token = bench.forge.token({"kid": ABSENT})
    assert bench.outcome(token) is None
    bench.keys.current = key_set(bench.forge.key.jwk("k1"), signing_key("EdDSA", 1).jwk("k2"))
    assert bench.outcome(token) is reasons.TOKEN_KID
    assert bench.keys.refreshes == 0


def test_d5_a_new_key_is_found_by_asking_for_newer_keys_once(bench: Bench) -> None:
    successor = Forge(signing_key("EdDSA", 1), kid="k2")
    bench.keys.published = key_set(bench.forge.key.jwk("k1"), successor.key.jwk("k2"))
    assert bench.outcome(successor.token()) is None
    assert bench.keys.refreshes == 1
    assert bench.outcome(bench.forge.token()) is None
    assert bench.keys.refreshes == 1


# --- form


def test_d7_a_token_over_8_kib_is_refused_before_it_is_decoded(bench: Bench) -> None:
    assert bench.outcome("." * (MAX_TOKEN_BYTES + 1)) is reasons.TOKEN_SIZE
    assert bench.outcome(bench.forge.token(padding="x" * 2_000_000)) is reasons.TOKEN_SIZE


def test_d7_a_token_of_exactly_8_kib_is_judged(bench: Bench) -> None:
    fill = MAX_TOKEN_BYTES - len(bench.forge.token(padding=""))
    sizes = {len(token := bench.forge.token(padding="x" * (fill * 3 // 4 - slack))): token for slack in range(4)}
    largest = max(size for size in sizes if size <= MAX_TOKEN_BYTES)
    assert largest >= MAX_TOKEN_BYTES - 3
    assert bench.outcome(sizes[largest]) is None


@pytest.mark.parametrize("token", ["", "é.é.é", "\ud800.a.b", "\uff21.b.c", "a b c"])
def test_text_that_is_no_token_is_refused(bench: Bench, token: str) -> None:
    assert bench.outcome(token) is reasons.TOKEN_MALFORMED


# --- issuer and type


@pytest.mark.parametrize(
    "issuer",
    ["https://issuer.example/", "https://issuer.exampl", "https://issuer.example.evil", "HTTPS://issuer.example", ""],
)
def test_d9_an_issuer_that_is_not_exactly_configured_is_refused(bench: Bench, issuer: str) -> None:
    assert bench.outcome(bench.forge.token(iss=issuer)) is reasons.TOKEN_ISSUER


@pytest.mark.parametrize("issuer", [ABSENT, None, 1, ["https://issuer.example"], {}])
def test_d9_an_issuer_that_is_no_string_is_refused(bench: Bench, issuer: Any) -> None:
    assert bench.outcome(bench.forge.token(iss=issuer)) is reasons.TOKEN_CLAIMS


def two_issuers() -> tuple[TokenVerifier, Forge, Forge]:
    one, two = Bench(), Bench(forge=Forge(signing_key("EdDSA", 1), issuer="https://two.example", audience="two"))
    return TokenVerifier([one.trusted(), two.trusted()], clock=one.guard), one.forge, two.forge


def test_d9_the_same_subject_of_two_issuers_is_two_principals() -> None:
    verifier, one, two = two_issuers()
    first, second = verifier.verify(one.token()), verifier.verify(two.token())
    assert (first.issuer, first.subject) == ("https://issuer.example", "alice")
    assert (second.issuer, second.subject) == ("https://two.example", "alice")


def test_d9_an_issuer_cannot_sign_for_another_nor_use_its_audience() -> None:
    verifier, one, two = two_issuers()
    forged = Forge(two.key, issuer=one.issuer, audience=one.audience)
    assert reason_of(lambda: verifier.verify(forged.token())) is reasons.TOKEN_SIGNATURE
    assert reason_of(lambda: verifier.verify(two.token(aud="authz"))) is reasons.TOKEN_AUD


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_an_access_token_type_is_a_media_type(bench: Bench, typ: str) -> None:
    assert bench.outcome(bench.forge.token({"typ": typ})) is None


@pytest.mark.parametrize(
    "typ",
    [ABSENT, "", "JWT", "at", "jwt", "at+jwt ", "at+jwt;x=1", "text/at+jwt", "approval+jwt", "dpop+jwt", "logout+jwt"],
)
def test_d10_a_token_of_another_kind_is_refused(bench: Bench, typ: Any) -> None:
    assert bench.outcome(bench.forge.token({"typ": typ})) is reasons.TOKEN_TYP


def test_d10_another_type_is_taken_only_where_configured() -> None:
    bench = Bench(settings={"typ": "JWT"})
    assert bench.outcome(bench.forge.token({"typ": "JWT"})) is None
    assert bench.outcome(bench.forge.token({"typ": "at+jwt"})) is reasons.TOKEN_TYP


def test_missing_trust_refuses_to_start(bench: Bench) -> None:
    with pytest.raises(ConfigError):
        TokenVerifier([], clock=bench.guard)
    with pytest.raises(ConfigError):
        TokenVerifier([bench.trusted(), bench.trusted()], clock=bench.guard)


# --- keys and clock that are not there


def test_d13_no_keys_is_unavailable_and_says_so(bench: Bench) -> None:
    bench.keys.unavailable = UnavailableError(reasons.JWKS_UNAVAILABLE)
    assert bench.outcome(bench.forge.token()) is reasons.JWKS_UNAVAILABLE


def test_d13_keys_gone_stale_refuse_a_cached_token_too(bench: Bench) -> None:
    token = bench.forge.token()
    assert bench.outcome(token) is None
    bench.keys.unavailable = UnavailableError(reasons.JWKS_UNAVAILABLE)
    assert bench.outcome(token) is reasons.JWKS_UNAVAILABLE


def test_d8_a_stepped_clock_refuses_new_and_cached_tokens(bench: Bench) -> None:
    cached = bench.forge.token()
    assert bench.outcome(cached) is None
    bench.clock.step(-3600)
    assert bench.outcome(cached) is reasons.CLOCK_STEP
    assert bench.outcome(bench.forge.token(jti="j-2")) is reasons.CLOCK_STEP


def test_d8_an_expired_token_stays_expired_when_the_clock_steps_back(bench: Bench) -> None:
    token = bench.forge.token()
    bench.clock.advance(400)
    assert bench.outcome(token) is reasons.TOKEN_EXPIRED
    bench.clock.step(-4)
    assert bench.outcome(token) is reasons.TOKEN_EXPIRED
    bench.clock.step(-396)
    assert bench.outcome(token) is reasons.CLOCK_STEP


def test_the_age_of_an_issuers_keys_can_be_asked(bench: Bench) -> None:
    assert bench.verifier.keys_age_s(bench.forge.issuer) == 0.0


# --- the cache


def test_a_cached_token_gives_the_same_principal(bench: Bench) -> None:
    token = bench.forge.token()
    assert bench.verifier.verify(token) is bench.verifier.verify(token)


def test_a_cache_of_no_size_still_verifies() -> None:
    bench = Bench(limits=Limits(token_cache=0))
    token = bench.forge.token()
    assert bench.verifier.verify(token) == bench.verifier.verify(token)
    assert bench.verifier.verify(token) is not bench.verifier.verify(token)


def test_d8_a_cached_token_expires_to_the_second(bench: Bench) -> None:
    token = bench.forge.token()
    assert bench.outcome(token) is None
    bench.clock.advance(290 + 29.9)
    assert bench.outcome(token) is None
    bench.clock.advance(0.1)
    assert bench.outcome(token) is reasons.TOKEN_EXPIRED


def test_a_cached_token_dies_with_its_key(bench: Bench) -> None:
    token = bench.forge.token()
    assert bench.outcome(token) is None
    bench.keys.current = key_set(signing_key("EdDSA", 1).jwk("k2"))
    assert bench.outcome(token) is reasons.TOKEN_KID


def test_a_cached_token_does_not_outlive_a_key_exchanged_under_its_kid(bench: Bench) -> None:
    token = bench.forge.token()
    assert bench.outcome(token) is None
    bench.keys.current = key_set(signing_key("EdDSA", 1).jwk("k1"))
    assert bench.outcome(token) is reasons.TOKEN_SIGNATURE


def test_d13_a_rotation_with_overlap_loses_no_token(bench: Bench) -> None:
    old, new = bench.forge, Forge(signing_key("EdDSA", 1), kid="k2")
    assert bench.outcome(old.token()) is None
    bench.keys.current = key_set(old.key.jwk("k1"), new.key.jwk("k2"))
    assert [bench.outcome(token) for token in (old.token(), new.token(), old.token(jti="j-2"))] == [None] * 3
    bench.keys.current = key_set(new.key.jwk("k2"))
    assert [bench.outcome(new.token()), bench.outcome(old.token())] == [None, reasons.TOKEN_KID]


def test_a_refused_token_is_refused_again(bench: Bench) -> None:
    token = bench.forge.token(aud="other")
    assert [bench.outcome(token), bench.outcome(token)] == [reasons.TOKEN_AUD] * 2


def test_many_threads_get_the_right_principal_each() -> None:
    bench = Bench(limits=Limits(token_cache=8))
    tokens = {bench.forge.token(sub=f"agent-{serial}", jti=f"j-{serial}"): f"agent-{serial}" for serial in range(40)}
    wrong: list[str] = []
    start = threading.Barrier(8)

    def call() -> None:
        start.wait()
        for token, subject in list(tokens.items()) * 5:
            if bench.verifier.verify(token).subject != subject:
                wrong.append(subject)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(bench.verifier._cache) <= 8


# --- silence


def test_j12_no_refusal_repeats_the_token_or_its_claims(bench: Bench) -> None:
    canary = "canary-4711"
    tokens = [
        bench.forge.token(sub=canary, aud=canary),
        bench.forge.token(iss=canary),
        bench.forge.token(tenant=[canary]),
        bench.forge.token({"kid": canary}),
        bench.forge.token({"typ": canary}),
        bench.forge.token({canary: 1}),
        bench.forge.token(scope=f"{canary}\t"),
        bench.forge.sealed(None, f'{{"{canary}": 1, "{canary}": 2}}'.encode()),
        f"{canary}é",
    ]
    for token in tokens:
        with pytest.raises(Exception, match="TOKEN_") as refusal:
            bench.verifier.verify(token)
        seen: list[BaseException | None] = [refusal.value]
        while seen[-1] is not None:
            seen.append(seen[-1].__cause__ or seen[-1].__context__ if not seen[-1].__suppress_context__ else None)
        assert canary not in " ".join(repr(error) for error in seen)
        assert token not in " ".join(repr(error) for error in seen)


def test_a_principal_holds_a_digest_of_the_jti_and_not_the_token(bench: Bench) -> None:
    principal = bench.verifier.verify(bench.forge.token(jti="secret-jti"))
    assert principal.jti_sha256 == hashlib.sha256(b"secret-jti").hexdigest()
    assert "secret-jti" not in repr(principal)
    assert principal.expires_at == NOW + 290


def test_trusted_issuers_may_share_nothing_but_the_verifier() -> None:
    keys = FakeKeys(key_set())
    issuer = Issuer(issuer="https://empty.example", audience="authz", jwks="unused")
    bench = Bench()
    verifier = TokenVerifier([bench.trusted(), TrustedIssuer(issuer=issuer, keys=keys)], clock=bench.guard)
    assert reason_of(lambda: verifier.verify(Forge(bench.forge.key, issuer=issuer.issuer).token())) is reasons.TOKEN_KID
