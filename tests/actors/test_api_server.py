"""The API server as an actor: it answers after the commit, feeds watchers, survives crashes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from pykka._envelope import Envelope

from kubeloop.actors.actor import ActorFailed, AsyncActor, Scene
from kubeloop.actors.api_server import ApiServer, Subscriptions
from kubeloop.actors.messages import (
    API_SERVER,
    Facts,
    Listing,
    Outcome,
    Request,
    Subscribe,
    Synced,
    decode,
)
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.view import View
from kubeloop.actors.world import LoopWorld
from kubeloop.store.store import Done, Store


class Watcher(AsyncActor):
    """Keeps a view of configmaps, as every component does; tells when it changes."""

    def __init__(self, scene: Scene, name: str, seen: "Seen") -> None:
        super().__init__(scene, name)
        self.seen = seen

    def on_start(self) -> None:
        self.send(API_SERVER, Subscribe(self.name, ["configmaps", "pods"]).encode())

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for envelope in envelopes:
            message = decode(envelope.message)
            if isinstance(message, Listing):
                self.seen.view.begin()
                self.seen.lists += 1
            elif isinstance(message, Facts):
                for fact in message.facts():
                    self.seen.view.fold(fact)
            elif isinstance(message, Synced):
                self.seen.view.finish(message.revision)
            elif isinstance(message, Outcome):
                self.seen.outcomes.append(message)
        self.seen.bell.set()


class Seen:
    """What a watcher has seen; outlives it."""

    def __init__(self) -> None:
        self.view, self.lists, self.outcomes = View(), 0, list[Outcome]()
        self.bell = asyncio.Event()

    async def until(self, names: set[str]) -> None:
        async with asyncio.timeout(5):
            while self.names() != names or not self.view.synced:
                self.bell.clear()
                await self.bell.wait()

    def names(self) -> set[str]:
        return {obj["metadata"]["name"] for obj in self.view.list("configmaps")}


class LateStore(Store):
    """Says what became of a flush some time after."""

    def flush(self, done: Done) -> None:
        asyncio.get_running_loop().call_later(0.01, super().flush, done)


class Stage:
    """A supervisor with an API server, a watcher and a namespace."""

    def __init__(self, kind: type[Store] = Store) -> None:
        loop = asyncio.get_running_loop()
        world = LoopWorld(loop, seed=1, wall=loop.time)
        self.supervisor, self.store, self.seen = Supervisor(world), kind.memory(), Seen()
        subscriptions = Subscriptions({})
        self.supervisor.start(
            API_SERVER,
            lambda scene, name: ApiServer(
                scene, name, store=self.store, subscriptions=subscriptions
            ),
        )

    async def start(self) -> "Stage":
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
        await self.ask(Request("create", "namespaces", body=msgpack.packb(namespace)))
        self.supervisor.start("watcher", lambda scene, name: Watcher(scene, name, self.seen))
        return self

    async def ask(self, request: Request) -> Outcome:
        answer = decode(await self.supervisor.ask(API_SERVER, request.encode()))
        assert isinstance(answer, Outcome)
        return answer

    async def create(self, name: str) -> Outcome:
        return await self.ask(request(name))


def request(name: str, **more: Any) -> Request:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    return Request("create", "configmaps", "default", body=msgpack.packb(body), **more)


def test_a_watcher_sees_what_was_there_and_what_comes(simulate: Any) -> None:
    async def scenario() -> None:
        stage = await Stage().start()
        assert (await stage.create("a")).code == 201
        await stage.seen.until({"a"})
        await stage.create("b")
        await stage.ask(Request("delete", "configmaps", "default", "a"))
        await stage.seen.until({"b"})
        assert stage.seen.lists == 1
        stage.supervisor.stop_all()

    simulate(scenario)


def test_a_told_request_is_answered_to_its_sender(simulate: Any) -> None:
    async def scenario() -> None:
        stage = await Stage().start()
        stage.supervisor.tell(API_SERVER, request("a", sender="watcher", tag="t1").encode())
        await stage.seen.until({"a"})
        assert [(o.tag, o.code) for o in stage.seen.outcomes] == [("t1", 201)]
        assert stage.seen.outcomes[0].revision == stage.seen.view.revision
        stage.supervisor.stop_all()

    simulate(scenario)


def test_events_end_an_hour_after_their_last_change_without_anybody_asking(simulate: Any) -> None:
    async def scenario() -> None:
        stage, clock = await Stage().start(), asyncio.get_running_loop()
        heard: list[float] = []
        for name in ("first", "second"):
            event = {
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": name},
                "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
            }  # fmt: skip
            await stage.ask(Request("create", "events", "default", body=msgpack.packb(event)))
        cursor = stage.store.hub.open(
            resources=["events"],
            revision=stage.store.durable,
            wake=lambda: heard.append(clock.time()),
        )
        await asyncio.sleep(1800)
        change = msgpack.packb({"message": "again"})
        patch = Request(
            "patch", "events", "default", "second", body=change, options={"patchType": "merge"}
        )
        await stage.ask(patch)
        cursor.take()
        begun = heard.pop()
        await asyncio.sleep(1790)
        assert not heard
        await asyncio.sleep(20)
        (gone,) = cursor.take()
        assert (gone.key, gone.value) == ("/registry/events/default/first", None)
        assert gone.cause.actor == API_SERVER
        stage.supervisor.crash(API_SERVER, RuntimeError("crashed by the test"))
        await asyncio.sleep(3600)
        assert [fact.key for fact in cursor.take()] == ["/registry/events/default/second"]
        assert 0 <= heard[-1] - begun - 3600 < 2
        stage.supervisor.stop_all()

    simulate(scenario)


def test_after_a_crash_everybody_lists_again(simulate: Any) -> None:
    async def scenario() -> None:
        stage = await Stage().start()
        await stage.create("a")
        await stage.seen.until({"a"})
        stage.supervisor.crash(API_SERVER, RuntimeError("on purpose"))
        await stage.create("b")
        await stage.seen.until({"a", "b"})
        assert stage.seen.lists == 2
        assert stage.supervisor.restarts == {API_SERVER: 1}
        stage.supervisor.stop_all()

    simulate(scenario)


@pytest.mark.parametrize("kind", [Store, LateStore])
@pytest.mark.parametrize("broken", ["_answer", "_feed"])
def test_what_fails_after_the_store_has_answered_is_a_crash_too(
    simulate: Any, monkeypatch: pytest.MonkeyPatch, kind: type[Store], broken: str
) -> None:
    async def scenario() -> None:
        stage = await Stage(kind).start()
        await stage.seen.until(set())

        def fail(self: ApiServer, *args: Any) -> None:
            monkeypatch.undo()
            raise RuntimeError("on purpose")

        monkeypatch.setattr(ApiServer, broken, fail)
        try:
            assert (await stage.create("a")).code == 201
        except ActorFailed:
            assert broken == "_answer", "who is not answered hears why"
        await stage.seen.until({"a"})
        assert (await stage.create("b")).code == 201
        await stage.seen.until({"a", "b"})
        assert stage.supervisor.restarts == {API_SERVER: 1}
        stage.supervisor.stop_all()

    simulate(scenario)


def test_a_restarted_watcher_lists_again(simulate: Any) -> None:
    async def scenario() -> None:
        stage = await Stage().start()
        await stage.create("a")
        await stage.seen.until({"a"})
        stage.supervisor.crash("watcher", RuntimeError("on purpose"))
        await stage.create("b")
        await stage.seen.until({"a", "b"})
        stage.supervisor.stop_all()

    simulate(scenario)


def test_a_slow_watcher_is_paced_and_misses_nothing(simulate: Any) -> None:
    async def scenario() -> None:
        stage = await Stage().start()
        await stage.seen.until(set())
        inbox = stage.supervisor.inbox("watcher")
        assert inbox is not None
        inbox.capacity = 2
        names = {f"c{n}" for n in range(200)}
        await asyncio.gather(*(stage.create(name) for name in names))
        await stage.seen.until(names)
        stage.supervisor.stop_all()

    simulate(scenario)
