"""The engine of the userspace data path: accepts, chooses an endpoint, connects, has it carried.

Runs on whatever calls `turn`: a process of its own (`worker`), or an asyncio loop that watches its
epoll (`nested`). All else is called between turns. A connect that fails is tried on another
endpoint: the client notices nothing, because what it sends waits until somebody takes it.
"""

import errno
import socket
from _socket import socket as Socket
from collections.abc import Callable, Mapping, Sequence
from select import EPOLLERR, EPOLLHUP, EPOLLIN
from typing import Any, Final, Protocol, cast

from kubeloop.net.balancer import Endpoint, Rule
from kubeloop.net.userspace.carrier import ALL, Carrier
from kubeloop.net.userspace.datagrams import Datagrams
from kubeloop.net.userspace.gauges import ServicePort
from kubeloop.net.userspace.sides import Attempt, cut
from kubeloop.net.userspace.stashes import Stashes

CONNECT_TIMEOUT_S: Final = 5.0
TRIES_MAX: Final = 8  # Endpoints tried for one connection.
REST_S: Final = 0.1  # How long listeners rest when descriptors have run out.

_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_KIND: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK


class _Accepting(Protocol):
    """A socket that listens; `socket.socket.accept` would make objects that are twice as large."""

    def _accept(self) -> tuple[int, tuple[str, int]]: ...


class Engine:
    """Carries connections from listeners to the endpoints of their rules.

    now:  seconds, of any clock that never goes back;  draw: a random number in [0, 1).
    want: asks for sockets made in the pod with that address, for UDP or not; see `provide`.
    connections_max: how many there are at once; more wait in the listeners' backlogs.
    pod_network: the beginning of every pod's address, "10.244.": none is reached but from inside.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        draw: Callable[[], float],
        want: Callable[[str, bool], None],
        connections_max: int,
        pod_network: str = "",
    ) -> None:
        self.draw, self.connections_max = draw, connections_max
        self._pod_network = pod_network
        self.services: dict[int, ServicePort] = {}
        self.carrier = Carrier(now)
        self.stashes: Stashes[Attempt] = Stashes(lambda ip: want(ip, False))
        self.datagrams = Datagrams(
            self.carrier,
            find=self.services.get,
            reach=self._reaches,
            want=lambda ip: want(ip, True),
            flows_max=connections_max,
        )
        self._listeners: dict[int, Socket] = {}
        self._resting: dict[int, None] = {}
        self._rested_at_s = 0.0
        self._attempts: dict[Attempt, None] = {}  # In the order of their deadlines.

    # What is to be done.

    def apply(self, changes: Mapping[int, Rule | None]) -> None:
        """Have these rules, by number; None where there is none any more."""
        for number, rule in changes.items():
            service = self.services.get(number)
            if rule is None:
                self.services.pop(number, None)
            elif service is None:
                self.services[number] = ServicePort(rule, draw=self.draw)
            else:
                service.update(rule)
            if self.datagrams.listeners:
                self.datagrams.follow(number)
        self.carrier.bury()

    def listen(self, listener: int, number: int, sock: socket.socket) -> None:
        """Take what comes to a socket that listens, for rule `number`; the socket is ours."""
        sock.setblocking(False)
        if sock.type == socket.SOCK_DGRAM:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            self.datagrams.listen(listener, number, Socket(sock.family, kind, 0, sock.detach()))
            return
        # What is accepted inherits both.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        family = sock.family
        ours = Socket(family, _KIND, 0, sock.detach())
        self._listeners[listener] = ours
        accepting = cast(_Accepting, ours)
        self.carrier.watch(
            ours.fileno(), lambda _: self._accept(listener, number, family, accepting), EPOLLIN
        )

    def unlisten(self, listener: int) -> None:
        """Take no more connections of a listener; those there are go on."""
        if listener in self.datagrams.listeners:
            self.datagrams.unlisten(listener)
        else:
            self._resting.pop(listener, None)
            self.carrier.doom(self._listeners.pop(listener))
        self.carrier.bury()

    def pods(self, ips: set[str]) -> None:
        """Reach these addresses through sockets made in pods, all others directly."""
        for attempt in self.stashes.pods(ips):
            self._failed(attempt)
        self.datagrams.pods(ips)
        self.carrier.bury()

    def provide(self, ip: str, sockets: Sequence[Socket], *, udp: bool = False) -> None:
        """Take sockets of a pod that were wanted; none: it gives none."""
        if udp:
            self.datagrams.provide(ip, sockets)
            return
        for attempt in self.stashes.provide(ip, list(sockets)):
            if attempt not in self._attempts or attempt.chosen is None:
                continue
            if not (sockets and self._reach(attempt, attempt.chosen)):
                self._failed(attempt)

    def counts(self) -> dict[int, list[Any]]:
        """Return what was counted of each rule, by number; see `ServicePort.counts`."""
        return {number: service.counts() for number, service in self.services.items()}

    def close(self) -> None:
        """Stop listening, and reset every connection."""
        for listener in (*self._listeners, *self.datagrams.listeners):
            self.unlisten(listener)
        for attempt in tuple(self._attempts):
            self._refuse(attempt)
        self.pods(set())
        self.carrier.close()

    # Time.

    def wait_s(self) -> float:
        """Return how long a turn may wait for events [s]; -1: for ever."""
        if self.carrier.hurried:
            return 0.0
        now_s = self.carrier.now()
        until = [self._rested_at_s] if self._resting else []
        sweep_s = self.datagrams.wait_s(now_s)
        if sweep_s >= 0:
            until.append(now_s + sweep_s)
        for attempt in self._attempts:
            until.append(attempt.deadline_s)
            break
        return max(0.0, min(until) - now_s) if until else -1.0

    def turn(self, wait_s: float) -> None:
        """Do what there is to do; wait up to `wait_s` for something, -1: for ever."""
        self.carrier.turn(wait_s)
        if self._attempts or self._resting:
            self._expire(self.carrier.now_s)
        if self.datagrams.flows:
            self.datagrams.sweep(self.carrier.now_s)

    def _expire(self, now_s: float) -> None:
        late = []
        for attempt in self._attempts:
            if attempt.deadline_s > now_s:
                break
            late.append(attempt)
        for attempt in late:
            self._failed(attempt)
        if self._resting and now_s >= self._rested_at_s:
            resting, self._resting = self._resting, {}
            for listener in resting:
                self.carrier.epoll.modify(self._listeners[listener].fileno(), EPOLLIN)

    # Clients.

    def _accept(self, listener: int, number: int, family: int, sock: _Accepting) -> None:
        if self.carrier.connections + len(self._attempts) >= self.connections_max:
            self._rest(listener)
            return
        try:
            fd, address = sock._accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                self._rest(listener)
            return
        client = Socket(family, _KIND, 0, fd)
        client.setblocking(False)
        service = self.services.get(number)
        if service is None:
            cut(client)
            return
        try:  # Most clients speak first, and have.
            first = bytes(self.carrier.view[: client.recv_into(self.carrier.buffer)])
        except BlockingIOError:
            first = None
        except OSError:
            client.close()
            return
        attempt = Attempt(service, client, address[0], first, self.carrier.now_s)
        self._attempts[attempt] = None
        self._choose(attempt)

    def _rest(self, listener: int) -> None:
        """Leave clients in the backlog for a while."""
        self._resting[listener] = None
        self._rested_at_s = self.carrier.now_s + REST_S
        self.carrier.epoll.modify(self._listeners[listener].fileno(), 0)

    # Endpoints.

    def _choose(self, attempt: Attempt) -> None:
        """Try endpoints that were not tried yet, until one does not fail at once."""
        now_s = self.carrier.now_s
        while len(attempt.tried) < TRIES_MAX:
            chosen = attempt.service.choose(attempt.address, now_s, attempt.tried)
            if chosen is None:
                break
            attempt.chosen, attempt.deadline_s = chosen, now_s + CONNECT_TIMEOUT_S
            if attempt.tried:  # Deadlines come in order.
                del self._attempts[attempt]
                self._attempts[attempt] = None
            if self._reach(attempt, chosen):
                return
            self._give_up(attempt)
        self._refuse(attempt)

    def _reach(self, attempt: Attempt, endpoint: Endpoint) -> bool:
        """Connect to an endpoint, once there is a socket of its pod; False: it failed at once."""
        ip, _ = endpoint
        try:
            if ip in self.stashes:
                sock = self.stashes.take(ip)
                if sock is None:
                    self.stashes.wait(ip, attempt)
                    return True
            elif not self._reaches(ip):
                return False
            else:
                sock = Socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, _KIND)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            attempt.sock = sock
            if attempt.first:  # The handshake's last segment may wait for what is sent next.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            if sock.connect_ex(endpoint) not in (0, errno.EINPROGRESS):
                return False
            self.carrier.watch(sock.fileno(), lambda event: self._connected(attempt, event), ALL)
        except OSError:
            return False
        return True

    def _reaches(self, ip: str) -> bool:
        """Tell whether an address leads anywhere from here; that of a gone pod does not."""
        return not (self._pod_network and ip.startswith(self._pod_network))

    def _connected(self, attempt: Attempt, event: int) -> None:
        sock = attempt.sock
        assert sock is not None
        assert attempt.chosen is not None
        if event & (EPOLLERR | EPOLLHUP):
            self._failed(attempt)
            return
        del self._attempts[attempt]
        service = attempt.service
        service.opened(attempt.client, attempt.chosen, self.carrier.now_s - attempt.started_s)
        self.carrier.join(attempt.client, sock, service, attempt.first, event)

    def _failed(self, attempt: Attempt) -> None:
        """The chosen endpoint did not take the connection: try another."""
        self._give_up(attempt)
        self._choose(attempt)

    def _give_up(self, attempt: Attempt) -> None:
        attempt.service.failures += 1
        if attempt.sock is not None:
            self.carrier.doom(attempt.sock)
            attempt.sock = None
        if attempt.chosen is not None:
            attempt.tried.append(attempt.chosen)

    def _refuse(self, attempt: Attempt) -> None:
        """Reset the client's connection: nobody is there to answer."""
        del self._attempts[attempt]
        attempt.service.refused += 1
        if attempt.sock is not None:
            self.carrier.doom(attempt.sock)
        cut(attempt.client)
