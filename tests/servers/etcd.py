"""A real etcd of one or three members, on free loopback ports, in a directory of its own.

    with running_etcd(directory, members=3) as etcd:
        etcd.endpoints           # ["127.0.0.1:40001", ...]
        etcd.kill(etcd.leader())

The binaries are those on the path, else Debian's packages, unpacked into a cache of the user: that
needs no root, and no service is started behind anybody's back.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("etcd-server", "etcd-client")
START_SECONDS_MAX: Final = 60.0
PORT_TRIES: Final = 5  # Between finding a free port and listening, somebody may take it.


class NoEtcd(Exception):
    """There is no etcd here, and none can be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files: of the authority, and of the server's and the client's certificate."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs are."""

    etcd: Path
    etcdctl: Path


@cache
def find_etcd() -> Binaries:
    """Return the programs, unpacked if need be. Raises: NoEtcd. Safe in many processes at once."""
    found = shutil.which("etcd"), shutil.which("etcdctl")
    if found[0] and found[1]:
        return Binaries(Path(found[0]), Path(found[1]))
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache_directory = home / "kubeloop-tests" / "etcd"
    cache_directory.mkdir(parents=True, exist_ok=True)
    binaries = cache_directory / "usr" / "bin"
    with (cache_directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache_directory / "complete").exists():
            _unpack(cache_directory)
            (cache_directory / "complete").touch()
    return Binaries(binaries / "etcd", binaries / "etcdctl")


def _unpack(directory: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoEtcd("there is no etcd on the path, and no apt-get to fetch Debian's with")
    fetch = ["apt-get", "download", *PACKAGES]
    fetched = _run(fetch, directory)
    if fetched.returncode and _run(["apt-get", "update"], directory).returncode == 0:
        fetched = _run(fetch, directory)
    if fetched.returncode:
        raise NoEtcd(f"there is no etcd on the path, and apt-get says: {fetched.stderr.strip()}")
    for package in directory.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, directory], check=True)
        package.unlink()


def _run(command: Sequence[str], directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


class Member:
    """One etcd process. It is told what to do by `Etcd`."""

    def __init__(self, binaries: Binaries, arguments: Sequence[str], name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[str] | None = None
        self._command = [str(binaries.etcd), "--name", name, *arguments]
        self._ready = threading.Event()
        self._served = False
        self._tail: deque[str] = deque(maxlen=20)
        self._reader: threading.Thread | None = None

    def spawn(self) -> None:
        """Start the process; `wait` tells when it serves."""
        self._ready.clear()
        self._served = False
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def wait(self) -> None:
        """Wait until it serves clients. Raises: RuntimeError with the end of its log."""
        if not self._ready.wait(START_SECONDS_MAX) or not self._served:
            raise RuntimeError(f"etcd {self.name} does not serve:\n{''.join(self._tail)}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once; harmless if it has ended."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        assert self._reader is not None
        self._reader.join()
        self.process = None

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                self._tail.append(line)
                if "serving client traffic" in line:
                    self._served = True
                    self._ready.set()
        self._ready.set()


class Etcd:
    """A cluster. endpoints: "host:port" of each member, by its number."""

    def __init__(
        self, directory: Path, members: int, tls: Tls | None, extra: Sequence[str]
    ) -> None:
        self.tls, self.directory = tls, directory
        self._binaries = find_etcd()
        ports = _free_ports(2 * members)
        scheme = "http" if tls is None else "https"
        self.endpoints = [f"127.0.0.1:{port}" for port in ports[:members]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[members:]]
        cluster = ",".join(f"m{n}={peer}" for n, peer in enumerate(peers))
        self.members = [
            Member(
                self._binaries,
                [
                    *("--data-dir", str(directory / f"m{n}"), "--logger", "zap"),
                    *("--listen-client-urls", f"{scheme}://{endpoint}"),
                    *("--advertise-client-urls", f"{scheme}://{endpoint}"),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", cluster),
                    *_tls_arguments(tls),
                    *extra,
                ],
                f"m{n}",
            )
            for n, (endpoint, peer) in enumerate(zip(self.endpoints, peers, strict=True))
        ]

    @property
    def urls(self) -> list[str]:
        """The endpoints with their scheme."""
        scheme = "http" if self.tls is None else "https"
        return [f"{scheme}://{endpoint}" for endpoint in self.endpoints]

    def start(self) -> None:
        """Start every member, and wait until all serve."""
        for member in self.members:
            member.spawn()
        for member in self.members:
            member.wait()

    def stop(self) -> None:
        """End every member, whatever state it is in."""
        for member in self.members:
            member.kill()

    def kill(self, number: int) -> None:
        """End a member at once, as SIGKILL does."""
        self.members[number].kill()

    def restart(self, number: int) -> None:
        """Start a member that was killed, with the data it left; wait until it serves."""
        self.members[number].spawn()
        self.members[number].wait()

    def pause(self, number: int) -> None:
        """Stop a member: it neither answers nor hangs up, as if the network were cut."""
        self.members[number].signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """Let a member that was paused go on."""
        self.members[number].signal(signal.SIGCONT)

    def leader(self) -> int:
        """Return the number of the member that leads. All must be running."""
        for number, status in enumerate(self._statuses()):
            if status["leader"] == status["header"]["member_id"]:
                return number
        raise RuntimeError("no member leads")

    def member_id(self, number: int) -> str:
        """Return the id of a member, as etcdctl takes it. All must be running."""
        return f"{self._statuses()[number]['header']['member_id']:x}"

    def _statuses(self) -> list[Any]:
        answers = json.loads(self.ctl("endpoint", "status", "--write-out=json"))
        by_url = {answer["Endpoint"]: answer["Status"] for answer in answers}
        return [by_url[url] for url in self.urls]

    def ctl(self, *arguments: str, input: str | None = None) -> str:
        """Run etcdctl on all endpoints; return what it prints."""
        command = [str(self._binaries.etcdctl), "--endpoints", ",".join(self.urls)]
        if self.tls is not None:
            command += ["--cacert", str(self.tls.ca), "--cert", str(self.tls.client_cert)]
            command += ["--key", str(self.tls.client_key)]
        done = subprocess.run(
            [*command, *arguments], input=input, capture_output=True, text=True, check=False,
            env={**os.environ, "ETCDCTL_API": "3"},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"etcdctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout


@contextmanager
def running_etcd(
    directory: Path, *, members: int = 1, tls: Tls | None = None, extra: Sequence[str] = ()
) -> Iterator[Etcd]:
    """Run etcd in an empty directory; what it wrote there is left behind.

    extra: further arguments of every member.
    Raises: NoEtcd.
    """
    for attempt in range(1, PORT_TRIES + 1):
        etcd = Etcd(directory / f"try-{attempt}", members, tls, extra)
        etcd.directory.mkdir(parents=True)
        try:
            etcd.start()
        except RuntimeError as error:
            etcd.stop()
            if "address already in use" not in str(error) or attempt == PORT_TRIES:
                raise
            continue
        try:
            yield etcd
        finally:
            etcd.stop()
        return


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return what an HTTPS client of a TLS etcd needs."""
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.client_cert, tls.client_key)
    return context


def _tls_arguments(tls: Tls | None) -> list[str]:
    if tls is None:
        return []
    return [
        *("--cert-file", str(tls.server_cert), "--key-file", str(tls.server_key)),
        *("--trusted-ca-file", str(tls.ca), "--client-cert-auth"),
    ]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
