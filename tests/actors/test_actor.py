"""AsyncActor: turns, batches, answers, bounded mailboxes, tasks and timers; in virtual time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pykka._envelope import Envelope

from kubeloop import sim
from kubeloop.actors import actor as actor_module
from kubeloop.actors.actor import (
    BATCH_MAX,
    ActorFailed,
    AsyncActor,
    AsyncFuture,
    Inbox,
    MailboxFull,
)
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld


def cluster() -> Supervisor:
    loop = asyncio.get_running_loop()
    return Supervisor(LoopWorld(loop, seed=0, wall=loop.time))


class Recorder(AsyncActor):
    """Remembers every batch; answers every ask with its message."""

    def __init__(self, scene: Any, name: str) -> None:
        super().__init__(scene, name)
        self.batches: list[list[bytes]] = []
        self.times: list[float] = []

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        self.batches.append([e.message for e in envelopes])
        self.times.append(self.world.now())
        for envelope in envelopes:
            if envelope.message == b"crash":
                raise ValueError("as asked")
            if envelope.reply_to is not None:
                envelope.reply_to.set(envelope.message)

    @property
    def heard(self) -> list[bytes]:
        return [message for batch in self.batches for message in batch]


def recorder(supervisor: Supervisor, name: str) -> Recorder:
    supervisor.start(name, Recorder)
    actor = supervisor.actor(name)
    assert isinstance(actor, Recorder)
    return actor


def test_a_turn_takes_what_has_arrived_in_order(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor = cluster()
        actor = recorder(supervisor, "a")
        sent = [b"%d" % n for n in range(BATCH_MAX + 10)]
        for message in sent:
            supervisor.tell("a", message)
        assert actor.batches == []  # Nobody is run from within a tell.
        await asyncio.sleep(1)
        assert [len(batch) for batch in actor.batches] == [BATCH_MAX, 10]
        assert actor.heard == sent

    simulate(main)


def test_an_ask_is_answered_and_a_failure_is_passed_on(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor = cluster()
        recorder(supervisor, "a")
        assert await supervisor.ask("a", b"hello") == b"hello"
        with pytest.raises(ActorFailed, match="a failed: as asked") as caught:
            await supervisor.ask("a", b"crash")
        assert isinstance(caught.value.__cause__, ValueError)
        assert await supervisor.ask("a", b"again") == b"again"

    simulate(main)


def test_an_asker_may_go_away(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor = cluster()
        recorder(supervisor, "a")
        for message in (b"fine", b"crash"):
            ask = asyncio.create_task(supervisor.ask("a", message))
            await asyncio.sleep(0)
            ask.cancel()
            await asyncio.wait([ask])
        assert await supervisor.ask("a", b"still here") == b"still here"

    simulate(main)


def test_a_future_is_awaited_never_blocked_on(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        future = AsyncFuture()
        with pytest.raises(RuntimeError, match="await it"):
            future.get()
        future.set(1)
        future.set(2)  # The first answer counts.
        assert future.get() == 1 == await future  # type: ignore[misc]
        failed = AsyncFuture()
        failed.set_exception((KeyError, KeyError("x"), None))
        with pytest.raises(KeyError):
            failed.get()
        assert AsyncFuture().map(str).done() is False

    simulate(main)


def test_a_full_mailbox_refuses_outsiders_but_never_answers(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor = cluster()
        actor = recorder(supervisor, "a")
        assert isinstance(actor.actor_inbox, Inbox)
        actor.actor_inbox.capacity = 3
        for n in range(3):
            supervisor.tell("a", b"%d" % n)
        with pytest.raises(MailboxFull, match="3 messages"):
            supervisor.tell("a", b"3")
        actor.actor_inbox.put_answer(b"answer")
        await asyncio.sleep(1)
        assert actor.heard == [b"0", b"1", b"2", b"answer"]
        supervisor.tell("a", b"4")

    simulate(main)


class Forwarder(Recorder):
    """Sends `copies` of every message on to the actor called `target`."""

    target, copies = "sink", 1

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        super().on_batch(envelopes)
        for envelope in envelopes:
            for _ in range(self.copies):
                self.send(self.target, envelope.message)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(0, 10**6),
)
def test_pressure_keeps_order_loses_nothing_and_never_deadlocks(
    bursts: list[int], capacity: int, copies: int, seed: int
) -> None:
    """Small mailboxes, slow turns: all arrives, in order, and no mailbox exceeds its bound."""
    sent = [b"%d" % n for n in range(sum(bursts))]

    async def main() -> list[bytes]:
        supervisor = cluster()
        sink = recorder(supervisor, "sink")
        supervisor.start("relay", Forwarder)
        relay = supervisor.actor("relay")
        assert isinstance(relay, Forwarder)
        relay.copies = copies
        inbox = supervisor.inbox("sink")
        assert inbox is not None
        inbox.capacity = capacity
        rest = iter(sent)
        for burst in bursts:
            for _ in range(burst):
                supervisor.tell("relay", next(rest))
            await asyncio.sleep(0)
            assert len(inbox.envelopes) <= capacity
        await asyncio.sleep(1)
        assert not relay._outbox
        assert max(map(len, sink.batches)) <= capacity
        return sink.heard

    heard = sim.run(main, seed=seed, policy="random")
    assert heard == [message for message in sent for _ in range(copies)]


def test_a_sender_with_a_full_outbox_takes_no_messages(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor = cluster()
        supervisor.start("relay", Forwarder)
        relay = supervisor.actor("relay")
        assert isinstance(relay, Forwarder)
        stuck = Inbox(capacity=4)  # A mailbox nobody reads.
        supervisor._inboxes["sink"] = supervisor._doors["sink"] = stuck
        supervisor._asked["sink"] = {}
        supervisor._factories["sink"] = Recorder
        for n in range(10):
            supervisor.tell("relay", b"%d" % n)
        await asyncio.sleep(1)
        for n in range(10, 20):
            supervisor.tell("relay", b"%d" % n)
            await asyncio.sleep(1)
        assert len(relay.heard) == 10  # One turn; what came later waits where it is bounded.
        assert len(relay._outbox) == 6
        assert len(stuck.waiting) == 1  # However often it was woken in vain.
        supervisor.stop("sink")  # Whoever waits for one who is gone goes on.
        await asyncio.sleep(1)
        assert len(relay.heard) == 20

    simulate(main)


def test_two_who_write_to_each_other_drain(simulate: Callable[..., Any]) -> None:
    """Requests up, answers down: the shape of every pair in a cluster, at capacity 1."""

    class Server(Recorder):
        def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
            super().on_batch(envelopes)
            for envelope in envelopes:
                inbox = self.scene.inbox("client")
                assert inbox is not None
                inbox.put_answer(b"answer to " + envelope.message)

    class Client(Recorder):
        def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
            super().on_batch(envelopes)
            for envelope in envelopes:
                if envelope.message.startswith(b"do"):
                    for n in range(5):
                        self.send("server", b"%d" % n)

    async def main() -> None:
        supervisor = cluster()
        supervisor.start("server", Server)
        supervisor.start("client", Client)
        client = supervisor.actor("client")
        assert isinstance(client, Client)
        for name in ("server", "client"):
            inbox = supervisor.inbox(name)
            assert inbox is not None
            inbox.capacity = 1
        for _ in range(20):
            supervisor.tell("client", b"do")
            await asyncio.sleep(0.1)
        assert sum(message.startswith(b"answer") for message in client.heard) == 100

    simulate(main, policy="random")


def test_messages_for_nobody_are_dropped(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor = cluster()
        supervisor.start("relay", Forwarder)
        assert await supervisor.ask("relay", b"on") == b"on"

    simulate(main)


def test_a_timer_gives_a_turn_and_its_name_replaces_it(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        actor = recorder(cluster(), "a")
        await asyncio.sleep(0.5)
        actor.wake_in(5)
        actor.wake_in(2)
        actor.wake_in(3, "other")
        await asyncio.sleep(10)
        assert actor.batches == [[], [], []]
        assert actor.times == [0, 2.5, 3.5]

    simulate(main)


class Worker(Recorder):
    """Starts a task on "work", whose result arrives as a message."""

    cancelled = 0

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        super().on_batch(envelopes)
        for envelope in envelopes:
            if envelope.message in (b"work", b"fail", b"quiet"):
                self.run(self.work(envelope.message), "work")

    async def work(self, how: bytes) -> bytes | None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            type(self).cancelled += 1
            raise
        if how == b"fail":
            raise ValueError("the task failed")
        return None if how == b"quiet" else b"done"


def test_a_task_reports_by_message_and_its_failure_is_the_actors(
    simulate: Callable[..., Any],
) -> None:
    async def main() -> None:
        supervisor = cluster()
        supervisor.start("w", Worker)
        worker = supervisor.actor("w")
        assert isinstance(worker, Worker)
        for message in (b"work", b"quiet"):
            supervisor.tell("w", message)
        await asyncio.sleep(6)
        assert worker.heard == [b"work", b"quiet", b"done"]
        supervisor.tell("w", b"fail")
        await asyncio.sleep(6)
        assert supervisor.restarts == {"w": 1}
        assert supervisor.actor("w") is not worker

    simulate(main)


@pytest.mark.parametrize("how", ["crash", "stop"])
def test_tasks_and_timers_end_with_their_actor(simulate: Callable[..., Any], how: str) -> None:
    async def main() -> None:
        Worker.cancelled = 0
        supervisor = cluster()
        supervisor.start("w", Worker)
        worker = supervisor.actor("w")
        assert isinstance(worker, Worker)
        supervisor.tell("w", b"work")
        worker.wake_in(3)
        await asyncio.sleep(1)
        turns = len(worker.batches)
        if how == "crash":
            supervisor.crash("w", RuntimeError("now"))
        else:
            supervisor.stop("w")
        await asyncio.sleep(60)
        assert Worker.cancelled == 1
        assert len(worker.batches) == turns
        assert not worker._tasks
        successor = supervisor.actor("w")
        assert (successor is None) == (how == "stop")
        assert not isinstance(successor, Worker) or successor.heard == []

    simulate(main)


def test_pykkas_registry_stays_empty(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        one, other = cluster(), cluster()
        mine, theirs = recorder(one, "same"), recorder(other, "same")
        one.tell("same", b"for one")
        mine.send("same", b"by name")  # Reaches whoever has that name in its own cluster.
        await asyncio.sleep(1)
        assert mine.heard == [b"for one", b"by name"]
        assert theirs.heard == []
        assert pykka.ActorRegistry.get_all() == []
        one.stop_all()
        assert await other.ask("same", b"alive") == b"alive"
        other.stop_all()

    simulate(main)


def test_pykkas_own_stop_is_honoured(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        actor = recorder(cluster(), "a")
        actor.actor_ref.tell(b"before")
        actor.stop()
        await asyncio.sleep(1)
        assert actor.heard == [b"before"]
        assert actor.actor_stopped.is_set()

    simulate(main)


def test_the_urn_is_the_name(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        actor = recorder(cluster(), "kubelet/node-1")
        assert actor.actor_urn == actor.actor_ref.actor_urn == "urn:kubeloop:kubelet/node-1"

    simulate(main)


def test_bounds_are_stated() -> None:
    assert actor_module.BATCH_MAX <= actor_module.MAILBOX_MAX
