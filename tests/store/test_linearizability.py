"""What concurrent clients see of one object could have happened one after the other.

They read, write, swap and delete ConfigMaps through the API server, over a store in memory and one
on a disk, in every order a seed may choose, while the API server fails.
"""

import asyncio
import itertools
import random
from collections import defaultdict
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.actors.requests import metadata, reading
from kubeloop.api.calls import Request
from kubeloop.chaos.linear import ANY, NEVER, Operation, State, after, linearizable
from kubeloop.cluster import Cluster

CLIENTS, OPERATIONS, KEYS = 6, 25, ("a", "b")
Histories = dict[str, list[Operation]]


def histories(seed: int, *, durable: bool = False, crashes: bool = True) -> Histories:
    """Return what clients did and were told, by object."""
    found: Histories = defaultdict(list)
    numbers = itertools.count()

    async def client(cluster: Cluster, number: int, chance: random.Random) -> None:
        known: dict[str, int] = {}
        for count in range(OPERATIONS):
            key, kind = chance.choice(KEYS), chance.choice(("get", "put", "swap", "swap", "delete"))
            if kind == "swap" and key not in known:
                kind = "get"
            value, expected = f"{number}-{count}", known.get(key, ANY)
            begin = float(next(numbers))
            told = await asked(cluster, kind, key, value, expected)
            end = NEVER if told is None else float(next(numbers))
            ok, seen, revision = told or (True, value, ANY)
            if kind != "get" or told is not None:
                op = Operation(number, begin, end, kind, ok, seen or value, revision, expected)
                found[key].append(op)
            if revision != ANY:
                known[key] = revision
            await asyncio.sleep(chance.choice((0.0, 0.0, 0.001)))

    async def main() -> None:
        disk = sim.MemoryDisk() if durable else None
        data_dir = "/data" if durable else None
        async with Cluster(nodes=0, seed=seed, data_dir=data_dir, disk=disk) as cluster:
            chance = random.Random(seed)
            clients = [client(cluster, n, random.Random(f"{seed} {n}")) for n in range(CLIENTS)]
            loop = asyncio.get_running_loop()
            for _ in range(3 if crashes else 0):
                error = RuntimeError("on purpose")
                loop.call_later(chance.random() / 20, cluster.supervisor.crash, "apiserver", error)
            await asyncio.gather(*clients)

    sim.run(main, seed=seed, policy="random")
    return found


async def asked(
    cluster: Cluster, kind: str, key: str, value: str, expected: int
) -> tuple[bool, str, int] | None:
    """Return whether it was done, what was read and the revision; None if that was not told."""
    obj: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key}}
    obj["data"] = {"value": value}
    verb = {"get": "get", "put": "patch", "swap": "update", "delete": "delete"}[kind]
    options = {}
    if kind == "put":
        options = {"patchType": "merge"}
        created = Request("create", "configmaps", "default", body=msgpack.packb(obj))
        outcome = await cluster.ask(created)
        if outcome.code == 201:
            return True, "", outcome.revision
        if outcome.code >= 500:
            return None
    if kind == "swap":
        obj["metadata"]["resourceVersion"] = str(expected)
    body = b"" if kind in ("get", "delete") else msgpack.packb(obj)
    outcome = await cluster.ask(
        Request(verb, "configmaps", "default", key, body=body, options=options)
    )
    if outcome.code >= 500:
        return None
    if outcome.code in (404, 409):
        # A put that finds nothing to patch, after what it would create was there, has done nothing.
        return (False, "", ANY) if kind != "put" else None
    seen = msgpack.unpackb(outcome.body) if kind == "get" else {}
    told = seen.get("data", {}).get("value", "")
    return True, told, ANY if kind == "delete" else revision_of(kind, seen, outcome.revision)


def revision_of(kind: str, seen: dict[str, Any], told: int) -> int:
    return int(seen["metadata"]["resourceVersion"]) if kind == "get" else told


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("seed", range(50))
def test_clients_agree_on_an_order(seed: int, durable: bool) -> None:
    found = histories(seed, durable=durable)
    assert sum(len(history) for history in found.values()) > CLIENTS * OPERATIONS / 2
    for key, history in found.items():
        assert linearizable(history), f"{key}: {sorted(history, key=lambda op: op.begin)}"


def broken() -> bool:
    """Tell whether some seed shows something that cannot have happened."""
    return any(
        not linearizable(history)
        for seed in range(10)
        for history in histories(seed, crashes=False).values()
    )


def test_a_stale_read_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    whole, count = reading.get, itertools.count()

    def read(state: Any, request: Request) -> Any:
        """Answer now and then what was answered before."""
        now = whole(state, request)
        if next(count) % 3 == 0:
            kept[request.name] = now
        return kept.get(request.name, now)

    monkeypatch.setattr(reading, "get", read)
    assert broken()


def test_a_lost_update_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "check_preconditions", lambda *arguments: None)
    from kubeloop.actors.requests import writing

    monkeypatch.setattr(writing, "check_preconditions", lambda *arguments: None)
    assert broken()


# The checker, against all orders.


def by_hand(history: list[Operation]) -> bool:
    told = [op for op in history if op.end != NEVER]
    untold = [op for op in history if op.end == NEVER]
    for count in range(len(untold) + 1):
        for some in itertools.combinations(untold, count):
            if any(fits(order) for order in itertools.permutations([*told, *some])):
                return True
    return False


def fits(order: tuple[Operation, ...]) -> bool:
    states: list[State] = [None]
    for number, op in enumerate(order):
        if any(later.end < op.begin for later in order[number + 1 :]):
            return False
        states = [one for state in states for one in after(state, op)]
    return bool(states)


KINDS = ("get", "put", "create", "change", "swap", "delete")


@st.composite
def small(draw: st.DrawFn) -> list[Operation]:
    count = draw(st.integers(1, 5))
    points = draw(st.permutations(range(2 * count)))
    found = []
    for number in range(count):
        begin, end = sorted(points[2 * number : 2 * number + 2])
        kind, lost = draw(st.sampled_from(KINDS)), draw(st.booleans())
        lost = lost and kind != "get"
        ok = lost or kind == "put" or draw(st.booleans())
        value = draw(st.sampled_from("xy"))
        revision = ANY if lost or not ok or kind == "delete" else draw(st.integers(1, 3))
        expected = draw(st.integers(1, 3)) if kind == "swap" else ANY
        ends = NEVER if lost else float(end)
        found.append(Operation(number, float(begin), ends, kind, ok, value, revision, expected))
    return found


@given(small())
def test_the_checker_finds_an_order_if_there_is_one(history: list[Operation]) -> None:
    assert linearizable(history) == by_hand(history)
