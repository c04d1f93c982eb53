"""Deltas come of a whole control plane: to sidecars over mutual TLS, and to a stock OPA that is told to ask."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import orjson
import pytest

from authz._gen.authz.control.v1 import bundles_pb2 as pb
from authz.clock import SystemClock
from authz.config import BundleTrust
from authz.control.config import Publishing
from authz.policy import archive, delta
from authz.policy.origin_control import ControlOrigin
from authz.policy.origin_http import LONG_POLL, HttpOrigin
from authz.policy.registry import Place
from tests.contracts.programs import opa, running
from tests.control_planes import control_plane
from tests.e2e.stack import eventually
from tests.ports import free_port
from tests.publisher import RELEASE, Publisher, public_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import grpc

    from authz._gen.authz.control.v1 import sidecars_pb2
    from tests.control_planes import Running

LIFE = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2126-01-01T00:00:00Z"}
POLICY = b'package authz\n\ndecision := {"effect": "deny", "reason": data.authz.words.reason}\n'
NAMES = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(200)]
BOTH = "modes=snapshot,delta"


def release(sequence: int, **words: Any) -> Publisher:
    """A bundle that is data for the most part."""
    told = orjson.dumps({"names": NAMES, "reason": f"release-{sequence}", **words})
    return Publisher(sequence=sequence, declared=LIFE, files={"policy.rego": POLICY, "authz/words/data.json": told})


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("plane")
    (folder / "release.pem").write_bytes(public_pem(RELEASE.private))
    bundles = Publishing(trust=BundleTrust(keys={"release": folder / "release.pem"}))
    with control_plane(folder / "state", bundles=bundles) as started:
        yield started


def push(plane: Running, tenant: str, published: Publisher) -> str:
    request = pb.PushBundleRequest(tenant=tenant, name="payments", archive=published.packed())
    return plane.ask("Bundles/PushBundle", request, pb.Revision).sha256


def get(plane: Running, path: str, *known: str, prefer: str = BOTH) -> httpx.Response:
    headers = {"authorization": f"Bearer {plane.credential}", "prefer": prefer}
    if known:
        headers["if-none-match"] = ", ".join(f'"sha256:{sha256}"' for sha256 in known)
    return httpx.get(f"{plane.url}/{path}", headers=headers, timeout=30)


def test_who_has_the_archive_before_and_asks_for_deltas_is_given_what_makes_the_newest_of_it(plane: Running) -> None:
    first, second = release(1), release(2)
    before, after = push(plane, "etags", first), push(plane, "etags", second)
    answer = get(plane, "deltas/etags/payments", before)
    assert delta.apply(first.packed(), answer.content) == second.packed()
    assert (answer.status_code, answer.headers["etag"]) == (200, f'"sha256:{after}"')
    assert len(answer.content) < len(second.packed()) / 2
    held = get(plane, "deltas/etags/payments", before, prefer=f"{BOTH};wait=5")
    assert (held.content, held.headers["content-type"]) == (answer.content, LONG_POLL)
    assert get(plane, "deltas/etags/payments", after).status_code == 304


def test_everybody_else_is_given_the_whole_archive(plane: Running) -> None:
    first, second, third = release(1), release(2), release(3)
    before, between, after = (push(plane, "wholes", each) for each in (first, second, third))
    answers = {
        # OPA asks so everywhere, and one that verifies would refuse the delta for ever.
        "below bundles": get(plane, "bundles/wholes/payments", between),
        "not asked": get(plane, "deltas/wholes/payments", between, prefer="modes=snapshot"),
        "further behind": get(plane, "deltas/wholes/payments", before),
        "has nothing": get(plane, "deltas/wholes/payments"),
        "has something else": get(plane, "deltas/wholes/payments", "0" * 64),
        # Of the two, OPA has one.
        "names several": get(plane, "deltas/wholes/payments", between, before),
    }
    assert {name: answer.content == third.packed() for name, answer in answers.items()} == dict.fromkeys(answers, True)
    assert {answer.headers["etag"] for answer in answers.values()} == {f'"sha256:{after}"'}


def test_a_release_of_other_modules_has_no_delta(plane: Running) -> None:
    before = push(plane, "modules", release(1))
    changed = release(2).bent(files={**release(2).files, "policy.rego": POLICY + b"\nx := 1\n"})
    push(plane, "modules", changed)
    assert get(plane, "deltas/modules/payments", before).content == changed.packed()


class Line:
    """A sidecar's connection: what it asked, and what a test makes of the answer about the newest."""

    def __init__(self, channel: grpc.Channel, bend: Callable[[Any], Any] = lambda answer: answer) -> None:
        self.channel, self.bend, self.asked = channel, bend, list[str]()

    def unary_unary(self, method: str, request_serializer: Any, response_deserializer: Any) -> Any:
        self.asked.append(method.rpartition("/")[2])
        read = response_deserializer
        if self.asked[-1] == "ReadNewest":
            read = lambda answer: self.bend(response_deserializer(answer))  # noqa: E731 - one wrapped in the other
        return self.channel.unary_unary(method, request_serializer, read)


def test_a_sidecar_makes_the_newest_archive_of_the_one_it_has_and_pulls_none(plane: Running, tmp_path: Path) -> None:
    first, second = release(1), release(2)
    before, after = push(plane, "acme", first), push(plane, "acme", second)
    line: Any = Line(plane.joined(tmp_path, "acme").channel)
    origin = ControlOrigin(Place(tenant="acme", name="payments"), lambda: line, SystemClock(), archive_bytes=1 << 20)
    offer = origin.read(before, base=first.packed())
    assert (offer.tag, offer.archive, line.asked) == (after, second.packed(), ["ReadNewest"])
    assert origin.read(after, base=second.packed()).archive is None

    # Without it, and with one of another archive, or one that was bent on its way, the whole archive is pulled.
    other = delta.make(release(1).packed(), release(5).packed())
    for known, base, sent in (("", b"", None), (before, first.packed(), other), (before, first.packed(), b"x")):
        line.asked.clear()
        line.bend = lambda answer, sent=sent: answer if sent is None else bent(answer, sent)
        assert origin.read(known, base=base).archive == second.packed()
        assert line.asked == ["ReadNewest", "PullPiece"]


def bent(answer: sidecars_pb2.Newest, sent: bytes) -> sidecars_pb2.Newest:
    assert answer.delta
    answer.delta = sent
    return answer


def test_a_sidecar_that_reads_opas_endpoint_takes_deltas_there_too(plane: Running) -> None:
    first, second = release(1), release(2)
    push(plane, "http", first)
    url, credential = f"{plane.url}/deltas/http/payments", plane.credential
    origin = HttpOrigin(url, SystemClock(), token=lambda: credential, archive_bytes=1 << 20)
    offer = origin.read("")
    assert offer.archive == first.packed()
    push(plane, "http", second)
    # What comes with this base can only be a delta, and with another base cannot.
    assert delta.is_delta(get(plane, "deltas/http/payments", hashlib.sha256(first.packed()).hexdigest()).content)
    assert origin.read(offer.tag, base=first.packed()).archive == second.packed()
    assert origin.read(offer.tag, base=release(7).packed()).archive == second.packed()


def opa_command(plane: Running, resource: str, folder: Path, port: int, **signing: Any) -> list[str]:
    (folder / "token").write_text(plane.credential)
    bundle = {
        "service": "authz",
        "resource": resource,
        "signing": {"keyid": "release", **signing},
        "polling": {"long_polling_timeout_seconds": 20},
    }
    written = {
        "services": {"authz": {"url": plane.url, "credentials": {"bearer": {"token_path": str(folder / "token")}}}},
        "keys": {"release": {"algorithm": "ES256", "key": public_pem(RELEASE.private).decode()}},
        "bundles": {"payments": bundle},
        "status": {"console": True},
    }
    (folder / "opa.json").write_text(json.dumps(written))
    return [opa(), "run", "--server", "--addr", f"127.0.0.1:{port}", "--disable-telemetry", "-c", f"{folder}/opa.json"]


def asked(port: int, path: str) -> Any:
    return httpx.get(f"http://127.0.0.1:{port}/v1/{path}").json().get("result")


def follows(port: int, sequence: int, kind: str) -> bool:
    """Whether OPA has come so far, and by what."""
    told = (asked(port, "status") or {}).get("bundles", {}).get("payments", {})
    return bool((told.get("active_revision"), told.get("type")) == (f"payments-{sequence}", kind))


WORDS: list[dict[str, Any]] = [
    {"names": [*NAMES, "acme"]},
    {"names": [*NAMES[:50], "x", "y", *NAMES[53:]], "a/b": {"~1 %7E é": None}},
    {"names": [*NAMES[:50], "x", "z", *NAMES[53:]], "a/b": {"~1 %7E é": [1.50, {"deep": {}}]}},
    {"a/b": {}, "blank": {"": 1}},
    {"a/b": [], "blank": {"": 2}, "more": {"@=+": [[], [1]]}},
]


@pytest.mark.e2e
def test_a_stock_opa_follows_deltas_and_has_the_data_that_was_released(plane: Running, tmp_path: Path) -> None:
    push(plane, "opa", release(1))
    port = free_port()
    command = opa_command(plane, "deltas/opa/payments", tmp_path, port, allow_unsigned_delta_bundles=True)
    with running(command, port, tmp_path / "log"):
        assert eventually(partial(follows, port, 1, "snapshot"))
        for sequence, words in enumerate(WORDS, 2):
            published = release(sequence, **words)
            push(plane, "opa", published)
            assert eventually(partial(follows, port, sequence, "delta"))
            assert asked(port, "data/authz/words") == orjson.loads(
                archive.read(published.packed())["authz/words/data.json"]
            )
            assert asked(port, "data/authz/decision/reason") == f"release-{sequence}"


@pytest.mark.e2e
def test_a_stock_opa_that_verifies_is_given_no_delta_that_it_would_refuse(plane: Running, tmp_path: Path) -> None:
    push(plane, "verifies", release(1))
    port = free_port()
    with running(opa_command(plane, "bundles/verifies/payments", tmp_path, port), port, tmp_path / "log"):
        assert eventually(partial(follows, port, 1, "snapshot"))
        push(plane, "verifies", release(2))
        assert eventually(partial(follows, port, 2, "snapshot"))
