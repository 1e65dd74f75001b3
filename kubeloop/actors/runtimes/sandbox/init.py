"""The pause process of a pod: pid 1 of its namespaces. It starts, reaps, dials and listens.

One loop over one selector; nothing in it blocks but what is over in microseconds. Requests come
from the runtime with an `id` and are answered with it, in any order; containers that end are told
as events. Sockets are made here, inside the pod's network namespaces, and handed out: a socket
belongs for ever to the namespace it was made in.
"""

import contextlib
import errno
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from . import launch, linux, netlink, wire

DIALS_MAX = 4096  # Connections on their way: a port that never answers must not eat all files.
SYN_RETRIES = 4  # Inside one host nothing gets lost: a listener that is full for 30 s will not do.
BACKLOG = 1024
NO_VETH = "this kernel has no veth devices: ClusterIPs do not answer inside pods"


@dataclass
class Process:
    """A process we started for the runtime: a container's first, or one of `exec`."""

    key: str
    pid: int
    request: object  # The id to answer once it is known whether exec succeeded; None: answered.
    group: bool
    told: bytes = b""
    status: int | None = None  # The wait status, if it ended before that was known.


@dataclass(frozen=True)
class Services:
    """The pod's second network namespace, by descriptors of both; see `netlink`."""

    pod: int
    services: int

    @classmethod
    def create(cls) -> "Services":
        """Make a further network namespace; this process stays in its own. Raises: OSError."""
        pod = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        linux.unshare(linux.CLONE_NEWNET)
        services = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        linux.setns(pod, linux.CLONE_NEWNET)
        return cls(pod, services)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the services for a while: what is made then belongs there."""
        linux.setns(self.services, linux.CLONE_NEWNET)
        try:
            yield
        finally:
            linux.setns(self.pod, linux.CLONE_NEWNET)


@dataclass
class Init:
    """The state of a pod's init process."""

    control: socket.socket
    namespaces: bool
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    decoder: wire.Decoder = field(default_factory=wire.Decoder)
    processes: dict[int, Process] = field(default_factory=dict)
    keys: dict[str, Process] = field(default_factory=dict)
    dials: int = 0
    services: "Services | None" = None

    def serve(self, lifeline: int) -> NoReturn:
        """Work until the runtime or the zygote is gone; then end, and with us the pod."""
        watch_children(self.selector, self.reap)
        if not self.namespaces:  # Pid 1 of a namespace gets KILL only, and needs no more.
            signal.signal(signal.SIGTERM, lambda *_: self.end())
        self.control.setblocking(True)
        self.selector.register(self.control, selectors.EVENT_READ, self.read)
        self.selector.register(lifeline, selectors.EVENT_READ, self.end)
        while True:
            for key, _ in self.selector.select():
                key.data()

    def end(self) -> NoReturn:
        """End at once; the kernel ends everything in our pid namespace."""
        if not self.namespaces:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            end_children()
        os._exit(0)

    def read(self) -> None:
        """Take what the runtime sent."""
        try:
            data, files = wire.receive(self.control)
        except OSError:
            data, files = b"", []
        if not data:
            self.end()
        for message, passed in self.decoder.feed(data, files):
            self.handle(message, passed)

    def send(self, message: wire.Message, files: list[int] | None = None) -> None:
        """Tell the runtime; if it is gone, so are we."""
        try:
            wire.send(self.control, message, files)
        except OSError:
            self.end()

    def handle(self, message: dict[str, Any], files: list[int]) -> None:
        """Do one request. Errors are answers."""
        try:
            getattr(self, "do_" + message["op"])(message, files)
        except OSError as error:
            self.fail(message["id"], error)
        finally:
            for fd in files:
                os.close(fd)

    def fail(self, request: object, error: OSError) -> None:
        """Answer that it could not be done."""
        told = error.strerror or str(error)
        self.send({"id": request, "errno": error.errno or 0, "error": told})

    # What can be asked of us.

    def do_start(self, message: dict[str, Any], files: list[int]) -> None:
        """Start a container's first process; answered when exec has happened or failed."""
        pid, status = launch.start(message, files, namespaces=self.namespaces)
        self.watch(Process(message["key"], pid, message["id"], group=True), status)

    def do_exec(self, message: dict[str, Any], files: list[int]) -> None:
        """Start another process in a running container."""
        inside = self.keys.get(message["container"])
        if inside is None:
            raise OSError(errno.ESRCH, "the container is not running")
        pid, status = launch.execute(message, files, pid=inside.pid, namespaces=self.namespaces)
        self.watch(Process(message["key"], pid, message["id"], group=False), status)

    def do_kill(self, message: dict[str, Any], _: list[int]) -> None:
        """Send a signal to what `start` or `exec` started; harmless if it has ended."""
        process = self.keys.get(message["key"])
        if process is not None and process.status is None:
            group = process.group and not self.namespaces and message["signal"] == signal.SIGKILL
            kill(process.pid, message["signal"], group=group)
        self.send({"id": message["id"]})

    def do_lend(self, message: dict[str, Any], _: list[int]) -> None:
        """Hand out sockets of ours, not connected: who has one connects as if from here."""
        sockets: list[socket.socket] = []
        try:
            make = datagram_socket if message["udp"] else client_socket
            sockets.extend(make() for _ in range(min(message["count"], wire.FILES_MAX)))
            self.send({"id": message["id"]}, [sock.fileno() for sock in sockets])
        finally:
            for sock in sockets:
                sock.close()

    def do_dial(self, message: dict[str, Any], _: list[int]) -> None:
        """Connect, and hand out the connected socket."""
        if self.dials >= DIALS_MAX:
            raise OSError(errno.EAGAIN, f"{DIALS_MAX} connections into this pod wait already")
        sock = client_socket()
        number = sock.connect_ex((message["ip"], message["port"]))
        if number == errno.EINPROGRESS:
            self.dials += 1
            connected = self.connected
            self.selector.register(
                sock, selectors.EVENT_WRITE, lambda: connected(message["id"], sock)
            )
            return
        self.hand_out(message["id"], sock, number)

    def connected(self, request: object, sock: socket.socket) -> None:
        """Hand out a socket whose connection is made, or refused."""
        self.dials -= 1
        self.selector.unregister(sock)
        self.hand_out(request, sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def hand_out(self, request: object, sock: socket.socket, number: int) -> None:
        """Answer with the socket, or with the error number."""
        with sock:
            if number:
                self.fail(request, OSError(number, os.strerror(number)))
            else:
                self.send({"id": request}, [sock.fileno()])

    def do_listen(self, message: dict[str, Any], _: list[int]) -> None:
        """Hand out a socket that listens on a ClusterIP, in the services of the pod."""
        if self.services is None:
            raise OSError(errno.EOPNOTSUPP, NO_VETH)
        udp = message["udp"]
        with self.services.entered():
            sock = datagram_socket() if udp else client_socket()
        with sock:
            if not udp:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((message["ip"], message["port"]))
            if not udp:
                sock.listen(BACKLOG)
            self.send({"id": message["id"]}, [sock.fileno()])

    # Processes.

    def watch(self, process: Process, status: int) -> None:
        """Wait for a process that was just forked."""
        if process.pid:
            self.processes[process.pid] = process
            self.keys[process.key] = process
        self.selector.register(status, selectors.EVENT_READ, lambda: self.started(process, status))

    def started(self, process: Process, status: int) -> None:
        """Read a status pipe; at its end it is known whether the program runs."""
        data = os.read(status, 4096)
        if data:
            process.told += data
            return
        self.selector.unregister(status)
        os.close(status)
        request, process.request = process.request, None
        if process.told or not process.pid:
            self.keys.pop(process.key, None)
            why = process.told.decode(errors="replace") or "the process could not be forked"
            self.fail(request, OSError(errno.ENOEXEC, why))
        else:
            self.send({"id": request})
            self.tell_end(process)

    def reap(self) -> None:
        """Take note of every process that ended; most are orphans that nobody asks about."""
        for pid, status in ended():
            process = self.processes.pop(pid, None)
            if process is not None:
                process.status = status
                self.tell_end(process)

    def tell_end(self, process: Process) -> None:
        """Tell that a process ended, if it has, and its start was answered."""
        if process.status is None or process.request is not None or process.told:
            return
        if process.group and not self.namespaces:
            kill(process.pid, signal.SIGKILL, group=True)  # What it left behind.
        self.keys.pop(process.key, None)
        code = os.waitstatus_to_exitcode(process.status)
        code = code if code >= 0 else 128 - code
        self.send({"event": "ended", "key": process.key, "code": code})


def client_socket() -> socket.socket:
    """Return a socket that can be connected to what listens in this namespace. Raises: OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, SYN_RETRIES)
    return sock


def datagram_socket() -> socket.socket:
    """Return a socket for datagrams of this namespace. Raises: OSError."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def end_children() -> None:
    """Kill and reap until no child is left; orphans of our children become our children."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            for pid in file.read().split():
                kill(int(pid), signal.SIGKILL, group=False)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def kill(pid: int, number: int, *, group: bool) -> None:
    """Send a signal to a process, or to its process group; harmless if there is none."""
    try:
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return


def ended() -> list[tuple[int, int]]:
    """Reap; return (pid, wait status) of every child that ended."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))


def watch_children(selector: selectors.BaseSelector, call: Callable[[], None]) -> None:
    """Have `call` called from the selector's loop when a child has ended."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    def drain() -> None:
        reading.recv(4096)
        call()

    selector.register(reading, selectors.EVENT_READ, drain)


def main(order: dict[str, Any], control: socket.socket, lifeline: int) -> NoReturn:
    """Set the pod's namespaces up, say so, and serve."""
    namespaces: bool = order["namespaces"]
    init = Init(control, namespaces)
    try:
        if namespaces:
            init.services = set_up(order["hostname"], order["ip"], order["service_cidr"])
    except OSError as error:
        init.fail(0, error)
        os._exit(1)
    init.send({"id": 0})
    init.serve(lifeline)


def set_up(hostname: str, ip: str, service_cidr: str) -> Services | None:
    """Make fresh namespaces a pod's; return its services, None without veth. Raises: OSError."""
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_SLAVE)
    if hostname:
        linux.sethostname(hostname[:63])
    services = Services.create()
    try:
        netlink.set_up_pod(ip, service_cidr, services.services)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        netlink.set_up_alone(ip)
        return None
    with services.entered():
        netlink.set_up_services(ip, service_cidr)
    return services
