"""A control plane in this process, on ports of its own, and sidecars that join it for real."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2 as httpx
from google.protobuf import json_format

from authz._gen.authz.control.v1 import sidecars_pb2 as pb
from authz.clock import SystemClock
from authz.control.config import ControlConfig, Listeners, OperatorAccess, Publishing
from authz.enrolment.folder import IdentityFolder
from authz.enrolment.membership import join
from authz.wiring_control import ControlPlane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.protobuf.message import Message

    from authz.config import Issuer
    from authz.enrolment.membership import Membership

M = TypeVar("M", bound="Message")
FREE = "127.0.0.1:0"


@dataclass(kw_only=True)
class Running:
    """A control plane that answers."""

    plane: ControlPlane
    members: list[Membership] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.plane.addresses["http"]

    @property
    def credential(self) -> str:
        return (self.plane.state / "operator").read_text().strip()

    def post(self, method: str, request: Message, credential: str | None = None) -> httpx.Response:
        """One call of an operator, by default the first admin, over HTTP."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {credential or self.credential}"}
        body = json_format.MessageToJson(request)
        return httpx.post(f"{self.url}/authz.control.v1.{method}", content=body, headers=headers)

    def ask(self, method: str, request: Message, answer: type[M]) -> M:
        response = self.post(method, request)
        assert response.status_code == 200, response.text
        return json_format.ParseDict(response.json(), answer())

    def invite(self, *tenants: str, **fields: Any) -> str:
        request = pb.InviteSidecarRequest(tenants=tenants, **fields)
        return self.ask("Sidecars/InviteSidecar", request, pb.InviteSidecarResponse).token

    def joined(self, folder: Path, *tenants: str, name: str = "") -> Membership:
        """A sidecar that has just enrolled."""
        token = self.invite(*tenants, name=name)
        member = join(IdentityFolder(folder), url=self.url, token=token, clock=SystemClock())
        self.members.append(member)
        return member


@contextmanager
def control_plane(
    state: Path,
    *,
    client_ca: Path | None = None,
    issuers: tuple[Issuer, ...] = (),
    bundles: Publishing | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A control plane with its state in `state`, stopped afterwards with the members that joined it."""
    listeners = Listeners(http=FREE, grpc=FREE, replication=FREE, state=state, **settings)
    operators = OperatorAccess(client_ca=client_ca, issuers=issuers)
    plane = ControlPlane(ControlConfig(control=listeners, operators=operators, bundles=bundles or Publishing()))
    plane.start()
    running = Running(plane=plane)
    try:
        yield running
    finally:
        for member in running.members:
            member.stop()
        plane.stop()
