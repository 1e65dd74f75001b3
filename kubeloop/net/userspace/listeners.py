"""Sockets that listen on addresses of this host."""

import socket
from typing import Final

BACKLOG: Final = 4096


def open_at(
    address: str, port: int, count: int, *, shared: bool = False, udp: bool = False
) -> list[socket.socket]:
    """Return so many sockets that listen there; the kernel shares clients out.

    shared: others may listen there, too, if they say so.  Raises: OSError.
    """
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
            opened.append(sock)
            if not udp:  # There it would let two have one port.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared or count > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, port))
            port = sock.getsockname()[1]
        for sock in () if udp else opened:
            sock.listen(BACKLOG)
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened
