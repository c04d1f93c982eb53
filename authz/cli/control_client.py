"""How commands talk to the control plane: its HTTP listener, with the operator's credential.

Decides where the control plane is (`--control`, else AUTHZ_CONTROL, else `control.json` in the state folder) and whose
credential is shown (AUTHZ_OPERATOR_CREDENTIAL, else the file `operator` in the state folder), and which exit code a
refusal has (contracts §2). Must never send a credential in plaintext to another machine, follow a redirect with it, nor
show it.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeVar

import typer
import urllib3
from google.protobuf import json_format

from authz import secret_file
from authz.cli.state import state_folder
from authz.errors import AuthzError, ConfigError, ProgramError
from authz.loopback import is_loopback
from authz.reasons import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.protobuf.message import Message

    M = TypeVar("M", bound=Message)

ControlOption = Annotated[
    str | None,
    typer.Option("--control", envvar="AUTHZ_CONTROL", help="URL of the control plane; default: that of the state."),
]
"""Stands beside `authz.cli.state.StateOption` in every command that uses `connect`."""
CREDENTIAL: Final = "AUTHZ_OPERATOR_CREDENTIAL"
CA: Final = "AUTHZ_CONTROL_CA"
"""PEM roots of the control plane's certificate, where it is not one of the web's."""
PACKAGE: Final = "authz.control.v1"
CONNECT_S: Final = 5.0
CALL_S: Final = 60.0
OK: Final = 200
_HEADER: Final = struct.Struct(">BI")
_END: Final = 2


class RefusedCallError(AuthzError):
    """The control plane said no.

    Attributes:
        reason: its reason code.
        code: Connect's word, such as `permission_denied`.
    """

    def __init__(self, code: str, reason: str, message: str) -> None:
        super().__init__(f"{reason or code}: {message}")
        self.code = code
        self.reason = reason
        if row := CATALOGUE.get(reason):
            self.remedy = row.next_step


class MisusedCallError(RefusedCallError):
    """What was asked for has no sense to the control plane."""

    exit_code: ClassVar[int] = 2


class UnavailableCallError(RefusedCallError):
    """The control plane, or what it needs, cannot be used now."""

    exit_code: ClassVar[int] = 3


class FailedCallError(RefusedCallError):
    """A bug of the control plane."""

    exit_code: ClassVar[int] = 4


_KINDS: Final[dict[str, type[RefusedCallError]]] = {
    "invalid_argument": MisusedCallError,
    "unimplemented": MisusedCallError,
    "unavailable": UnavailableCallError,
    "deadline_exceeded": UnavailableCallError,
    "resource_exhausted": UnavailableCallError,
    "internal": FailedCallError,
    "unknown": FailedCallError,
}
"""Every other code means that the answer is no: exit code 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlClient:
    """One control plane, for one operator."""

    url: str
    credential: str
    pool: urllib3.PoolManager

    def call(self, method: str, request: Message, answer: type[M], *, wait_s: float = 0.0) -> M:
        """Call `method`, such as `Kills/CreateKill`.

        Args:
            method: SERVICE/METHOD.
            request: its request.
            answer: the type of its answer.
            wait_s: how long the method itself may wait, on top of the usual.

        Raises:
            RefusedCallError: one of its kinds, with the exit code that the refusal has.
            ProgramError: nobody answers there.
        """
        body = json_format.MessageToJson(request).encode()
        response = self._post(method, body, "application/json", timeout_s=CALL_S + wait_s)
        if response.status != OK:
            raise _refused(response.status, response.data)
        return json_format.Parse(response.data, answer(), ignore_unknown_fields=True)

    def send(self, method: str, request: Message, answer: type[M]) -> M:
        """As `call`, in protobuf's own form: for what is large.

        Raises:
            RefusedCallError, ProgramError: see `call`.
        """
        response = self._post(method, request.SerializeToString(), "application/proto", timeout_s=CALL_S)
        if response.status != OK:
            raise _refused(response.status, response.data)
        return answer.FromString(response.data)

    def stream(self, method: str, request: Message, answer: type[M]) -> Iterator[M]:
        """Call a method that streams; ends when the control plane does.

        Raises:
            RefusedCallError: see `call`; also after some answers.
            ProgramError: nobody answers there, or the connection broke.
        """
        body = json_format.MessageToJson(request).encode()
        envelope = _HEADER.pack(0, len(body)) + body
        response = self._post(method, envelope, "application/connect+json", timeout_s=None, preload=False)
        try:
            if response.status != OK:
                raise _refused(response.status, response.read())
            while True:
                flags, length = _HEADER.unpack(_exactly(response, _HEADER.size))
                content = _exactly(response, length)
                if flags & _END:
                    if error := json.loads(content).get("error"):
                        raise _refused(0, json.dumps(error).encode())
                    return
                yield json_format.Parse(content, answer(), ignore_unknown_fields=True)
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(self.url, error) from None
        finally:
            response.close()

    def _post(
        self, method: str, body: bytes, content_type: str, *, timeout_s: float | None, preload: bool = True
    ) -> urllib3.BaseHTTPResponse:
        headers = {"content-type": content_type, "connect-protocol-version": "1"}
        if self.credential:
            headers["authorization"] = f"Bearer {self.credential}"
        try:
            return self.pool.request(
                "POST",
                f"{self.url}/{PACKAGE}.{method}",
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=CONNECT_S, read=timeout_s),
                preload_content=preload,
            )
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(self.url, error) from None


def connect(control: str | None, state: Path | None) -> ControlClient:
    """The control plane that is meant, and the operator's credential.

    Raises:
        ConfigError: neither a URL nor a state folder with one, a URL that is none, or plaintext to another machine.
    """
    folder = state_folder(state)
    url = (control or _address(folder)).rstrip("/")
    parsed = urllib3.util.parse_url(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.path or parsed.auth:
        raise ConfigError("--control is not http(s)://HOST:PORT", remedy="such as http://127.0.0.1:8443")
    if parsed.scheme == "http" and not is_loopback(parsed.host or ""):
        raise ConfigError(f"plaintext to `{parsed.host}` would show your credential", remedy="use https")
    pool = urllib3.PoolManager(num_pools=1, ca_certs=os.environ.get(CA))
    return ControlClient(url=url, credential=_credential(folder), pool=pool)


def _address(folder: Path) -> str:
    try:
        return str(json.loads((folder / "control.json").read_bytes())["http"])
    except (OSError, ValueError, KeyError):
        raise ConfigError(
            f"no control plane is known: {folder / 'control.json'} does not name one",
            remedy="give --control URL, or --state DIR of a running `authz control` or `authz up`",
        ) from None


def _credential(folder: Path) -> str:
    if given := os.environ.get(CREDENTIAL):
        return given
    path = folder / "operator"
    return secret_file.load(path, size_bytes=1).decode().strip() if path.exists() else ""


def _exactly(response: urllib3.BaseHTTPResponse, size: int) -> bytes:
    content = b""
    while len(content) < size:
        chunk = response.read(size - len(content))
        if not chunk:
            raise ProgramError("the control plane hung up", remedy="ask again")
        content += chunk
    return content


def _refused(status: int, body: bytes) -> RefusedCallError:
    """The error that Connect's JSON says, or what can be known without one."""
    error: dict[str, Any] = {}
    try:
        read = json.loads(body)
        error = read if isinstance(read, dict) else {}
    except ValueError:
        pass
    code = str(error.get("code", "unknown"))
    details = error.get("details") or [{}]
    reason = str(details[0].get("debug", {}).get("reason", ""))
    message = str(error.get("message", f"HTTP status {status}: is this a control plane?"))
    return _KINDS.get(code, RefusedCallError)(code, reason, message)


def _unreachable(url: str, error: urllib3.exceptions.HTTPError) -> ProgramError:
    return ProgramError(
        f"no control plane answers at {url} ({type(error).__name__})", remedy="is `authz control` running there?"
    )
