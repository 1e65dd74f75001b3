"""The API server: the only writer.

One turn: handle every request that has arrived, each its own transaction; have the store make them
durable, all with one sync; then answer, and feed those who watch. So an answer is only given for
what will survive, and nobody hears of a fact before it is safe. A store that is shared may say that
somebody else wrote first: then the requests of that turn are handled again, before all others.

Subscribers are fed from cursors over the store's log, never faster than their mailboxes drain. The
subscriptions outlive a crash of this actor: its successor starts every list over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack
from pykka._envelope import Envelope

from kubeloop.actors import conversions
from kubeloop.actors.actor import ActorFailed, AsyncActor, Inbox, Scene
from kubeloop.actors.messages import (
    Facts,
    Listing,
    Note,
    Outcome,
    Request,
    Subscribe,
    Synced,
    decode,
)
from kubeloop.actors.requests import upkeep
from kubeloop.actors.requests.converting import Conversion
from kubeloop.actors.requests.core import Core
from kubeloop.actors.requests.hooks import Attempt, Question, Suspended, Verdict
from kubeloop.actors.requests.state import Settings
from kubeloop.actors.webhooks import Caller, Nobody, ask
from kubeloop.api.errors import Expired, ServiceUnavailable
from kubeloop.store.etcd.outcomes import Superseded
from kubeloop.store.facts import Fact, key_of, prefix_of
from kubeloop.store.history import Stored
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor

FACTS_MAX: Final = 500  # Facts in one message: bounds how long a subscriber's turn gets.
EXPIRY_MIN_S: Final = 1.0  # Leases that run out within so much of each other share a turn.
UPKEEP_MAX: Final = 4  # Rounds in one turn: what is made is looked at again.
SUPERSEDED_MAX: Final = 100  # How often a request is handled again because others wrote first.


@dataclass(slots=True)
class Subscriptions:
    """Who watches what; kept by the cluster, so that it outlives the API server's crashes."""

    by_name: dict[str, Subscribe]


@dataclass(frozen=True, slots=True)
class _Answer:
    """An outcome on its way: to who waits for the envelope, or to the mailbox of `sender`.

    A sender that gave no tag does not want to hear it.
    """

    outcome: Outcome
    envelope: Envelope[Any]
    sender: str


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that waits for webhooks."""

    request: Request
    envelope: Envelope[Any]
    waits: Suspended


class ApiServer(AsyncActor):
    """Takes Requests and Subscribes; gives Outcomes, Listings and Facts."""

    def __init__(
        self,
        scene: Scene,
        name: str,
        store: Store,
        subscriptions: Subscriptions,
        settings: Settings | None = None,
        *,
        caller: Caller | None = None,
    ) -> None:
        super().__init__(scene, name)
        self.caller = caller or Nobody()
        self._waiting: dict[int, _Waiting] = {}  # Requests for which webhooks are asked.
        self._asked = 0
        self.store, self.subscriptions = store, subscriptions
        self.settings = settings or Settings()
        self.core = self._fresh_core()
        self._cursors: dict[str, Cursor] = {}
        self._awake: dict[str, None] = {}
        self._full: dict[str, None] = {}  # Subscribers whose mailbox has no room.
        self._expires_at: float | None = None  # The lease a turn is due for.
        self._unsettled = 0  # Turns whose answers wait for the store.
        self._again = 0  # How many requests at the head of the mailbox were handled before.
        self._superseded: dict[Envelope[Any], int] = {}  # How often each of them was.
        self._planted = not self.settings.plants  # What there is from the start is there.
        self._touched = False  # What we look after ourselves may have changed.

    def on_start(self) -> None:
        self._plant()
        for name in tuple(self.subscriptions.by_name):
            self._list(name)
        self.wake_in(EXPIRY_MIN_S, "expiry")  # What ran out while nobody looked.

    def _plant(self) -> None:
        """Make what there is from the start; if others wrote first, again with the next turn."""

        def settle(error: Exception | None) -> None:
            self._planted = error is None
            self._settle([], error)

        if self._planted:
            return
        self._planted = True
        if upkeep.plant(self.core.state):
            self._unsettled += 1
            self.store.flush(lambda error: self.guard(lambda: settle(error)))

    def on_stop(self) -> None:
        for cursor in self._cursors.values():
            cursor.close()
        self.core.close()
        for waiting in self._waiting.values():
            if waiting.envelope.reply_to is not None:
                error = ActorFailed(f"{self.name} ended while webhooks were asked")
                waiting.envelope.reply_to.set_exception((ActorFailed, error, None))

    def outlives(self, envelope: Envelope[Any]) -> bool:
        """Keep who wants to watch: an actor that is never given a list would wait for ever."""
        return isinstance(decode(envelope.message), Subscribe)

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        answers: list[_Answer] = []
        self._plant()
        self._again = max(0, self._again - len(envelopes))
        for envelope in envelopes:
            message = decode(envelope.message)
            if isinstance(message, Request):
                answers += self._handle(message, envelope)
            elif isinstance(message, Note):
                answers += self._resume(message)
            elif isinstance(message, Subscribe):
                self.subscriptions.by_name[message.sender] = message
                self._list(message.sender)
            else:
                raise TypeError(f"the API server was sent {message!r}")
        answers += self._keep_up()
        self._expire()
        self._unsettled += 1
        waiting = [answer.envelope for answer in answers]
        self.store.flush(lambda error: self.guard(lambda: self._settle(answers, error), waiting))

    def _handle(
        self, request: Request, envelope: Envelope[Any], attempt: Attempt | None = None
    ) -> list[_Answer]:
        """Return the answer to a request; none yet if webhooks have to be asked."""
        try:
            outcome = self.core.handle(request, attempt)
        except Suspended as waits:
            self._asked += 1
            self._waiting[self._asked] = _Waiting(request, envelope, waits)
            self.run(self._ask(self._asked, waits.question), f"webhooks:{self._asked}")
            return []
        self._touched |= upkeep.concerns(request, outcome)
        return [_Answer(outcome, envelope, request.sender)]

    def _keep_up(self) -> list[_Answer]:
        """See to what we look after, if anybody touched it; nobody waits for these answers."""
        answers: list[_Answer] = []
        for _ in range(UPKEEP_MAX):
            if not self._touched or not self.settings.plants:
                break
            self._touched = False
            for request in upkeep.due(self.core.state):
                answers += self._handle(request, Envelope(request.encode()))
        return answers

    async def _ask(self, number: int, question: Question | Conversion) -> bytes:
        if isinstance(question, Conversion):
            return Note.of("webhooks", [number, await conversions.answer(self.caller, question)])
        verdict = await ask(self.caller, question)
        return Note.of("webhooks", [number, verdict.pack()])

    def _resume(self, note: Note) -> list[_Answer]:
        """Handle a request again, now that webhooks have said something."""
        number, packed = note.content()
        waiting = self._waiting.pop(number)
        attempt, question = waiting.waits.attempt, waiting.waits.question
        if isinstance(question, Conversion):
            self.core.state.note_conversion(attempt, question, packed)
        else:
            attempt.note(question, Verdict.unpack(packed))
        return self._handle(waiting.request, waiting.envelope, attempt)

    def _settle(self, answers: Sequence[_Answer], error: Exception | None) -> None:
        """Give the answers of a turn, now that what they tell of is durable or has failed."""
        self._unsettled -= 1
        if error is not None:
            self.core.close()
            self.core = self._fresh_core()  # What it knew of may have been taken back.
        for answer in answers:
            if not isinstance(error, Superseded) or not self._handle_again(answer.envelope):
                self._answer(answer, error)
        self._pump()

    def _handle_again(self, envelope: Envelope[Any]) -> bool:
        """Put a request back, behind others that were; tell whether there is a point in that."""
        tries = self._superseded.get(envelope, 0) + 1
        if tries > SUPERSEDED_MAX or self.actor_stopped.is_set():
            return False
        inbox = self.actor_inbox
        assert isinstance(inbox, Inbox)
        self._superseded[envelope] = tries
        inbox.envelopes.insert(self._again, envelope)
        self._again += 1
        inbox.wake()
        return True

    def _answer(self, answer: _Answer, error: Exception | None) -> None:
        outcome, future = answer.outcome, answer.envelope.reply_to
        self._superseded.pop(answer.envelope, None)
        if error is not None:
            status = ServiceUnavailable(f"the store failed: {error}").status()
            outcome = replace(outcome, code=503, body=msgpack.packb(status), items=[])
        if future is not None:
            future.set(outcome.encode())
        elif answer.sender and outcome.tag:
            inbox = self.reach(answer.sender)
            if inbox is not None:
                inbox.put_answer(outcome.encode())

    def _fresh_core(self) -> Core:
        world = self.world
        return Core(self.store, wall=world.wall, bits=world.rng.getrandbits, settings=self.settings)

    def _expire(self) -> None:
        """Delete what has a lease that has run out, and see that a turn is due for the next."""
        now, at = self.world.wall(), self.store.next_expiry()
        if at is not None and at <= now and self.store.failure is None:
            self.core.state.expire()
            at = self.store.next_expiry()
        if at is not None and (at <= now or at != self._expires_at):
            self.wake_in(max(EXPIRY_MIN_S, at - now), "expiry")
        self._expires_at = at

    def busy(self) -> str | None:
        if self._unsettled:
            return "waits for the store"
        if self._waiting:
            return f"waits for webhooks about {len(self._waiting)} requests"
        return "has facts to tell" if self._awake else super().busy()

    # Feeding the subscribers.

    def _list(self, name: str) -> None:
        """Start a subscriber's list + watch over, as of the newest durable revision."""
        inbox = self.reach(name)
        if inbox is None:
            self._forget(name)
            return
        if name in self._cursors:
            self._cursors.pop(name).close()
        wanted, revision = self.subscriptions.by_name[name], self.store.durable
        inbox.put_answer(Listing(revision, wanted.resources).encode())
        frames = [
            Fact(item.revision, item.key, item.value).encoded
            for resource in wanted.resources
            for item in self.store.list(prefix_of(resource), revision=revision).items
            if not wanted.node or _concerns(wanted.node, resource, item)
        ]
        for start in range(0, len(frames), FACTS_MAX):
            inbox.put_answer(Facts(revision, frames[start : start + FACTS_MAX]).encode())
        inbox.put_answer(Synced(revision).encode())
        self._cursors[name] = self.store.hub.open(
            resources=wanted.resources,
            revision=revision,
            node=wanted.node,
            wake=lambda: self._woken(name),
        )
        self._awake[name] = None

    def _woken(self, name: str) -> None:
        """Hear that there are facts for a subscriber; of others' writes if no turn waits."""
        self._awake[name] = None
        if not self._unsettled:
            self.world.soon(self._later)

    def _drained(self) -> None:
        """Hear that a mailbox that was full has room."""
        full, self._full = self._full, {}
        self._awake.update(full)
        self._later()

    def _later(self) -> None:
        self.guard(self._pump)

    def _pump(self) -> None:
        while self._awake and not self.actor_stopped.is_set():
            awake, self._awake = self._awake, {}
            for name in awake:
                self._feed(name)

    def _feed(self, name: str) -> None:
        """Tell a subscriber what it has not heard, as far as its mailbox has room."""
        cursor, inbox = self._cursors.get(name), self.reach(name)
        if inbox is None or cursor is None:
            self._forget(name)
            return
        while not self.actor_stopped.is_set():
            if inbox.room() <= 0:
                self._full[name] = None
                inbox.when_drained(self._drained)
                return
            try:
                facts = cursor.take(FACTS_MAX)
            except Expired:
                self._list(name)
                return
            if not facts:
                return
            message = Facts(facts[-1].revision, [fact.encoded for fact in facts])
            inbox.put(Envelope(message.encode()))

    def _forget(self, name: str) -> None:
        self.subscriptions.by_name.pop(name, None)
        if name in self._cursors:
            self._cursors.pop(name).close()


def _concerns(node: str, resource: str, item: Stored) -> bool:
    """Tell whether an object is one that the kubelet of `node` hears of."""
    if resource == "nodes":
        return item.key == key_of("nodes", "", node)
    return resource != "pods" or _node_of(item.value) == node


def _node_of(value: bytes) -> str:
    spec = msgpack.unpackb(value).get("spec") or {}
    return str(spec.get("nodeName") or "")
