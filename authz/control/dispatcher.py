"""Every call of the control plane, whichever server took it, goes through here.

Decides, in this order, each refusing:

1. the method is in the permission table and served here;
2. the caller is who the method is for;
3. the request is well-formed;
4. the caller has the permission in every tenant that the request names;
5. there is room: operators' calls and streams are bounded, so that sidecars' reports and snapshots never wait for them;
6. an action is on record before it is carried out;

then the service's method runs, and the outcome is recorded. Whatever a service raises that is not a refusal is
INTERNAL: logged here, and told to nobody. Must never call a service whose method has no rule, nor answer a refusal
before it is on record.

A service is a plain class: for each RPC a method named in snake_case, `(request, caller) -> response`, or an iterator
of responses where the RPC streams. It raises `RefusedError`; rooms' errors are for it to translate.
"""

from __future__ import annotations

import logging
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from authz._gen.authz.control.v1 import (
    agents_pb2,
    bundles_pb2,
    keys_pb2,
    kills_pb2,
    operators_pb2,
    rollouts_pb2,
    sidecars_pb2,
)
from authz.control.actions_sql import BEGUN, DONE, Action
from authz.control.callers import STRANGER, Kind
from authz.control.permissions import PACKAGE, rule_for
from authz.control.refusals import Code, RefusedError
from authz.errors import ConfigError, UnavailableError
from authz.model import PLATFORM
from authz.reasons import CONTROL_FORBIDDEN, CONTROL_METHOD, CONTROL_OVERLOAD, DATABASE_UNAVAILABLE, SYS_INTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

    from authz.clock import Clock
    from authz.control.actions_sql import Actions
    from authz.control.authentication import Authentication, Presented
    from authz.control.callers import Caller
    from authz.control.forms import Form
    from authz.control.permissions import Rule

log: Final = logging.getLogger(__name__)
_MODULES: Final = (agents_pb2, bundles_pb2, keys_pb2, kills_pb2, operators_pb2, rollouts_pb2, sidecars_pb2)
FILES: Final = tuple(module.DESCRIPTOR for module in _MODULES)
"""The files of the API; their services are the only ones there are."""
CALLS: Final = 32
"""Operators' calls under way."""
STREAMS: Final = 32
"""Streams under way of operators, and as many of sidecars: who watches keeps no sidecar from its snapshot."""
ROOM: Final = CALLS + 2 * STREAMS + 16
"""Threads that a listener needs so that what is answered at once waits for none of these."""
RECHECK_NS: Final = 5_000_000_000
"""A stream's caller is authenticated again when so much time has passed."""
UNKNOWN: Final = "unknown"
"""The method that a call of none is recorded and counted under."""
MAX_SUBJECT: Final = 256
MAX_REASON: Final = 1000
_CONTROL: Final = re.compile("[^ -~]")


@dataclass(frozen=True, slots=True)
class _Method:
    """One RPC that is served."""

    name: str
    rule: Rule
    run: Callable[[Any, Caller], Any]
    request: type[Message]
    is_streaming: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as a server took it.

    Args:
        method: the full name, such as `/authz.control.v1.Kills/CreateKill`.
        presented: what the caller shows of itself.
        form: how the body is written, and how the answer shall be.
        gone: set once nobody waits for the answer.
    """

    method: str
    body: bytes
    presented: Presented
    form: Form
    gone: threading.Event


class Dispatcher:
    """The services, and the way to them.

    Args:
        new_id: of an action.
        observe: told each call's method and outcome: `done`, or a reason code.
    """

    def __init__(
        self,
        authentication: Authentication,
        actions: Actions,
        clock: Clock,
        *,
        new_id: Callable[[], str],
        observe: Callable[[str, str], None] = lambda _method, _outcome: None,
    ) -> None:
        self._authentication = authentication
        self._actions = actions
        self._monotonic_ns = clock.monotonic_ns
        self._new_id = new_id
        self._observe = observe
        self._methods: dict[str, _Method] = {}
        self._calls = threading.BoundedSemaphore(CALLS)
        self._streams = {kind: threading.BoundedSemaphore(STREAMS) for kind in Kind}
        self._under_way: set[threading.Event] = set()

    def add(self, name: str, service: object) -> None:
        """Serve `authz.control.v1.<name>` by `service`.

        Raises:
            ConfigError: a method of it has no rule, or the class lacks one.
        """
        described = descriptor_pool.Default().FindServiceByName(f"{PACKAGE}.{name}")
        for method in described.methods:
            full = f"/{described.full_name}/{method.name}"
            rule, run = rule_for(full), getattr(service, _snake_case(method.name), None)
            if rule is None or run is None:
                raise ConfigError(f"{full} has no {'rule' if rule is None else 'method'}: it would be open or missing")
            self._methods[full] = _Method(full, rule, run, _request_class(method), method.server_streaming)

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of what is served."""
        return tuple(sorted({name.removeprefix("/").partition("/")[0] for name in self._methods}))

    def is_streaming(self, method: str) -> bool:
        """Whether that method answers with a stream."""
        known = self._methods.get(method)
        return known is not None and known.is_streaming

    def is_known(self, presented: Presented) -> bool:
        """Whether this is somebody's proof. Decides nothing about a call, which is judged by itself afterwards."""
        try:
            self._authentication.caller(presented)
        except (RefusedError, UnavailableError):
            return False
        return True

    def call(self, asked: Asked) -> bytes:
        """The answer of a method that gives one.

        Raises:
            RefusedError: in every other case.
        """
        with self._recorded(asked) as row:
            method = self._known(asked, is_streaming=False)
            caller, request = self._admitted(asked, method, row)
            with self._room(self._calls if caller.kind is Kind.OPERATOR else None):
                self._begin(method, row)
                return asked.form.write(method.run(request, caller))

    def stream(self, asked: Asked) -> Iterator[bytes]:
        """The answers of a method that streams, as they come. Nothing is judged before the first is drawn.

        Raises:
            RefusedError: at any point; what came before it counts.
        """
        with self._recorded(asked) as row:
            method = self._known(asked, is_streaming=True)
            caller, request = self._admitted(asked, method, row)
            with self._room(self._streams[caller.kind]):
                self._begin(method, row)
                checked_ns = self._monotonic_ns()
                for answer in method.run(request, caller):
                    if self._monotonic_ns() - checked_ns > RECHECK_NS:
                        self._admitted(asked, method, row)
                        checked_ns = self._monotonic_ns()
                    yield asked.form.write(answer)

    def stop(self) -> None:
        """Tell every call that waits or streams to end."""
        for gone in tuple(self._under_way):
            gone.set()

    def _known(self, asked: Asked, *, is_streaming: bool) -> _Method:
        method = self._methods.get(asked.method)
        if method is None or method.is_streaming != is_streaming:
            raise RefusedError(Code.UNIMPLEMENTED, CONTROL_METHOD)
        return method

    def _admitted(self, asked: Asked, method: _Method, row: _Row) -> tuple[Caller, Message]:
        """Steps 2 to 4."""
        rule = method.rule
        caller = STRANGER
        if rule.audience is not Kind.STRANGER:
            caller = self._authentication.caller(asked.presented)
            row.operator = caller.id if caller.kind is Kind.OPERATOR else f"{caller.kind}:{caller.id}"
        if caller.kind is not rule.audience:
            raise RefusedError(Code.PERMISSION_DENIED, CONTROL_FORBIDDEN)
        request = asked.form.read(asked.body, method.request)
        tenants = rule.tenants(request)
        row.tenant = tenants[0] if len(tenants) == 1 else PLATFORM
        row.subject = rule.subject(request)[:MAX_SUBJECT]
        row.reason = str(getattr(request, "reason", ""))[:MAX_REASON]
        if not _is_permitted(caller, rule, request, tenants):
            raise RefusedError(Code.PERMISSION_DENIED, CONTROL_FORBIDDEN)
        return replace(caller, gone=asked.gone), request

    def _begin(self, method: _Method, row: _Row) -> None:
        """Step 6."""
        if method.rule.is_recorded:
            self._actions.add(row.action(BEGUN))
            row.is_begun = True

    @contextmanager
    def _room(self, places: threading.BoundedSemaphore | None) -> Iterator[None]:
        """Step 5: one of so many places; None has room for all."""
        if places is None:
            yield
            return
        if not places.acquire(blocking=False):
            raise RefusedError(Code.RESOURCE_EXHAUSTED, CONTROL_OVERLOAD)
        try:
            yield
        finally:
            places.release()

    @contextmanager
    def _recorded(self, asked: Asked) -> Iterator[_Row]:
        """The one broad `except` of the control plane, and the only place where outcomes are written down."""
        known = asked.method in self._methods
        row = _Row(id=self._new_id(), method=asked.method if known else UNKNOWN)
        if not known:
            row.subject = _CONTROL.sub("?", asked.method[:MAX_SUBJECT])
        self._under_way.add(asked.gone)
        outcome = DONE
        try:
            yield row
        except RefusedError as refusal:
            outcome = refusal.reason.code
            self._refused(row, refusal)
        except UnavailableError as error:
            outcome = error.reason.code
            self._refused(row, RefusedError(Code.UNAVAILABLE, error.reason))
        except Exception:
            log.exception("%s failed: a bug", row.method)
            outcome = SYS_INTERNAL.code
            self._refused(row, RefusedError(Code.INTERNAL, SYS_INTERNAL))
        else:
            self._finished(row)
        finally:
            self._under_way.discard(asked.gone)
            self._observe(row.method, outcome)

    def _refused(self, row: _Row, refusal: RefusedError) -> NoReturn:
        """Record it, then raise it."""
        try:
            if refusal.reason is not DATABASE_UNAVAILABLE:  # then there is nothing to write to
                self._actions.add(row.action(refusal.reason.code))
        except UnavailableError as error:
            raise RefusedError(Code.UNAVAILABLE, error.reason) from None
        raise refusal from None

    def _finished(self, row: _Row) -> None:
        if not row.is_begun:
            return
        try:
            self._actions.add(row.action(DONE))
        except UnavailableError:
            log.exception("action %s was carried out, and its record ends with `begun`", row.id)


@dataclass(slots=True, kw_only=True)
class _Row:
    """What is known of a call so far."""

    id: str
    method: str
    operator: str = ""
    tenant: str = PLATFORM
    subject: str = ""
    reason: str = ""
    is_begun: bool = False

    def action(self, outcome: str) -> Action:
        """The row to write."""
        return Action(
            id=self.id,
            operator=self.operator,
            method=self.method,
            tenant=self.tenant,
            outcome=outcome,
            subject=self.subject,
            reason=self.reason,
        )


def _is_permitted(caller: Caller, rule: Rule, request: Message, tenants: tuple[str, ...]) -> bool:
    if caller.kind is Kind.STRANGER:
        return True
    if caller.kind is Kind.SIDECAR:
        return all(map(caller.follows, tenants))
    permission = rule.permission_for(request)
    if not tenants:
        return caller.may_somewhere(permission)
    return all(caller.may(permission, tenant) for tenant in tenants)


def _request_class(method: MethodDescriptor) -> type[Message]:
    return GetMessageClass(method.input_type)


def _snake_case(name: str) -> str:
    """`WhoAmI` is `who_am_i`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
