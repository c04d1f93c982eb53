"""`authz up`: Envoy and the decision service before one upstream, as one thing that starts, stays up and stops.

Decides the order: the service first, so that Envoy never answers without one; Envoy ends first, so that no request is
let in that nobody will judge. Must never leave sockets or programs behind. While the service is away Envoy answers 503;
it is started again within moments.

Trusts the state folder, which is its owner's alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import shutil
import socket
import ssl
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml

from authz.errors import ConfigError, ProgramError
from authz.proxy.configuration import for_envoy, for_service
from authz.proxy.programs import Program, answers, envoy_command, service_command
from authz.resources import shared

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from types import TracebackType

    from authz.proxy.configuration import Plan

log: Final = logging.getLogger(__name__)

WATCH_S: Final = 0.1
MAX_SOCKET_PATH: Final = 100
"""Bytes; a Unix socket's address holds 107, less on some systems."""
_CA_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class Stack:
    """Both programs. A context manager: entered, both are ready; left, both are gone."""

    def __init__(self, plan: Plan, envoy: Path) -> None:
        self._plan = plan
        logs = plan.state / "logs"
        self._service = Program(
            name="the decision service",
            command=service_command(plan.state / "authz.yaml"),
            log_file=logs / "authz.log",
            is_ready=lambda: answers("/readyz", plan.diagnostics) is not None,
        )
        self._envoy = Program(
            name="Envoy",
            command=envoy_command(envoy, plan.state / "envoy.yaml"),
            log_file=logs / "envoy.log",
            is_ready=lambda: answers("/ready", plan.admin) is not None,
        )

    def __enter__(self) -> Self:
        for folder in (self._plan.records, self._plan.state / "logs"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._write()
        try:
            self._service.start()
            self._envoy.start()
            # A port that was chosen for us is ours from now on, also when Envoy is started again.
            self._plan = replace(self._plan, port=self._port())
            self._write()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End both programs, Envoy first, and remove their sockets."""
        self._envoy.stop()
        self._service.stop()
        for path in (self._plan.socket, self._plan.admin):
            path.unlink(missing_ok=True)

    def watch(self, stopping: threading.Event) -> None:
        """Start what dies again, until told to stop.

        Raises:
            ProgramError: a program keeps dying.
        """
        while not stopping.wait(WATCH_S):
            for program in (self._service, self._envoy):
                if not program.is_alive():
                    log.error("%s ended and is started again", program.name)
                    _start_again(program)

    def ready(self) -> dict[str, Any]:
        """What to tell whoever started it (contracts §2)."""
        plan = self._plan
        host = f"[{plan.host}]" if ":" in plan.host else plan.host
        return {
            "ready": True,
            "url": f"http://{host}:{plan.port}{plan.upstream.path}",
            "issuer": plan.issuer,
            "jwks": str(plan.jwks),
            "diagnostics": f"http://{plan.diagnostics}",
            "traces": str(plan.traces),
            "records": str(plan.records),
            "state": str(plan.state),
        }

    def _port(self) -> int:
        """Where Envoy listens."""
        listeners = json.loads(answers("/listeners?format=json", self._plan.admin) or b"{}")
        try:
            port: int = listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"]
        except (KeyError, IndexError):
            raise ProgramError("Envoy does not listen", remedy=self._envoy.tail()) from None
        return port

    def _write(self) -> None:
        plan = self._plan
        shipped = yaml.safe_load((shared("envoy") / "sidecar.yaml").read_text(encoding="utf-8"))
        documents = {"authz.yaml": for_service(plan), "envoy.yaml": for_envoy(shipped, plan)}
        for name, document in documents.items():
            (plan.state / name).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _start_again(program: Program) -> None:
    try:
        program.start()
    except ProgramError:
        # What ends it at once may be over at its next start: a policy that crashed it twice is not opened again.
        if program.is_alive() or program.is_given_up():
            raise


@contextlib.contextmanager
def sole_use(state: Path) -> Iterator[None]:
    """Hold the folder: a second `authz up` in it would take the first one's sockets and configuration away.

    Raises:
        ConfigError: another one holds it.
    """
    with (state / "up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another `authz up` runs in {state}", remedy="give this one another --state") from None
        yield


def refuse_busy(host: str, port: int) -> None:
    """Refuse an address that is taken, before anything starts.

    Raises:
        ConfigError: it is, or it is not an address of this machine.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}", remedy="give another --listen; port 0 takes a free one"
        ) from None


def free_address() -> str:
    """A loopback address for diagnostics; nothing but its short life keeps it free."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def socket_folder(state: Path) -> Iterator[Path]:
    """A folder whose socket addresses are short enough: `state`, or a temporary one of the same owner."""
    if len(bytes(state / "envoy-admin.sock")) <= MAX_SOCKET_PATH:
        yield state
        return
    folder = Path(tempfile.mkdtemp(prefix="authz-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def ca_bundle() -> Path | None:
    """The machine's CA certificates: SSL_CERT_FILE, else where distributions put them."""
    candidates = (ssl.get_default_verify_paths().cafile, *_CA_BUNDLES)
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)
