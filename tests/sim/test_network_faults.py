"""Everything a link or a host can do to a connection, and that time tells it as it would be."""

import asyncio
import os
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kubeloop.sim.links import Link
from kubeloop.sim.loop import Deadlock, SimLoop
from kubeloop.sim.network import CONNECT_TIMEOUT_S, Network
from kubeloop.sim.transport import GIVE_UP_S

Simulate = Callable[..., Any]
AT_ONCE = Link(latency="constant", latency_s=(0.0, 0.0))
SECOND = Link(latency="constant", latency_s=(1.0, 1.0))


def now() -> float:
    return asyncio.get_running_loop().time()


class Pair:
    """A server on host b, and what its connections have heard."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.net: Network = loop.network
        self.net.link("*", "*", AT_ONCE)
        self.net.add_host("a", "10.0.0.1")
        self.net.add_host("b", "10.0.0.2")
        self.heard: list[Any] = []
        self.accepted: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(writer)
        self.heard.append((now(), "accept"))
        try:
            while data := await reader.read(1 << 20):
                self.heard.append((now(), len(data)))
            self.heard.append((now(), "end"))
        except OSError as error:
            self.heard.append((now(), type(error).__name__))

    async def start(self) -> None:
        with self.net.on("b"):
            await asyncio.start_server(self.serve, "b", 80)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with self.net.on("a"):
            return await asyncio.open_connection("b", 80)


def test_a_round_trip_takes_what_the_links_take(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.net.link("a", "b", SECOND, both=False)
        pair.net.link("b", "a", Link(latency="constant", latency_s=(3.0, 3.0)), both=False)
        _, writer = await pair.connect()
        assert now() == 4.0
        writer.write(b"x")
        await asyncio.sleep(10)
        assert pair.heard == [(5.0, "accept"), (5.0, 1)]

    simulate(main)


def test_bandwidth_is_shared_by_all_connections_of_a_link(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        writers = [(await pair.connect())[1] for _ in range(2)]
        pair.net.fault("a", "b", bytes_per_s=10_000)
        for writer in writers:
            writer.write(bytes(50_000))
        await asyncio.sleep(4.99)
        first = sum(what for _, what in pair.heard if isinstance(what, int))
        assert 49_000 < first < 50_000
        await asyncio.sleep(5.02)
        assert sum(what for _, what in pair.heard if isinstance(what, int)) == 100_000
        assert len(pair.heard) > 50, "it comes little by little"
        pair.net.heal()
        begun = now()
        writers[0].write(bytes(50_000))
        await asyncio.sleep(1)
        assert pair.heard[-1] == (begun, 50_000)

    simulate(main)


def test_a_slow_reader_is_slow_for_each_connection(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.net.fault("a", "b", both=False, read_bytes_per_s=1000)
        for _ in range(2):
            _, writer = await pair.connect()
            writer.write(bytes(5_000))
            writer.write_eof()
        await asyncio.sleep(100)
        ends = [at for at, what in pair.heard if what == "end"]
        assert ends == [5.0, 5.0]

    simulate(main)


def test_a_loss_is_a_delay_for_streams(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        _, writer = await pair.connect()
        pair.net.fault("a", "b", loss=0.5)
        for _ in range(50):
            writer.write(b"x")
            await asyncio.sleep(60)
        waits = {round(at % 60, 3) for at, what in pair.heard if what == 1}
        assert {0.0, 0.2, 0.6} <= waits
        for one, other in ("ab", "ba"):
            pair.net.heal()
            pair.net.fault(one, other, both=False, loss=1.0)
            begun = now()
            with pytest.raises(TimeoutError):
                await pair.connect()
            assert now() - begun == CONNECT_TIMEOUT_S

    simulate(main)


def test_a_connection_is_reset_after_so_many_bytes(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.net.fault("a", "b", both=False, reset_after=1500)
        sent: list[int] = []
        pair.net.trace = lambda *event: sent.append(event[-1]) if event[1] == "sent" else None
        reader, writer = await pair.connect()
        for _ in range(3):
            writer.write(bytes(1000))
        assert sent == [0, 1000, 500, 0, 0], "nothing is sent after the resets of both ways"
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await asyncio.sleep(1)
        assert [what for _, what in pair.heard] == ["accept", 1500, "ConnectionResetError"]

        pair.heard.clear()
        pair.net.link("a", "b", SECOND, both=False)
        reader, writer = await pair.connect()
        writer.write(bytes(2000))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await asyncio.sleep(2)
        assert [what for _, what in pair.heard] == ["accept", 1500, "ConnectionResetError"]

        pair.heard.clear()
        pair.net.heal("a")
        _, writer = await pair.connect()
        writer.write(bytes(2000))
        writer.close()
        await asyncio.sleep(2)
        assert [what for _, what in pair.heard] == ["accept", 2000, "end"]

    simulate(main)


def test_some_connections_are_reset(simulate: Simulate) -> None:
    async def main() -> tuple[int, list[int]]:
        pair = Pair()
        await pair.start()
        pair.net.fault("a", "b", reset=0.3)
        for _ in range(100):
            _, writer = await pair.connect()
            writer.write(bytes(1 << 21))
            writer.write_eof()
            await asyncio.sleep(1)
        resets = [what for _, what in pair.heard].count("ConnectionResetError")
        sizes = [what for _, what in pair.heard if isinstance(what, int)]
        return resets, sizes

    resets, sizes = simulate(main, seed=1)
    assert 20 < resets < 40
    assert simulate(main, seed=1) == (resets, sizes)
    assert simulate(main, seed=2) != (resets, sizes)


def test_attempts_to_connect_are_refused_or_get_no_answer(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.net.fault("*", "b", both=False, connect="refused")
        with pytest.raises(ConnectionRefusedError, match=r"10\.0\.0\.2:80"):
            await pair.connect()
        pair.net.fault("*", "b", both=False, connect="blackholed")
        begun = now()
        with pytest.raises(TimeoutError):
            await pair.connect()
        assert now() - begun == CONNECT_TIMEOUT_S
        dial = asyncio.create_task(pair.connect())
        await asyncio.sleep(5)
        pair.net.heal()
        begun = now()
        await dial
        assert now() - begun == 2.0, "the third packet goes out after 3 s, the fourth after 7 s"
        assert pair.net.link("a", "b") == AT_ONCE

    simulate(main)


def test_what_cannot_be_told_is_given_up(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        reader, writer = await pair.connect()
        await asyncio.sleep(1)
        pair.net.partition("a", "b")
        begun = now()
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await reader.read()
        assert now() - begun == pytest.approx(GIVE_UP_S)
        await asyncio.sleep(10_000)
        assert pair.heard == [(0.0, "accept")], "who sends nothing notices nothing"
        pair.net.heal()
        await asyncio.sleep(1)
        pair.accepted[0].write(b"anyone?")
        await asyncio.sleep(1)
        assert [what for _, what in pair.heard] == ["accept", "ConnectionResetError"]

    simulate(main)


def test_a_partition_one_way_keeps_answers_back(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        reader, writer = await pair.connect()
        pair.net.partition("b", "a", both=False)
        writer.write(b"x")
        await asyncio.sleep(1)
        assert pair.heard[-1] == (0.0, 1)
        begun = now() - 1
        with pytest.raises(TimeoutError):
            await reader.read()
        assert now() - begun == pytest.approx(GIVE_UP_S), "nobody acknowledged it"
        with pytest.raises(TimeoutError):
            await pair.connect()
        pair.net.heal("b", "a")
        await pair.connect()

    simulate(main)


def test_healing_in_time_saves_a_connection(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        reader, writer = await pair.connect()
        for _ in range(3):
            pair.net.partition("a", "*")
            writer.write(b"x")
            await asyncio.sleep(GIVE_UP_S - 1)
            pair.net.heal("a")
            await asyncio.sleep(2)
        assert [what for _, what in pair.heard] == ["accept", 1, 1, 1]
        pair.net.link("a", "b", SECOND)
        writer.write(b"x")
        pair.net.partition("a", "b")  # It is on its way.
        begun = now()
        with pytest.raises(TimeoutError):
            await reader.read()
        assert now() - begun == pytest.approx(GIVE_UP_S)

    simulate(main)


def test_a_half_open_connection_tells_nobody(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        idle, _ = await pair.connect()
        reader, writer = await pair.connect()
        await asyncio.sleep(1)
        assert pair.net.half_open("a", "b") == 2
        pair.net.heal()
        begun = now()
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await reader.read()
        assert now() - begun == pytest.approx(GIVE_UP_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(idle.read(), timeout=1e6)
        _connected = await pair.connect()
        await asyncio.sleep(1)
        assert [what for _, what in pair.heard] == ["accept"] * 3

    simulate(main)


@pytest.mark.parametrize(
    ("level", "options", "after_s"),
    [
        (socket.SOL_SOCKET, {socket.SO_KEEPALIVE: 1}, 7200 + 9 * 75),
        (socket.IPPROTO_TCP, {4: 60, 5: 10, 6: 3}, 60 + 3 * 10),
    ],
    ids=["defaults of Linux", "own"],
)
def test_keepalive_notices(
    simulate: Simulate, level: int, options: dict[int, int], after_s: int
) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        reader, writer = await pair.connect()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in options.items():
            sock.setsockopt(level, option, value)
            assert sock.getsockopt(level, option) == value
        pair.net.half_open()
        begun = now()
        with pytest.raises(TimeoutError):
            await reader.read()
        assert now() - begun == after_s

    simulate(main)


def test_a_program_may_be_less_patient(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        reader, writer = await pair.connect()
        tcp_user_timeout = 18
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, tcp_user_timeout, 30_000)
        pair.net.partition("a", "b")
        begun = now()
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await reader.read()
        assert now() - begun == 30

    simulate(main)


def test_what_an_abort_finds_on_its_way_is_lost_and_what_has_come_is_not(
    simulate: Simulate,
) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.net.link("a", "b", SECOND)
        _, writer = await pair.connect()
        await asyncio.sleep(5)
        pair.accepted[0].transport.pause_reading()
        writer.write(bytes(10))
        await asyncio.sleep(5)
        writer.write(bytes(100))
        writer.transport.abort()
        await asyncio.sleep(5)
        pair.accepted[0].transport.resume_reading()
        await asyncio.sleep(5)
        assert [what for _, what in pair.heard] == ["accept", 10, "ConnectionResetError"]

    simulate(main)


def test_closing_waits_until_what_was_written_is_taken(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.net.fault("a", "b", both=False, read_bytes_per_s=100_000)
        _, writer = await pair.connect()
        writer.write(bytes(1_000_000))
        writer.close()
        await writer.wait_closed()
        assert 9 <= now() < 10, "all but what a socket holds"
        await asyncio.sleep(1)
        assert sum(what for _, what in pair.heard if isinstance(what, int)) == 1_000_000
        assert pair.heard[-1][1] == "end"

    simulate(main)


def test_who_does_not_care_for_half_a_connection_closes_it(simulate: Simulate) -> None:
    lost: list[Exception | None] = []

    class Plain(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    async def main() -> None:
        pair = Pair()
        with pair.net.on("b"):
            await asyncio.get_running_loop().create_server(Plain, "b", 80)
        reader, writer = await pair.connect()
        writer.write_eof()
        assert await reader.read() == b""
        assert lost == [None]

    simulate(main)


def test_a_host_that_vanishes_says_nothing_and_resets_when_it_is_back(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        reader, writer = await pair.connect()
        await asyncio.sleep(1)
        back = pair.net.vanish("b")
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), timeout=100)
        begun = now()
        with pytest.raises(TimeoutError):
            await pair.connect()
        assert now() - begun == CONNECT_TIMEOUT_S
        back()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await pair.connect()
        await pair.start()
        _connected = await pair.connect()
        await asyncio.sleep(1)
        assert [what for _, what in pair.heard] == ["accept", "accept"]

    simulate(main)


def test_a_reset_is_noticed_by_who_writes_but_does_not_read(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        _, writer = await pair.connect()
        await asyncio.sleep(1)
        writer.transport.pause_reading()
        pair.accepted[0].transport.abort()
        await asyncio.sleep(1)
        assert not writer.transport.is_closing()
        writer.write(b"x")
        assert writer.transport.is_closing()

        _, writer = await pair.connect()
        await asyncio.sleep(1)
        writer.transport.pause_reading()
        pair.accepted[1].transport.pause_reading()
        writer.write(bytes(1 << 20))
        await asyncio.sleep(1)
        pair.accepted[1].transport.abort()
        with pytest.raises(ConnectionResetError):
            await writer.drain()

    simulate(main)


def test_a_listener_that_does_not_serve_yet_refuses(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        with pair.net.on("b"):
            server = await asyncio.start_server(pair.serve, "b", 80, start_serving=False)
        with pytest.raises(ConnectionRefusedError):
            await pair.connect()
        await server.start_serving()
        await pair.connect()
        server.close()
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            await pair.connect()

    simulate(main)


def test_a_listener_that_closes_as_a_connection_comes_resets_it(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        pair.net.link("a", "b", SECOND)
        with pair.net.on("b"):
            server = await asyncio.start_server(pair.serve, "b", 80)
        reader, _ = await pair.connect()
        server.close()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert not pair.heard
        assert not pair.net.connections

    simulate(main)


def test_a_fault_is_ended_without_others(simulate: Simulate) -> None:
    async def main() -> None:
        net = Pair().net
        first = net.fault("a", "b", loss=0.1, cut=0.1)
        second = net.fault("a", "b", loss=0.2, both=False)
        net.fault("b", "b", loss=0.3)
        assert [net.link("a", "b").loss, net.link("b", "a").loss] == [0.2, 0.1]
        first()
        assert [net.link("a", "b").loss, net.link("b", "a").loss] == [0.2, 0.0]
        assert net.link("a", "b").cut == 0
        first()
        second()
        assert net.link("a", "b") == AT_ONCE
        assert net.link("b", "b").loss == 0.3
        net.heal()
        assert net.link("b", "b") == AT_ONCE

    simulate(main)


def test_families_and_addresses(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        net = pair.net
        net.add_host("a", "10.0.0.1", "fd00::1", "10.0.0.3")
        net.add_host("b", "fd00::2", "10.0.0.2")
        net.add_host("six", "fd00::6")
        infos = await asyncio.get_running_loop().getaddrinfo("b", 80, type=socket.SOCK_STREAM)
        assert [info[4] for info in infos] == [("fd00::2", 80, 0, 0), ("10.0.0.2", 80)]
        with net.on("b"):
            await asyncio.start_server(pair.serve, "10.0.0.2", 80)
            await asyncio.start_server(pair.serve, "::", 81)
        with net.on("a"):
            _, writer = await asyncio.open_connection("b", 80)
            assert writer.get_extra_info("peername") == ("10.0.0.2", 80), "the other one refused"
            _, writer = await asyncio.open_connection("b", 81)
            assert writer.get_extra_info("peername") == ("fd00::2", 81, 0, 0)
            assert writer.get_extra_info("sockname")[0] == "fd00::1"
            assert writer.get_extra_info("socket").family == socket.AF_INET6
            _, writer = await asyncio.open_connection("FD00:0::2", 81, local_addr=("fd00::1", 999))
            assert writer.get_extra_info("sockname") == ("fd00::1", 999, 0, 0)
            _, writer = await asyncio.open_connection("b", 81, local_addr=("10.0.0.3", 0))
            assert writer.get_extra_info("sockname")[0] == "10.0.0.3"
            with pytest.raises(OSError, match=r"does not have the address 10\.0\.0\.2"):
                await asyncio.open_connection("b", 80, local_addr=("10.0.0.2", 0))
        with net.on("six"), pytest.raises(OSError, match="six has no IPv4 address"):
            await asyncio.open_connection("10.0.0.2", 80)
        await asyncio.start_server(pair.serve, "::1", 80)
        _, writer = await asyncio.open_connection("::1", 80)
        assert writer.get_extra_info("sockname")[0] == "::1"
        with net.on("b"):
            for host, port in (("::", 80), ("10.0.0.2", 81), ("0.0.0.0", 81)):
                with pytest.raises(OSError, match="in use"):
                    await asyncio.start_server(pair.serve, host, port)
            await asyncio.start_server(pair.serve, "fd00::2", 80)
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("six", 80, family=socket.AF_INET)

    simulate(main)


def test_happy_eyeballs_do_not_wait_for_a_black_hole(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        pair.net.add_host("b", "fd00::2", "10.0.0.2")
        pair.net.add_host("a", "fd00::1", "10.0.0.1")
        pair.net.add_host("hole", "fd00::3")
        pair.net.partition("a", "hole")
        with pair.net.on("b"):
            await asyncio.start_server(pair.serve, "b", 80)
        pair.net.add_host("both", "fd00::3", "fd00::4", "10.0.0.2")  # Two addresses are dead.
        pair.net.add_host("hole", "fd00::3", "fd00::4")
        pair.net.add_host("b", "fd00::2", "10.0.0.2")
        with pair.net.on("a"):
            await asyncio.open_connection("both", 80, happy_eyeballs_delay=0.25)
            assert now() == 0.25
            await asyncio.open_connection("both", 80)
            assert now() == 0.25 + 2 * CONNECT_TIMEOUT_S
            with pytest.raises(OSError, match=r"Multiple.* 110\].* 110\].* 111\]"):
                await asyncio.open_connection("both", 81)

    simulate(main)


def test_names_that_cannot_be_looked_up(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.net.lookup = socket.EAI_AGAIN
        with pytest.raises(socket.gaierror, match="Temporary failure"):
            await pair.connect()
        await asyncio.open_connection("10.0.0.2", 80)
        pair.net.heal()
        await pair.connect()

    simulate(main)


def test_unix_sockets(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        with pair.net.on("b"):
            server = await asyncio.start_unix_server(pair.serve, "/run/b.sock")
            assert server.sockets[0].getsockname() == "/run/b.sock"
            with pytest.raises(OSError, match="in use"):
                await asyncio.start_unix_server(pair.serve, "/run/b.sock")
            _, writer = await asyncio.open_unix_connection("/run/b.sock")
            writer.write(b"xyz")
        await asyncio.sleep(1)
        assert [what for _, what in pair.heard] == ["accept", 3]
        with pair.net.on("a"), pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection("/run/b.sock")

    simulate(main)


def test_a_socket_polls_as_it_would(simulate: Simulate) -> None:
    def readable(sock: Any) -> bool:
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def main() -> None:
        pair = Pair()
        await pair.start()
        _, writer = await pair.connect()
        await asyncio.sleep(1)
        sock = writer.get_extra_info("socket")
        writer.transport.pause_reading()
        assert not readable(sock)
        pair.net.link("a", "b", SECOND)
        pair.accepted[0].write(b"x")
        assert not readable(sock)
        await asyncio.sleep(1)
        assert readable(sock)
        writer.transport.resume_reading()
        await asyncio.sleep(1)
        assert not readable(sock)
        writer.transport.abort()
        assert sock.fileno() == -1
        descriptors.extend([pair.net.pollable(True), pair.net.pollable(False)])

    descriptors: list[int] = []
    simulate(main)
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_signals_are_sent_within_the_simulation(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        loop, seen = asyncio.get_running_loop(), list[str]()
        assert isinstance(loop, SimLoop)
        for host in "ab":
            with pair.net.on(host):
                loop.add_signal_handler(15, seen.append, host)
        assert loop.send_signal("b", 15)
        assert not loop.send_signal("b", 2)
        assert not loop.send_signal("localhost", 15)
        await asyncio.sleep(0)
        assert seen == ["b"]
        with pair.net.on("b"):
            assert loop.remove_signal_handler(15)
            assert not loop.remove_signal_handler(15)
        with pytest.raises(RuntimeError, match="cannot be caught"):
            loop.add_signal_handler(9, print)

    simulate(main)


def test_who_waits_for_a_silent_peer_is_a_deadlock_still(simulate: Simulate) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.start()
        reader, _ = await pair.connect()
        await reader.read()

    with pytest.raises(Deadlock):
        simulate(main)


def test_hosts_must_be_known(simulate: Simulate) -> None:
    async def main() -> None:
        net = Pair().net
        calls: list[Callable[[], Any]] = [
            lambda: net.fault("a", "nobody", loss=1),
            lambda: net.partition("nobody", "a"),
            lambda: net.link("a", "nobody", AT_ONCE),
            lambda: net.reset("nobody"),
            lambda: net.heal("nobody"),
            lambda: net.vanish("nobody"),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="there is no host nobody: add_host"):
                call()
        with pytest.raises(ValueError, match="needs a name and an address"):
            net.add_host("c")

    simulate(main)
