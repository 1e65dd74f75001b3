"""What is put in the way of an actor sees all that others send it, all it sends, and its turns."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pykka._envelope import Envelope

from kubeloop import sim
from kubeloop.actors.actor import ActorFailed, AsyncActor, Handle, Inbox, MailboxFull, Pace
from kubeloop.actors.interception import Deliver, Interceptor
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld


class Talker(AsyncActor):
    """Passes on what it hears to "b", if it is not "b" itself; answers who asks."""

    born = 0

    def __init__(self, scene: Any, name: str) -> None:
        super().__init__(scene, name)
        self.turns: list[list[bytes]] = []

    def on_start(self) -> None:
        Talker.born += 1

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        self.turns.append([envelope.message for envelope in envelopes])
        for envelope in envelopes:
            if envelope.reply_to is not None:
                envelope.reply_to.set(envelope.message)
            if self.name == "b":
                continue
            if envelope.message != b"note":
                self.send("b", envelope.message)
            if envelope.message == b"work":
                self.run(self.work(), "work")

    async def work(self) -> bytes:
        await asyncio.sleep(1)
        return b"note"

    @property
    def heard(self) -> list[bytes]:
        return [message for turn in self.turns for message in turn]


class Diary(Interceptor):
    """Passes everything on, and writes it down."""

    def __init__(self, name: str = "", diary: list[str] | None = None) -> None:
        self.name, self.diary = name, [] if diary is None else diary

    def note(self, text: str) -> None:
        self.diary.append(f"{self.name}{text}")

    def heard(self, envelope: Envelope[Any], deliver: Deliver) -> None:
        self.note(f"heard {envelope.message.decode()}")
        deliver(envelope)

    def said(self, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        self.note(f"said {envelope.message.decode()} to {to}")
        deliver(envelope)

    def due(self, turn: Callable[[], None], soon: Pace) -> None:
        self.note("due")
        soon(turn)

    def turn(self, envelopes: Sequence[Envelope[Any]], handle: Handle) -> None:
        self.note(f"turn of {len(envelopes)}")
        handle(envelopes)

    def ended(self) -> None:
        self.note("ended")


def stage() -> Supervisor:
    loop = asyncio.get_running_loop()
    supervisor = Supervisor(LoopWorld(loop, seed=0, wall=loop.time))
    supervisor.start("a", Talker)
    supervisor.start("b", Talker)
    return supervisor


def actor(supervisor: Supervisor, name: str) -> Talker:
    found = supervisor.actor(name)
    assert isinstance(found, Talker)
    return found


def test_it_sees_all_there_is(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, diary = stage(), Diary()
        await asyncio.sleep(1)
        end = supervisor.intercept("a", diary)
        supervisor.tell("a", b"work")
        assert await supervisor.ask("a", b"x") == b"x"
        await asyncio.sleep(2)
        assert actor(supervisor, "a").heard == [b"work", b"x", b"note"]
        assert actor(supervisor, "b").heard == [b"work", b"x"]
        assert diary.diary == [
            *("heard work", "due", "heard x", "turn of 2", "said work to b", "said x to b"),
            *("due", "turn of 1"),  # What its own work tells it does not come by.
        ]
        end()
        end()
        assert diary.diary.pop() == "ended"
        supervisor.tell("a", b"y")
        await asyncio.sleep(1)
        assert actor(supervisor, "b").heard == [b"work", b"x", b"y"]
        assert len(diary.diary) == 8, "nothing is in the way any more"

    simulate(main)


def test_the_first_is_the_outermost(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, diary = stage(), list[str]()
        await asyncio.sleep(1)
        for name in ("outer ", "inner "):
            supervisor.intercept("a", Diary(name, diary))
        supervisor.tell("a", b"x")
        await asyncio.sleep(1)
        assert diary == [
            *("outer heard x", "inner heard x", "outer due", "inner due"),
            *("outer turn of 1", "inner turn of 1", "inner said x to b", "outer said x to b"),
        ]

    simulate(main)


def test_both_ends_are_intercepted(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, diary = stage(), list[str]()
        await asyncio.sleep(1)
        supervisor.intercept("b", Diary("b ", diary))
        supervisor.intercept("a", Diary("a ", diary))
        supervisor.tell("a", b"x")
        await asyncio.sleep(1)
        assert [line for line in diary if "x" in line] == [
            "a heard x",
            "a said x to b",
            "b heard x",
        ]
        assert actor(supervisor, "b").heard == [b"x"]

    simulate(main)


class Late(Interceptor):
    def __init__(self) -> None:
        self.held: list[Callable[[], None]] = []

    def heard(self, envelope: Envelope[Any], deliver: Deliver) -> None:
        self.held.append(lambda: deliver(envelope))

    def due(self, turn: Callable[[], None], soon: Pace) -> None:
        self.held.append(lambda: soon(turn))

    def ended(self) -> None:
        for call in self.held:
            call()


def test_it_may_hold_messages_and_turns_back(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor = stage()
        end = supervisor.intercept("a", Late())
        supervisor.tell("a", b"x")
        answer = asyncio.ensure_future(supervisor.ask("a", b"y"))
        await asyncio.sleep(100)
        assert actor(supervisor, "a").turns == [[]], "the first turn was due before"
        end()
        assert await answer == b"y"
        assert actor(supervisor, "a").heard == [b"x", b"y"]

    simulate(main)


class Fails(Interceptor):
    def __init__(self, before: bool) -> None:
        self.before = before

    def turn(self, envelopes: Sequence[Envelope[Any]], handle: Handle) -> None:
        if not envelopes or envelopes[-1].message != b"crash":
            handle(envelopes)
            return
        if not self.before:
            handle(envelopes)
        raise LookupError("as wanted")


@pytest.mark.parametrize("before", [True, False])
def test_a_turn_may_fail_before_or_after_it_was_had(
    before: bool, simulate: Callable[..., Any]
) -> None:
    async def main() -> None:
        supervisor, born = stage(), Talker.born
        supervisor.intercept("a", Fails(before))
        with pytest.raises(ActorFailed, match="as wanted") if before else nullcontext():
            await supervisor.ask("a", b"crash")
        await asyncio.sleep(1)
        assert supervisor.restarts == {"a": 1}
        assert Talker.born == born + 1
        assert actor(supervisor, "b").heard == ([] if before else [b"crash"])
        with pytest.raises(ActorFailed) if before else nullcontext():
            await supervisor.ask("a", b"crash")  # It is in the way of the successor, too.
        await asyncio.sleep(1)
        assert supervisor.restarts == {"a": 2}

    simulate(main)


def test_it_outlives_who_has_the_name_and_those_who_have_stopped(
    simulate: Callable[..., Any],
) -> None:
    async def main() -> None:
        supervisor, diary = stage(), Diary()
        supervisor.intercept("c", diary)
        assert supervisor.inbox("c") is None
        supervisor.start("c", Talker)
        supervisor.tell("c", b"x")
        await asyncio.sleep(1)
        supervisor.stop("c")
        assert supervisor.inbox("c") is None
        end = supervisor.intercept("c", Diary())
        end()
        assert "heard x" in diary.diary and "said x to b" in diary.diary

    simulate(main)


def test_there_is_as_much_room_as_without(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor = stage()
        plain = supervisor.inbox("b")
        assert isinstance(plain, Inbox)
        plain.capacity = 4
        supervisor.intercept("b", Diary())
        door = supervisor.inbox("b")
        assert isinstance(door, Inbox) and door is not plain
        for n in range(4):
            assert door.room() == 4 - n
            supervisor.tell("b", b"%d" % n)
        with pytest.raises(MailboxFull):
            supervisor.tell("b", b"more")
        door.put_answer(b"answer")
        called: list[bool] = []
        door.when_drained(lambda: called.append(True))
        for n in range(10):
            supervisor.tell("a", b"from a %d" % n)
        await asyncio.sleep(1)
        assert called == [True]
        told = [b"from a %d" % n for n in range(10)]
        assert actor(supervisor, "b").heard == [b"0", b"1", b"2", b"3", b"answer", *told]

    simulate(main)


class Twice(Interceptor):
    def heard(self, envelope: Envelope[Any], deliver: Deliver) -> None:
        deliver(envelope)
        deliver(envelope)


class Lossy(Interceptor):
    def said(self, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        if envelope.message != b"0":
            deliver(envelope)


@given(st.lists(st.sampled_from([b"0", b"1", b"2"]), max_size=10), st.integers(0, 2**32))
def test_messages_may_come_twice_or_be_lost(messages: list[bytes], seed: int) -> None:
    async def main() -> list[bytes]:
        supervisor = stage()
        supervisor.intercept("a", Twice())
        supervisor.intercept("a", Lossy())
        for message in messages:
            supervisor.tell("a", message)
            await asyncio.sleep(0)
        await asyncio.sleep(1)
        return actor(supervisor, "b").heard

    told = [m for m in messages if m != b"0" for _ in range(2)]
    assert sim.run(main, seed=seed, policy="random") == told
