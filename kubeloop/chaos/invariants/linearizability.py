"""What clients were told of an object could have happened one after the other.

Source: Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects";
Kubernetes API Concepts, "Resource versions": a get that names none is of the newest.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgpack
import orjson

from kubeloop.chaos.calls import TRACED, Call, name_of
from kubeloop.chaos.invariants.tale import Change, Tale, Watcher, writer
from kubeloop.chaos.linear import ANY, NEVER, UNKNOWN, Operation, linearizable
from kubeloop.chaos.watching import Broken

MOST: Final = 500  # Calls of an object that are looked at: up to where none was under way.


class Linearizability(Watcher):
    """Clients agree on an order in which all that they did to an object makes sense.

    Of each ConfigMap: what clients created, read, updated, patched and deleted, and were told, fits
    an order in which what had ended comes before what began later; what they were told failed may
    have been done or not. Only of those that nobody but clients writes; and not reads that a fault
    has had served by a replica that lags, or that ask for an older version.
    """

    name = "linearizability"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._foreign: set[tuple[str, str]] = set()  # Written by others, too.
        self._made: set[tuple[str, str]] = set()

    def see(self, change: Change) -> None:
        if change.resource == TRACED:
            metadata = change.either["metadata"]
            named = metadata["namespace"], metadata["name"]
            if change.before is None:
                self._made.add(named)
            if not writer(change.fact).startswith("client"):
                self._foreign.add(named)

    def rest(self) -> None:
        calls: dict[tuple[str, str], list[Call]] = defaultdict(list)
        swept = set()
        for call in self.tale.stage.gate.calls.all:
            namespace = call.request.namespace
            if call.request.verb == "deletecollection":
                swept.add(namespace)
            elif name := name_of(call):
                calls[namespace, name].append(call)
        for named, of_it in calls.items():
            if named in self._foreign or named[0] in swept:
                continue
            if named in self._made and not any(_may_make(call) for call in of_it):
                continue  # Somebody made it whom nobody heard.
            self._check("/".join(named), of_it)

    def _check(self, name: str, calls: Sequence[Call]) -> None:
        found = [operation(number, call) for number, call in enumerate(calls)]
        history = whole([op for op in found if op is not None])
        if linearizable(history):
            return
        least = next(n for n in range(len(history)) if not linearizable(until(history, n)))
        ended = sorted(until(history, least), key=lambda op: op.end)
        told = "; ".join(_told(op) for op in ended[-5:])
        raise Broken(f"configmaps {name}: no order explains what clients were told last: {told}")


def operation(number: int, call: Call) -> Operation | None:
    """Return what a call means for its object; None if nothing can be learned from it."""
    request, outcome, options = call.request, call.outcome, call.request.options
    if options.get("dryRun") or (request.verb == "get" and _is_lax(call)):
        return None
    body = msgpack.unpackb(request.body) if request.body else {}
    lost = outcome is None or outcome.code >= 500
    kind, expected = _kind(request.verb, options, body)
    if lost:
        if kind == "get":
            return None
        # What a patch makes of an object depends on what it finds.
        value = UNKNOWN if request.verb == "patch" else _data(body)
        return Operation(number, call.begin, NEVER, kind, value=value, expected=expected)
    assert outcome is not None
    ok = outcome.code < 300
    if not ok and not _tells(kind, outcome.code, outcome.body):
        return None
    if not ok and kind in ("put", "swap"):
        kind = "get"  # It has seen that there is nothing.
    value, revision = "", ANY
    if ok and kind != "delete":
        obj = msgpack.unpackb(outcome.body)
        value, revision = _data(obj), int(obj["metadata"]["resourceVersion"])
    return Operation(number, call.begin, call.end, kind, ok, value, revision, expected)


def whole(history: Sequence[Operation]) -> Sequence[Operation]:
    """Return the longest beginning of a history, of at most MOST, at whose end all has ended."""
    if len(history) <= MOST:
        return history
    ended, cut = 0.0, 0
    for number, op in enumerate(history[: MOST + 1]):
        if ended < op.begin:
            cut = number
        if op.end != NEVER:
            ended = max(ended, op.end)
    return history[:cut]


def until(history: Sequence[Operation], number: int) -> list[Operation]:
    """Return what had begun when one of them ended; what had not ended yet may yet do anything."""
    end = sorted(op.end for op in history)[number]
    under_way = (op for op in history if op.begin < end < op.end and op.ok and op.kind != "get")
    found = [op for op in history if op.end <= end and op.end != NEVER]
    return [*found, *(replace(op, end=NEVER) for op in under_way)]


def _kind(verb: str, options: Mapping[str, Any], body: Any) -> tuple[str, int]:
    """Return what kind of operation a request is, and the revision it expects."""
    if verb == "patch":
        return ("put" if options.get("patchType") == "apply" else "change"), ANY
    if verb == "update":
        version = str((body.get("metadata") or {}).get("resourceVersion") or "")
        return ("swap", int(version)) if version.isdecimal() else ("change", ANY)
    return verb, ANY


def _is_lax(call: Call) -> bool:
    """Tell whether a read need not be of the newest."""
    return call.stale or bool(call.request.options.get("resourceVersion"))


def _may_make(call: Call) -> bool:
    return call.request.verb == "create" or call.request.options.get("patchType") == "apply"


def _tells(kind: str, code: int, body: bytes) -> bool:
    """Tell whether a refusal says how the object was: that it is there, or that it is not."""
    if code == 409:
        return kind == "create" and msgpack.unpackb(body).get("reason") == "AlreadyExists"
    return code == 404 and kind != "create"


def _data(obj: Any) -> str:
    """Return the value of a ConfigMap."""
    return orjson.dumps(obj.get("data") or {}, option=orjson.OPT_SORT_KEYS).decode()


def _told(op: Operation) -> str:
    how = "lost" if op.end == NEVER else "done" if op.ok else "not there"
    return f"{op.kind} ({op.begin:g} to {op.end:g}, {how}) {op.value} at {op.revision}"
