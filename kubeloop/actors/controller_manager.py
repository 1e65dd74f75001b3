"""The controller manager: one actor that runs all controllers over one view they share.

Drain → fold → reconcile → commit: a turn takes what arrived, folds it into the view, marks what is
dirty, reconciles that, and sends the writes. It hears facts and tells writes; it asks nobody, so it
may lag but never deadlock.

After a list it does not act until the API server has answered a read that stands behind all that
was ever sent from here: writes of before the list, of this actor or of the one it replaces, have
been done or lost by then, and the view has seen them. So a crash never makes anything twice.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import msgpack
from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.controllers import all_controllers
from kubeloop.actors.controllers.base import NOTHING, Action, Controller, Event, Result, split
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.events import Recorder
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
from kubeloop.actors.notary import Notary
from kubeloop.actors.signing import ERA_BITS, Signer
from kubeloop.actors.view import CUSTOM, Object, View
from kubeloop.actors.workqueue import WorkQueue
from kubeloop.api.catalogue import BUILT_IN
from kubeloop.api.resources import RESOURCES

FLYING_MAX: Final = 512  # Writes of one controller on their way, give or take those of one key.
KEYS_MAX: Final = 200  # Keys of one controller in one turn: bounds how long it holds the loop.
FENCE_AGAIN_S: Final = 0.1  # A fence that was refused is tried again.
SUBSCRIBE_AGAIN_S: Final = 5.0  # So is a subscription nobody has answered.
NAMESPACE_ENDS: Final = "NamespaceTerminating"
USER: Final = "system:kube-controller-manager"  # Who asks when it is none of the controllers.
_NEVER: Final = float("inf")

logger = logging.getLogger("kubeloop.actors")

__all__ = ["ControllerManager", "Settings"]


@dataclass(slots=True)
class _Bench:
    """One controller at work.

    flying:  its writes on their way;  trouble: why a key's last writes were refused.
    later:   the keys that will need another look, and when.
    """

    controller: Controller
    recorder: Recorder
    user: str
    queue: WorkQueue = field(default_factory=WorkQueue)
    flying: int = 0
    trouble: dict[str, str] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)


class _Write(NamedTuple):
    """A write on its way. because: the revision of the fact that made its key need a look."""

    bench: _Bench
    key: str
    action: Action
    because: int


class ControllerManager(AsyncActor):
    """Runs every controller."""

    def __init__(self, scene: Scene, name: str, *, settings: Settings | None = None) -> None:
        super().__init__(scene, name)
        self.settings = settings or Settings()
        notary = Notary(self.settings.authority, self.settings.authority_key)
        controllers = all_controllers(self.settings, notary, begun_s=self.world.wall())
        self.resources = sorted({r for c in controllers for r in c.resources} - {CUSTOM})
        self._custom: list[str] = []  # Custom resources that have been listed.
        signs = {k: v for c in controllers for k, v in getattr(c, "signs", {}).items()}
        self.view = View({k: v for c in controllers for k, v in c.indexes.items()}, signs)
        self._benches = [_Bench(c, Recorder(c.name), _user(c)) for c in controllers]
        self._by_resource: dict[str, list[_Bench]] = {}
        for bench in self._benches:
            for resource in bench.controller.resources:
                self._by_resource.setdefault(resource, []).append(bench)
        self._flying: dict[str, _Write] = {}
        # Ids are tags, too: outcomes meant for the actor we replace must not be taken for ours.
        self._signer = Signer(name, USER, self.world.rng.getrandbits(ERA_BITS))
        self._listing = False
        self._fence = ""
        self._fenced_at: int | None = None  # The revision the view must reach; None: not known.
        self._fence_due = self._subscribe_at = _NEVER

    def on_start(self) -> None:
        self._subscribe()

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for envelope in envelopes:
            self._hear(envelope.message)
        if self._subscribe_at <= self.world.now():
            self._subscribe()
        if self.view.synced and self._lacks() and self._subscribe_at == _NEVER:
            self._subscribe()  # What is of a kind nobody has listed must not be taken for gone.
        if self._fence_due <= self.world.now():
            self._send_fence()
        if not self._may_act():
            return
        self._mark()
        for bench in self._benches:
            self._work(bench)
        self._set_alarm()

    def busy(self) -> str | None:
        if not self._may_act():
            return "has not heard its list"
        for bench in self._benches:
            what = bench.queue.busy()
            for key, at in bench.later.items():
                what = what or f"will look at {key} in {max(0.0, at - self.world.now()):.0f} s"
            if what is not None:
                return f"({bench.controller.name}) {what}"
        return super().busy()

    def idle(self) -> bool:
        """Tell whether nothing is left to do but to wait for the clock."""
        return self._may_act() and all(bench.queue.idle() for bench in self._benches)

    # Hearing.

    def _subscribe(self) -> None:
        """Ask for a list, and see that the wish is not lost with a turn of the API server."""
        wanted = [*self.resources, *self._served()]
        self.send(API_SERVER, Subscribe(self.name, wanted).encode())
        self._subscribe_at = self.world.now() + SUBSCRIBE_AGAIN_S
        self.wake_in(SUBSCRIBE_AGAIN_S, "subscribe")

    def _served(self) -> list[str]:
        """Return the custom resources there are."""
        known = self.view.catalogue
        return [] if known is BUILT_IN else [id_ for id_ in known.by_id if id_ not in RESOURCES]

    def _lacks(self) -> bool:
        """Tell whether there are custom resources that have not been listed."""
        return self._served() != self._custom

    def _hear(self, frame: bytes) -> None:
        message = decode(frame)
        if isinstance(message, Facts):
            if self.view.synced or self._listing:
                self.view.now_s = self.world.wall()
                for fact in message.facts():
                    self.view.fold(fact)
                if self.view.synced:
                    self.view.advance(message.revision)
        elif isinstance(message, Outcome):
            if self._fence and message.tag == self._fence:
                self._pass_fence(message)
            else:
                self._settle(message)
        elif isinstance(message, Listing):
            self._custom = [one for one in message.resources if one not in RESOURCES]
            self._start_over()
        elif isinstance(message, Synced):
            self.view.finish(message.revision)
            self._listing = False
        else:
            raise TypeError(f"the controller manager was sent {message!r}")

    def _start_over(self) -> None:
        """Forget what we knew; send a read that will be answered after all we ever wrote."""
        self.view.begin()
        self._listing, self._subscribe_at = True, _NEVER
        for bench in self._benches:
            bench.queue, bench.later = WorkQueue(), {}
        self._send_fence()

    def _send_fence(self) -> None:
        fence = self._signer.next_id()
        self._fence, self._fenced_at, self._fence_due = fence, None, _NEVER
        read = Request("list", "namespaces", options={"limit": 1})
        self.send(API_SERVER, self._signer.sign(read, 0, id=fence, tag=fence).encode())

    def _pass_fence(self, outcome: Outcome) -> None:
        if outcome.code >= 300:
            self._fence_due = self.world.now() + FENCE_AGAIN_S
            self.wake_in(FENCE_AGAIN_S, "fence")
            return
        self._fenced_at = outcome.revision
        self._flying.clear()  # Whatever is still missing was lost.
        for bench in self._benches:
            bench.flying = 0

    def _may_act(self) -> bool:
        fenced_at = self._fenced_at
        if not self.view.synced or fenced_at is None or self.view.revision < fenced_at:
            return False
        return not self._lacks()

    def _settle(self, outcome: Outcome) -> None:
        """Hear how a write went."""
        flown = self._flying.pop(outcome.tag, None)
        if flown is None:
            return
        bench, key, action = flown.bench, flown.key, flown.action
        bench.flying -= 1
        done = outcome.code < 300
        ok = done or (outcome.code == 404 and action.gone_is_fine)
        event = action.success if ok else action.failure
        if event is not None:
            body = msgpack.unpackb(outcome.body) if outcome.body else {}
            if ok:
                name = body.get("metadata", {}).get("name", "")
                told = replace(event, message=event.message.replace("{name}", name))
                self._tell(bench, told, flown.because)
            elif not _namespace_ends(body):  # Then it was to be expected, and is no news.
                error = str(body.get("message", ""))
                bench.trouble[key] = error
                told = replace(event, message=event.message.replace("{error}", error))
                self._tell(bench, told, flown.because)
        revision = outcome.revision if done else 0
        bench.queue.heard(key, ok=ok, revision=revision, now_s=self.world.now())

    # Acting.

    def _mark(self) -> None:
        """Mark what the changes touch, each because of its fact."""
        for key, before, after, revision in self.view.take_changed():
            resource = split(key)[0]
            known = resource if resource in RESOURCES else CUSTOM
            for bench in self._by_resource.get(known, ()):
                for item in bench.controller.keys(key, before, after, self.view):
                    own = item == key and _is_wanted_otherwise(before, after)
                    bench.queue.add(item, revision, own=own)

    def _work(self, bench: _Bench) -> None:
        queue = bench.queue
        queue.wake(self.world.now(), self.view.revision)
        for _ in range(KEYS_MAX):
            if bench.flying >= FLYING_MAX:
                return  # The outcomes will give us a turn.
            due = queue.pop()
            if due is None:
                return
            self._look_at(bench, *due)
        if queue.ready():
            self._request_turn()

    def _look_at(self, bench: _Bench, key: str, because: int) -> None:
        """Reconcile one key, and send what that leads to."""
        now_s = self.world.now()
        result = self._reconcile(bench, key, because)
        bench.later.pop(key, None)
        if result.again_s is not None:
            at_s = now_s + max(0.0, result.again_s)
            bench.queue.add_at(key, at_s, result.since or because)
            if result.owes:
                bench.later[key] = at_s
        if result.actions:
            bench.queue.begin(key, len(result.actions), because)
        elif result is not _FAILED:
            bench.queue.forget(key)
        for action in result.actions:
            self._send(_Write(bench, key, action, because))
        for event in result.events:
            self._tell(bench, event, because)

    def _reconcile(self, bench: _Bench, key: str, because: int) -> Result:
        trouble = bench.trouble.pop(key, "")
        try:
            return bench.controller.reconcile(key, self.view, self.world.wall(), trouble)
        except Exception:  # An object nobody foresaw must not stop all the others.
            logger.exception("%s cannot reconcile %s", bench.controller.name, key)
            bench.queue.failed(key, self.world.now(), because)
            return _FAILED

    def _send(self, write: _Write) -> None:
        tag, request = self._signer.next_id(), write.action.request
        self._flying[tag] = write
        write.bench.flying += 1
        signed = self._signer.sign(request, write.because, id=tag, tag=tag, user=request.user)
        self.send(API_SERVER, signed.encode())

    def _tell(self, bench: _Bench, event: Event, because: int) -> None:
        """Tell users of what was done, or refused, because of a fact."""
        request = bench.recorder.record(
            event.regarding, event.type, event.reason, event.message, wall_s=self.world.wall()
        )
        signed = self._signer.sign(request, because, user=bench.user)
        self.send(API_SERVER, signed.encode())

    def _set_alarm(self) -> None:
        times = [at for bench in self._benches if (at := bench.queue.next_at()) is not None]
        if times:
            self.wake_in(min(times) - self.world.now(), "queue")


_FAILED: Final = replace(NOTHING)


def _user(controller: Controller) -> str:
    return f"system:serviceaccount:kube-system:{controller.name}"


def _is_wanted_otherwise(before: Object | None, after: Object | None) -> bool:
    """Tell whether a change is one of what users want; of a kind without generations any may be."""
    if before is None or after is None:
        return True
    was, is_ = before["metadata"].get("generation"), after["metadata"].get("generation")
    return was is None or was != is_


def _namespace_ends(status: dict[str, Any]) -> bool:
    """Tell whether a write was refused because its namespace is being deleted."""
    causes = (status.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == NAMESPACE_ENDS for cause in causes)
