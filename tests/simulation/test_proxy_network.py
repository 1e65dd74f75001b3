"""A Service on a simulated network: whatever links do, who is told of no failure has all bytes."""

import asyncio
import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop.net.balancer import Endpoint
from kubeloop.net.loop_forwarder import CONNECT_TIMEOUT_S, LoopForwarder
from kubeloop.net.proxy import UserspaceProxy
from kubeloop.sim.links import Link
from kubeloop.sim.loop import SimLoop
from kubeloop.sim.network import Network

Simulate = Callable[..., Any]
PLACE = ("", 30_080, "TCP")
PODS = {"pod-a": "10.0.1.1", "pod-b": "10.0.1.2"}
CLIENTS = 6


@dataclass
class Rule:
    endpoints: list[Endpoint]
    affinity_s: int = 0
    place: tuple[str, int, str] = PLACE
    service: str = "default/web"
    balancing: str = "random"
    kind: str = "NodePort"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer what was said, when all of it was, with its digest and as many bytes."""
    try:
        said = await reader.read()
        writer.write(hashlib.sha256(said).digest() + said)
        await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


class World:
    """A client's host, a node with a Service, and two pods."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.net: Network = loop.network
        self.net.link("*", "*", Link(latency="constant", latency_s=(0.001, 0.001)))
        self.net.add_host("client", "10.0.0.9")
        self.net.add_host("node", "10.0.0.1")
        for name, ip in PODS.items():
            self.net.add_host(name, ip)
        self.forwarder = LoopForwarder(draw=random.Random(3).random)
        self.proxy = UserspaceProxy(
            addresses=["10.0.0.1"], forwarder=self.forwarder, numbers=itertools.count(1)
        )

    async def start(self) -> None:
        for name, ip in PODS.items():
            with self.net.on(name):
                await asyncio.start_server(answer, ip, 8080)
        with self.net.on("node"):
            self.proxy.apply({PLACE: Rule([(ip, 8080) for ip in PODS.values()])})
            await self.proxy.settled()

    async def ask(self, size: int) -> bool:
        """Ask the Service; tell whether an answer came, rather than a failure."""
        said = random.Random(size).randbytes(size)
        try:
            with self.net.on("client"):
                reader, writer = await asyncio.open_connection("10.0.0.1", 30_080)
            try:
                writer.write(said)
                writer.write_eof()
                heard = await reader.read()
            finally:
                writer.close()
        except OSError:
            return False
        assert heard == hashlib.sha256(said).digest() + said
        return True

    async def close(self) -> None:
        await self.proxy.close()
        await self.forwarder.close()


def test_a_pod_that_cannot_be_reached_is_passed_over(simulate: Simulate) -> None:
    async def main() -> None:
        world = World()
        await world.start()
        world.net.partition("node", "pod-a")
        begun = asyncio.get_running_loop().time()
        assert all(await asyncio.gather(*(world.ask(100) for _ in range(CLIENTS))))
        waited = asyncio.get_running_loop().time() - begun
        assert CONNECT_TIMEOUT_S < waited < CONNECT_TIMEOUT_S + 1, "somebody tried it first"
        await world.close()

    simulate(main)


happenings = st.lists(
    st.tuples(
        st.floats(0, 2),
        st.sampled_from(["partition", "reset", "slow", "heal", "only a", "only b"]),
        st.sampled_from([("node", "pod-a"), ("node", "pod-b"), ("client", "node")]),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000), happenings)
def test_nobody_has_a_part_and_takes_it_for_all(
    simulate: Simulate, seed: int, plan: list[tuple[float, str, tuple[str, str]]]
) -> None:
    async def trouble(world: World) -> None:
        for pause_s, what, (one, other) in plan:
            await asyncio.sleep(pause_s)
            if what == "partition":
                world.net.partition(one, other)
            elif what == "reset":
                world.net.reset(one, other)
            elif what == "slow":
                world.net.fault(one, other, bytes_per_s=20_000.0)
            elif what == "heal":
                world.net.heal()
            else:
                with world.net.on("node"):
                    world.proxy.apply({PLACE: Rule([(PODS[f"pod-{what[-1]}"], 8080)])})
        await asyncio.sleep(1)
        world.net.heal()

    async def main() -> None:
        world = World()
        await world.start()
        asked = [world.ask(1 + 40_000 * number) for number in range(CLIENTS)]
        *answered, _ = await asyncio.gather(*asked, trouble(world))
        disturbed = {what for _, what, _ in plan} - {"heal", "slow"}
        assert disturbed or all(answered), "if nothing breaks, nobody is told of a failure"
        assert await world.ask(1_000), "and afterwards all is well"
        await world.close()

    simulate(main, seed=seed, policy="random")
