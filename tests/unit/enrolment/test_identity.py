"""What a sidecar takes for its identity, and what it keeps on disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authz._gen.authz.control.v1 import sidecars_pb2
from authz.control.certificates import SIDECAR_LIFE, issue_server, issue_sidecar, new_authority
from authz.enrolment.folder import IDENTITY, MEMBERSHIP, ROOTS, IdentityFolder
from authz.enrolment.identity import enrolled, new_key, renewed
from authz.enrolment.names import fingerprint
from authz.errors import ConfigError, ProgramError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from authz.control.certificates import Authority
    from authz.enrolment.identity import Identity

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OURS = new_authority(NOW, NOW)
PINNED = fingerprint(OURS.certificate)
FOREIGN = new_authority(NOW, NOW)
KEY = new_key()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def answer(
    signer: Authority = OURS,
    *,
    roots: tuple[Authority, ...] = (OURS,),
    key: EllipticCurvePrivateKey = KEY,
    sidecar: str = "s-1",
    says: str = "s-1",
) -> sidecars_pb2.EnrolResponse:
    return sidecars_pb2.EnrolResponse(
        sidecar=says,
        tenants=["acme"],
        certificates=[der(issue_sidecar(signer, key.public_key(), sidecar, NOW))],
        roots=[der(root.certificate) for root in roots],
        replication="127.0.0.1:9444",
        redis=sidecars_pb2.Redis(url="redis://127.0.0.1:6379", username="sidecar-s-1", password="secret"),
    )


def identity() -> Identity:
    return enrolled(answer(), KEY, PINNED)


def test_an_enrolment_is_taken_from_the_authority_that_the_token_names() -> None:
    taken = identity()
    assert (taken.sidecar, taken.tenants, taken.replication) == ("s-1", ("acme",), "127.0.0.1:9444")
    assert taken.redis.username == "sidecar-s-1"
    assert taken.renew_at - NOW == SIDECAR_LIFE / 2 - timedelta(minutes=2, seconds=30)
    assert "secret" not in repr(taken)


@pytest.mark.parametrize(
    "offered",
    [
        answer(FOREIGN, roots=(FOREIGN,)),
        answer(FOREIGN, roots=(OURS, FOREIGN)),
        answer(roots=()),
        answer(key=new_key()),
        answer(says="s-2"),
        sidecars_pb2.EnrolResponse(sidecar="s-1", roots=[der(OURS.certificate)]),
        sidecars_pb2.EnrolResponse(sidecar="s-1", roots=[b"\x30"]),
        sidecars_pb2.EnrolResponse(
            sidecar="s-1",
            roots=[der(OURS.certificate)],
            certificates=[der(issue_server(OURS, NOW).certificate)],
        ),
    ],
    ids=[
        "its own root",
        "its own root beside ours",
        "none",
        "another key",
        "another id",
        "bare",
        "bytes",
        "a server's",
    ],
)
def test_whoever_stands_between_is_noticed(offered: sidecars_pb2.EnrolResponse) -> None:
    with pytest.raises(ProgramError):
        enrolled(offered, KEY, PINNED)


def test_a_root_slipped_in_at_enrolment_is_not_kept() -> None:
    taken = enrolled(answer(roots=(FOREIGN, OURS)), KEY, PINNED)
    assert taken.roots == (OURS.certificate,)


def test_a_renewal_brings_the_next_root_and_keeps_the_redis_account() -> None:
    key, following = new_key(), new_authority(NOW, NOW + timedelta(hours=48))
    offered = answer(roots=(OURS, following), key=key)
    offered.ClearField("redis")
    taken = renewed(offered, key, identity())
    assert taken.roots == (OURS.certificate, following.certificate)
    assert taken.redis == identity().redis
    assert taken.key is key


def test_a_renewal_never_makes_another_sidecar_of_it() -> None:
    with pytest.raises(ProgramError):
        renewed(answer(sidecar="s-2", says="s-2"), KEY, identity())


def test_an_identity_is_read_as_it_was_kept(tmp_path: Path) -> None:
    folder = IdentityFolder(tmp_path / "sidecar" / "identity")
    assert folder.read() is None
    kept = identity()
    folder.keep(kept)
    read = folder.read()
    assert read is not None
    assert (read.sidecar, read.tenants, read.redis) == ("s-1", ("acme",), kept.redis)
    assert (read.certificates, read.roots, read.key_pem) == (kept.certificates, kept.roots, kept.key_pem)
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()} == {
        IDENTITY: 0o600,
        ROOTS: 0o600,
        MEMBERSHIP: 0o600,
    }
    assert folder.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", [IDENTITY, ROOTS, MEMBERSHIP])
def test_files_that_others_can_read_are_refused(tmp_path: Path, name: str) -> None:
    folder = IdentityFolder(tmp_path)
    folder.keep(identity())
    (tmp_path / name).chmod(0o640)
    with pytest.raises(ConfigError, match="others may read"):
        folder.read()


@pytest.mark.parametrize("name", [IDENTITY, ROOTS, MEMBERSHIP])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe"])
def test_damaged_files_are_said_and_not_guessed_around(tmp_path: Path, name: str, content: bytes) -> None:
    folder = IdentityFolder(tmp_path)
    folder.keep(identity())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="holds no identity"):
        folder.read()


def test_a_key_beside_anothers_certificate_is_refused(tmp_path: Path) -> None:
    folder = IdentityFolder(tmp_path)
    folder.keep(identity())
    other = new_key()
    theirs = enrolled(answer(key=other), other, PINNED)
    (tmp_path / IDENTITY).write_bytes(theirs.key_pem + identity().chain_pem)
    with pytest.raises(ConfigError, match="holds no identity"):
        folder.read()


def test_an_identity_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        IdentityFolder(tmp_path / "file" / "identity").keep(identity())
