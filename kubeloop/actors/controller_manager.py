"""The controller manager: one shell around all controllers, one view they share.

Drain → fold → reconcile → commit: a turn takes what arrived, folds it into the view, marks what is
dirty, reconciles that, and sends one batch of writes. It hears facts and tells writes; it asks
nobody, so it may lag but never deadlock.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack
from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.controllers import all_controllers
from kubeloop.actors.controllers.base import Action, Controller, Event, split
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.events import Recorder
from kubeloop.actors.messages import (
    API_SERVER,
    Facts,
    Listing,
    Outcome,
    Subscribe,
    Synced,
    decode,
)
from kubeloop.actors.view import View
from kubeloop.actors.workqueue import WorkQueue

FLYING_MAX: Final = 1000  # Writes on their way: bounds the API server's mailbox.
KEYS_MAX: Final = 200  # Keys of one controller in one turn: bounds how long it holds the loop.

__all__ = ["ControllerManager", "Settings"]


@dataclass(slots=True)
class _Bench:
    """One controller at work. trouble: why its last writes were refused, by key."""

    controller: Controller
    queue: WorkQueue
    recorder: Recorder
    trouble: dict[str, str]


class ControllerManager(AsyncActor):
    """Runs every controller."""

    def __init__(self, scene: Scene, name: str, *, settings: Settings | None = None) -> None:
        super().__init__(scene, name)
        controllers = all_controllers(settings or Settings())
        self.resources = sorted({r for c in controllers for r in c.resources})
        self.view = View({k: v for c in controllers for k, v in c.indexes.items()})
        self._benches = [_Bench(c, WorkQueue(), Recorder(c.name), {}) for c in controllers]
        self._by_resource: dict[str, list[_Bench]] = {}
        for bench in self._benches:
            for resource in bench.controller.resources:
                self._by_resource.setdefault(resource, []).append(bench)
        self._flying: dict[str, tuple[_Bench, str, Action]] = {}
        self._sent = 0
        self._listing = False

    def on_start(self) -> None:
        self.send(API_SERVER, Subscribe(self.name, self.resources).encode())

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for envelope in envelopes:
            self._hear(envelope.message)
        self._mark()
        if self.view.synced:
            for bench in self._benches:
                self._work(bench)
            self._set_alarm()

    def idle(self) -> bool:
        """Tell whether nothing is left to do but to wait for the clock."""
        return self.view.synced and all(bench.queue.idle() for bench in self._benches)

    def _hear(self, frame: bytes) -> None:
        message = decode(frame)
        if isinstance(message, Facts):
            if self.view.synced or self._listing:
                for fact in message.facts():
                    self.view.fold(fact)
        elif isinstance(message, Outcome):
            self._settle(message)
        elif isinstance(message, Listing):
            self.view.begin()
            self._listing = True
            self._flying.clear()
            for bench in self._benches:
                bench.queue = WorkQueue()
        elif isinstance(message, Synced):
            self.view.finish(message.revision)
            self._listing = False
        else:
            raise TypeError(f"the controller manager was sent {message!r}")

    def _mark(self) -> None:
        """Mark what the changes touch; only once the list is whole, or much would look missing."""
        if not self.view.synced:
            return
        for key, before, after in self.view.take_changed():
            for bench in self._by_resource.get(split(key)[0], ()):
                for item in bench.controller.keys(key, before, after, self.view):
                    bench.queue.add(item)

    def _work(self, bench: _Bench) -> None:
        room = min(KEYS_MAX, FLYING_MAX - len(self._flying))
        if room <= 0:
            return
        now, wall = self.world.now(), self.world.wall()
        taken = bench.queue.take(now, self.view.revision, room)
        for key in taken:
            trouble = bench.trouble.pop(key, "")
            result = bench.controller.reconcile(key, self.view, wall, trouble)
            if result.again_s is not None:
                bench.queue.add_at(key, now + max(0.0, result.again_s))
            if result.actions:
                bench.queue.begin(key, len(result.actions))
            for action in result.actions:
                self._send(bench, key, action)
            for event in result.events:
                self._tell(bench, event)
        if len(taken) == room:
            self._request_turn()

    def _send(self, bench: _Bench, key: str, action: Action) -> None:
        self._sent += 1
        tag = str(self._sent)
        self._flying[tag] = (bench, key, action)
        request = replace(action.request, sender=self.name, tag=tag, seen=self.view.revision)
        self.send(API_SERVER, request.encode())

    def _settle(self, outcome: Outcome) -> None:
        flown = self._flying.pop(outcome.tag, None)
        if flown is None:
            return
        bench, key, action = flown
        ok = outcome.code < 300 or (outcome.code == 404 and action.gone_is_fine)
        body = msgpack.unpackb(outcome.body) if outcome.body else {}
        if not ok:
            bench.trouble[key] = str(body.get("message", ""))
        event = action.success if ok else action.failure
        if event is not None:
            name = (body.get("metadata") or {}).get("name", "")
            message = event.message.replace("{name}", name)
            message = message.replace("{error}", str(body.get("message", "")))
            self._tell(bench, replace(event, message=message))
        revision = outcome.revision if outcome.code < 300 else 0
        bench.queue.heard(key, ok=ok, revision=revision, now_s=self.world.now())

    def _tell(self, bench: _Bench, event: Event) -> None:
        request = bench.recorder.record(
            event.regarding, event.type, event.reason, event.message, wall_s=self.world.wall()
        )
        self.send(API_SERVER, request.encode())

    def _set_alarm(self) -> None:
        times = list(self._times())
        if times:
            self.wake_in(min(times) - self.world.now(), "queue")

    def _times(self) -> Iterator[float]:
        for bench in self._benches:
            at = bench.queue.next_at()
            if at is not None:
                yield at
