"""The engine by itself, turn by turn: who is tried, who waits, and for how long."""

import contextlib
import errno
import socket
from _socket import socket as Socket
from collections.abc import Iterator
from typing import Any

import pytest
from engine_bench import Bench

from kubeloop.net.balancer import Endpoint
from kubeloop.net.userspace.engine import CONNECT_TIMEOUT_S, REST_S
from kubeloop.net.userspace.stashes import BATCH, LOW

TURNS = 50  # More than anything here takes, if it happens at all.


def on_bench(**options: Any) -> Bench:
    return Bench(socket.create_server(("127.0.0.1", 0)), turns=TURNS, **options)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = on_bench()
    yield bench
    bench.engine.close()


@contextlib.contextmanager
def server(**options: int) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), **options) as sock:
        sock.settimeout(5)
        yield sock


@contextlib.contextmanager
def silent() -> Iterator[Endpoint]:
    """Yield an endpoint that never answers: its backlog is full."""
    with server(backlog=0) as sock, contextlib.ExitStack() as stack:
        for _ in range(2):
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(sock.getsockname())
        yield sock.getsockname()


def test_one_that_does_not_answer_has_its_time_and_no_more(bench: Bench) -> None:
    with silent() as deaf, socket.create_connection(bench.address) as client:
        bench.rule(deaf)
        bench.turns()
        assert bench.engine.wait_s() == pytest.approx(CONNECT_TIMEOUT_S)
        with server() as alive:
            bench.rule(deaf, alive.getsockname())  # The one is tried; another has come since.
            bench.now_s += CONNECT_TIMEOUT_S - 0.01
            bench.turns()
            assert bench.counts == (0, 0, 0, 0)
            bench.now_s += 0.02
            bench.turns()
            assert bench.counts == (1, 1, 0, 1)
            client.sendall(b"to the one that lives")
            bench.turns()
            ours, _ = alive.accept()
            with ours:
                assert ours.recv(100) == b"to the one that lives"


def test_what_was_said_before_there_was_an_endpoint_is_not_lost(bench: Bench) -> None:
    with silent() as deaf, server() as alive:
        bench.rule(deaf)
        with socket.create_connection(bench.address) as client:
            client.sendall(b"first")
            bench.turns()
            client.sendall(b" second")
            client.shutdown(socket.SHUT_WR)
            bench.rule(alive.getsockname())
            bench.now_s += CONNECT_TIMEOUT_S
            bench.turns()
            ours, _ = alive.accept()
            with ours:
                bench.turns()
                assert ours.recv(100, socket.MSG_WAITALL) == b"first second"
                ours.sendall(b"answer")
                ours.close()
                bench.turns()
                assert client.recv(100, socket.MSG_WAITALL) == b"answer"
        bench.turns()
    assert bench.counts == (1, 0, 0, 1)


def test_when_all_have_failed_the_client_is_told(bench: Bench) -> None:
    with server() as gone:
        dead: Endpoint = gone.getsockname()
    bench.rule(dead)
    with socket.create_connection(bench.address) as client:
        bench.turns()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert bench.counts == (0, 0, 1, 1)


def test_there_are_no_more_connections_than_allowed() -> None:
    bench = on_bench(connections_max=2)
    with server() as backend, contextlib.ExitStack() as stack:
        bench.rule(backend.getsockname())
        clients = [stack.enter_context(socket.create_connection(bench.address)) for _ in range(4)]
        bench.turns()
        assert bench.counts[:2] == (2, 2)
        assert bench.engine.wait_s() == pytest.approx(REST_S)
        bench.now_s += REST_S  # Still no room.
        bench.turns()
        assert bench.counts[:2] == (2, 2)
        for client in clients[:2]:
            client.close()
        for _ in range(2):
            backend.accept()[0].close()
        bench.turns()
        bench.now_s += REST_S
        bench.turns()
        assert bench.counts[:2] == (4, 2), "those that waited have their turn"
    bench.engine.close()


def test_when_descriptors_run_out_clients_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Out:
        """Accepts nobody, for want of descriptors."""

        def __init__(self) -> None:
            self.asked = 0

        def _accept(self) -> tuple[int, tuple[str, int]]:
            self.asked += 1
            raise OSError(errno.EMFILE, "Too many open files")

    out = Out()
    with server() as backend, socket.create_connection(bench.address):
        bench.rule(backend.getsockname())
        accept = bench.engine._accept
        monkeypatch.setattr(
            bench.engine, "_accept", lambda listener, number, family, _: accept(
                listener, number, family, out
            ),
        )  # fmt: skip
        bench.turns()
        assert out.asked == 1, "it does not spin"
        monkeypatch.undo()
        bench.now_s += REST_S
        bench.turns()
        assert bench.counts[:2] == (1, 1)


def test_a_pods_sockets_are_asked_for_in_time(bench: Bench) -> None:
    def lent(count: int) -> list[Socket]:
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        return [Socket(socket.AF_INET, kind) for _ in range(count)]

    with server() as backend, contextlib.ExitStack() as stack:
        bench.rule(backend.getsockname())
        bench.engine.pods({"127.0.0.1"})
        for _ in range(3):
            stack.enter_context(socket.create_connection(bench.address))
        bench.turns()
        assert bench.wanted == [("127.0.0.1", False)], "asked once, however many wait"
        assert bench.counts[0] == 0
        bench.engine.provide("127.0.0.1", lent(BATCH))
        bench.turns()
        assert bench.counts[0] == 3
        for _ in range(BATCH - 3 - LOW):
            stack.enter_context(socket.create_connection(bench.address))
        bench.turns()
        assert bench.wanted == [("127.0.0.1", False)]
        stack.enter_context(socket.create_connection(bench.address))
        bench.turns()
        assert bench.wanted == [("127.0.0.1", False)] * 2, "before the last is taken"


def test_a_pod_that_lends_nothing_is_passed_over(bench: Bench) -> None:
    with server() as backend, socket.create_connection(bench.address):
        _, port = backend.getsockname()
        bench.rule(("127.0.0.2", port))
        bench.engine.pods({"127.0.0.2"})
        bench.turns()
        assert bench.wanted == [("127.0.0.2", False)]
        bench.rule(("127.0.0.2", port), ("127.0.0.1", port))
        bench.engine.provide("127.0.0.2", [])
        bench.turns()
        assert bench.counts == (1, 1, 0, 1)


def test_who_waits_for_a_pod_that_goes_is_not_forgotten(bench: Bench) -> None:
    with server() as backend, socket.create_connection(bench.address):
        _, port = backend.getsockname()
        bench.rule(("127.0.0.2", port))
        bench.engine.pods({"127.0.0.2"})
        bench.turns()
        bench.rule(("127.0.0.1", port))
        bench.engine.pods(set())
        bench.turns()
        assert bench.counts == (1, 1, 0, 1)


def test_no_address_of_a_pod_is_dialled_from_outside() -> None:
    bench = on_bench(pod_network="127.0.0.")
    with server() as backend, socket.create_connection(bench.address) as client:
        bench.rule(backend.getsockname())
        bench.turns()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert bench.counts == (0, 0, 1, 1)
    bench.engine.close()


def test_bytes_are_counted_when_a_connection_ends(bench: Bench) -> None:
    with server() as backend:
        bench.rule(backend.getsockname())
        with socket.create_connection(bench.address) as client:
            client.sendall(bytes(1_000))
            bench.turns()
            ours, _ = backend.accept()
            ours.sendall(bytes(300))
            ours.close()
            bench.turns()
            assert len(client.recv(1_000, socket.MSG_WAITALL)) == 300
        bench.turns()
    received, sent, waited_s, waits = bench.engine.counts()[1][4:]
    assert (received, sent) == (1_000, 300)
    assert waited_s == 0
    assert waits[0] == sum(waits) == 1
