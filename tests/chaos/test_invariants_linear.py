"""That clients agree on an order is looked at; what is stale on purpose is left out."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from kubeloop.actors.requests import metadata, reading, writing
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import ApiError
from kubeloop.chaos import (
    AnswerLost,
    Configure,
    ConflictStorm,
    Plan,
    Stage,
    StaleReads,
    Violation,
    play,
)
from kubeloop.chaos.calls import Call
from kubeloop.chaos.invariants.linearizability import Linearizability, operation, until, whole
from kubeloop.chaos.invariants.tale import Tale
from kubeloop.chaos.linear import NEVER, UNKNOWN, Operation

CLIENTS, TURNS = 3, 12
LAST = Configure(at_s=5)
QUIET = Plan(happenings=(LAST,))
STALE = Plan(
    happenings=(
        LAST,
        StaleReads(for_s=50, client="counter", behind=20, cached=False),
    )
)
LOST = Plan(
    happenings=(
        LAST,
        AnswerLost(for_s=50, client="counter"),
        ConflictStorm(at_s=1, for_s=1, client="counter"),
    )
)


async def counting(stage: Stage) -> None:
    """Have clients count up one ConfigMap, each reading before it writes."""

    async def count(number: int) -> None:
        api = stage.client("counter")
        for turn in range(TURNS):
            named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counter"}}
            try:
                if turn == 6 and number == 0:
                    await api.delete("configmaps", "counter")
                    continue
                found = await api.get("configmaps", "counter")
                await asyncio.sleep(0.005)
                data = {"n": f"{number}-{turn}", **({"k": "v"} if turn % 2 else {})}
                if number == 1:
                    await api.patch("configmaps", "counter", {"data": data})
                else:
                    await api.update({**found, "data": data})
            except (ApiError, ConnectionError):
                with suppress(ApiError, ConnectionError):
                    await api.create({**named, "data": {"n": f"{number}-{turn}"}})
            await stage.sleep_until(stage.loop.time() + stage.chance.random() / 50)

    await asyncio.gather(*map(count, range(CLIENTS)))
    await asyncio.Event().wait()  # Until the end.


def watched() -> list[Linearizability]:
    return [Linearizability(Tale())]


@pytest.mark.parametrize("plan", [QUIET, STALE, LOST], ids=["quiet", "stale", "lost"])
@pytest.mark.parametrize("seed", range(5))
def test_there_is_an_order(plan: Plan, seed: int) -> None:
    (watcher,) = watching = watched()
    play(replace(plan, seed=seed), operator=counting, monitors=lambda: watching)
    calls = watcher.tale.stage.gate.calls.all
    assert len([call for call in calls if call.request.name == "counter"]) > 20
    assert not watcher._foreign & {("default", "counter")}
    stale = [call for call in calls if call.stale]
    assert bool(stale) == (plan is STALE)


def test_a_read_of_what_was_before_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    whole_, count = reading.get, itertools.count()

    def read(state: Any, request: Request) -> Any:
        now = whole_(state, request)
        if next(count) % 3 == 0:
            kept[request.name] = now
        return kept.get(request.name, now)

    monkeypatch.setattr(reading, "get", read)
    with pytest.raises(Violation, match="configmaps default/counter: no order explains"):
        play(QUIET, operator=counting, monitors=watched)


def test_an_update_that_is_lost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (metadata, writing):
        monkeypatch.setattr(module, "check_preconditions", lambda *arguments: None)
    with pytest.raises(Violation, match="configmaps default/counter: no order explains"):
        play(QUIET, operator=counting, monitors=watched)


OBJECT = {"metadata": {"name": "x", "resourceVersion": "7"}, "data": {"b": "1", "a": "2"}}
BODY = msgpack.packb(OBJECT)
EXISTS = msgpack.packb({"reason": "AlreadyExists"})
CALLS: list[tuple[str, dict[str, Any], int, bytes, tuple[str, bool, str] | None]] = [
    ("get", {}, 200, BODY, ("get", True, '{"a":"2","b":"1"}')),
    ("get", {}, 404, b"", ("get", False, "")),
    ("get", {"resourceVersion": "0"}, 200, BODY, None),
    ("get", {}, 503, b"", None),
    ("create", {}, 201, BODY, ("create", True, '{"a":"2","b":"1"}')),
    ("create", {}, 409, EXISTS, ("create", False, "")),
    ("create", {}, 404, b"", None),
    ("create", {"dryRun": ["All"]}, 201, BODY, None),
    ("update", {}, 409, EXISTS, None),
    ("update", {}, 404, b"", ("get", False, "")),
    ("patch", {}, 404, b"", ("change", False, "")),
    ("patch", {}, 504, b"", ("change", True, UNKNOWN)),
    ("patch", {"patchType": "apply"}, 201, BODY, ("put", True, '{"a":"2","b":"1"}')),
    ("delete", {}, 200, BODY, ("delete", True, "")),
    ("delete", {}, 404, b"", ("delete", False, "")),
    ("delete", {}, 429, b"", None),
]


@pytest.mark.parametrize(("verb", "options", "code", "body", "means"), CALLS)
def test_what_a_call_means(
    verb: str, options: dict[str, Any], code: int, body: bytes, means: tuple[str, bool, str] | None
) -> None:
    request = Request(verb, "configmaps", "default", "x", body=BODY, options=options)
    call = Call(request, 1, 2, Outcome("", code, 7, body))
    op = operation(0, call)
    assert (op and (op.kind, op.ok, op.value)) == means
    if op is not None:
        assert op.end == (NEVER if code >= 500 else 2)


def test_of_a_long_history_the_beginning_is_looked_at() -> None:
    def made(begin: Callable[[int], float], end: Callable[[int], float]) -> list[Operation]:
        return [Operation(0, begin(n), end(n), "get", ok=False) for n in range(600)]

    assert len(whole(made(lambda n: 2 * n, lambda n: 2 * n + 1))) == 500
    assert len(whole(made(lambda n: 2 * n, lambda n: 2 * n + (1 if n < 400 else 1000)))) == 400
    few = made(lambda n: 2 * n, lambda n: 2 * n + 1)[:10]
    assert (len(whole(few)), len(until(few, 3))) == (10, 4)
