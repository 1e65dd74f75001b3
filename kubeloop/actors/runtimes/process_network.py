"""The network of a node's pods: sockets made inside a pod, handed out to us.

A socket belongs for ever to the network namespace it was made in. So what the init of a pod makes
on request, connected to the pod's own port or listening on a ClusterIP, works in here.
"""

import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from kubeloop.actors.runtimes.process_runs import Pod

LOOPBACK: Final = "127.0.0.1"


class ProcessNetwork:
    """The pods of one runtime, as far as sockets go. pods: the runtime's own."""

    def __init__(self, pods: Mapping[str, Pod]) -> None:
        self.isolated = True  # Whether pods have networks of their own.
        self._pods = pods
        self._listeners: list[Callable[[], None]] = []

    async def dial(self, ip: str, port: int) -> socket.socket:
        """Return a socket connected to a port of a pod; any number at once. Raises: OSError."""
        for pod in self._pods.values():
            if pod.ip == ip and pod.channel is not None:
                _, files = await pod.channel.ask({"op": "dial", "ip": ip, "port": port})
                return _socket(files)
        raise OSError(errno.EHOSTUNREACH, f"no pod of this node has the address {ip}")

    async def lend(self, ip: str, count: int, *, udp: bool) -> list[socket.socket]:
        """Return sockets made inside a pod, up to `count`, not connected. Raises: OSError."""
        for pod in self._pods.values():
            if pod.ip == ip and pod.channel is not None:
                _, files = await pod.channel.ask({"op": "lend", "count": count, "udp": udp})
                return [_socket([fd]) for fd in files]
        raise OSError(errno.EHOSTUNREACH, f"no pod of this node has the address {ip}")

    async def reach(self, pod_uid: str, port: int, *, local: bool) -> socket.socket:
        """Return a socket connected to a port of a pod: on its loopback, or on its IP.

        Raises: OSError.
        """
        pod = self._pods.get(pod_uid)
        if pod is None or pod.channel is None or not pod.ip:
            raise OSError(errno.ENOENT, f"pod {pod_uid} has no sandbox")
        ip = LOOPBACK if local and self.isolated else pod.ip
        _, files = await pod.channel.ask({"op": "dial", "ip": ip, "port": port})
        return _socket(files)

    async def listen(self, pod_uid: str, ip: str, port: int, *, udp: bool = False) -> socket.socket:
        """Return a socket that listens inside a pod, on a ClusterIP. Raises: OSError."""
        if not self.isolated:
            raise OSError(errno.EOPNOTSUPP, "without user namespaces a pod has no ClusterIPs")
        pod = self._pods.get(pod_uid)
        if pod is None or pod.channel is None:
            raise OSError(errno.ENOENT, f"pod {pod_uid} has no sandbox")
        _, files = await pod.channel.ask({"op": "listen", "ip": ip, "port": port, "udp": udp})
        return _socket(files)

    def pods(self) -> Sequence[tuple[str, str]]:
        """Return (uid, ip) of the pods that live."""
        return [(uid, pod.ip) for uid, pod in self._pods.items() if pod.alive and pod.ip]

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever a sandbox came or went."""
        self._listeners.append(call)

    def changed(self) -> None:
        """A sandbox came or went."""
        for call in self._listeners:
            call()


def _socket(files: list[int]) -> socket.socket:
    sock = socket.socket(fileno=files[0])
    sock.setblocking(False)
    return sock
