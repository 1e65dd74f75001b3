"""Names of hosts, for programs that ask for them without the event loop.

`socket.getaddrinfo` and its like would block; here they answer at once, from the names of the
simulated network. `socket.gethostname` is the host the program runs on.
"""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from kubeloop.sim.transport import HOST

if TYPE_CHECKING:
    from kubeloop.sim.network import Network


class Networked(Protocol):
    """A simulation, as far as names go."""

    network: "Network"


def _getaddrinfo(
    simulation: Networked,
    _real: Any,
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[tuple[Any, ...]]:
    return simulation.network.resolve(host, port, family, type, flags)


def _gethostbyname(simulation: Networked, _real: Any, name: str) -> str:
    return _gethostbyname_ex(simulation, _real, name)[2][0]


def _gethostbyname_ex(
    simulation: Networked, _real: Any, name: str
) -> tuple[str, list[str], list[str]]:
    found = simulation.network.resolve(name, 0, socket.AF_INET, socket.SOCK_STREAM)
    return name, [], [str(info[4][0]) for info in found]


def _gethostbyaddr(
    simulation: Networked, _real: Any, name: str
) -> tuple[str, list[str], list[str]]:
    found = simulation.network.resolve(name, 0, type=socket.SOCK_STREAM)
    owner = simulation.network.owner(str(found[0][4][0]))
    if owner is None:
        raise socket.herror(1, "Unknown host")
    return owner, [], [str(info[4][0]) for info in found]


def _gethostname(_simulation: Networked, _real: Any) -> str:
    return HOST.get()


ANSWERS: Final[dict[str, Callable[..., Any]]] = {
    "getaddrinfo": _getaddrinfo,
    "gethostbyname": _gethostbyname,
    "gethostbyname_ex": _gethostbyname_ex,
    "gethostbyaddr": _gethostbyaddr,
    "gethostname": _gethostname,
}
"""By name of the function of `socket`: (simulation, the function as it was, its arguments …)."""
