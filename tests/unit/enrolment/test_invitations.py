"""The enrolment token."""

from __future__ import annotations

import contextlib
import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.enrolment.invitations import Invitation
from authz.errors import ConfigError

PINNED = bytes(range(32))
WHOLE = Invitation.new(PINNED, os.urandom).text


def test_a_token_is_read_as_it_was_written() -> None:
    invitation = Invitation.new(PINNED, os.urandom)
    assert Invitation.read(invitation.text) == invitation
    assert Invitation.new(PINNED, os.urandom) != invitation


def test_what_is_kept_of_it_is_a_hash() -> None:
    invitation = Invitation.new(PINNED, lambda size: b"\x41" * size)
    assert invitation.secret_sha256 == hashlib.sha256(b"A" * 32).hexdigest()
    assert "AA" not in repr(invitation)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "authz-enrol-1",
        WHOLE[:-2],
        WHOLE + "00",
        WHOLE.upper(),
        WHOLE + "\n",
        " " + WHOLE,
        "authz-enrol-2" + WHOLE[13:],
    ],
)
def test_other_text_is_none_and_is_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Invitation.read(text)
    assert str(refused.value) == "--enrol is not an enrolment token"


@given(st.text())
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert Invitation.read(text).text == text
