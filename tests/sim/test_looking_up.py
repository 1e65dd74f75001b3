"""Names of hosts, asked for without the event loop, are those of the simulated network."""

import asyncio
import socket

import pytest

from kubeloop import sim
from kubeloop.sim.loop import SimLoop


def test_look_ups_that_block_answer_at_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        net = loop.network
        net.add_host("node", "fd00::7", "10.0.0.7", "10.0.0.8")
        found = socket.getaddrinfo("node", 80, type=socket.SOCK_STREAM)
        assert found == await loop.getaddrinfo("node", 80, type=socket.SOCK_STREAM)
        assert len(found) == 3
        assert socket.gethostbyname("node") == "10.0.0.7"
        assert socket.gethostbyname_ex("node") == ("node", [], ["10.0.0.7", "10.0.0.8"])
        assert socket.gethostbyaddr("10.0.0.8") == ("node", [], ["10.0.0.8"])
        assert socket.gethostname() == "localhost"
        with net.on("node"):
            assert socket.gethostname() == socket.getfqdn() == "node"
        with pytest.raises(socket.gaierror):
            socket.gethostbyname("nowhere")
        with pytest.raises(socket.herror):
            socket.gethostbyaddr("10.9.9.9")
        net.lookup = socket.EAI_AGAIN
        with pytest.raises(socket.gaierror, match="Temporary"):
            socket.getaddrinfo("node", 80)

    outside = socket.gethostname()
    sim.run(main)
    assert socket.gethostname() == outside
