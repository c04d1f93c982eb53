"""`authz up`: a control plane with its Valkey, and sidecars with an Envoy each before one upstream, as one thing.

Decides the order: each Envoy after its service, a sidecar without an identity after the control plane that gives it
one, and whatever else can at the same time. Envoys end first, so that no request is let in that nobody will judge. Must
never leave sockets or programs behind. While a service is away its Envoy lets nothing through; whatever dies is started
again within moments.

Trusts the state folder, which is its owner's alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import ssl
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml

from authz import secret_file
from authz.clock import SystemClock
from authz.enrolment.folder import IdentityFolder
from authz.enrolment.membership import join
from authz.errors import ConfigError
from authz.proxy.configuration import for_envoy, for_service
from authz.proxy.programs import POLL_S, Program, answers, control_command, envoy_command, service_command
from authz.resources import shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from authz.proxy.configuration import Plan
    from authz.proxy.control import ControlPlan

log: Final = logging.getLogger(__name__)

WATCH_S: Final = 0.1
MAX_SOCKET_PATH: Final = 100
"""Bytes; a Unix socket's address holds 107, less on some systems."""
_CA_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class Pair:
    """One sidecar: a decision service, and the Envoy before it."""

    def __init__(self, plan: Plan, envoy: Path, name: str) -> None:
        self.plan = plan
        logs = plan.state / "logs"
        self.service: Final = Program(
            name=f"the decision service{name}",
            command=service_command(plan.state / "authz.yaml"),
            log_file=logs / "authz.log",
            is_ready=lambda: answers("/readyz", self.plan.diagnostics) is not None,
        )
        self.envoy: Final = Program(
            name=f"Envoy{name}",
            command=envoy_command(envoy, plan.state / "envoy.yaml"),
            log_file=logs / "envoy.log",
            is_ready=lambda: answers("/ready", self.plan.admin) is not None,
        )

    @property
    def identity(self) -> IdentityFolder:
        """Who it is to the control plane."""
        return IdentityFolder(self.plan.membership / "identity")

    def prepare(self) -> None:
        """Make its folders and write what both programs read."""
        for folder in (self.plan.records, self.plan.state / "logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shipped = yaml.safe_load((shared("envoy") / "sidecar.yaml").read_text(encoding="utf-8"))
        documents = {"authz.yaml": for_service(self.plan), "envoy.yaml": for_envoy(shipped, self.plan)}
        for name, document in documents.items():
            (self.plan.state / name).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    @property
    def url(self) -> str:
        """Where its agents call."""
        host = f"[{self.plan.host}]" if ":" in self.plan.host else self.plan.host
        return f"http://{host}:{self.plan.port}{self.plan.upstream.path}"

    @property
    def urls(self) -> tuple[str, ...]:
        """The names by which its agents may know it."""
        return tuple(dict.fromkeys((self.url, self.url.replace("//127.0.0.1:", "//localhost:", 1))))

    def ready(self) -> dict[str, str]:
        """What to tell of it (contracts §9)."""
        identity = self.identity.read()
        return {
            "id": identity.sidecar if identity else "",
            "check": f"unix://{self.plan.socket}",
            "url": self.url,
        }


class Stack:
    """All programs. A context manager: entered, all are ready; left, all are gone.

    Args:
        plans: of each sidecar; what the first one has is also the whole's.
        invite: makes an enrolment token; called once the control plane answers.
    """

    def __init__(self, plans: Sequence[Plan], control: ControlPlan, envoy: Path, invite: Callable[[], str]) -> None:
        self._invite = invite
        names = [""] if len(plans) == 1 else [f" {number}" for number in range(1, len(plans) + 1)]
        self._pairs = [Pair(plan, envoy, name) for plan, name in zip(plans, names, strict=True)]
        self._control = replace(control, resources=tuple(url for pair in self._pairs for url in pair.urls))
        logs = control.state / "logs"
        self._valkey = Program(
            name="Valkey",
            command=control.valkey.command,
            log_file=logs / "valkey.log",
            is_ready=control.valkey.answers,
        )
        self._plane = Program(
            name="the control plane",
            command=control_command(control.state / "control.yaml"),
            log_file=logs / "control.log",
            is_ready=self._plane_is_ready,
        )

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all programs, Envoys first, and remove their sockets."""
        services = [pair.service for pair in self._pairs]
        for together in ([pair.envoy for pair in self._pairs], services, [self._plane], [self._valkey]):
            for program in together:
                program.terminate()
            for program in together:
                program.stop()
        sockets = [path for pair in self._pairs for path in (pair.plan.socket, pair.plan.admin)]
        for path in (*sockets, self._control.valkey.socket):
            path.unlink(missing_ok=True)

    def watch(self, asked_to_stop: Callable[[float], bool]) -> None:
        """Start what dies again, until told to stop.

        Args:
            asked_to_stop: waits for that so many seconds, and says whether it has come.

        Raises:
            ProgramError: a program keeps dying, or does not become ready again.
        """
        while not asked_to_stop(WATCH_S):
            for program in self._programs:
                if program.is_alive():
                    program.has_come_up()
                else:
                    log.error("%s ended and is started again", program.name)
                    program.launch()

    def ready(self) -> dict[str, Any]:
        """What to tell whoever started it (contracts §2, §9)."""
        first = self._pairs[0]
        plan = first.plan
        return {
            "ready": True,
            "url": first.url,
            **self._control.tokens(),
            "diagnostics": f"http://{plan.diagnostics}",
            "traces": str(plan.traces),
            "records": str(plan.records),
            "state": str(self._control.state),
            "control": self._control.url,
            "sidecars": [pair.ready() for pair in self._pairs],
        }

    @property
    def _programs(self) -> list[Program]:
        pairs = [program for pair in self._pairs for program in (pair.service, pair.envoy)]
        return [self._valkey, self._plane, *pairs]

    def _start(self) -> None:
        """All launched as early as what they need allows; then all awaited."""
        (self._control.state / "logs").mkdir(mode=0o700, exist_ok=True)
        self._control.valkey.prepare()
        self._control.forget()
        self._write_control()
        self._valkey.launch()
        self._plane.launch()
        joined = [pair for pair in self._pairs if self._control.is_settled and pair.identity.read()]
        self._launch(joined)
        _await([self._plane])
        # The ports that were chosen are ours from now on, also when it is started again.
        self._control = self._control.found()
        self._write_control()
        self._launch([pair for pair in self._pairs if pair not in joined])
        self._follow_with_envoys()
        _await(self._programs)

    def _launch(self, pairs: Sequence[Pair]) -> None:
        for pair in pairs:
            pair.plan = replace(pair.plan, control=self._told())
            pair.prepare()
            self._enrol(pair)
            pair.service.launch()

    def _follow_with_envoys(self) -> None:
        """Each Envoy once its service is ready: one that found nobody would look again only after a while."""
        waiting = list(self._pairs)
        while waiting:
            for pair in [pair for pair in waiting if pair.service.has_come_up()]:
                pair.envoy.launch()
                waiting.remove(pair)
            time.sleep(POLL_S)

    def _told(self) -> dict[str, str]:
        """What a sidecar is told of the control plane: addresses may have changed since it enrolled."""
        control = self._control
        return {"url": control.url, "replication": control.listen["replication"], "redis": control.valkey.address}

    def _enrol(self, pair: Pair) -> None:
        if pair.identity.read() is None:
            join(pair.identity, url=self._control.url, token=self._invite(), clock=SystemClock()).stop()

    def _write_control(self) -> None:
        document = yaml.safe_dump(self._control.document(), sort_keys=False)
        secret_file.replace(self._control.state / "control.yaml", document.encode())

    def _plane_is_ready(self) -> bool:
        """It says where it listens, and is well there."""
        known = self._control.found()
        return bool(known.listen) and answers("/readyz", known.listen["http"]) is not None


def _await(programs: Iterable[Program]) -> None:
    """Return once all are ready.

    Raises:
        ProgramError: one died before, or took too long.
    """
    waiting = list(programs)
    while waiting := [program for program in waiting if not program.has_come_up()]:
        time.sleep(POLL_S)


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
