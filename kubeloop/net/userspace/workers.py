"""Workers: engines in processes of their own, which kube-proxy leads over lines.

All that a worker knows is known here, too, listening sockets included: when one dies, another takes
its place, and the clients that came in between wait in the backlogs.
"""

import asyncio
import itertools
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kubeloop.net.balancer import Rule
from kubeloop.net.userspace.lending import Lend, Lending
from kubeloop.net.userspace.line import Line, Message
from kubeloop.net.userspace.listeners import open_at

_BOOT: Final = (
    "import sys; sys.path[:] = sys.argv[3:]; from kubeloop.net.userspace.worker import main; main()"
)
# Where we are ourselves: an editable installation is found by a hook, not by any of `sys.path`.
_HOME: Final = str(Path(__file__).parents[3])
_AGAIN_S: Final = 1.0  # How long after one that died the next is started.

logger = logging.getLogger("kubeloop.proxy")


@dataclass
class Process:
    """One worker. line: None while there is none;  listeners: its own, by number."""

    line: Line | None = None
    child: "subprocess.Popen[bytes] | None" = None
    listeners: dict[int, tuple[int, socket.socket]] = field(default_factory=dict)
    asked: "dict[int, asyncio.Future[dict[int, list[Any]]]]" = field(default_factory=dict)


class WorkerForwarder:
    """Carries connections in `count` processes; they share the ports of the host.

    lend:        asks for sockets made inside a pod; see `lending`.
    pod_network: the beginning of every pod's address, "10.244."; "" if none is special.
    """

    name = "workers"

    def __init__(self, count: int, *, lend: Lend, pod_network: str) -> None:
        assert count >= 1
        self._loop = asyncio.get_running_loop()
        self._lending, self._pod_network = Lending(lend), pod_network
        self._rules: dict[int, Rule] = {}
        self._ips: set[str] = set()
        self._numbers = itertools.count(1)
        self._closed = self._started = False
        self._processes = [Process() for _ in range(count)]

    @property
    def pids(self) -> list[int]:
        """The workers that run."""
        return [p.child.pid for p in self._processes if p.child is not None]

    def apply(self, changes: Mapping[int, Rule | None]) -> None:
        for number, rule in changes.items():
            if rule is None:
                self._rules.pop(number, None)
            else:
                self._rules[number] = rule
        for process in self._processes:
            self._say(process, "apply", [_packed(changes)])

    async def listen_at(
        self, number: int, address: str, port: int, *, shared: bool = False, udp: bool = False
    ) -> Callable[[], None]:
        sockets = open_at(address, port, len(self._processes), shared=shared, udp=udp)
        closes = [
            self._listen(process, number, sock)
            for process, sock in zip(self._processes, sockets, strict=True)
        ]

        def close() -> None:
            for each in closes:
                each()

        return close

    async def listen_on(self, number: int, sock: socket.socket) -> Callable[[], None]:
        least = min(self._processes, key=lambda process: len(process.listeners))
        return self._listen(least, number, sock)

    def pods(self, ips: set[str]) -> None:
        self._ips = set(ips)
        for process in self._processes:
            self._say(process, "pods", [sorted(ips)])

    async def counts(self) -> dict[int, list[Any]]:
        """Return what `Engine.counts` says, of all workers together."""
        total: dict[int, list[Any]] = {}
        for process in self._processes:
            if process.line is None:
                continue
            number = next(self._numbers)
            future = process.asked[number] = self._loop.create_future()
            self._say(process, "count", [number])
            for service, counted in (await future).items():
                total[service] = _sum(total[service], counted) if service in total else counted
        return total

    async def close(self) -> None:
        self._closed = True
        await self._lending.close()
        for process in self._processes:
            child = process.child
            self._hang_up(process)
            for _, sock in process.listeners.values():
                sock.close()
            if child is not None:
                await asyncio.to_thread(child.wait)

    # One worker.

    def _start(self, process: Process) -> None:
        """Start a worker, and tell it all there is."""
        if self._closed:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            process.child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(theirs.fileno()), self._pod_network,
                 *sys.path, _HOME],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                start_new_session=True,  # A Ctrl-C in the terminal is for us alone.
            )  # fmt: skip
        process.line = Line(ours)
        self._loop.add_reader(ours.fileno(), self._heard, process)
        self._say(process, "pods", [sorted(self._ips)])
        self._say(process, "apply", [_packed(self._rules)])
        for listener, (number, sock) in process.listeners.items():
            self._say(process, "listen", [listener, number], [os.dup(sock.fileno())])

    def _listen(self, process: Process, number: int, sock: socket.socket) -> Callable[[], None]:
        if not self._started:  # Not before there is something to do.
            self._started = True
            for each in self._processes:
                self._start(each)
        listener = next(self._numbers)
        process.listeners[listener] = (number, sock)
        self._say(process, "listen", [listener, number], [os.dup(sock.fileno())])

        def close() -> None:
            kept = process.listeners.pop(listener, None)
            if kept is not None:
                self._say(process, "unlisten", [listener])
                with kept[1] as sock:
                    if sock.type == socket.SOCK_STREAM:  # At once, however late the worker hears.
                        sock.shutdown(socket.SHUT_RD)

        return close

    def _say(
        self, process: Process, about: str, content: list[Any], files: Sequence[int] = ()
    ) -> None:
        line = process.line
        if line is None:
            for fd in files:
                os.close(fd)
            return
        try:
            line.send(about, content, files)
        except OSError:
            return  # It has died; `_heard` is about to notice.
        if line.waiting:
            self._loop.add_writer(line.sock.fileno(), self._flush, process)

    def _flush(self, process: Process) -> None:
        line = process.line
        assert line is not None
        try:
            line.flush()
        except OSError:
            self._lost(process)
            return
        if not line.waiting:
            self._loop.remove_writer(line.sock.fileno())

    def _heard(self, process: Process) -> None:
        assert process.line is not None
        messages = process.line.receive()
        if messages is None:
            self._lost(process)
            return
        for message in messages:
            self._dispatch(process, message)

    def _dispatch(self, process: Process, message: Message) -> None:
        about, content, _ = message
        if about == "want":
            ip, udp = content
            line = process.line
            self._lending.borrow(
                ip, udp, lambda sockets: self._provide(process, line, ip, udp, sockets)
            )
        elif about == "counted":
            number, counted = content
            process.asked.pop(number).set_result(counted)

    def _provide(
        self, process: Process, line: Line | None, ip: str, udp: bool, sockets: list[socket.socket]
    ) -> None:
        files = [sock.detach() for sock in sockets]
        if line is process.line:
            self._say(process, "provide", [ip, udp], files)
        else:  # It was another worker that asked.
            for fd in files:
                os.close(fd)

    def _lost(self, process: Process) -> None:
        """A worker died: its connections are gone; its place is taken."""
        child = process.child
        self._hang_up(process)
        if child is not None:
            child.kill()
            child.wait()
            logger.error("worker %d of kube-proxy ended with %s", child.pid, child.returncode)
        self._loop.call_later(_AGAIN_S, self._start, process)

    def _hang_up(self, process: Process) -> None:
        line, process.line, process.child = process.line, None, None
        if line is not None:
            self._loop.remove_reader(line.sock.fileno())
            self._loop.remove_writer(line.sock.fileno())
            line.close()
        asked, process.asked = process.asked, {}
        for future in asked.values():
            if not future.done():
                future.set_result({})


def _packed(rules: Mapping[int, Rule | None]) -> list[Any]:
    return [[number, None if rule is None else _wire(rule)] for number, rule in rules.items()]


def _wire(rule: Rule) -> list[Any]:
    return [rule.service, rule.place, rule.endpoints, rule.affinity_s, rule.balancing]


def _sum(one: list[Any], other: list[Any]) -> list[Any]:
    return [_sum(a, b) if isinstance(a, list) else a + b for a, b in zip(one, other, strict=True)]
