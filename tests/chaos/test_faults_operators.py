"""Operators with a bug that one fault of the API server brings to light, and without it.

The three patterns of Sieve (OSDI '22), and what is done but not told. Each operator is tried with
30 seeds, which also decide when the fault happens and how bad it is.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import aiohttp
import pytest
from stages import rest

from kubeloop.api.errors import ApiError
from kubeloop.chaos.faults.api import AnswerLost, CrashAtWrite, StaleReads, StatesMissed
from kubeloop.chaos.plan import Plan
from kubeloop.chaos.playing import Violation, play
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import Step
from kubeloop.chaos.values import Happening
from kubeloop.chaos.watching import Broken, Outcome
from kubeloop.net.client import Client
from kubeloop.store.facts import Fact, key_of

SEEDS = range(30)
PAUSE_S = 0.5
Operator = Callable[[Stage], Coroutine[Any, Any, None]]


@dataclass(frozen=True, kw_only=True)
class Put(Step):
    """A user applies a ConfigMap, or a Secret."""

    name: str
    kind_: str = "ConfigMap"
    text: str = ""

    async def do(self, stage: Stage) -> None:
        obj = {"apiVersion": "v1", "kind": self.kind_, "metadata": {"name": self.name}}
        field = "data" if self.kind_ == "ConfigMap" else "stringData"
        await stage.api.apply({**obj, field: {"text": self.text}})


class Check:
    """A monitor made of two functions."""

    name = "check"

    def __init__(
        self,
        at_end: Callable[[Stage], None] = lambda stage: None,
        always: Callable[[Sequence[Fact]], None] = lambda facts: None,
    ) -> None:
        self._at_end, self._always = at_end, always

    def begin(self, stage: Stage) -> None:
        self._stage = stage

    def heard(self, facts: Sequence[Fact]) -> None:
        self._always(facts)

    def end(self) -> None:
        self._at_end(self._stage)


def text_of(stage: Stage, resource: str, name: str) -> str | None:
    """Return the text of a ConfigMap or Secret, "" if it has none, None if there is none."""
    stored = stage.cluster.store.get(key_of(resource, "default", name))
    if stored is None:
        return None
    obj = Fact(1, stored.key, stored.value).object() or {}
    return str((obj.get("data") or {}).get("text", ""))


def must(condition: object, text: str) -> None:
    if not condition:
        raise Broken(text)


def plan(seed: int, *happenings: Happening) -> Plan:
    return Plan(seed=seed, policy="random", nodes=0, rest=True, happenings=happenings)


def tried(operator: Operator, plan: Plan, check: Callable[[], Check]) -> Outcome:
    return play(plan, operator=operator, monitors=lambda: [check()])


async def for_ever(once: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do something over and over, as a careful program does: whatever fails begins again."""
    while True:
        try:
            await once()
        except (ApiError, aiohttp.ClientError, ConnectionError):
            await asyncio.sleep(PAUSE_S)


# Stale state: the past comes back, and is obeyed.


async def retirer(stage: Stage, *, careful: bool) -> None:
    """Deletes the Secrets of apps that are retired: "retired 1" is that of the first secret."""

    async def reconcile(http: aiohttp.ClientSession) -> None:
        base = "/api/v1/namespaces/default"
        async with http.get(f"{base}/configmaps", raise_for_status=True) as response:
            apps = await response.json()
        async with http.get(f"{base}/secrets", raise_for_status=True) as response:
            secrets = {one["metadata"]["name"]: one for one in (await response.json())["items"]}
        for app in apps["items"]:
            name, text = app["metadata"]["name"], (app.get("data") or {}).get("text", "")
            if not text.startswith("retired"):
                continue
            body: dict[str, Any] = {}
            if careful:
                secret = secrets.get(name)
                if secret is None or secret["metadata"]["annotations"]["for"] not in text:
                    continue
                body["preconditions"] = {"uid": secret["metadata"]["uid"]}
            async with http.delete(f"{base}/secrets/{name}", json=body) as response:
                assert response.status in (200, 404, 409)
        asked = {"watch": "1", "resourceVersion": apps["metadata"]["resourceVersion"]}
        async with http.get(f"{base}/configmaps", params=asked) as response:
            await response.content.readline()

    async with rest(stage, "retirer/1.0") as http:
        await for_ever(partial(reconcile, http))


@dataclass(frozen=True, kw_only=True)
class PutSecret(Step):
    """A user gives an app a new Secret."""

    name: str
    number: str

    async def do(self, stage: Stage) -> None:
        metadata = {"name": self.name, "annotations": {"for": self.number}}
        await stage.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})


def retired_and_back(seed: int) -> Plan:
    chance = Random(seed)
    return plan(
        seed,
        PutSecret(at_s=0, name="app", number="1"),
        Put(at_s=1, name="app", text="live 1"),
        Put(at_s=3, name="app", text="retired 1"),
        PutSecret(at_s=6, name="app", number="2"),
        Put(at_s=6.5, name="app", text="live 2"),
        StaleReads(
            at_s=round(chance.uniform(7, 12), 3),
            for_s=10,
            client="retirer/*",
            behind=chance.randint(1, 2),
            stands=chance.random() < 0.5,
        ),
    )


def the_secret_is_there() -> Check:
    return Check(
        at_end=lambda stage: must(
            text_of(stage, "secrets", "app") is not None, "the secret of a live app was deleted"
        )
    )


# Done, and not told: it is done again.


async def maker(stage: Stage, *, careful: bool) -> None:
    """Makes one Secret for each ConfigMap called job-…"""
    api, made = stage.client("maker"), set[str]()

    async def make(job: str) -> None:
        if job in made or not job.startswith("job-"):
            return
        metadata: dict[str, Any] = {"labels": {"job": job}}
        metadata |= {"name": f"{job}-child"} if careful else {"generateName": f"{job}-"}
        try:
            await api.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        made.add(job)

    async def work() -> None:
        async for change in api.watch("configmaps"):
            await make(change.object.name)

    await for_ever(work)


def three_jobs(seed: int) -> Plan:
    chance = Random(seed)
    return plan(
        seed,
        *(Put(at_s=n, name=f"job-{n}") for n in (1, 2, 3)),
        AnswerLost(
            client="maker",
            verb="create",
            answer=chance.choice(["504", "500", "reset"]),
            nth=chance.randint(1, 3),
            for_s=20,
        ),
    )


def one_child_each() -> Check:
    made: list[str] = []

    def heard(facts: Sequence[Fact]) -> None:
        for fact in facts:
            if fact.resource == "secrets" and fact.prev is None and fact.value is not None:
                obj = fact.object() or {}
                job = (obj["metadata"].get("labels") or {}).get("job", "")
                must(job not in made, f"{job} has two children")
                made.append(job)

    def end(stage: Stage) -> None:
        must(sorted(made) == ["job-1", "job-2", "job-3"], f"not all have a child: {made}")

    return Check(end, heard)


# Unobserved states: what was in between is not seen.


async def stepper(stage: Stage, *, careful: bool) -> None:
    """Follows the ConfigMap "want": whatever it says, "done" shall say, too."""
    api: Client = stage.client("stepper")

    async def done(text: str) -> None:
        metadata = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "done"}}
        await api.apply({**metadata, "data": {"text": text}})

    async def work() -> None:
        async for change in api.watch("configmaps", name="want"):
            # The careless one takes what it is told first for what it knows already.
            if careful or change.type == "MODIFIED":
                await done(change.object["data"]["text"])

    await for_ever(work)


def steps_unseen(seed: int) -> Plan:
    chance = Random(seed)
    begin = round(chance.uniform(2.5, 3.5), 3)
    return plan(
        seed,
        *(Put(at_s=n, name="want", text=str(n)) for n in range(1, 6)),
        StatesMissed(client="stepper", at_s=begin, for_s=round(chance.uniform(3, 6), 3)),
    )


def what_is_wanted_is_done() -> Check:
    def end(stage: Stage) -> None:
        want, done = (text_of(stage, "configmaps", name) for name in ("want", "done"))
        must(want == done, f"{want!r} is wanted, {done!r} is done")

    return Check(end)


# Intermediate states: killed between two writes.


async def clerk(stage: Stage, *, careful: bool) -> None:
    """For each ConfigMap called order-… writes a Secret, then a ConfigMap paid-…"""

    async def create(http: aiohttp.ClientSession, resource: str, name: str) -> bool:
        path = f"/api/v1/namespaces/default/{resource}"
        async with http.post(path, json={"metadata": {"name": name}}) as response:
            assert response.status in (201, 409)
            return response.status == 201

    async def work(http: aiohttp.ClientSession) -> None:
        asked = {"watch": "1", "timeoutSeconds": "60"}
        path = "/api/v1/namespaces/default/configmaps"
        async with http.get(path, params=asked, raise_for_status=True) as response:
            async for line in response.content:
                name = line.decode().partition('"name":"')[2].partition('"')[0]
                if not name.startswith("order-"):
                    continue
                fresh = await create(http, "secrets", name)
                if fresh or careful:
                    await create(http, "configmaps", name.replace("order", "paid"))

    async with rest(stage, "clerk/1.0") as http:
        await for_ever(partial(work, http))


def killed_in_between(seed: int) -> Plan:
    chance = Random(seed)
    fault = CrashAtWrite(
        client="clerk/*",
        verb="create",
        nth=chance.choice([1, 3, 5]),  # The first of two.
        down_s=round(chance.uniform(0, 5), 3),
        for_s=60,
    )
    return plan(seed, fault, *(Put(at_s=n, name=f"order-{n}") for n in (1, 2, 3)))


def all_is_paid() -> Check:
    def end(stage: Stage) -> None:
        for number in (1, 2, 3):
            must(text_of(stage, "secrets", f"order-{number}") is not None, "there is no record")
            must(text_of(stage, "configmaps", f"paid-{number}") is not None, "it is not paid")

    return Check(end)


CASES = [
    (retirer, retired_and_back, the_secret_is_there, "the secret of a live app was deleted"),
    (maker, three_jobs, one_child_each, "job-. has two children"),
    (stepper, steps_unseen, what_is_wanted_is_done, "is wanted, .* is done"),
    (clerk, killed_in_between, all_is_paid, "it is not paid"),
]


@pytest.mark.parametrize(("operator", "plan_of", "check", "told"), CASES)
def test_a_careless_operator_is_caught(
    operator: Any, plan_of: Callable[[int], Plan], check: Callable[[], Check], told: str
) -> None:
    for seed in range(5):
        with pytest.raises(Violation, match=told) as caught:
            tried(partial(operator, careful=False), plan_of(seed), check)
        assert caught.value.monitor == "check"


@pytest.mark.parametrize(("operator", "plan_of", "check", "told"), CASES)
def test_without_the_fault_it_is_not_noticed(
    operator: Any, plan_of: Callable[[int], Plan], check: Callable[[], Check], told: str
) -> None:
    whole = plan_of(1)
    calm = [one for one in whole.happenings if isinstance(one, Step)]
    tried(partial(operator, careful=False), plan(1, *calm), check)


@pytest.mark.parametrize(("operator", "plan_of", "check", "told"), CASES)
def test_a_careful_operator_passes(
    operator: Any, plan_of: Callable[[int], Plan], check: Callable[[], Check], told: str
) -> None:
    for seed in SEEDS:
        tried(partial(operator, careful=True), plan_of(seed), check)


@pytest.mark.parametrize(("operator", "plan_of", "check", "told"), CASES)
def test_the_same_plan_is_the_same_run(
    operator: Any, plan_of: Callable[[int], Plan], check: Callable[[], Check], told: str
) -> None:
    hashes = {tried(partial(operator, careful=True), plan_of(7), check).hash for _ in range(2)}
    assert len(hashes) == 1
