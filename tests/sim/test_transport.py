"""Whatever lies between: bytes arrive exactly and in order, until a reset; and a seed is a history.

Two protocols write, pause, resume and end by a plan while links change under them. At last all is
healed and everybody reads: what was written has come, or the connection was reset, and then a
beginning of it has.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.sim import pipe
from kubeloop.sim.links import Link
from kubeloop.sim.loop import SimLoop
from kubeloop.sim.network import Network
from kubeloop.sim.transport import HIGH_WATER

NOISE = random.Random(0).randbytes(1 << 20)
SIDES = ("a", "b")

rates = st.sampled_from([None, 2_000.0, 100_000.0])
links = st.builds(
    Link,
    latency=st.sampled_from(["constant", "uniform", "lognormal", "pareto"]),
    latency_s=st.sampled_from([(0.0001, 0.001), (0.01, 0.5), (0.1, 0.1)]),
    bytes_per_s=rates,
    loss=st.sampled_from([0.0, 0.0, 0.3]),
    cut=st.sampled_from([0.0, 0.0, 0.8]),
    reset=st.sampled_from([0.0, 0.0, 0.0, 0.5]),
    reset_after=st.sampled_from([None, None, None, 0, 1, 5_000]),
    read_bytes_per_s=rates,
)
changes = st.sampled_from(
    [{"up": False}, {"up": True}, {"cut": 1.0}, {"loss": 0.5}, {"read_bytes_per_s": 500.0}]
)
steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(SIDES), st.integers(1, 100_000)),
    st.tuples(st.sampled_from(["pause", "resume", "end"]), st.sampled_from(SIDES), st.none()),
    st.tuples(st.just("fault"), st.sampled_from(["ab", "ba"]), changes),
    st.tuples(st.just("wait"), st.none(), st.sampled_from([0.0, 0.001, 0.3, 5.0])),
    st.tuples(st.sampled_from(["heal", "reset"]), st.none(), st.none()),
)


@dataclass(frozen=True)
class Plan:
    """What happens: between two links, steps of (what, whom, how much)."""

    to: Link
    back: Link
    steps: list[tuple[str, Any, Any]]


plans = st.builds(Plan, to=links, back=links, steps=st.lists(steps, max_size=25))


class Side(asyncio.Protocol):
    """Writes noise from its beginning while it may, and keeps what comes."""

    def __init__(self) -> None:
        self.wanted = self.written = 0
        self.received = bytearray()
        self.may_write = True
        self.wants_end = self.has_ended = self.peer_ended = False
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.go_on()

    def data_received(self, data: bytes) -> None:
        assert not self.peer_ended, "data after the end"
        assert self.transport.is_reading(), "data for a reader that has paused"
        self.received += data

    def eof_received(self) -> bool:
        assert not self.peer_ended, "two ends"
        self.peer_ended = True
        return True

    def pause_writing(self) -> None:
        assert self.may_write
        assert self.transport.get_write_buffer_size() > HIGH_WATER
        self.may_write = False

    def resume_writing(self) -> None:
        assert not self.may_write
        self.may_write = True
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        assert not self.lost, "lost twice"
        self.lost.append(exc)

    def go_on(self) -> None:
        """Write what is wanted, as far as the transport lets us."""
        if not hasattr(self, "transport"):
            return
        while self.may_write and self.written < self.wanted and not self.transport.is_closing():
            begun = self.written
            self.written = min(self.wanted, begun + 30_000, len(NOISE))
            if self.written == begun:
                break
            self.transport.write(NOISE[begun : self.written])
        done = self.written == min(self.wanted, len(NOISE))
        if self.wants_end and done and not self.has_ended and self.may_write:
            self.has_ended = True
            self.transport.write_eof()


async def act(net: Network, sides: dict[str, Side], plan: Plan) -> None:
    for what, whom, how in plan.steps:
        side = sides.get(whom, sides["a"])
        if what == "wait":
            await asyncio.sleep(how)
        elif what == "fault":
            net.fault(whom[0], whom[1], both=False, **how)
        elif what == "heal":
            net.heal()
        elif what == "reset":
            net.reset("a", "b")
        elif what == "write" and not side.wants_end:
            side.wanted += how
            side.go_on()
        elif what == "end":
            side.wants_end = True
            side.go_on()
        elif what == "pause" and hasattr(side, "transport"):
            side.transport.pause_reading()
        elif what == "resume" and hasattr(side, "transport"):
            side.transport.resume_reading()


def run(plan: Plan, seed: int, policy: Any) -> tuple[dict[str, Side], list[Any]]:
    """Carry out a plan; return both sides and the trace."""
    events: list[Any] = []

    async def main() -> dict[str, Side]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        net = loop.network
        net.add_host("a", "10.0.0.1")
        net.add_host("b", "10.0.0.2")
        sides = {"a": Side(), "b": Side()}
        with net.on("b"):
            await loop.create_server(lambda: sides["b"], "b", 80)
        with net.on("a"):
            await loop.create_connection(lambda: sides["a"], "b", 80)
        net.trace = lambda *event: events.append(event)
        net.link("a", "b", plan.to, both=False)
        net.link("b", "a", plan.back, both=False)
        await act(net, sides, plan)
        calm = {"bytes_per_s": None, "loss": 0.0, "read_bytes_per_s": None}
        net.heal()
        net.fault("a", "b", **calm)
        for _ in range(30):  # Whoever paused reads on; what was wanted is written, and the end.
            await asyncio.sleep(60)
            for side in sides.values():
                side.wants_end = True
                if hasattr(side, "transport"):
                    side.transport.resume_reading()
                side.go_on()
        for side in sides.values():
            if hasattr(side, "transport"):
                side.transport.close()
        await asyncio.sleep(300)
        assert not net.connections
        return sides

    return sim.run(main, seed=seed, policy=policy), events


def check(plan: Plan, seed: int, policy: Any = "fifo") -> None:
    """Carry out a plan, and look at what came."""
    sides, events = run(plan, seed, policy)
    was_reset = any(what in ("reset", "lost") for _, what, *_ in events)
    for here, there in (("a", "b"), ("b", "a")):
        sender, receiver = sides[here], sides[there]
        assert receiver.received == NOISE[: len(receiver.received)]
        assert len(receiver.received) <= sender.written
        if receiver.peer_ended:
            assert len(receiver.received) == sender.written, "the end came before the rest"
        if not was_reset:
            assert sender.written == min(sender.wanted, len(NOISE))
            assert len(receiver.received) == sender.written
            assert receiver.peer_ended
            assert sender.lost == [None]
    again = run(plan, seed, policy)
    assert again[1] == events, "another history"
    assert [side.received for side in again[0].values()] == [
        side.received for side in sides.values()
    ]


@given(plans, st.integers(0, 1000), st.sampled_from(["fifo", "random"]))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_bytes_are_exact_and_in_order(plan: Plan, seed: int, policy: Any) -> None:
    check(plan, seed, policy)


class Made(asyncio.DatagramProtocol, asyncio.Protocol):
    """Keeps whether it knows of its transport."""

    knows = False

    def connection_made(self, transport: Any) -> None:
        self.knows = True


@pytest.mark.parametrize("policy", ["fifo", "random", "pct"])
def test_a_protocol_knows_of_its_connection_before_its_client_does(policy: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(Made, "127.0.0.1", 80)
        await loop.create_unix_server(Made, "/run/x")
        crowd = [asyncio.create_task(asyncio.sleep(0)) for _ in range(10)]
        for connect in (
            loop.create_connection(Made, "127.0.0.1", 80),
            loop.create_unix_connection(Made, "/run/x"),
            loop.create_datagram_endpoint(Made, local_addr=("127.0.0.1", 53)),
        ):
            _, protocol = await connect
            assert protocol.knows
        await asyncio.gather(*crowd)

    for seed in range(20):
        sim.run(main, seed=seed, policy=policy)


def test_another_seed_is_another_history() -> None:
    plan = Plan(Link(), Link(loss=0.1), [("write", side, 5000) for side in "abab"])
    histories = {str(run(plan, seed, "fifo")[1]) for seed in range(10)}
    assert len(histories) == 10


def overtaking(self: Any, chunk: Any, weight: int) -> None:
    """Append as `Pipe._append` does, but forget what was sent earlier."""
    self._chunks, earlier = type(self._chunks)(), self._chunks
    sound["_append"](self, chunk, weight)
    self._chunks.extend(earlier)
    self._chunks = type(self._chunks)(sorted(self._chunks, key=lambda entry: entry[0]))


def forgetting(self: Any, now: float) -> tuple[bytes, int]:
    """Take as `Pipe._take` does, and lose a byte of what is read slowly."""
    data, weight = sound["_take"](self, now)
    slow = self.route.link.read_bytes_per_s is not None
    return (data[1:] or data, weight) if slow else (data, weight)


def deaf(self: Any) -> None:
    """Resume as `Pipe.resume` does, but not after a partition."""
    if not self._chunks or self._chunks[0][0] + 1 > self.source.network.loop.time():
        sound["resume"](self)


sound: dict[str, Any] = {name: getattr(pipe.Pipe, name) for name in ("_append", "_take", "resume")}


@pytest.mark.parametrize(
    ("name", "bug"), [("_append", overtaking), ("_take", forgetting), ("resume", deaf)]
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, name: str, bug: Any) -> None:
    monkeypatch.setattr(pipe.Pipe, name, bug)

    def fails(plan: Plan) -> bool:
        try:
            check(plan, 1)
        except AssertionError:
            return True
        return False

    look = settings(max_examples=200, phases=[Phase.generate], database=None)
    assert find(plans, fails, settings=look, random=random.Random(1)).steps
