"""`authz operators`: who may operate the control plane, and what was done."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from authz._gen.authz.control.v1 import operators_pb2 as pb
from authz.cli import VARIABLES, group
from authz.cli.control_client import ControlOption, connect
from authz.cli.duration import span
from authz.cli.messages import as_json, instant
from authz.cli.output import Output, OutputOption, document, line, pairs
from authz.cli.state import StateOption
from authz.errors import ConfigError

ROLES: Final = {
    "viewer": pb.ROLE_VIEWER,
    "policy-author": pb.ROLE_POLICY_AUTHOR,
    "responder": pb.ROLE_RESPONDER,
    "security-lead": pb.ROLE_SECURITY_LEAD,
    "admin": pb.ROLE_ADMIN,
}
_WORDS: Final = {number: word for word, number in ROLES.items()}

EXAMPLES = """
Examples:

  authz operators add ana --grant responder:acme --credential --expires 30d

  authz operators add ben --grant 'security-lead:*' --subject https://login.example BEN-ID

  authz operators actions --tenant acme
"""

operators: Final = group("Make and remove operators of the control plane, and read what was done.", EXAMPLES)


@operators.command("add", context_settings=VARIABLES)
def add(
    operator: Annotated[str, typer.Argument(metavar="ID", help="The operator's id; never given twice.")],
    grant: Annotated[list[str], typer.Option(help="ROLE:TENANT, or ROLE:* for all of them; repeatable.")],
    subject: Annotated[tuple[str, str] | None, typer.Option(help="Known by tokens: ISSUER and SUBJECT.")] = None,
    certificate_san: Annotated[str | None, typer.Option(help="Known by a certificate: its URI or DNS name.")] = None,
    credential: Annotated[bool, typer.Option("--credential", help="Known by a credential, printed once.")] = False,
    expires: Annotated[str | None, typer.Option(help="Life, such as 8h or 30d; a credential's default: 90d.")] = None,
    automatic: Annotated[bool, typer.Option("--automatic", help="A program: it can sign no guarded kill.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make an operator. A credential is printed on stdout and shown this once."""
    wanted = pb.Operator(id=operator, grants=map(_grant, grant), automatic=automatic)
    if subject:
        wanted.subject.CopyFrom(pb.Subject(issuer=subject[0], subject=subject[1]))
    if certificate_san:
        wanted.certificate_san = certificate_san
    if credential:
        wanted.credential = True
    if [bool(subject), bool(certificate_san), credential].count(True) != 1:
        raise ConfigError(
            "an operator is known by one thing", remedy="give one of --credential, --subject and --certificate-san"
        )
    request = pb.CreateOperatorRequest(operator=wanted, reason=reason)
    if expires:
        request.expires_in.FromTimedelta(span(expires))
    made = connect(control, state).call("Operators/CreateOperator", request, pb.CreateOperatorResponse)
    if output is Output.JSON:
        document(as_json(made))
        return
    pairs(_row(made.operator))
    if made.credential:
        line(made.credential)


@operators.command("list", context_settings=VARIABLES)
def list_(control: ControlOption = None, state: StateOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the operators and what they may do."""
    answer = connect(control, state).call(
        "Operators/ListOperators", pb.ListOperatorsRequest(), pb.ListOperatorsResponse
    )
    if output is Output.JSON:
        document([as_json(each) for each in answer.operators])
        return
    for each in answer.operators:
        line("  ".join(filter(None, _row(each).values())))


@operators.command("remove", context_settings=VARIABLES)
def remove(
    operator: Annotated[str, typer.Argument(metavar="ID", help="The operator's id.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Refuse an operator from now on."""
    request = pb.DeleteOperatorRequest(id=operator, reason=reason)
    removed = connect(control, state).call("Operators/DeleteOperator", request, pb.Operator)
    document(as_json(removed)) if output is Output.JSON else line(f"{removed.id} is refused from now on")


@operators.command("whoami", context_settings=VARIABLES)
def whoami(control: ControlOption = None, state: StateOption = None, output: OutputOption = Output.TABLE) -> None:
    """Say who you are to the control plane, and what you may do."""
    me = connect(control, state).call("Operators/WhoAmI", pb.WhoAmIRequest(), pb.Operator)
    document(as_json(me)) if output is Output.JSON else pairs(_row(me))


@operators.command("actions", context_settings=VARIABLES)
def actions(
    tenant: Annotated[str, typer.Option(help="That tenant's alone; without it all, for who may see all.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 50,
    control: ControlOption = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read what operators did and were refused."""
    request = pb.ListActionsRequest(tenant=tenant, page_size=limit)
    answer = connect(control, state).call("Operators/ListActions", request, pb.ListActionsResponse)
    if output is Output.JSON:
        document([as_json(each) for each in answer.actions])
        return
    for each in answer.actions:
        words = (instant(each.at), each.operator or "-", each.method, each.tenant or "-", each.outcome, each.subject)
        line("  ".join(filter(None, (*words, each.reason))))


def _grant(text: str) -> pb.Grant:
    role, _, tenant = text.partition(":")
    if role not in ROLES or not tenant:
        raise ConfigError(f"`{text}` is not ROLE:TENANT", remedy=f"roles: {', '.join(ROLES)}; `*` is every tenant")
    return pb.Grant(role=ROLES[role], tenant=tenant)


def _row(operator: pb.Operator) -> dict[str, str]:
    known_by = {
        "subject": f"{operator.subject.issuer} {operator.subject.subject}",
        "certificate_san": operator.certificate_san,
        "credential": "a credential",
        None: "",
    }
    return {
        "id": operator.id,
        "grants": " ".join(f"{_WORDS[each.role]}:{each.tenant}" for each in operator.grants),
        "known by": known_by[operator.WhichOneof("identity")],
        "expires": instant(operator.expires_at) if operator.HasField("expires_at") else "",
        "automatic": "automatic" if operator.automatic else "",
    }
