"""A token bound to a client certificate is good with that certificate alone (D14; RFC 8705)."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest

from authz.config import TrustedPeer
from authz.model import Confirmation
from tests.possession import CERTIFICATE, OWNER, PEM, THIEF, TOKEN, X5T, Desk

FORWARDED = TrustedPeer(trust_domain="example.org", tenant="acme", source="x-forwarded-client-cert")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def certified(desk: Desk, **changes: Any) -> str:
    return desk.told(Confirmation(certificate=X5T), scheme="Bearer", **changes)


@pytest.mark.parametrize("encoded", [PEM, PEM.strip(), quote(PEM), quote(PEM, safe="")])
def test_the_owner_of_the_certificate_passes(desk: Desk, encoded: str) -> None:
    assert certified(desk, source_certificate=encoded) == ""


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "nonsense",
        PEM.replace("dGhl", "dGhm"),
        PEM + PEM,
        f"{PEM}x",
        PEM.replace("=\n", "\n"),
        PEM.replace("CERTIFICATE", "PUBLIC KEY"),
        CERTIFICATE.decode(),
    ],
)
def test_d14_a_stolen_token_with_another_certificate_is_refused(desk: Desk, encoded: str) -> None:
    assert certified(desk, source_certificate=encoded)


def test_d14_a_header_that_callers_can_write_shows_no_certificate(desk: Desk) -> None:
    written = {
        "x-forwarded-client-cert": f"Hash={sha256(CERTIFICATE).hexdigest()};URI=spiffe://example.org/a",
        "x-client-cert": quote(PEM),
        "client-cert": X5T,
    }
    assert certified(desk, headers=written)
    assert certified(Desk(FORWARDED.model_copy(update={"source": "principal"})), headers=written)


def test_envoys_header_shows_the_certificate_where_the_operator_says_so() -> None:
    header = (
        f'By=spiffe://x;Hash={sha256(CERTIFICATE).hexdigest()};Subject="CN=a,O=b;Hash=00";URI=spiffe://example.org/a'
    )
    assert certified(Desk(FORWARDED), headers={"x-forwarded-client-cert": header}) == ""


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"Hash={sha256(b'other').hexdigest()}",
        "Hash=",
        "URI=spiffe://example.org/a",
        f"Hash={sha256(CERTIFICATE).hexdigest()};Hash={sha256(CERTIFICATE).hexdigest()}",
        f"Hash={sha256(CERTIFICATE).hexdigest()},Hash={sha256(CERTIFICATE).hexdigest()}",
        f'Hash="{sha256(CERTIFICATE).hexdigest()}"',
        f"Hash={sha256(CERTIFICATE).hexdigest()[:-1]}",
        f"Hash={sha256(CERTIFICATE).hexdigest()} ",
        'Subject="Hash=',
    ],
)
def test_d14_envoys_header_with_another_certificate_is_refused(header: str) -> None:
    headers = {"x-forwarded-client-cert": header} if header else {}
    assert certified(Desk(FORWARDED), headers=headers)


def test_envoys_attribute_counts_before_its_header() -> None:
    header = f"Hash={sha256(CERTIFICATE).hexdigest()}"
    other = PEM.replace("dGhl", "dGhm")
    assert certified(Desk(FORWARDED), headers={"x-forwarded-client-cert": header}, source_certificate=other)


def test_d14_where_both_are_bound_both_must_be_shown(desk: Desk) -> None:
    both = Confirmation(certificate=X5T, key=OWNER.jkt)
    proofs = iter(OWNER.proof(TOKEN, jti=f"p-{serial}") for serial in range(9))
    assert desk.told(both, headers={"dpop": next(proofs)})
    assert desk.told(both, source_certificate=PEM)
    assert desk.told(both, headers={"dpop": next(proofs)}, source_certificate=PEM.replace("dGhl", "dGhm"))
    assert desk.told(both, headers={"dpop": THIEF.proof(TOKEN)}, source_certificate=PEM)
    assert desk.told(both, headers={"dpop": next(proofs)}, source_certificate=PEM) == ""
