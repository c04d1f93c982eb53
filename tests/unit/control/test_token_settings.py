from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from authz.control.config import ControlConfig, Listeners, Tokens

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "issuer", ["control.example", "ftp://control.example", "https://", "https://a/", "https://a?b", "https://a#b"]
)
def test_rfc8414_2_an_issuer_is_a_url_without_query_fragment_and_final_slash(issuer: str) -> None:
    with pytest.raises(ValidationError):
        Tokens(issuer=issuer)


def test_an_issuer_may_have_a_path() -> None:
    assert Tokens(issuer="https://control.example/tenant").issuer


@pytest.mark.parametrize(
    "settings",
    [{"algorithm": "RS256"}, {"rotation_s": 60}, {"spawn_depth": 17}, {"live": 0}, {"audience": ""}, {"issuers": "x"}],
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Tokens(**settings)


def test_the_defaults_of_tokens() -> None:
    assert Tokens().model_dump() == {
        "issuer": "",
        "audience": "authz",
        "resources": {},
        "algorithm": "EdDSA",
        "rotation_s": 2_592_000.0,
        "client_ca": None,
        "spawn_depth": 5,
        "spawn_per_minute": 60,
        "spawn_alive": 1_000,
        "live": 10_000,
    }


def test_keys_that_lie_beside_what_they_seal_are_warned_of(tmp_path: Path) -> None:
    def warned(**listeners: Any) -> bool:
        told = ControlConfig(control=Listeners(state=tmp_path, **listeners)).warnings()
        return any("key_encryption_key" in each for each in told)

    assert warned()
    assert not warned(key_encryption_key=tmp_path / "key")
    assert not warned(key_encryption_base64=b64encode(b"k" * 32).decode())


def test_an_issuer_that_differs_by_instance_is_warned_of(tmp_path: Path) -> None:
    exposed: Any = {"http": "10.0.0.1:8443", "tls": {"certificate": tmp_path, "key": tmp_path}}
    config = ControlConfig(control=Listeners(state=tmp_path, **exposed))
    assert any("tokens.issuer" in each for each in config.warnings())
    named = config.model_copy(update={"tokens": Tokens(issuer="https://control.example")})
    assert not any("tokens.issuer" in each for each in named.warnings())
