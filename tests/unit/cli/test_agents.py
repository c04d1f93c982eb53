"""`authz agents`, `authz keys` and `authz token` against a control plane in this process."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authz.control.config import ControlConfig, Listeners
from authz.identity import jose
from authz.wiring_control import ControlPlane
from tests.identity_fakes import signing_key
from tests.token_desk import claims_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import Ran, Run


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    free = "127.0.0.1:0"
    state = tmp_path_factory.mktemp("state")
    running = ControlPlane(ControlConfig(control=Listeners(grpc=free, http=free, replication=free, state=state)))
    running.start()
    yield running
    running.stop()


class Operator:
    """Someone at the command line who has the control plane's state folder."""

    def __init__(self, run: Run, plane: ControlPlane, folder: Path) -> None:
        self._run = run
        self.plane = plane
        self.folder = folder

    def authz(self, *words: object) -> Ran:
        return self._run(*words, "--state", self.plane.state)

    def done(self, *words: object) -> Any:
        """What a command says in JSON, which must succeed."""
        ran = self.authz(*words, "--output", "json")
        assert (ran.code, ran.err) == (0, ""), ran.err
        return ran.document()

    def add(self, name: str, *words: object) -> Path:
        """Register an agent with a new key; returns the key's file."""
        key = self.folder / f"{name}.pem"
        self.done("agents", "add", name, "--tenant", "acme", "--owner", "ana", "--key", key, *words)
        return key

    def token(self, name: str, *words: object) -> dict[str, Any]:
        """The claims of a token."""
        ran = self.authz("token", "--agent", name, "--tenant", "acme", *words)
        assert (ran.code, ran.err) == (0, ""), ran.err
        assert ran.out.count("\n") == 1
        return claims_of(ran.out.strip())


@pytest.fixture
def operator(run: Run, plane: ControlPlane, tmp_path: Path) -> Operator:
    return Operator(run, plane, tmp_path)


def test_an_agent_is_added_with_a_key_that_is_its_owners_alone_and_gets_a_token(operator: Operator) -> None:
    key = operator.folder / "billing.pem"
    words = ("agents", "add", "billing", "--tenant", "acme", "--owner", "ana", "--key", key, "--tool", "files/*")
    said = operator.authz(*words)
    assert said.code == 0
    assert f"authz token --agent billing --tenant acme --key {key}" in said.out
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "PRIVATE" not in said.out
    claims = operator.token("billing", "--key", key, "--session", "s-1", "--scope", "read write", "--ttl", "60")
    assert (claims["agent_id"], claims["tenant"], claims["session"]) == ("billing", "acme", "s-1")
    assert (claims["scope"], claims["exp"] - claims["iat"]) == ("read write", 60)


@pytest.mark.parametrize("algorithm", jose.SIGNING_ALGORITHMS)
def test_the_key_may_be_of_either_algorithm(operator: Operator, algorithm: str) -> None:
    key = operator.add(f"of-{algorithm}", "--algorithm", algorithm)
    assert operator.token(f"of-{algorithm}", "--key", key)


def test_a_key_file_is_never_overwritten_and_goes_where_the_call_failed(operator: Operator) -> None:
    key = operator.add("twice")
    before = key.read_bytes()
    words = ("agents", "add", "twice", "--tenant", "acme", "--owner", "ana")
    assert operator.authz(*words, "--key", key).code == 2
    assert key.read_bytes() == before
    other = operator.folder / "other.pem"
    refused = operator.authz(*words, "--key", other)
    assert (refused.code, "AGENT_EXISTS" in refused.err) == (1, True)
    assert not other.exists()


def test_a_key_that_others_may_read_is_not_used(operator: Operator) -> None:
    key = operator.add("open")
    key.chmod(0o644)
    refused = operator.authz("token", "--agent", "open", "--tenant", "acme", "--key", key)
    assert (refused.code, "chmod 600" in refused.err) == (2, True)


def test_an_agent_is_added_with_a_public_key_or_a_certificate_that_it_has(operator: Operator) -> None:
    jwk, pem, certificate = (operator.folder / name for name in ("key.jwk", "key.pem", "certificate.pem"))
    jwk.write_text(json.dumps(signing_key("ES256").jwk()))
    pem.write_bytes(signing_key("RS256").pem())
    certificate.write_bytes(self_signed())
    for name, words in (
        ("with-jwk", ("--public-key", jwk)),
        ("with-pem", ("--public-key", pem)),
        ("with-certificate", ("--certificate", certificate)),
    ):
        made = operator.done("agents", "add", name, "--tenant", "acme", "--owner", "ana", *words)
        assert len(made["credentials"]) == 1


def test_a_private_key_is_not_sent_for_a_public_one(operator: Operator) -> None:
    key = operator.add("careful")
    words = ("agents", "add", "careless", "--tenant", "acme", "--owner", "ana")
    assert operator.authz(*words, "--public-key", key).code == 2
    private = operator.folder / "private.jwk"
    private.write_text(json.dumps(signing_key("EdDSA").jwk(d="AA")))
    refused = operator.authz(*words, "--public-key", private)
    assert (refused.code, "CREDENTIAL_INVALID" in refused.err) == (2, True)
    assert operator.authz(*words, "--public-key", operator.folder / "absent").code == 2
    assert operator.authz(*words, "--public-key", private, "--key", operator.folder / "x.pem").code == 2


def test_a_passport_says_first_that_the_agent_is_stopped(operator: Operator) -> None:
    operator.add("stopped")
    shown = operator.authz("agents", "show", "stopped", "--tenant", "acme").out
    assert shown.startswith("agent ")
    made = operator.done("kill", "agent", "stopped", "--tenant", "acme", "--reason", "it must stop")["id"]
    shown = operator.authz("agents", "show", "stopped", "--tenant", "acme").out
    assert shown.startswith(f"STOPPED by {made}")


def test_a_tenant_without_agents_says_so(operator: Operator) -> None:
    assert operator.authz("agents", "list", "--tenant", "nobodys").out == "no agent of nobodys is registered\n"


def test_a_passport_says_everything_and_can_be_exported(operator: Operator) -> None:
    key = operator.add("shown", "--purpose", "shows", "--scope", "read", "--reason", "ticket 7")
    operator.token("shown", "--key", key)
    operator.done("agents", "pause", "shown", "--tenant", "acme", "--reason", "odd transfers")
    passport = operator.done("agents", "show", "shown", "--tenant", "acme")
    assert passport["agent"]["lifecycle"] == "LIFECYCLE_PAUSED"
    assert passport["agent"]["ceiling"] == {"scopes": {"names": ["read"]}}
    assert passport["live_tokens"] == 1
    assert [(each["by"], each.get("changed"), each["reason"]) for each in passport["versions"]] == [
        ("bootstrap-1", None, "ticket 7"),
        ("bootstrap-1", ["lifecycle"], "odd transfers"),
    ]
    table = operator.authz("agents", "show", "shown", "--tenant", "acme").out
    assert "odd transfers" in table
    assert "paused" in table


def test_a_paused_agent_gets_no_token_until_it_is_resumed_and_a_retired_one_never(operator: Operator) -> None:
    key = operator.add("moved")
    words = ("token", "--agent", "moved", "--tenant", "acme", "--key", key)
    operator.done("agents", "pause", "moved", "--tenant", "acme")
    refused = operator.authz(*words)
    assert (refused.code, "unauthorized_client" in refused.err, refused.out) == (1, True, "")
    operator.done("agents", "resume", "moved", "--tenant", "acme")
    assert operator.authz(*words).code == 0
    operator.done("agents", "retire", "moved", "--tenant", "acme")
    assert "invalid_client" in operator.authz(*words).err
    assert operator.authz("agents", "resume", "moved", "--tenant", "acme").code == 1


def test_set_changes_what_is_given_and_nothing_else(operator: Operator) -> None:
    operator.add("changed", "--scope", "read", "--tool", "files/*", "--autonomy", "observe")
    words = ("agents", "set", "changed", "--tenant", "acme")
    changed = operator.done(*words, "--autonomy", "autonomous", "--no-memory-writes", "--no-tools")
    assert (changed["autonomy"], changed["memory_writes_paused"]) == ("AUTONOMY_AUTONOMOUS", True)
    assert changed["ceiling"] == {"scopes": {"names": ["read"]}, "tools": {}}
    changed = operator.done(
        *words, "--any-scope", "--tool", "s/x", "--memory-writes", "--owner", "ben", "--purpose", "p"
    )
    assert (changed["ceiling"], changed["owner"]) == ({"tools": {"names": ["s/x"]}}, "ben")
    assert "memory_writes_paused" not in changed
    assert operator.authz(*words, "--no-scopes", "--any-scope").code == 2


def test_a_rotated_key_is_dead_and_the_new_one_works(operator: Operator) -> None:
    old = operator.add("rotated")
    new = operator.folder / "new.pem"
    operator.token("rotated", "--key", old)
    operator.done("agents", "rotate", "rotated", "--tenant", "acme", "--key", new, "--reason", "leaked")
    assert operator.authz("token", "--agent", "rotated", "--tenant", "acme", "--key", old).code == 1
    assert operator.token("rotated", "--key", new)
    assert "live_tokens" in operator.done("agents", "show", "rotated", "--tenant", "acme")


def test_agents_are_listed(operator: Operator) -> None:
    operator.add("listed")
    operator.done("agents", "pause", "listed", "--tenant", "acme")
    assert "listed" in [each["id"] for each in operator.done("agents", "list", "--tenant", "acme")]
    paused = operator.authz("agents", "list", "--tenant", "acme", "--lifecycle", "paused").out
    assert any(line.startswith("listed  paused") for line in paused.splitlines())
    assert operator.done("agents", "list", "--tenant", "globex") == []


@pytest.mark.parametrize("kind", ["agent", "subtree"])
def test_a_list_says_who_is_stopped_although_active(operator: Operator, kind: str) -> None:
    above, below, beside = (f"{kind}-{name}" for name in ("above", "below", "beside"))
    operator.add(above)
    operator.add(below, "--parent", above)
    operator.add(beside)
    killed = operator.done("kill", kind, above, "--tenant", "acme", "--reason", "odd transfers", "--wait", "0s")
    told = {each["id"]: each["kills"] for each in operator.done("agents", "list", "--tenant", "acme")}
    assert (told[above], told[below], told[beside]) == ([killed["id"]], [killed["id"]], [])
    lines = operator.authz("agents", "list", "--tenant", "acme").out.splitlines()
    assert f"{above}  active  STOPPED by {killed['id']}  " in next(line for line in lines if line.startswith(above))
    assert "STOPPED" not in next(line for line in lines if line.startswith(beside))


def test_token_registers_an_agent_and_its_parents_if_need_be(operator: Operator) -> None:
    claims = operator.token("leaf", "--parent", "root", "--parent", "branch")
    assert (claims["agent_id"], claims["parents"]) == ("leaf", ["root", "branch"])
    assert operator.token("leaf")["parents"] == ["root", "branch"]
    assert operator.token("root")["agent_id"] == "root"
    [kept] = operator.plane.state.glob("agents/leaf@acme.pem")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [*operator.plane.state.glob("agents/*.pem.*")] == []


def test_token_of_an_agent_whose_key_is_elsewhere_says_so(operator: Operator) -> None:
    operator.add("elsewhere")
    refused = operator.authz("token", "--agent", "elsewhere", "--tenant", "acme")
    assert (refused.code, "--key" in refused.err) == (2, True)


def test_token_without_a_control_plane_is_the_development_issuers(run: Run, tmp_path: Path) -> None:
    made = run("token", "--agent", "a", "--tenant", "t", "--state", tmp_path)
    assert claims_of(made.out.strip())["iss"] == "https://development-issuer.authz.invalid"


def test_token_with_nobody_at_the_address_is_unavailable(run: Run, operator: Operator, tmp_path: Path) -> None:
    key = operator.add("lonely")
    words = ("token", "--agent", "lonely", "--tenant", "acme", "--key", key)
    assert run(*words, "--state", tmp_path, "--control", "http://127.0.0.1:9").code == 3
    assert run(*words, "--state", tmp_path, "--control", "http://control.example").code == 2


def test_keys_are_listed_and_rotated(operator: Operator) -> None:
    before = {key["kid"]: key["state"] for key in operator.done("keys", "list")}
    assert sorted(before.values()) == ["KEY_STATE_NEXT", "KEY_STATE_SIGNING"]
    after = {key["kid"]: key["state"] for key in operator.done("keys", "rotate", "--emergency", "--reason", "a test")}
    assert {after[kid] for kid, state in before.items() if state == "KEY_STATE_SIGNING"} == {"KEY_STATE_WITHDRAWN"}
    assert {after[kid] for kid, state in before.items() if state == "KEY_STATE_NEXT"} == {"KEY_STATE_SIGNING"}
    table = operator.authz("keys", "list").out
    assert "withdrawn  EdDSA" in table
    assert operator.token("after-rotation")["agent_id"] == "after-rotation"


def self_signed() -> bytes:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    return made.sign(key, None).public_bytes(Encoding.PEM)
