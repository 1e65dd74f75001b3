"""UDP: a client's datagrams go to one endpoint, and the answers back, until both are silent.

Each client of a listener has a socket of its own towards its endpoint. When that endpoint leaves
the Service the client's next datagram goes to another, as with kube-proxy, which forgets such
connections, too. How long silence lasts is Linux' own idea of it (nf_conntrack_udp_timeout).
"""

import socket
from _socket import socket as Socket
from collections.abc import Callable, Sequence
from select import EPOLLIN
from typing import Final

from kubeloop.net.balancer import Endpoint
from kubeloop.net.userspace.carrier import Carrier
from kubeloop.net.userspace.gauges import ServicePort
from kubeloop.net.userspace.stashes import Stashes

UNANSWERED_S: Final = 30.0  # Of silence, before a client that had no answer is forgotten.
ANSWERED_S: Final = 120.0
SWEEP_S: Final = 5.0  # How often it is looked who is silent.
AT_ONCE: Final = 64  # Datagrams taken before others have their turn.
WAITING_MAX: Final = 16  # Datagrams of a client kept until its pod has lent a socket.

Address = tuple[str, int]


class Flow:
    """A client of a listener, and its endpoint."""

    __slots__ = (
        "answered", "client", "endpoint", "heard_s", "listener", "sock", "waiting",
    )  # fmt: skip

    def __init__(self, listener: "Listener", client: Address, endpoint: Endpoint) -> None:
        self.listener, self.client, self.endpoint = listener, client, endpoint
        self.sock: Socket | None = None  # None while one of the pod's is waited for.
        self.waiting: list[bytes] = []
        self.answered, self.heard_s = False, 0.0


class Listener:
    """A socket that hears clients, and those it has heard."""

    def __init__(self, sock: Socket, number: int) -> None:
        self.sock, self.number = sock, number
        self.flows: dict[Address, Flow] = {}


class Datagrams:
    """Carries datagrams; all is called between turns, or by the carrier's.

    find: number of a rule → who chooses its endpoints, None if there is none any more.
    reach: whether an address can be reached without a pod's help.
    flows_max: how many clients are known at once; the one known longest makes room.
    """

    def __init__(
        self,
        carrier: Carrier,
        *,
        find: Callable[[int], ServicePort | None],
        reach: Callable[[str], bool],
        want: Callable[[str], None],
        flows_max: int,
    ) -> None:
        self.carrier, self._find, self._reach = carrier, find, reach
        self.stashes: Stashes[Flow] = Stashes(want)
        self.flows_max = flows_max
        self.listeners: dict[int, Listener] = {}
        self.flows: dict[Flow, None] = {}
        self._sweep_s = 0.0

    def listen(self, key: int, number: int, sock: Socket) -> None:
        """Carry what a socket hears, for rule `number`."""
        listener = self.listeners[key] = Listener(sock, number)
        self.carrier.watch(sock.fileno(), lambda _: self._heard(listener), EPOLLIN)

    def unlisten(self, key: int) -> None:
        """Hear no more, and forget the clients: no answer could reach them from that address."""
        listener = self.listeners.pop(key)
        for flow in tuple(listener.flows.values()):
            self._forget(flow)
        self.carrier.doom(listener.sock)

    def follow(self, number: int) -> None:
        """A rule has changed: clients of endpoints that left it find another."""
        service = self._find(number)
        endpoints = () if service is None else service.rule.endpoints
        for listener in self.listeners.values():
            if listener.number == number:
                for flow in tuple(listener.flows.values()):
                    if flow.endpoint not in endpoints:
                        self._forget(flow)

    def pods(self, ips: set[str]) -> None:
        """Reach these addresses through sockets made in pods."""
        for flow in self.stashes.pods(ips):
            self._forget(flow)

    def provide(self, ip: str, sockets: Sequence[Socket]) -> None:
        """Take sockets of a pod; none: it gives none."""
        for flow in self.stashes.provide(ip, list(sockets)):
            if flow not in self.flows:
                continue
            sock = self.stashes.take(ip) if sockets else None
            if sock is not None:
                self._begin(flow, sock)
            elif sockets:
                self.stashes.wait(ip, flow)
            else:
                self._forget(flow)

    def wait_s(self, now_s: float) -> float:
        """Return when the silent are to be looked for [s from now]; -1: nobody is known."""
        return max(0.0, self._sweep_s - now_s) if self.flows else -1.0

    def sweep(self, now_s: float) -> None:
        """Forget who has been silent for too long."""
        if now_s < self._sweep_s:
            return
        self._sweep_s = now_s + SWEEP_S
        for flow in tuple(self.flows):
            if now_s - flow.heard_s >= (ANSWERED_S if flow.answered else UNANSWERED_S):
                self._forget(flow)

    # What arrives.

    def _heard(self, listener: Listener) -> None:
        """Send on what clients said. One that cannot be sent is lost, as datagrams may be."""
        buffer, view = self.carrier.buffer, self.carrier.view
        for _ in range(AT_ONCE):
            try:
                size, client = listener.sock.recvfrom_into(buffer)
            except OSError:  # That was all, or an answer could not be delivered.
                return
            flow = listener.flows.get(client) or self._make(listener, client)
            if flow is None:
                continue
            flow.heard_s = self.carrier.now_s
            if flow.sock is not None:
                self._send(flow, view[:size])
            elif len(flow.waiting) < WAITING_MAX:
                flow.waiting.append(bytes(view[:size]))

    def _answered(self, flow: Flow) -> None:
        """Send the client what its endpoint said."""
        sock = flow.sock
        assert sock is not None
        for _ in range(AT_ONCE):
            try:
                size = sock.recv_into(self.carrier.buffer)
            except BlockingIOError:
                return
            except OSError:  # Nobody listens there: the client's next may go elsewhere.
                self._forget(flow)
                return
            flow.answered, flow.heard_s = True, self.carrier.now_s
            try:
                flow.listener.sock.sendto(self.carrier.view[:size], flow.client)
            except OSError:
                return

    # Flows.

    def _make(self, listener: Listener, client: Address) -> Flow | None:
        service = self._find(listener.number)
        endpoint = None if service is None else service.choose(client[0], self.carrier.now_s)
        if service is None or endpoint is None:
            return None
        flow = Flow(listener, client, endpoint)
        ip, _ = endpoint
        if len(self.flows) >= self.flows_max:
            self._forget(next(iter(self.flows)))
        listener.flows[client] = flow
        self.flows[flow] = None
        if ip in self.stashes:
            sock = self.stashes.take(ip)
            if sock is None:
                self.stashes.wait(ip, flow)
            else:
                self._begin(flow, sock)
        elif not self._reach(ip):
            self._forget(flow)
            return None
        else:
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            try:
                self._begin(flow, Socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            except OSError:  # No descriptors.
                self._forget(flow)
                return None
        if flow in self.flows:
            service.connections += 1
            return flow
        return None

    def _begin(self, flow: Flow, sock: Socket) -> None:
        """A client has its socket: what it said meanwhile goes out."""
        flow.sock = sock
        try:
            sock.connect(flow.endpoint)
            self.carrier.watch(sock.fileno(), lambda _: self._answered(flow), EPOLLIN)
        except OSError:
            self._forget(flow)
            return
        waiting, flow.waiting = flow.waiting, []
        for data in waiting:
            self._send(flow, data)

    def _send(self, flow: Flow, data: memoryview | bytes) -> None:
        assert flow.sock is not None
        try:
            flow.sock.send(data)
        except BlockingIOError:
            return
        except OSError:  # What an earlier one met with: nobody listens there.
            self._forget(flow)

    def _forget(self, flow: Flow) -> None:
        if flow not in self.flows:
            return
        del self.flows[flow]
        del flow.listener.flows[flow.client]
        if flow.sock is not None:
            self.carrier.doom(flow.sock)
            flow.sock = None
