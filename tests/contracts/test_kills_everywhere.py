"""One kill, every sidecar, any instance: with real sidecars behind real control planes."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration

from authz._gen.authz.control.v1 import kills_pb2 as pb
from authz.encoding import token_digest
from authz.model import Principal
from authz.revocation.follower import SILENT_S
from authz.revocation.freshness import FRESH_S
from tests.contracts.test_following import following
from tests.control_planes import control_plane
from tests.e2e.stack import eventually
from tests.fakes import CALL

if TYPE_CHECKING:
    from pathlib import Path

    from authz.following import Following
    from authz.model import Tool, ToolCall
    from tests.control_planes import Running
    from tests.redis_servers import RedisServer

REASON = "sends invoices to strangers"
KILLS = 30


def kill(control: Running, scope: pb.Scope, wait_s: int = 30) -> pb.KillReceipt:
    request = pb.CreateKillRequest(scope=scope, reason=REASON, wait=Duration(seconds=wait_s))
    return control.ask("Kills/CreateKill", request, pb.KillReceipt)


def in_common(database: str, redis: RedisServer, folder: Path) -> dict[str, Any]:
    """What instances of one control plane share."""
    key = folder / "key-encryption.key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    return {"database": database, "redis": redis.url, "key_encryption_key": key}


def victim(choice: random.Random, number: int) -> tuple[pb.Scope, Principal, ToolCall]:
    """Something to stop, and a call that it covers, of nobody else's."""
    name = f"{choice.choice(['a', 'A', 'agent/', 'é'])}{number}"
    who = Principal(issuer="i", tenant="acme", agent=f"x{number}", subject="s", jti_sha256=token_digest(f"x{number}"))
    tool: Tool = replace(CALL.tool, server="s", name=f"tool-{number}")
    covered: dict[Any, tuple[str, Principal]] = {
        pb.SCOPE_KIND_AGENT: (name, replace(who, agent=name)),
        pb.SCOPE_KIND_SESSION: (name, replace(who, session=name)),
        pb.SCOPE_KIND_TOKEN: (name, replace(who, jti_sha256=token_digest(name))),
        pb.SCOPE_KIND_SUBTREE: (name, replace(who, parents=("root", name))),
        pb.SCOPE_KIND_TOOL: (f"s/tool-{number}", who),
    }
    kind = choice.choice(list(covered))
    value, principal = covered[kind]
    return pb.Scope(kind=kind, tenant="acme", value=value), principal, replace(CALL, tool=tool)


def test_e1_a_kill_that_was_confirmed_bites_in_every_sidecar_and_a_lift_frees_it_alone(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    choice = random.Random(3)  # noqa: S311 - scopes, not secrets
    with ExitStack() as stack:
        control = stack.enter_context(control_plane(tmp_path / "control", redis=redis_server.url))
        members = [control.joined(tmp_path / str(number) / "identity", "acme") for number in range(3)]
        sidecars: list[Following] = [stack.enter_context(following(member)) for member in members]
        eventually(lambda: all(each.kills.oldest_s() < 1 for each in sidecars))
        made = []
        for number in range(KILLS):
            scope, principal, call = victim(choice, number)
            assert [each.kills.covering(principal, call) for each in sidecars] == [None] * 3
            receipt = kill(control, scope)
            assert (len(receipt.confirmed), list(receipt.unreached)) == (3, [])
            covering = [each.kills.covering(principal, call) for each in sidecars]
            assert [found.id if found else "" for found in covering] == [receipt.kill.id] * 3
            made.append((receipt.kill.id, principal, call))
        lifted, principal, call = made.pop(choice.randrange(KILLS))
        request = pb.LiftKillRequest(id=lifted, tenant="acme", reason=REASON, wait=Duration(seconds=30))
        assert len(control.ask("Kills/LiftKill", request, pb.KillReceipt).confirmed) == 3
        for each in sidecars:
            assert each.kills.covering(principal, call) is None
            assert all(each.kills.covering(who, what) is not None for _, who, what in made)


def test_a_kill_at_one_instance_is_confirmed_by_the_sidecars_of_another(
    postgres_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    shared = in_common(postgres_url, redis_server, tmp_path)
    with ExitStack() as stack:
        first = stack.enter_context(control_plane(tmp_path / "first", **shared))
        member = first.joined(tmp_path / "sidecar" / "identity", "acme")
        sidecar = stack.enter_context(following(member))
        second = stack.enter_context(control_plane(tmp_path / "second", **shared))
        (second.plane.state / "operator").write_bytes((first.plane.state / "operator").read_bytes())
        eventually(lambda: sidecar.kills.oldest_s() < 1)
        for number, instance in enumerate([second, first, second, first]):
            receipt = kill(instance, pb.Scope(kind=pb.SCOPE_KIND_AGENT, tenant="acme", value=f"a{number}"))
            assert (len(receipt.confirmed), receipt.kill.sequence) == (1, number + 1)


def test_a_tenant_without_any_kill_is_fresh_by_redis_alone_when_the_sidecars_control_plane_is_gone(
    postgres_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    shared = in_common(postgres_url, redis_server, tmp_path)
    with ExitStack() as stack:
        stack.enter_context(control_plane(tmp_path / "second", **shared))
        with control_plane(tmp_path / "first", **shared) as first:
            (first.plane.state / "operator").write_bytes((tmp_path / "second" / "operator").read_bytes())
            member = first.joined(tmp_path / "sidecar" / "identity", "acme")
            first.members.clear()  # it outlives this control plane
            stack.callback(member.stop)
            sidecar = stack.enter_context(following(member))
            eventually(lambda: not any(map(sidecar.kills.is_silent, ("", "acme"))))
        heard = {stream: sidecar.kills.position(stream) for stream in ("", "acme")}
        assert heard == {"": (1, 0), "acme": (1, 0)}
        until = time.monotonic() + 2 * SILENT_S  # longer than news of before could make it look alive
        assert eventually(lambda: time.monotonic() > until)
        assert eventually(lambda: not any(map(sidecar.kills.is_silent, ("", "acme"))))
        assert eventually(lambda: sidecar.kills.oldest_s() <= FRESH_S)


@pytest.mark.parametrize("through", ["redis", "control"])
def test_memory_writes_alone_are_stopped(redis_server: RedisServer, tmp_path: Path, through: str) -> None:
    redis = redis_server.url if through == "redis" else ""
    with ExitStack() as stack:
        control = stack.enter_context(control_plane(tmp_path / "control", redis=redis))
        sidecar = stack.enter_context(following(control.joined(tmp_path / "sidecar" / "identity", "acme")))
        eventually(lambda: sidecar.kills.oldest_s() < 1)
        kill(control, pb.Scope(kind=pb.SCOPE_KIND_MEMORY_WRITES, tenant="acme", value="a"))
        who = Principal(issuer="i", tenant="acme", agent="a", subject="s", jti_sha256="ab" * 32)
        writes = replace(CALL, tool=replace(CALL.tool, capabilities=("memory_write",)))
        assert sidecar.kills.covering(who, CALL) is None
        assert sidecar.kills.covering(who, writes) is not None
