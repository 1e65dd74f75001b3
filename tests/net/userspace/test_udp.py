"""UDP through the engine, turn by turn: who hears whom, and who is forgotten when."""

import socket
from _socket import socket as Socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from engine_bench import Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop.net.balancer import Endpoint
from kubeloop.net.userspace.datagrams import ANSWERED_S, SWEEP_S, UNANSWERED_S, WAITING_MAX

TURNS = 8


def peer() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    return sock


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(peer(), turns=TURNS)
    yield bench
    bench.engine.close()


def test_answers_come_from_where_the_question_went(bench: Bench) -> None:
    with peer() as server, peer() as one, peer() as other:
        bench.rule(server.getsockname())
        for client in (one, other):
            client.sendto(b"q", bench.address)
        bench.turns()
        asked = [server.recvfrom(100) for _ in range(2)]
        assert [data for data, _ in asked] == [b"q", b"q"]
        assert len({address for _, address in asked}) == 2, "each client has a socket of its own"
        for number, (_, address) in enumerate(asked):
            server.sendto(b"a%d" % number, address)
        bench.turns()
        for number, client in enumerate((one, other)):
            assert client.recvfrom(100) == (b"a%d" % number, bench.address)
        assert bench.engine.counts()[1][0] == 2


def test_a_client_stays_with_its_endpoint_until_that_leaves(bench: Bench) -> None:
    with peer() as one, peer() as other, peer() as client:
        bench.rule(one.getsockname())
        client.sendto(b"1", bench.address)
        bench.turns()
        bench.rule(one.getsockname(), other.getsockname())
        for _ in range(10):
            client.sendto(b"2", bench.address)
        bench.turns()
        assert [one.recv(100) for _ in range(11)] == [b"1"] + [b"2"] * 10
        bench.rule(other.getsockname())
        assert bench.known == 0
        client.sendto(b"3", bench.address)
        bench.turns()
        assert other.recv(100) == b"3"


def test_the_silent_are_forgotten(bench: Bench) -> None:
    with peer() as server, peer() as quiet, peer() as heard:
        bench.rule(server.getsockname())
        for client in (heard, quiet):
            client.sendto(b"q", bench.address)
            bench.turns()
        _, address = server.recvfrom(100)
        server.sendto(b"a", address)
        bench.turns()
        assert bench.known == 2
        bench.now_s += UNANSWERED_S + SWEEP_S
        bench.turns()
        assert bench.known == 1
        bench.now_s += ANSWERED_S + SWEEP_S
        bench.turns()
        assert bench.known == 0
        assert bench.engine.wait_s() == -1
        heard.sendto(b"again", bench.address)
        bench.turns()
        server.recv(100)
        assert server.recv(100) == b"again"


def test_where_nobody_listens_another_is_tried_next(bench: Bench) -> None:
    with peer() as gone:
        dead: Endpoint = gone.getsockname()
    with peer() as server, peer() as client:
        bench.rule(dead)
        client.sendto(b"lost", bench.address)
        bench.turns()
        bench.turns()
        assert bench.known == 0, "the kernel has said that nobody is there"
        bench.rule(server.getsockname())
        client.sendto(b"found", bench.address)
        bench.turns()
        assert server.recv(100) == b"found"


def test_without_endpoints_datagrams_are_lost_and_nobody_is_known(bench: Bench) -> None:
    with peer() as client:
        bench.rule()
        client.sendto(b"q", bench.address)
        bench.turns()
        bench.engine.apply({1: None})
        client.sendto(b"q", bench.address)
        bench.turns()
    assert bench.known == 0


def test_what_is_said_before_a_pod_lends_a_socket_is_kept(bench: Bench) -> None:
    with peer() as server, peer() as client:
        bench.engine.pods({"127.0.0.1"})
        bench.rule(server.getsockname())
        for number in range(WAITING_MAX + 3):
            client.sendto(b"%d" % number, bench.address)
        bench.turns()
        assert bench.wanted == [("127.0.0.1", True)]
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        bench.engine.provide("127.0.0.1", [Socket(socket.AF_INET, kind)], udp=True)
        assert [server.recv(100) for _ in range(WAITING_MAX)] == [
            b"%d" % number for number in range(WAITING_MAX)
        ]
        client.sendto(b"on", bench.address)
        bench.turns()
        assert server.recv(100) == b"on"


def test_a_pod_that_lends_nothing_is_given_up(bench: Bench) -> None:
    with peer() as server, peer() as client:
        bench.engine.pods({"127.0.0.1"})
        bench.rule(server.getsockname())
        client.sendto(b"q", bench.address)
        bench.turns()
        bench.engine.provide("127.0.0.1", [], udp=True)
        assert bench.known == 0


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1_400)), max_size=40)
)
def test_no_more_clients_are_known_than_allowed(most: int, said: list[tuple[int, int]]) -> None:
    """Whoever speaks is heard, with what was said, and nothing else is."""
    bench = Bench(peer(), turns=TURNS, connections_max=most)
    with ExitStack() as stack:
        server = stack.enter_context(peer())
        clients = [stack.enter_context(peer()) for _ in range(8)]
        bench.rule(server.getsockname())
        for who, size in said:
            clients[who].sendto(bytes([who]) * size, bench.address)
            bench.turns()
            assert bench.known <= most
            data, address = server.recvfrom(2_000)
            assert data == bytes([who]) * size
            server.sendto(data, address)
            bench.turns()
            assert clients[who].recv(2_000) == data
    bench.engine.close()
