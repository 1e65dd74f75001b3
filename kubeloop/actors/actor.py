"""Actors on one asyncio loop: pykka's model without its threads.

A turn takes whatever has arrived (at most BATCH_MAX messages) and handles it synchronously, so
nothing changes underneath an actor and its state needs no lock. Mailboxes are bounded: what flows
up (writes) waits in the sender's outbox until there is room, and a sender with a full outbox takes
no new messages; what flows down (facts) is paced by the API server's cursors, and answers are
bounded by the requests in flight. So pressure moves one way only and nothing can deadlock.
"""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Protocol

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from kubeloop.actors.world import Timer, World

BATCH_MAX: Final = 1024  # Messages handled in one turn: bounds how long an actor may hold the loop.
MAILBOX_MAX: Final = 16_384  # Messages that may wait before senders must.

Handle = Callable[[Sequence[Envelope[Any]]], None]
Reach = Callable[[str], "Inbox | None"]
Pace = Callable[[Callable[[], None]], None]
Around = Callable[[Sequence[Envelope[Any]], Handle], None]
"""What a supervisor may put in the way of an actor: see `interception`."""

logger = logging.getLogger("kubeloop.actors")


class MailboxFull(Exception):
    """The actor has more waiting than it may hold: try again when it has drained."""


class ActorFailed(Exception):
    """The actor failed while it had this message; whether it took effect is not known."""


class AsyncFuture(pykka.Future[Any]):
    """pykka's future over an asyncio one: `await` it, never block on it."""

    def __init__(self) -> None:
        super().__init__()
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def get(self, *, timeout: float | None = None) -> Any:
        """Return the value if it is there.

        Raises: RuntimeError if it is not: blocking the loop would stop the actor that answers.
        """
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._future.done():
            raise RuntimeError("this future is not done: await it instead of calling get()")
        return self._future.result()

    def set(self, value: Any = None) -> None:
        if not self._future.done():  # The asker may have been cancelled.
            self._future.set_result(value)

    def set_exception(self, exc_info: Any = None) -> None:
        error = (exc_info or sys.exc_info())[1]
        assert error is not None, "there is no exception to pass on"
        if not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # An asker that went away is not an error of ours.

    def done(self) -> bool:
        """Tell whether an answer, or the asker's cancellation, has arrived."""
        return self._future.done()

    def __await__(self) -> Any:
        return self._future.__await__()


class Inbox:
    """A bounded FIFO that wakes its actor; pykka's `ActorInbox` protocol."""

    def __init__(self, *, capacity: int = MAILBOX_MAX) -> None:
        self.capacity = capacity
        self.envelopes: deque[Envelope[Any]] = deque()
        self.wake: Callable[[], None] = _nobody
        self.waiting: dict[Callable[[], None], None] = {}

    def put(self, envelope: Envelope[Any], /) -> None:
        """Append, and wake the actor. Raises: MailboxFull."""
        if len(self.envelopes) >= self.capacity and not isinstance(envelope.message, _ActorStop):
            raise MailboxFull(f"{self.capacity} messages wait already")
        self.envelopes.append(envelope)
        self.wake()

    def put_answer(self, message: bytes) -> None:
        """Append what the owner asked for itself: bounded by its own requests, never refused."""
        self.envelopes.append(Envelope(message))
        self.wake()

    def get(self) -> Envelope[Any]:
        """Remove and return the oldest envelope."""
        return self.envelopes.popleft()

    def empty(self) -> bool:
        """Tell whether nothing waits."""
        return not self.envelopes

    def room(self) -> int:
        """Return how many messages may still be put."""
        return self.capacity - len(self.envelopes)

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once when at most half of the capacity is in use, however often it is asked for."""
        self.waiting[call] = None

    def drained(self) -> None:
        """Tell those who wait for room, if there is room again."""
        if self.waiting and len(self.envelopes) <= self.capacity // 2:
            waiting, self.waiting = self.waiting, {}
            for call in waiting:
                call()


class Scene(Protocol):
    """What an actor sees of its cluster: the world, and the other actors by name."""

    world: World

    def inbox(self, name: str) -> Inbox | None:
        """Return the mailbox of the actor called `name`, None if there is no such actor."""

    def crashed(self, actor: "AsyncActor", error: Exception) -> None:
        """Hear that a turn of `actor` raised `error`."""


class AsyncActor(pykka.Actor):
    """An actor that handles whatever has arrived in one synchronous turn.

    Subclasses write `on_batch`; it runs to completion: no await, so nothing changes under it.
    """

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__()
        self.actor_urn = f"urn:kubeloop:{name}"
        self.actor_ref.actor_urn = self.actor_urn
        self.scene, self.name, self.world = scene, name, scene.world
        self.reach: Reach = scene.inbox  # Finds the mailboxes of others.
        self.pace: Pace | None = None  # Has turns begin, if not the world does at once.
        self.around: Around | None = None  # Has turns, in place of `on_batch`.
        self._outbox: deque[tuple[str, bytes]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, Timer] = {}
        self._turn_due = False

    # What subclasses write.

    def on_start(self) -> None:
        """Say what must be said before the first message; override."""

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        """Handle messages, oldest first; called with none when a timer went off. Override."""
        raise NotImplementedError

    def outlives(self, envelope: Envelope[Any]) -> bool:
        """Tell whether a message of a failed turn is left to the successor; override. None is."""
        return False

    def busy(self) -> str | None:
        """Return what it still has to do, for people: "looks at pods/default/web".

        None if nothing but what others, or time, may still bring: it keeps watch, sends heartbeats,
        and tries in ever longer pauses what nobody can hope for (a container that crashes).
        Extend; see `settling`.
        """
        if self._outbox:
            return f"has {len(self._outbox)} messages to send"
        if not self.actor_inbox.empty():
            return "has messages to read"
        return "is about to have a turn" if self._turn_due else None

    # What subclasses use.

    def send(self, name: str, message: bytes) -> None:
        """Tell the actor called `name`; if its mailbox is full, keep the order and wait.

        Not for telling oneself: a full mailbox of one's own would never drain.
        """
        self._outbox.append((name, message))
        self._flush()

    def run(self, work: Coroutine[Any, Any, bytes | None], name: str) -> "asyncio.Task[None]":
        """Start what must await; the bytes it returns arrive as a message to this actor."""

        async def report() -> None:
            try:
                answer = await work
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - any failure is the supervisor's to judge.
                self._fail(error)
            else:
                if answer is not None:
                    self.note(answer)

        task = self.world.spawn(report(), f"{self.name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task cancelled before its first step has not begun the work: nobody will.
        task.add_done_callback(lambda _: work.close())
        return task

    def note(self, message: bytes) -> None:
        """Tell oneself, from outside of a turn, what one has asked for; nothing once it has ended.

        As many may come as one has asked for: they are not refused for want of room.
        """
        if not self.actor_stopped.is_set():
            inbox = self.actor_inbox
            assert isinstance(inbox, Inbox)
            inbox.put_answer(message)

    def wake_in(self, delay_s: float, timer: str = "turn") -> None:
        """Have a turn `delay_s` seconds from now; a second call with the same name replaces it."""
        if timer in self._timers:
            self._timers[timer].cancel()
        self._timers[timer] = self.world.later(max(0.0, delay_s), self._request_turn)

    def guard(self, call: Callable[[], None], envelopes: Sequence[Envelope[Any]] = ()) -> None:
        """Make a call outside of a turn: if it fails, that is as if a turn with these had."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - it may fail in any way; see `Scene`.
            self._give_up(envelopes, error)

    # The runtime.

    def _request_turn(self) -> None:
        if not self._turn_due and not self.actor_stopped.is_set():
            self._turn_due = True
            (self.pace or self.world.soon)(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if self.actor_stopped.is_set() or not self._flush():
            return
        inbox = self.actor_inbox
        assert isinstance(inbox, Inbox)
        count = min(len(inbox.envelopes), BATCH_MAX)
        envelopes = [inbox.get() for _ in range(count)]
        batch = [e for e in envelopes if not isinstance(e.message, _ActorStop)]
        try:
            if self.around is None:
                self.on_batch(batch)
            else:
                self.around(batch, self.on_batch)
        except Exception as error:  # noqa: BLE001 - a turn may fail in any way; see `Scene`.
            kept = [envelope for envelope in batch if self.outlives(envelope)]
            inbox.envelopes.extendleft(reversed(kept))
            self._give_up(batch, error)
            return
        if len(batch) < count:
            self.finish()
            for envelope in envelopes:
                if isinstance(envelope.message, _ActorStop) and envelope.reply_to is not None:
                    envelope.reply_to.set(None)
            return
        inbox.drained()
        if not inbox.empty():
            self._request_turn()

    def _flush(self) -> bool:
        """Deliver what waits in the outbox; tell whether all of it went."""
        while self._outbox:
            name, message = self._outbox[0]
            inbox = self.reach(name)
            if inbox is None:
                logger.debug("%s: nobody is called %s; message dropped", self.name, name)
            elif inbox.room() <= 0:
                inbox.when_drained(self._request_turn)
                return False
            else:
                inbox.put(Envelope(message))
            self._outbox.popleft()
        return True

    def _give_up(self, envelopes: Sequence[Envelope[Any]], error: Exception) -> None:
        """Fail, and tell so whoever waits for an answer to one of these."""
        failed = ActorFailed(f"{self.name} failed: {error}")
        failed.__cause__ = error
        for envelope in envelopes:
            if envelope.reply_to is not None:
                envelope.reply_to.set_exception((ActorFailed, failed, None))
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.actor_stopped.is_set():
            try:
                self.finish()
            finally:  # An on_stop that fails too must not keep it from being restarted.
                self.scene.crashed(self, error)

    def finish(self) -> None:
        """End at once: timers and tasks are cancelled, later messages go nowhere."""
        self.actor_stopped.set()
        for timer in self._timers.values():
            timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        self.on_stop()

    def _start_actor_loop(self) -> None:
        assert isinstance(self.actor_inbox, Inbox)
        self.actor_inbox.wake = self._request_turn
        self.on_start()
        self._request_turn()

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logger.error("%s failed", self.name, exc_info=exception_value)
        self.actor_stopped.set()

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @staticmethod
    def _create_future() -> AsyncFuture:
        return AsyncFuture()


def _nobody() -> None:
    """Wake nobody: the actor has not started."""
