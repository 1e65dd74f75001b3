"""Sockets made inside pods, not yet connected, kept ready: they connect as if from there.

A socket belongs for ever to the network namespace it was made in. So a connection to a pod costs
no more than any other, as long as there is a socket left; more are asked for in time.
"""

from _socket import socket as Socket
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Waiter = TypeVar("Waiter")

BATCH: Final = 16  # Sockets asked for at once.
LOW: Final = 8  # When more are asked for.


class Stash(Generic[Waiter]):
    """The sockets of one pod. waiting: who found none left."""

    __slots__ = ("asked", "sockets", "waiting")

    def __init__(self) -> None:
        self.sockets: list[Socket] = []
        self.waiting: deque[Waiter] = deque()
        self.asked = False


class Stashes(Generic[Waiter]):
    """All pods' there are, by their addresses.

    want: asks for BATCH sockets of a pod;  they come through `provide`.
    """

    def __init__(self, want: Callable[[str], None]) -> None:
        self._want = want
        self._stashes: dict[str, Stash[Waiter]] = {}

    def __contains__(self, ip: str) -> bool:
        return ip in self._stashes

    def pods(self, ips: set[str]) -> list[Waiter]:
        """Have stashes for these pods and no others; return who waited for others."""
        left: list[Waiter] = []
        for ip in [ip for ip in self._stashes if ip not in ips]:
            left += self._drop(self._stashes.pop(ip))
        for ip in ips - self._stashes.keys():
            self._stashes[ip] = Stash()
        return left

    def take(self, ip: str) -> Socket | None:
        """Return a socket of that pod; None if it must be waited for, with `wait`."""
        stash = self._stashes[ip]
        if len(stash.sockets) <= LOW and not stash.asked:
            stash.asked = True
            self._want(ip)
        return stash.sockets.pop() if stash.sockets else None

    def wait(self, ip: str, waiter: Waiter) -> None:
        """Keep one until there is a socket again."""
        self._stashes[ip].waiting.append(waiter)

    def provide(self, ip: str, sockets: list[Socket]) -> list[Waiter]:
        """Take sockets of a pod, none if it gave none; return who waited and may go on."""
        stash = self._stashes.get(ip)
        if stash is None:
            for sock in sockets:
                sock.close()
            return []
        stash.asked = False
        stash.sockets += sockets
        waiting, stash.waiting = list(stash.waiting), deque()
        return waiting

    def close(self) -> list[Waiter]:
        return self.pods(set())

    def _drop(self, stash: Stash[Waiter]) -> list[Waiter]:
        for sock in stash.sockets:
            sock.close()
        return list(stash.waiting)
