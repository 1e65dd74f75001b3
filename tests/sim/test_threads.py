"""What needs a thread runs inline; what cannot is refused, and the place that tried is named."""

import asyncio
import concurrent.futures
import contextvars
import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from kubeloop import sim
from kubeloop.sim.loop import EPOCH, SimLoop, Unsimulated
from kubeloop.sim.transport import HOST

MINE = contextvars.ContextVar("MINE", default="nobody's")


def test_an_executor_runs_inline() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await loop.run_in_executor(None, next, iter(()))
        with pytest.raises(SystemExit):
            await loop.run_in_executor(None, exit_with, 3)
        return await asyncio.to_thread(sum, (1, 2), start=4)

    def exit_with(code: int) -> None:
        raise SystemExit(code)

    assert sim.run(main) == 7


def test_what_runs_in_an_executor_believes_to_be_in_a_thread() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        MINE.set("main's")
        loop.network.add_host("far", "10.0.0.1")
        with loop.network.on("far"):
            assert await loop.run_in_executor(None, look) == ("nobody's", False, "far")
            assert await asyncio.to_thread(look) == ("main's", False, "far")
            assert await anyio.to_thread.run_sync(look) == ("main's", False, "far")
        assert asyncio.get_running_loop() is loop

    def look() -> tuple[str, bool, str]:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return MINE.get(), False, HOST.get()
        return MINE.get(), True, HOST.get()

    sim.run(main)


@pytest.mark.parametrize(
    "in_thread",
    [
        asyncio.to_thread,
        lambda function: asyncio.get_running_loop().run_in_executor(None, function),
        anyio.to_thread.run_sync,
    ],
)
def test_what_a_function_sleeps_delays_its_result_and_nothing_else(in_thread: Any) -> None:
    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        loop.call_later(3, lambda: seen.append(("timer", loop.time())))

        def nap() -> float:
            time.sleep(4)
            time.sleep(6)
            return time.time()

        woke = await in_thread(nap)
        seen.append(("done", loop.time()))
        assert woke == EPOCH + 10
        assert not loop.blocked
        return seen

    assert sim.run(main) == [("timer", 3), ("done", 10)]


def test_others_run_before_the_result_of_an_executor_is_there() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def other() -> None:
            seen.append("other")

        task = asyncio.create_task(other())
        await asyncio.to_thread(seen.append, "function")
        seen.append("result")
        await task
        return seen

    assert sim.run(main) == ["function", "other", "result"]


def test_a_cancelled_wait_for_an_executor_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.to_thread(time.sleep, 5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.to_thread(fail)
        await asyncio.sleep(20)

    def fail() -> None:
        time.sleep(5)
        raise KeyError

    sim.run(main)
    assert not caplog.messages


def test_many_chores_for_the_workers_of_anyio() -> None:
    async def main() -> list[int]:
        found, done = list[int](), list[int]()

        def work(n: int) -> int:
            time.sleep(n)
            done.append(n)
            return n

        async def chore(n: int) -> None:
            found.append(await anyio.to_thread.run_sync(work, n))

        async with anyio.create_task_group() as group:
            for n in (5, 3, 4):
                group.start_soon(chore, n)
        with pytest.raises(ZeroDivisionError):
            await anyio.to_thread.run_sync(lambda: 1 // 0)
        assert done == [5, 3, 4]  # Each at once, and once.
        return found

    assert sim.run(main) == [3, 4, 5]
    assert not [t for t in threading.enumerate() if "AnyIO" in t.name]


def test_a_thread_pool_works_at_submit() -> None:
    async def main() -> list[int]:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            failed = pool.submit(lambda: 1 // 0)
            assert isinstance(failed.exception(), ZeroDivisionError)
            wrapped = await asyncio.wrap_future(pool.submit(pow, 2, exp=3))
            return [wrapped, *pool.map(abs, (-1, -2))]

    assert sim.run(main) == [8, 1, 2]


def test_waiting_with_a_timeout_lets_the_time_pass() -> None:
    async def main() -> float:
        assert not threading.Event().wait(2)
        with pytest.raises(queue.Empty):
            queue.Queue[int]().get(timeout=3)
        assert not threading.Event().wait(0)
        with pytest.raises(concurrent.futures.TimeoutError):
            concurrent.futures.Future[int]().result(timeout=5)
        (finished := threading.Event()).set()
        assert finished.wait()
        return time.monotonic()

    assert sim.run(main) == 10


def _thread() -> None:
    threading.Thread(target=print, name="mine").start()


REFUSED: dict[str, Callable[[], Any]] = {
    "Thread.start('mine')": _thread,
    "Condition.wait()": lambda: threading.Event().wait(),
    "Condition.wait() ": lambda: concurrent.futures.Future[int]().result(),
    "Popen.__init__(": lambda: subprocess.run(["true"], check=True),
    "fork": os.fork,
    "system('true')": lambda: os.system("true"),
    "socket.connect(": lambda: socket.create_connection(("127.0.0.1", 9)),
    "socket.connect( ": lambda: socket.socket().connect(("127.0.0.1", 9)),
    "socket.bind(": lambda: socket.socket().bind(("127.0.0.1", 0)),
    "a second event loop": asyncio.new_event_loop,
    "a second event loop, in a thread": lambda: SimLoop.inline(_loop(), asyncio.new_event_loop),
}


def _loop() -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_would_leave_the_simulation_is_refused(name: str) -> None:
    async def main() -> None:
        with pytest.raises(Unsimulated) as caught:
            REFUSED[name]()
        message = str(caught.value)
        assert name.partition(", ")[0].strip() in message
        assert "test_threads.py:" in message
        assert ("task tried (" in message) != ("in a thread" in name)

    async def named() -> None:
        await asyncio.create_task(main(), name="tried")

    sim.run(named)


def test_outside_of_a_simulation_nothing_is_refused() -> None:
    async def main() -> None:
        """Nothing, so that everything was exchanged once."""

    sim.run(main)
    _thread()
    assert subprocess.run(["true"], check=True).returncode == 0
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
    assert "connect" not in vars(socket.socket)
    asyncio.new_event_loop().close()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(threading.get_ident).result() != threading.get_ident()


def test_another_thread_may_not_call_into_a_simulation() -> None:
    refused: list[str] = []
    loop = SimLoop()
    ready, done = threading.Event(), threading.Event()

    def intrude() -> None:
        ready.wait(30)
        try:
            loop.call_soon_threadsafe(print)
        except Unsimulated as error:
            refused.append(str(error))
        done.set()

    async def main() -> None:
        ready.set()
        while not done.is_set():
            pass

    thread = threading.Thread(target=intrude)
    thread.start()
    loop.run_until_complete(main())
    thread.join()
    loop.close()
    assert "call_soon_threadsafe" in refused[0] and "in test_another" in refused[0]
