"""What there is to a connection: two sides, joined; and to one that is being made.

         recv_into                send
    client ──────► Side ⇄ peer Side ──────► endpoint

A side holds what must still be written to it. While it does, its peer is not read: that is all the
back-pressure there is, and the kernels at both ends do the rest.
"""

import socket
import struct
from _socket import socket as Socket
from typing import Final

from kubeloop.net.balancer import Endpoint
from kubeloop.net.userspace.gauges import ServicePort
from kubeloop.net.userspace.pipes import Pipe

RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time: close sends a reset.


class Side:
    """One end of a connection that is carried.

    peer:    the other end; None once the connection is over.
    full:    whether something waits until it takes more: `rest`, or what is in its peer's pipe.
    ended:   its end of file was read; its peer has been told, or will be.
    pipe:    what it is read through while it is a long stream.
    service: counts what is carried; the client's side has it.
    """

    __slots__ = ("ended", "fd", "full", "peer", "pipe", "rest", "service", "sock")

    def __init__(self, sock: Socket, service: ServicePort | None) -> None:
        self.sock, self.fd, self.service = sock, sock.fileno(), service
        self.peer: Side | None = None
        self.rest: bytes | None = None
        self.pipe: Pipe | None = None
        self.ended = self.full = False


class Attempt:
    """A client that was accepted, while an endpoint is looked for.

    tried:  endpoints that failed it;  chosen: the one that has its chance until `deadline_s`.
    sock:   the connection to it; None while a socket of the pod's is waited for.
    first:  what the client has said already; None: nothing;  b"": that it says no more.
    """

    __slots__ = (
        "address", "chosen", "client", "deadline_s", "first", "service", "sock", "started_s",
        "tried",
    )  # fmt: skip

    def __init__(
        self,
        service: ServicePort,
        client: Socket,
        address: str,
        first: bytes | None,
        started_s: float,
    ) -> None:
        self.service, self.client, self.address, self.first = service, client, address, first
        self.started_s = self.deadline_s = started_s
        self.tried: list[Endpoint] = []
        self.chosen: Endpoint | None = None
        self.sock: Socket | None = None


def cut(sock: Socket) -> None:
    """Close a connection so that the other end is told of a failure."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
