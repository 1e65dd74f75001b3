"""The supervisor: names, restarts with back-off, adopted mailboxes, orderly stops."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pykka._envelope import Envelope

from kubeloop import sim
from kubeloop.actors.actor import AsyncActor, Inbox
from kubeloop.actors.supervisor import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    QUIET_S,
    NoSuchActor,
    Supervisor,
    backoff_s,
)
from kubeloop.actors.world import LoopWorld


def cluster() -> Supervisor:
    loop = asyncio.get_running_loop()
    return Supervisor(LoopWorld(loop, seed=0, wall=loop.time))


class Diary:
    """What the incarnations of one actor did; outlives them."""

    def __init__(self) -> None:
        self.births: list[float] = []
        self.heard: list[bytes] = []
        self.stops = 0
        self.refuse_to_start = 0
        self.refuse_to_be_made = 0
        self.fail_to_stop = False

    def make(self, scene: Supervisor, name: str) -> AsyncActor:
        if self.refuse_to_be_made:
            self.refuse_to_be_made -= 1
            raise OSError("cannot be made")
        return Mortal(scene, name, self)


class Mortal(AsyncActor):
    """Fails on b"die", after having heard what came before in the same batch."""

    def __init__(self, scene: Supervisor, name: str, diary: Diary) -> None:
        super().__init__(scene, name)
        self.diary = diary

    def on_start(self) -> None:
        self.diary.births.append(self.world.now())
        if self.diary.refuse_to_start:
            self.diary.refuse_to_start -= 1
            raise OSError("cannot start")

    def on_stop(self) -> None:
        self.diary.stops += 1
        if self.diary.fail_to_stop:
            raise OSError("cannot stop")

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for envelope in envelopes:
            if envelope.message == b"die":
                raise ValueError("as asked")
            self.diary.heard.append(envelope.message)
            if envelope.reply_to is not None and envelope.message != b"keep me waiting":
                envelope.reply_to.set(b"ok")


@given(st.integers(1, 10**6))
def test_backoff_doubles_and_is_bounded(failures: int) -> None:
    assert BACKOFF_MIN_S <= backoff_s(failures) <= BACKOFF_MAX_S
    assert backoff_s(failures + 1) in (2 * backoff_s(failures), BACKOFF_MAX_S)


def test_restarts_wait_longer_and_longer_until_it_is_quiet(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, diary = cluster(), Diary()
        supervisor.start("m", diary.make)
        for n in range(5):
            supervisor.tell("m", b"die")
            await asyncio.sleep(backoff_s(n + 1))
        await asyncio.sleep(0.001)
        pauses = [b - a for a, b in zip(diary.births, diary.births[1:], strict=False)]
        assert pauses == pytest.approx([backoff_s(n) for n in range(1, 6)])
        await asyncio.sleep(QUIET_S + 1)
        supervisor.tell("m", b"die")
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(1)
        assert diary.births[-1] - before == pytest.approx(BACKOFF_MIN_S)
        assert supervisor.restarts == {"m": 6}

    simulate(main)


@given(st.lists(st.sampled_from([b"a", b"b", b"die"]), max_size=20), st.integers(0, 10**6))
def test_a_successor_adopts_the_mailbox(messages: list[bytes], seed: int) -> None:
    """What was told while nobody ran, or not yet read, is heard by the successor, in order."""

    async def main() -> list[bytes]:
        supervisor, diary = cluster(), Diary()
        supervisor.start("m", diary.make)
        for message in messages:
            if message == b"die":  # What a failed batch had read after its failure is gone.
                while supervisor.actor("m") is None:
                    await asyncio.sleep(0.001)
            supervisor.tell("m", message)
            if message == b"die":
                while supervisor.actor("m") is not None:
                    await asyncio.sleep(0)
        await asyncio.sleep(100)
        return diary.heard

    assert sim.run(main, seed=seed) == [m for m in messages if m != b"die"]


@pytest.mark.parametrize("trouble", ["refuse_to_start", "refuse_to_be_made"])
def test_a_restart_that_fails_is_tried_again(simulate: Callable[..., Any], trouble: str) -> None:
    async def main() -> None:
        supervisor, diary = cluster(), Diary()
        supervisor.start("m", diary.make)
        setattr(diary, trouble, 3)
        supervisor.tell("m", b"die")
        ask = asyncio.create_task(supervisor.ask("m", b"are you there?"))
        await asyncio.sleep(30)
        assert getattr(diary, trouble) == 0
        assert supervisor.restarts["m"] == 4
        assert await ask == b"ok"  # It waited in the mailbox all the while.

    simulate(main)


def test_a_start_that_fails_to_be_made_is_the_callers(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, diary = cluster(), Diary()
        diary.refuse_to_be_made = 1
        with pytest.raises(OSError, match="cannot be made"):
            supervisor.start("m", diary.make)
        assert supervisor.names() == []
        supervisor.start("m", diary.make)
        assert await supervisor.ask("m", b"hello") == b"ok"

    simulate(main)


def test_a_failing_on_stop_does_not_prevent_the_restart(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, diary = cluster(), Diary()
        supervisor.start("m", diary.make)
        diary.fail_to_stop = True
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        supervisor.tell("m", b"die")
        await asyncio.sleep(1)
        assert await supervisor.ask("m", b"hello") == b"ok"

    simulate(main)


def test_stopping_answers_whoever_waits(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, diary = cluster(), Diary()
        supervisor.start("m", diary.make)
        held = asyncio.create_task(supervisor.ask("m", b"keep me waiting"))
        await asyncio.sleep(1)
        unread = asyncio.create_task(supervisor.ask("m", b"too late"))
        await asyncio.sleep(0)
        supervisor.stop("m")
        for ask in (held, unread):
            with pytest.raises(NoSuchActor, match="m has stopped"):
                await ask
        with pytest.raises(NoSuchActor, match="no actor is called 'm'"):
            supervisor.tell("m", b"gone")
        assert diary.stops == 1

    simulate(main)


def test_a_stopped_name_is_free_and_never_comes_back(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, first, second = cluster(), Diary(), Diary()
        supervisor.start("m", first.make)
        supervisor.tell("m", b"die")
        while supervisor.actor("m") is not None:
            await asyncio.sleep(0)
        supervisor.stop("m")  # While it waits to be restarted.
        supervisor.start("m", second.make)
        await asyncio.sleep(60)
        assert (len(first.births), len(second.births)) == (1, 1)

    simulate(main)


def test_stop_all_stops_the_last_started_first(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, order = cluster(), list[str]()

        class Noted(Mortal):
            def on_stop(self) -> None:
                order.append(self.name)

        for name in "abc":
            supervisor.start(name, lambda scene, name: Noted(scene, name, Diary()))
        supervisor.stop_all()
        assert order == ["c", "b", "a"]
        assert supervisor.names() == []
        await asyncio.sleep(60)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(main)


def test_a_crash_of_one_is_nobody_elses(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        supervisor, one, other = cluster(), Diary(), Diary()
        supervisor.start("one", one.make)
        supervisor.start("other", other.make)
        supervisor.crash("one", RuntimeError("now"))
        supervisor.crash("nobody", RuntimeError("now"))
        assert supervisor.actor("one") is None
        assert isinstance(supervisor.inbox("one"), Inbox)
        await asyncio.sleep(1)
        assert (len(one.births), len(other.births)) == (2, 1)

    simulate(main)
