"""A process that does nothing but carry connections: the engine, led over a line by kube-proxy.

So no work of the control plane ever stands between a client and its endpoint. It ends when the
line does. It is an edge of the program: its clock and its chance are the machine's own.
"""

import errno
import gc
import random
import resource
import socket
import sys
import time
from _socket import socket as Socket
from dataclasses import dataclass
from select import EPOLLIN, EPOLLOUT
from typing import Any, Final

from kubeloop.net.balancer import Endpoint, Place
from kubeloop.net.userspace.engine import Engine
from kubeloop.net.userspace.line import Line, Message

_OTHER_FILES: Final = 512  # Descriptors for listeners, pipes and sockets of pods.


@dataclass(frozen=True, slots=True)
class WireRule:
    """A rule as it came over the line."""

    service: str
    place: Place
    endpoints: tuple[Endpoint, ...]
    affinity_s: int
    balancing: str


class Worker:
    """Leads the engine as the line says."""

    def __init__(self, line: Line, *, connections_max: int, pod_network: str) -> None:
        self.line = line
        self.engine = Engine(
            now=time.monotonic,
            draw=random.random,
            want=lambda ip, udp: self.say("want", ip, udp),
            connections_max=connections_max,
            pod_network=pod_network,
        )
        self._orders: list[Message] = []
        self._over = False
        self._interest = EPOLLIN
        self.engine.carrier.watch(line.sock.fileno(), self._heard, EPOLLIN)

    def serve(self) -> None:
        """Work until the line ends; then reset every connection."""
        while not self._over:
            self.engine.turn(self.engine.wait_s())
            if self._orders:
                orders, self._orders = self._orders, []
                for about, content, files in orders:
                    self.obey(about, content, files)
            self._follow()
        self.engine.close()

    def obey(self, about: str, content: list[Any], files: list[int]) -> None:
        """Do what one message says."""
        engine = self.engine
        match about:
            case "apply":
                engine.apply({n: None if rule is None else _rule(rule) for n, rule in content[0]})
            case "listen":
                engine.listen(content[0], content[1], socket.socket(fileno=files[0]))
            case "unlisten":
                engine.unlisten(content[0])
            case "pods":
                engine.pods(set(content[0]))
            case "provide":
                ip, udp = content
                base = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
                kind = base | socket.SOCK_NONBLOCK
                lent = [Socket(socket.AF_INET, kind, 0, fd) for fd in files]
                engine.provide(ip, lent, udp=udp)
            case "count":
                self.say("counted", content[0], engine.counts())
            case _:
                raise ValueError(f"kube-proxy said {about!r}: it is of another version")

    def say(self, about: str, *content: Any) -> None:
        """Tell kube-proxy something."""
        try:
            self.line.send(about, content)
        except OSError:
            self._over = True

    def _heard(self, event: int) -> None:
        """Take orders; they are obeyed when the turn is over."""
        if event & EPOLLOUT:
            try:
                self.line.flush()
            except OSError:
                self._over = True
        messages = self.line.receive()
        if messages is None:
            self._over = True
        else:
            self._orders += messages

    def _follow(self) -> None:
        """Hear of room on the line only while something waits for it."""
        interest = EPOLLIN | EPOLLOUT if self.line.waiting else EPOLLIN
        if interest != self._interest:
            self._interest = interest
            self.engine.carrier.epoll.modify(self.line.sock.fileno(), interest)


def _rule(wire: list[Any]) -> WireRule:
    service, (ip, port, protocol), endpoints, affinity_s, balancing = wire
    found = tuple((ip, port) for ip, port in endpoints)
    return WireRule(service, (ip, port, protocol), found, affinity_s, balancing)


def raise_limit() -> int:
    """Take as many descriptors as we may have; return how many connections that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, (hard - _OTHER_FILES) // 2)


def main() -> None:
    """Serve the line whose descriptor is the first argument; the second: the pods' network."""
    fd, pod_network = int(sys.argv[1]), sys.argv[2]
    # malloc keeps what it was once asked for: without this, large reads map memory every time.
    warm = bytearray(1 << 20)
    del warm
    try:
        line = Line(socket.socket(fileno=fd))
    except OSError as error:
        if error.errno == errno.EBADF:
            sys.exit(f"descriptor {fd} is no line: this program is started by kubeloop")
        raise
    worker = Worker(line, connections_max=raise_limit(), pod_network=pod_network)
    gc.collect()
    gc.disable()  # Nothing here refers to itself: tests hold that.
    worker.serve()
