"""Five operators written with kopf, each with a bug that is often made, and each without it.

A user gives orders, which are ConfigMaps; an operator keeps a Secret for each, and more. The bugs
are the three patterns of Sieve (OSDI '22), a create that is not idempotent, and a finalizer that is
missing. What the user then sees is told by an invariant of each.
"""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp
import kopf

from kubeloop.api.errors import ApiError
from kubeloop.chaos.faults import api
from kubeloop.chaos.generate import Profile
from kubeloop.chaos.invariants import Invariant, Sight, invariant
from kubeloop.chaos.playing import Operator
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import APPS, Action
from kubeloop.chaos.values import Real, drawn, kind

ORDER: Final = "order"
BASE: Final = "/api/v1/namespaces/default"
BACKOFF_S: Final = 5.0  # Shorter than what `settled` takes for rest.


# What a user does. No `Step`s: those are drawn for every plan, and these are for these alone.


@kind("order")
@dataclass(frozen=True, kw_only=True)
class Order(Action):
    """A user gives an order, if it is not there yet."""

    founds = True
    name: str = drawn(APPS)

    async def do(self, stage: Stage) -> None:
        metadata = {"name": self.name, "labels": {ORDER: self.name}}
        order = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        try:
            await stage.api.create({**order, "data": {"state": "open", "round": "1"}})
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise


@kind("cancel-order")
@dataclass(frozen=True, kw_only=True)
class CancelOrder(Action):
    """A user takes an order back."""

    name: str = drawn(APPS)

    async def do(self, stage: Stage) -> None:
        await stage.api.delete("configmaps", self.name)


@kind("reopen-order")
@dataclass(frozen=True, kw_only=True)
class ReopenOrder(Action):
    """A user closes an open order, so that its key is revoked, and opens it again after a while."""

    name: str = drawn(APPS)
    closed_s: float = drawn(Real(2.0, 10.0))

    async def happen(self, stage: Stage) -> None:
        order = await stage.api.get("configmaps", self.name)
        if order["data"]["state"] == "open":
            following = str(int(order["data"]["round"]) + 1)
            await _Amend(name=self.name, data={"state": "closed"}).happen(stage)
            await stage.sleep_until(stage.loop.time() + self.closed_s)
            opened = {"state": "open", "round": following}
            await _Amend(name=self.name, data=opened).happen(stage)


@dataclass(frozen=True, kw_only=True)
class _Amend(Action):
    name: str
    data: dict[str, str]

    async def do(self, stage: Stage) -> None:
        await stage.api.patch("configmaps", self.name, {"data": self.data})


# What an operator does.


class Desk:
    """An operator's registry of handlers, and its way to the API server beside that of kopf."""

    def __init__(self, stage: Stage) -> None:
        access = stage.cluster.kubeconfig
        self.url = access["clusters"][0]["cluster"]["server"]
        self.token = access["users"][0]["user"]["token"]
        self.registry = kopf.OperatorRegistry()
        labels = {ORDER: kopf.PRESENT}
        mine = {"labels": labels, "registry": self.registry}
        self.on_create = partial(kopf.on.create, "configmaps", **mine)
        self.on_update = partial(kopf.on.update, "configmaps", **mine)
        self.on_resume = partial(kopf.on.resume, "configmaps", **mine)
        self.on_delete = partial(kopf.on.delete, "configmaps", **mine)
        kopf.on.login(registry=self.registry)(self._login)

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=self.url, token=self.token)

    async def run(self) -> None:
        """Run the operator."""
        settings = kopf.OperatorSettings()
        settings.process.ultimate_exiting_timeout = None  # Else kopf kills our process, too.
        settings.posting.enabled = False
        settings.execution.default_backoff = BACKOFF_S
        settings.queueing.error_delays = [1, 2, BACKOFF_S]
        await kopf.operator(
            registry=self.registry, settings=settings, namespaces=["default"], standalone=True
        )

    async def ask(
        self, method: str, path: str, body: Any = None, *, fine: Sequence[int] = ()
    ) -> tuple[int, Any]:
        """Ask the API server. fine: statuses of 400 and more that are no error.

        Raises: kopf.TemporaryError, whereupon kopf calls the handler again.
        """
        try:
            async with self._session() as http, http.request(method, path, json=body) as answer:
                if answer.status >= 400 and answer.status not in fine:
                    raise kopf.TemporaryError(str(answer.status), delay=BACKOFF_S)
                return answer.status, json.loads(await answer.text() or "null")
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise kopf.TemporaryError(repr(error), delay=BACKOFF_S) from error

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        headers = {"Authorization": f"Bearer {self.token}", "User-Agent": "orders/1.0"}
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(self.url, headers=headers, timeout=timeout) as http:
            yield http


def secret(name: str, uid: str, **data: str) -> dict[str, Any]:
    """Return the Secret of an order."""
    metadata = {"name": name, "labels": {ORDER: name}, "annotations": {"uid": uid}}
    return {"metadata": metadata, "stringData": data}


async def create_not_idempotent(stage: Stage, *, careful: bool) -> None:
    """Makes one Secret for each order, of a name that the API server invents."""
    desk = Desk(stage)

    @desk.on_create()
    async def serve(name: str, uid: str, **_: Any) -> None:
        made = secret(name, uid)
        if not careful:
            made["metadata"]["generateName"] = f"{made['metadata'].pop('name')}-"
        await desk.ask("POST", f"{BASE}/secrets", made, fine=[409])

    await desk.run()


def one_secret_each() -> Invariant:
    """Return an invariant of a run."""

    @invariant
    def one_secret_for_each_order(sight: Sight) -> None:
        uids = [one["metadata"]["annotations"]["uid"] for one in _secrets(sight)]
        for one in _secrets(sight):
            twice = uids.count(one["metadata"]["annotations"]["uid"]) > 1
            assert not twice, f"order {one['metadata']['labels'][ORDER]} was served twice"

    return one_secret_for_each_order


async def no_finalizer(stage: Stage, *, careful: bool) -> None:
    """Makes a Secret for each order, and deletes it when the order is deleted."""
    desk = Desk(stage)

    @desk.on_create()
    async def serve(name: str, uid: str, **_: Any) -> None:
        await desk.ask("POST", f"{BASE}/secrets", secret(name, uid), fine=[409])

    @desk.on_delete(optional=not careful)  # kopf puts no finalizer on what is optional.
    async def clean(name: str, **_: Any) -> None:
        await desk.ask("DELETE", f"{BASE}/secrets/{name}", fine=[404])

    await desk.run()


def no_secret_stays() -> Invariant:
    """Return an invariant of a run."""

    @invariant(when="settled")
    def no_secret_outlives_its_order(sight: Sight) -> None:
        for one in _secrets(sight):
            name = one["metadata"]["labels"][ORDER]
            assert sight.get("configmaps", name), f"order {name} is gone, and its secret is not"

    return no_secret_outlives_its_order


async def stale_read(stage: Stage, *, careful: bool) -> None:
    """Makes a Secret for each order, and sweeps away those whose orders it does not find."""
    desk = Desk(stage)
    made: dict[str, str] = {}  # Order → uid.

    @desk.on_create()
    async def serve(name: str, uid: str, **_: Any) -> None:
        wanted = secret(name, uid)
        if careful:  # The garbage collector sweeps, and asks the store before it does.
            owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}
            wanted["metadata"]["ownerReferences"] = [owner]
        await desk.ask("POST", f"{BASE}/secrets", wanted, fine=[409])
        made[name] = uid
        if not careful:
            await sweep()

    async def sweep() -> None:
        _, orders = await desk.ask("GET", f"{BASE}/configmaps?labelSelector={ORDER}")
        there = {one["metadata"]["uid"] for one in orders["items"]}
        for name in [name for name, uid in made.items() if uid not in there]:
            await desk.ask("DELETE", f"{BASE}/secrets/{name}", fine=[404])
            made.pop(name, None)

    await desk.run()


def no_secret_is_lost() -> Invariant:
    """Return an invariant of a run."""
    before: dict[str, tuple[str, str]] = {}

    @invariant
    def the_secret_of_an_order_is_kept(sight: Sight) -> None:
        now = {
            one["metadata"]["uid"]: (
                one["metadata"]["labels"][ORDER],
                one["metadata"]["annotations"]["uid"],
            )
            for one in _secrets(sight)
        }
        for uid in before.keys() - now.keys():
            name, order_uid = before[uid]
            metadata = (sight.get("configmaps", name) or {"metadata": {}})["metadata"]
            alive = metadata.get("uid") == order_uid and "deletionTimestamp" not in metadata
            assert not alive, f"the secret of order {name} was deleted, and the order is there"
        before.clear()
        before.update(now)

    return the_secret_of_an_order_is_kept


async def unobserved_state(stage: Stage, *, careful: bool) -> None:
    """Makes a Secret for each open order; when it is closed its Secret is revoked."""
    desk = Desk(stage)

    @desk.on_resume()
    @desk.on_create()
    @desk.on_update()
    async def serve(name: str, uid: str, body: kopf.Body, **_: Any) -> None:
        data = body["data"]
        path = f"{BASE}/secrets/{name}"
        if careful:  # Whether it was closed since follows from what there is, not from what was.
            status, found = await desk.ask("GET", path, fine=[404])
            if status == 200 and _round(found) < int(data["round"]):
                precondition = {"preconditions": {"uid": found["metadata"]["uid"]}}
                await desk.ask("DELETE", path, precondition, fine=[404, 409])
        if data["state"] == "open":
            made = secret(name, uid, round=data["round"])
            await desk.ask("POST", f"{BASE}/secrets", made, fine=[409])
        else:
            await desk.ask("DELETE", path, fine=[404])

    await desk.run()


def _round(one: Any) -> int:
    return int(base64.b64decode(one["data"]["round"]))


def closed_is_revoked() -> Invariant:
    """Return an invariant of a run."""

    @invariant(when="settled")
    def what_was_closed_is_revoked(sight: Sight) -> None:
        for one in _secrets(sight):
            name = one["metadata"]["labels"][ORDER]
            order = sight.get("configmaps", name)
            assert order is None or _round(one) >= int(order["data"]["round"]), (
                f"order {name} was closed and opened again, and its old secret was never revoked"
            )

    return what_was_closed_is_revoked


async def intermediate_state(stage: Stage, *, careful: bool) -> None:
    """Makes a Secret for each order, and then a Service."""
    desk = Desk(stage)

    @desk.on_create()
    async def serve(name: str, uid: str, **_: Any) -> None:
        path = f"{BASE}/secrets"
        status, _answer = await desk.ask("POST", path, secret(name, uid), fine=[409])
        if status == 201 or careful:  # The careless one: what is there was seen to before.
            spec = {"ports": [{"port": 80}], "selector": {"app": name}}
            service = {"metadata": {"name": name}, "spec": spec}
            await desk.ask("POST", f"{BASE}/services", service, fine=[409])

    await desk.run()


def orders_are_complete() -> Invariant:
    """Return an invariant of a run."""

    @invariant(when="settled")
    def an_order_with_a_secret_has_a_service(sight: Sight) -> None:
        for one in _secrets(sight):
            name = one["metadata"]["labels"][ORDER]
            assert sight.get("services", name), f"order {name} has a secret and no service"

    return an_order_with_a_secret_has_a_service


def _secrets(sight: Sight) -> list[Any]:
    return [one for one in sight.objects("secrets") if ORDER in one["metadata"].get("labels", {})]


_FAULTS: Final = (api.AnswerLost, api.ApiFails, api.ApiRestarts, api.ConflictStorm,
                  api.CrashAtWrite, api.OperatorCrashes, api.StaleReads, api.StatesMissed,
                  api.WatchEnds)  # fmt: skip
_PROFILE: Final = partial(
    Profile,
    faults=_FAULTS,
    steps_most=6,
    faults_most=4,
    nodes_most=1,
    within_s=30.0,
    rest=True,
    durable=False,
)


@dataclass(frozen=True, slots=True)
class Case:
    """An operator with a bug, and without it.

    main:     (stage, careful): the operator, with the bug unless it is careful.
    watching: makes the invariant that the bug breaks.
    """

    name: str
    main: Callable[..., Awaitable[None]]
    watching: Callable[[], Invariant]
    profile: Profile
    is_like: str

    def operator(self, *, careful: bool) -> Operator:
        """Return what runs beside a cluster."""
        main: Any = partial(self.main, careful=careful)
        return main

    def monitors(self) -> list[Invariant]:
        """Return who watches a run."""
        return [self.watching()]


CASES: Final = (
    Case(
        "a create that is not idempotent",
        create_not_idempotent,
        one_secret_each,
        _PROFILE(steps=(Order,)),
        "generateName, and a retry: what was done and not told is done again",
    ),
    Case(
        "no finalizer",
        no_finalizer,
        no_secret_stays,
        _PROFILE(steps=(Order, CancelOrder)),
        "what belongs to a deleted object stays, if nobody looked when it was deleted",
    ),
    Case(
        "stale read",
        stale_read,
        no_secret_is_lost,
        _PROFILE(steps=(Order, CancelOrder)),
        "a list that lags is taken for what is: what is new is swept away (Sieve: stale state)",
    ),
    Case(
        "unobserved state",
        unobserved_state,
        closed_is_revoked,
        _PROFILE(steps=(Order, ReopenOrder)),
        "what happens only when a state is seen does not, if it is not (Sieve: unobserved state)",
    ),
    Case(
        "intermediate state",
        intermediate_state,
        orders_are_complete,
        _PROFILE(steps=(Order,)),
        "a crash between two writes, and nobody goes on (Sieve: intermediate state)",
    ),
)
