"""UDP: what comes is what was sent; it may not come, come twice, and come out of turn."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.sim.datagrams import SIZE_MAX
from kubeloop.sim.links import Link
from kubeloop.sim.loop import SimLoop
from kubeloop.sim.network import Network

AT_ONCE = Link(latency="constant", latency_s=(0.0, 0.0))


class Collector(asyncio.DatagramProtocol):
    """Keeps what comes; answers "?" with "!"."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))
        if data == b"?":
            self.transport.sendto(b"!", addr)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def network(link: Link = AT_ONCE) -> Network:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    net = loop.network
    net.link("*", "*", link)
    net.add_host("a", "10.0.0.1", "fd00::1")
    net.add_host("b", "10.0.0.2", "fd00::2")
    return net


async def bound(net: Network, host: str, **options: Any) -> Any:
    with net.on(host):
        return await asyncio.get_running_loop().create_datagram_endpoint(Collector, **options)


@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1), st.integers(1, 60))
def test_each_comes_whole_at_most_twice_or_not(
    seed: int, loss: float, duplicate: float, count: int
) -> None:
    async def main() -> list[bytes]:
        net = network(Link(loss=loss, duplicate=duplicate))
        _, there = await bound(net, "b", local_addr=("0.0.0.0", 53))
        here, _ = await bound(net, "a", remote_addr=("b", 53))
        for n in range(count):
            here.sendto(b"%d" % n)
        await asyncio.sleep(1)
        assert {addr[0] for _, addr in there.received} <= {"10.0.0.1"}
        return [data for data, _ in there.received]

    received = sim.run(main, seed=seed)
    assert set(received) <= {b"%d" % n for n in range(count)}
    assert max(map(received.count, received), default=0) <= 2
    if loss == 0:
        assert len(set(received)) == count
    if duplicate == 0:
        assert len(received) == len(set(received))
    assert received == sim.run(main, seed=seed)


def test_chance_loses_doubles_and_reorders(simulate: Callable[..., Any]) -> None:
    async def main() -> list[int]:
        net = network(Link(loss=0.2, duplicate=0.2))
        _, there = await bound(net, "b", local_addr=("b", 53))
        here, _ = await bound(net, "a", remote_addr=("b", 53))
        for n in range(1000):
            here.sendto(b"%d" % n)
        await asyncio.sleep(1)
        return [int(data) for data, _ in there.received]

    received = simulate(main)
    assert 750 < len(set(received)) < 850
    assert 130 < len(received) - len(set(received)) < 190
    assert received != sorted(received)


def test_questions_and_answers_by_either_family(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        net = network()
        _, there = await bound(net, "b", local_addr=("::", 53))
        for family, addresses in (
            (socket.AF_INET, ["10.0.0.1", "10.0.0.2"]),
            (socket.AF_INET6, ["fd00::1", "fd00::2"]),
        ):
            here, kept = await bound(net, "a", local_addr=(addresses[0], 0), family=family)
            here.sendto(b"?", (addresses[1], 53))
            await asyncio.sleep(1)
            ((answer, addr),) = kept.received
            assert (answer, addr[:2]) == (b"!", (addresses[1], 53))
            assert there.received[-1][1] == here.get_extra_info("sockname")
            here.close()
            await asyncio.sleep(0)
            assert kept.lost

    simulate(main)


def test_what_fails_is_told(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        net = network()
        here, kept = await bound(net, "a", remote_addr=("b", 53))
        here.sendto(b"anyone?")
        here.sendto(bytes(SIZE_MAX + 1))
        await asyncio.sleep(1)
        assert [type(error).__name__ for error in kept.errors] == [
            "OSError",
            "ConnectionRefusedError",
        ]
        (_, port) = here.get_extra_info("sockname")
        (await bound(net, "b", local_addr=("b", 54)))[0].sendto(b"x", ("10.0.0.1", port))
        await asyncio.sleep(1)
        assert not kept.received, "a connected socket hears one other only"
        net.partition("b", "a", both=False)
        here.sendto(b"anyone?")
        await asyncio.sleep(1)
        assert len(kept.errors) == 2, "nobody could tell that nobody is there"
        net.heal()
        with pytest.raises(ValueError, match="must be None or"):
            here.sendto(b"x", ("10.0.0.1", 1))
        loose, other = await bound(net, "a", local_addr=("0.0.0.0", 7))
        loose.sendto(b"anyone?", ("10.0.0.2", 53))
        loose.sendto(b"no such host", ("10.9.9.9", 53))
        loose.sendto(b"to whom?")
        await asyncio.sleep(1)
        assert [error.errno for error in other.errors] == [errno.EDESTADDRREQ], (
            "who is not connected hears little"
        )
        with pytest.raises(OSError, match="in use"):
            await bound(net, "a", local_addr=("0.0.0.0", 7))
        with pytest.raises(OSError, match="does not have"):
            await bound(net, "a", local_addr=("10.0.0.2", 7))
        with pytest.raises(ValueError, match="unexpected address family"):
            await bound(net, "a")

    simulate(main)


def test_a_partition_swallows_them(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        net = network()
        _, there = await bound(net, "b", local_addr=("b", 53))
        here, kept = await bound(net, "a", remote_addr=("b", 53))
        net.partition("a", "b")
        here.sendto(b"?")
        net.heal()
        net.partition("b", "a", both=False)
        here.sendto(b"?")
        await asyncio.sleep(1)
        net.heal()
        here.sendto(b"?")
        await asyncio.sleep(1)
        assert (len(there.received), len(kept.received)) == (2, 1)
        net.vanish("b")
        net.heal()
        here.sendto(b"?")
        await asyncio.sleep(1)
        assert isinstance(kept.errors[0], ConnectionRefusedError)

    simulate(main)


def test_they_share_a_links_bandwidth(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        net = network(Link(latency="constant", latency_s=(0.0, 0.0), bytes_per_s=1000))
        _, there = await bound(net, "b", local_addr=("b", 53))
        here, _ = await bound(net, "a", remote_addr=("b", 53))
        for _ in range(5):
            here.sendto(bytes(1000))
        await asyncio.sleep(2.5)
        assert len(there.received) == 2

    simulate(main)
