"""How fast messages pass between actors, beside pykka's ThreadingActor in the same run.

Sketch: a tell is one envelope and one deque append; a turn of 1,024 costs one callback of the loop,
so about 1 µs a message, no lock and no switch of threads. An ask adds a future and two passes of
the loop: about 10 µs. pykka pays a lock and a thread switch for each.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.actors.actor import AsyncActor
from kubeloop.actors.messages import Listing, decode
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld

COUNT = 10_000
FRAME = Listing(7).encode()


class Ours(AsyncActor):
    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for envelope in envelopes:
            message = decode(envelope.message)
            if envelope.reply_to is not None:
                envelope.reply_to.set(message)


class Theirs(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return decode(message)


async def _ours(how: str) -> int:
    loop = asyncio.get_running_loop()
    supervisor = Supervisor(LoopWorld(loop))
    supervisor.start("ours", Ours)
    if how == "tell":
        for _ in range(COUNT - 1):
            supervisor.tell("ours", FRAME)
        answers = 1
    else:
        answers = COUNT
    for _ in range(answers):
        answer = await supervisor.ask("ours", FRAME)
        assert isinstance(answer, Listing)
    supervisor.stop_all()
    return answers


def _theirs(how: str) -> int:
    actor = Theirs.start()
    answers = COUNT if how == "ask" else 1
    for _ in range(COUNT - answers):
        actor.tell(FRAME)
    for _ in range(answers):
        assert isinstance(actor.ask(FRAME), Listing)
    actor.stop()
    return answers


@pytest.mark.parametrize("how", ["tell", "ask"])
def test_async_actor(benchmark: BenchmarkFixture, how: str) -> None:
    benchmark.extra_info["messages"] = COUNT
    assert benchmark(lambda: asyncio.run(_ours(how))) >= 1


@pytest.mark.parametrize("how", ["tell", "ask"])
def test_pykka_threading_actor(benchmark: BenchmarkFixture, how: str) -> None:
    benchmark.extra_info["messages"] = COUNT
    assert benchmark(lambda: _theirs(how)) >= 1
