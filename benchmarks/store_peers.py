"""The stores that are measured beside each other, each driven as cheaply as can be.

kubeloop and SQLite are called in this process; etcd is a server, spoken to over the loopback: what
a client has to go through to reach it is a part of it.
"""

import asyncio
import itertools
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol

import pytest
from etcd_wire import PUT, RANGE, ROOM, WATCH, Connection, Refused, connect, put, span, watch

from kubeloop.store.disk import RealDisk
from kubeloop.store.facts import NO_CAUSE, key_of, prefix_of
from kubeloop.store.history import Write
from kubeloop.store.store import Store
from kubeloop.store.writer import SWITCH_S
from tests.servers.etcd import NoEtcd, running_etcd

_WATCHES_AT_ONCE: Final = 1000  # Created at once: they fit into the window.
CONNECTIONS: Final = 4  # To etcd, shared by all clients: more cost it more than they give.
GROUP: Final = 64  # Puts that may share a sync where the client groups them.
KEYS_EACH: Final = 200  # So many keys a client puts in turn.
POLL_S: Final = 0.001  # etcd tells nobody when it is there.
PODS: Final = prefix_of("pods")
_PODS: Final = PODS.encode()
TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS store (key TEXT PRIMARY KEY, value BLOB, revision INTEGER)"
)
UPSERT: Final = "INSERT OR REPLACE INTO store VALUES (?, ?, ?)"
SELECT: Final = "SELECT key, value, revision FROM store WHERE key >= ? AND key < ? ORDER BY key"

Put = Callable[[int, str, bytes], Awaitable[None]]


class Peer(Protocol):
    """A store that is measured."""

    def puts(self, value: bytes, clients: int, each: int) -> None:
        """Have every client put `each` values, each only when its last one is durable."""

    def list(self) -> int:
        """Read every pod; return how many there are."""

    def close(self) -> None:
        """End it."""


def key(client: int, number: int) -> str:
    """Return a key of a client."""
    return key_of("pods", "default", f"pod-{client:03}-{number:06}")


class Kubeloop:
    """A store whose log is synced in a thread of its own, called on an event loop."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self.store = Store.open(
            RealDisk(),
            str(directory),
            threadsafe=self._soon,
            fresh_id=bytes(16),
        )

    def puts(self, value: bytes, clients: int, each: int) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)  # As `kubeloop up` does.
        try:
            self._runner.run(closed_loop(self._put, value, clients, each))
        finally:
            sys.setswitchinterval(interval)

    def list(self) -> int:
        return len(self.store.list(PODS).values)

    def close(self) -> None:
        self.store.close()
        self._runner.close()

    def _soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    async def _put(self, client: int, key: str, value: bytes) -> None:
        told: asyncio.Future[None] = self._loop.create_future()

        def done(error: Exception | None) -> None:
            if error is None:
                told.set_result(None)
            else:
                told.set_exception(error)

        self.store.commit([Write(key, value)], NO_CAUSE)
        self.store.flush(done)
        await told


class Etcd:
    """A real etcd of one member, whose clients are in this process."""

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        try:
            self.server = self._stack.enter_context(running_etcd(directory))
        except NoEtcd as error:
            pytest.skip(str(error))
        self.port = int(self.server.endpoints[0].rpartition(":")[2])

    def puts(self, value: bytes, clients: int, each: int) -> None:
        asyncio.run(etcd_puts(self.port, value, clients, each))

    def list(self) -> int:
        """Take the answer as it comes: it is not taken apart."""
        return asyncio.run(etcd_list(self.port)).count(_PODS)

    def close(self) -> None:
        self._stack.close()


class EtcdOfProcesses(Etcd):
    """A real etcd whose clients are in two processes: are they what is slow?"""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._processes = [self._stack.enter_context(self._process(n)) for n in range(2)]

    def puts(self, value: bytes, clients: int, each: int) -> None:
        """As a process is told by a line on its input, and tells by one on its output."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{len(value)} {clients // 2} {each}\n")
            process.stdin.flush()
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"

    @contextmanager
    def _process(self, number: int) -> "Iterator[subprocess.Popen[str]]":
        with subprocess.Popen(
            [sys.executable, __file__, str(self.port), str(number * GROUP)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        ) as process:
            yield process  # It ends when its standard input does.


class Sqlite:
    """A client has a thread and a connection, and every put is a transaction of its own.

    They take turns by a lock: SQLite's own way, to sleep and try again, is slower.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.path = directory / "db"
        self._revisions = itertools.count(1)
        self._turn = threading.Lock()
        self.connection = sqlite_open(self.path)

    def puts(self, value: bytes, clients: int, each: int) -> None:
        def client(number: int) -> None:
            connection = sqlite_open(self.path)
            for n in range(each):
                with self._turn:
                    row = (key(number, n % KEYS_EACH), value, next(self._revisions))
                    connection.execute(UPSERT, row)
            connection.close()

        threads = [threading.Thread(target=client, args=[n]) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def list(self) -> int:
        return len(self.connection.execute(SELECT, (PODS, PODS[:-1] + "0")).fetchall())

    def close(self) -> None:
        self.connection.close()


class SqliteGrouped(Sqlite):
    """One connection puts what all clients want in one transaction: they share its sync."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []

    def puts(self, value: bytes, clients: int, each: int) -> None:
        asyncio.run(closed_loop(self._put, value, clients, each))

    async def _put(self, client: int, key: str, value: bytes) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._commit)
        told: asyncio.Future[None] = loop.create_future()
        self._waiting.append((key, value, told))
        await told

    def _commit(self) -> None:
        group, self._waiting = self._waiting, []
        rows = [(key, value, next(self._revisions)) for key, value, _ in group]
        self.connection.execute("BEGIN")
        self.connection.executemany(UPSERT, rows)
        self.connection.execute("COMMIT")
        for _, _, told in group:
            told.set_result(None)


async def closed_loop(
    put: Put, value: bytes, clients: int, each: int, *, first: int = 0, keys_each: int = KEYS_EACH
) -> None:
    """Have every client put, one after the other; the clients are numbered from `first`."""

    async def client(number: int) -> None:
        for n in range(each):
            await put(number, key(number, n % keys_each), value)

    await asyncio.gather(*map(client, range(first, first + clients)))


def fill(store: Store, value: bytes, count: int) -> None:
    """Put values under as many keys, group by group."""
    for n in range(count):
        store.commit([Write(key(0, n), value)], NO_CAUSE)
        if n % GROUP == GROUP - 1:
            store.flush(check)
    store.flush(check)


def check(error: Exception | None) -> None:
    """Raise what a flush has to say."""
    if error is not None:
        raise error


# SQLite.


def sqlite_open(path: Path, *, synchronous: str = "FULL") -> sqlite3.Connection:
    """Return a connection whose statements are transactions of their own."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute(TABLE)
    return connection


def sqlite_fill(path: Path, value: bytes, count: int) -> sqlite3.Connection:
    """Put values under as many keys, all of which stay in the WAL; return what holds it there."""
    connection = sqlite_open(path, synchronous="OFF")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    for first in range(0, count, GROUP):
        numbers = range(first, min(first + GROUP, count))
        connection.execute("BEGIN")
        connection.executemany(UPSERT, [(key(0, n), value, n) for n in numbers])
        connection.execute("COMMIT")
    return connection


# etcd.


async def etcd_answers(port: int) -> None:
    """Return when etcd answers a linearizable read."""
    while True:
        try:
            connection = await connect(port)
            await connection.call(RANGE, span("/none"))
        except (OSError, Refused):
            await asyncio.sleep(POLL_S)
        else:
            connection.transport.close()
            return


async def etcd_puts(
    port: int, value: bytes, clients: int, each: int, *, first: int = 0, keys_each: int = KEYS_EACH
) -> None:
    """Put in a closed loop; the clients, numbered from `first`, share a few connections."""
    at_least = -(-clients * (len(value) + 100) // ROOM)
    count = max(at_least, min(clients, CONNECTIONS))
    connections = [await connect(port) for _ in range(count)]

    async def one(client: int, key: str, value: bytes) -> None:
        await connections[client % count].call(PUT, put(key, value))

    await closed_loop(one, value, clients, each, first=first, keys_each=keys_each)
    for connection in connections:
        connection.transport.close()


async def etcd_list(port: int) -> bytes:
    """Return the answer of a linearizable read of every pod."""
    connection = await connect(port)
    answer = await connection.call(RANGE, span(PODS))
    connection.transport.close()
    return answer


class EtcdWatchers:
    """Many watchers of all pods, on a few connections."""

    def __init__(self, connections: Sequence[Connection], watchers: int) -> None:
        self._connections, self._watchers = connections, watchers
        self._creating = True
        self._missing = 0
        self._arrived = asyncio.Event()

    @classmethod
    async def open(cls, port: int, watchers: int) -> "EtcdWatchers":
        """Return when all watchers are there."""
        connections = [await connect(port) for _ in range(CONNECTIONS)]
        self = cls(connections, watchers)
        for connection in connections:
            connection.open(WATCH, self._hear)
        for first in range(0, watchers, _WATCHES_AT_ONCE):
            self._arrived.clear()
            self._missing = min(_WATCHES_AT_ONCE, watchers - first)
            for n, connection in enumerate(connections):
                connection.send([watch(PODS)] * len(range(n, self._missing, CONNECTIONS)))
            await self._arrived.wait()
        self._creating = False
        return self

    async def tell(self, writers: Sequence[Connection], value: bytes, puts: int) -> None:
        """Put values at once; return when every watcher has all of them."""
        self._arrived.clear()
        self._missing = puts * self._watchers
        answers = [writers[n % CONNECTIONS].call(PUT, put(key(n, 0), value)) for n in range(puts)]
        await asyncio.gather(*answers)
        await self._arrived.wait()

    def close(self) -> None:
        """End all of them."""
        for connection in self._connections:
            connection.transport.close()

    def _hear(self, message: bytes) -> None:
        self._missing -= 1 if self._creating else message.count(_PODS)
        if not self._missing:
            self._arrived.set()


def serve(port: int, first: int) -> None:
    """Put as often as standard input has a line: bytes of a value, clients, puts of each."""
    for line in sys.stdin:
        size, clients, each = map(int, line.split())
        asyncio.run(etcd_puts(port, os.urandom(size), clients, each, first=first))
        print("done", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
