"""What a simulation has of the outside world: a network in memory. All else is refused by name.

A base class of `sim.loop.SimLoop`, so that the loop itself is about time and order only.
"""

from asyncio import base_events
from collections.abc import Callable
from typing import Any, NoReturn

from kubeloop.sim.network import Network


class Unsimulated(NotImplementedError):
    """The program tried to leave the simulation."""

    def __init__(self, tried: str) -> None:
        super().__init__(
            f"{tried}: a simulation has no real I/O; use create_server and create_connection, "
            "which run over the in-memory network, or a seam that sim replaces"
        )


class Outside(base_events.BaseEventLoop):
    """An event loop's connections, over `network`."""

    network: Network

    async def create_server(  # type: ignore[override]
        self, factory: Any, host: Any = None, port: Any = None, **kw: Any
    ) -> Any:
        """Listen on the simulated network; see `Network.listen`."""
        _refuse_real(kw, "create_server")
        return self.network.listen(factory, host, port or 0)

    async def create_connection(  # type: ignore[override]
        self, factory: Any, host: Any = None, port: Any = None, **kw: Any
    ) -> Any:
        """Connect over the simulated network; `sock` may be one that sock_connect connected."""
        sock = kw.pop("sock", None)
        _refuse_real(kw, "create_connection")
        if sock is not None:
            return await self.network.adopt(factory, sock)
        return await self.network.connect(factory, host, port)

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect; the real socket only stands for the simulated connection, it is never used."""
        await self.network.connect_socket(sock, address)

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Resolve the names of the simulated network."""
        return self.network.resolve(host, port, family)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Return the address and port as text: nothing is looked up."""
        return str(sockaddr[0]), str(sockaddr[1])


def _refused(name: str) -> Callable[..., Any]:
    def refuse(_loop: Outside, *args: Any, **_options: Any) -> NoReturn:
        told = ", ".join(repr(argument) for argument in args[:2])
        raise Unsimulated(f"{name}({told})")

    return refuse


for _name in (
    *("add_reader", "remove_reader", "add_writer", "remove_writer", "add_signal_handler"),
    *("remove_signal_handler", "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall"),
    *("sock_recvfrom_into", "sock_sendto", "sock_accept", "sock_sendfile", "sendfile", "start_tls"),
    *("create_datagram_endpoint", "create_unix_connection", "create_unix_server"),
    *("connect_accepted_socket", "connect_read_pipe", "connect_write_pipe"),
    *("subprocess_exec", "subprocess_shell"),
):
    setattr(Outside, _name, _refused(_name))


def _refuse_real(options: dict[str, Any], call: str) -> None:
    """Refuse the options that would need a real socket or TLS."""
    for option in ("sock", "ssl", "local_addr"):
        if options.get(option) is not None:
            raise Unsimulated(f"{call}({option}={options[option]!r})")
