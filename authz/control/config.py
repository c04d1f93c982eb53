"""What an operator may set of the control plane: one frozen `ControlConfig` of groups, as the sidecar's `Config` is.

Decides which settings exist, their units, defaults and bounds. A room's settings are a group here and reach it as
values: no room reads this module. Unknown keys refuse to start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from authz.config import KIB, BundleTrust, Group, Issuer, Seconds, Telemetry
from authz.errors import ConfigError
from authz.loopback import is_local


class ServerTls(Group):
    """What the control plane proves itself with."""

    certificate: Path
    """PEM chain."""
    key: Path
    """PEM private key; must not be readable by others."""


class Listeners(Group):
    """Where the control plane answers, and where it keeps what it knows."""

    grpc: str = "127.0.0.1:9443"
    """HOST:PORT of the operators' services over gRPC."""
    http: str = "127.0.0.1:8443"
    """HOST:PORT of the same services over HTTP and JSON, of the token endpoint, and of health and metrics."""
    replication: str = "127.0.0.1:9444"
    """HOST:PORT where a client certificate is demanded: sidecars, and operators who have one."""
    tls: ServerTls | None = None
    """The server's certificate on `grpc` and `http`; needed on any address that is not loopback."""
    database: str = ""
    """`sqlite:///FILE` or `postgresql://…`; empty is a file in the state folder."""
    redis: str = ""
    """Redis or Valkey that streams of kills are published on; empty publishes none, and sidecars pull."""
    replication_address: str = ""
    """HOST:PORT that sidecars are told to connect to; empty is `replication`. Needed behind a balancer, and where that
    listens on every address."""
    sidecars_redis: str = ""
    """URL, without user and password, that sidecars are told to read streams at; empty is that of `redis`."""
    key_encryption_key: Path | None = None
    """File of the 32 bytes that private keys are sealed with in the database; None makes one in the state folder."""
    key_encryption_base64: SecretStr = SecretStr("")
    """The same bytes in base64, instead of a file. Better in AUTHZ_KEY_ENCRYPTION_BASE64 than in a file of settings."""
    state: Path | None = None
    """Folder of what is this instance's alone: the key-encryption key, the first operator's credential, addresses."""
    guard_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """A kill that stops more than this share of a tenant's active agents needs two signers."""
    guard_adds_up: bool = False
    """Count with a kill of agents those that kills of one signer each have stopped within `guard_window_s`: then nobody
    stops a tenant agent by agent, and nobody who is alone in an emergency stops more of it."""
    guard_window_s: Seconds = 600.0
    """How long a first signer's word waits for the second."""
    kills_per_minute: Annotated[int, Field(gt=0)] = 6_000
    """Kills that one operator may ask for within a minute."""
    tenant_kills_per_minute: Annotated[int, Field(gt=0)] = 20_000
    """Kills that may be asked for in one tenant within a minute."""
    drain_s: Seconds = 5.0
    """Longest wait for calls in flight when the service stops."""

    @model_validator(mode="after")
    def _plaintext_is_local(self) -> Self:
        exposed = [address for address in (self.grpc, self.http) if not is_local(address)]
        if self.tls is None and exposed:
            message = f"plaintext on `{exposed[0]}` would show operators' credentials: set control.tls"
            raise ValueError(message)
        return self


class OperatorAccess(Group):
    """How operators are known."""

    issuers: tuple[Issuer, ...] = ()
    """Identity providers whose tokens operators show; what they may do stands in the database."""
    client_ca: Path | None = None
    """PEM roots of operators' client certificates, taken on the listener for sidecars."""
    bootstrap_s: Annotated[float, Field(gt=0, le=90 * 86_400)] = 86_400.0
    """Life of the first admin's credential, which is made where there is no admin."""
    show_bootstrap: bool = True
    """Print that credential once on stderr; false where stderr is a log. The state folder holds it either way."""


class Tokens(Group):
    """Access tokens of agents: who issues them, for whom, and how far agents may multiply."""

    issuer: str = ""
    """`iss`, an absolute URL; empty is the address of `control.http`. Clients find the endpoints below it."""
    audience: Annotated[str, Field(min_length=1)] = "authz"
    """`aud` where a client names no resource."""
    resources: dict[str, str] = Field(default_factory=dict)
    """Resources that a client may name (RFC 8707), each with the `aud` that it becomes."""
    algorithm: Literal["EdDSA", "ES256"] = "EdDSA"
    """What new signing keys sign with."""
    rotation_s: Annotated[float, Field(ge=7_200, le=366 * 86_400)] = 30 * 86_400.0
    """How long a key signs. The next one is published all that time before."""
    client_ca: Path | None = None
    """PEM roots of agents' client certificates, asked for on `control.http`; needs `control.tls`."""
    spawn_depth: Annotated[int, Field(ge=0, le=16)] = 5
    """Agents that one agent may have above it."""
    spawn_per_minute: Annotated[int, Field(ge=0)] = 60
    """Agents that one agent may spawn within a minute."""
    spawn_alive: Annotated[int, Field(ge=0, le=10_000)] = 1_000
    """Agents that may live below one root at a time."""
    live: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Tokens of one client that may be alive at a time; a rotated credential takes them all with it."""

    @model_validator(mode="after")
    def _issuer_is_a_url(self) -> Self:
        parts = urlsplit(self.issuer)
        is_plain = not parts.query and not parts.fragment and not self.issuer.endswith("/")
        if self.issuer and not (parts.scheme in {"http", "https"} and parts.netloc and is_plain):
            message = "tokens.issuer is not an http(s) URL without query, fragment and slash at its end (RFC 8414)"
            raise ValueError(message)
        return self


class Publishing(Group):
    """Policy bundles that are published here."""

    trust: BundleTrust | None = None
    """Keys that must have signed what is pushed, as a sidecar's `policy.trust`; None takes no push."""
    bundle_bytes: Annotated[int, Field(ge=64 * KIB, le=256 * 1024 * KIB)] = 32 * 1024 * KIB
    """Most bytes of a bundle, packed and unpacked, as a sidecar's `policy.bundle_bytes`."""
    keep: Annotated[int, Field(ge=1)] = 20
    """Revisions of each name whose content is kept, beside what is served, in use or under legal hold."""


class ControlConfig(Group):
    """Everything, verified."""

    version: Literal[1] = 1
    """Of this file's form."""
    control: Listeners = Listeners()
    """Where it answers and what it keeps."""
    operators: OperatorAccess = OperatorAccess()
    """How operators are known."""
    tokens: Tokens = Tokens()
    """Access tokens of agents."""
    bundles: Publishing = Publishing()
    """Policy bundles that are published here."""
    telemetry: Telemetry = Telemetry()
    """Metrics and logs."""

    def verify(self) -> None:
        """Refuse to start without the material that everything rests on.

        Raises:
            ConfigError: nowhere to keep anything.
        """
        if self.control.state is None:
            raise ConfigError("no state folder is given", remedy="give --state DIR")
        if self.tokens.client_ca is not None and self.control.tls is None:
            raise ConfigError(
                "tokens.client_ca: there are no client certificates without TLS", remedy="set control.tls"
            )
        if self.tokens.issuer and self.tokens.issuer in {each.issuer for each in self.operators.issuers}:
            # Two tenants' agents can have one name, which is the `sub` of both.
            raise ConfigError(
                "operators.issuers: the issuer of agents' tokens names no operators",
                remedy="use an identity provider of your own",
            )

    @property
    def database_url(self) -> str:
        """The database in force."""
        if self.control.database or self.control.state is None:
            return self.control.database
        return f"sqlite:///{self.control.state / 'control.db'}"

    def warnings(self) -> tuple[str, ...]:
        """What an operator should be told at every start."""
        told = {
            "control.key_encryption_key is not set: who copies the state folder can open every private key": (
                self.control.key_encryption_key is None and not self.control.key_encryption_base64.get_secret_value()
            ),
            "tokens.issuer is empty: tokens are issued under the address of control.http, each instance by its own": (
                not self.tokens.issuer and not is_local(self.control.http)
            ),
            "control.redis is empty: kills reach sidecars by their pulls alone, in about 0.4 s": not self.control.redis,
        }
        return tuple(message for message, holds in told.items() if holds)
