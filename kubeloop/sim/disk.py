"""A disk in memory that keeps its promises, and nothing more.

What was not synced may be lost, torn, reordered or full of holes after `crash`; a call may be made
to fail, a write to be lost or to land elsewhere, a read to come from elsewhere, a sync to be a lie.
Implements `store.disk.Disk`.
"""

import errno
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from kubeloop.sim.remains import Fates, Node

Fault = Callable[[str, str], OSError | None]
"""(operation, path) → the error this call shall end with, None if it shall work."""
Aim = Callable[[str, int], tuple[str, int] | None]
"""(path, place) → where a write really lands; None: nowhere, though it was acknowledged."""
Look = Callable[[str, bytes], bytes]
"""(path, content) → what a read really returns."""


class MemoryDisk:
    """Files by path. What is durable is kept apart from what a program sees.

    fault:  asked before every call that touches the disk.
    part:   how much of a call that fails is done: of a write so many of its bytes; anything else
            is done, and fails all the same, if it is 1.
    aim:    asked where every write lands.
    look:   asked what every read returns.
    lying:  whether a sync of a file says that it is done, and does nothing.
    room:   how many bytes fit in all; None for no limit.
    lag_s:  see `store.disk.Disk`.
    calls:  how many there were: to make the Nth fail.
    opened: how many files are open.

    What a sync that fails was to make safe is not made so by the next one, unless it is written
    again.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.fault: Fault = lambda operation, path: None
        self.part = 0.5
        self.aim: Aim = lambda path, at: (path, at)
        self.look: Look = lambda path, content: content
        self.lying = False
        self.room: int | None = None
        self.lag_s = 0.0
        self.calls = self.opened = 0
        self._faults: list[Fault] = []
        self._held: set[str] = set()
        self._nodes: dict[str, Node] = {}  # By the name the program sees.
        self._safe: dict[str, Node] = {}  # By the name that is synced.
        self._former: dict[str, list[Node | None]] = {}  # What a name stood for in between.
        self._moved: dict[Node, str] = {}  # Files renamed since, and what they were called.

    @classmethod
    def holding(cls, files: Mapping[str, bytes]) -> Self:
        """Return a disk that holds these files, by path, safely."""
        disk = cls()
        disk.files = {path: bytearray(data) for path, data in files.items()}
        disk.settle()
        return disk

    # What a program calls.

    def open(self, path: str) -> "MemoryFile":
        with self.calling("open", path):
            self.files.setdefault(path, bytearray())
        self.opened += 1
        return MemoryFile(self, path)

    def read(self, path: str) -> bytes:
        self.touch("read", path)
        self._must_be(path)
        return self.look(path, bytes(self.files[path]))

    def size(self, path: str) -> int:
        return len(self.read(path))

    def names(self, directory: str) -> list[str]:
        self.touch("names", directory)
        prefix = f"{directory}/"
        return sorted(p.removeprefix(prefix) for p in self.files if p.startswith(prefix))

    def rename(self, path: str, to: str) -> None:
        with self.calling("rename", path):
            self._must_be(path)
            node = self._node(path)
            called = self._moved.get(node, path)
            if to in self.files:
                self._leave(to)
            self._leave(path, None)
            if self._safe.get(called) is node:
                self._moved[node] = called
            self.files[to], self._nodes[to] = node.content, node

    def remove(self, path: str) -> None:
        with self.calling("remove", path):
            self._must_be(path)
            self._leave(path, None)

    def sync_directory(self, directory: str) -> None:
        with self.calling("sync_directory", directory):
            self._sync_directory(directory)

    def lock(self, path: str) -> "MemoryLock":
        if path in self._held:
            raise BlockingIOError(errno.EAGAIN, f"{path} is held by process 1")
        self._held.add(path)
        return MemoryLock(self._held, path)

    # What the world does.

    def crash(self, chance: random.Random) -> "MemoryDisk":
        """Return the disk as it may be after a loss of power: any of the allowed ways."""
        return MemoryDisk.holding(self.fates().one(chance))

    def fates(self) -> Fates:
        """Return all that a loss of power may leave."""
        nodes: dict[str, list[Node | None]] = {}
        for path in dict.fromkeys((*self._safe, *self._former, *self.files)):
            now = self._node(path) if path in self.files else None
            found = list(dict.fromkeys([self._safe.get(path), *self._former.get(path, ())]))
            nodes[path] = found if found[-1] is now else [*found, now]
        return Fates(nodes, self._moved)

    def copy(self) -> "MemoryDisk":
        """Return this moment: what is seen, what is safe, and no locks or faults."""
        same, copies = MemoryDisk(), dict[Node, Node]()

        def copied(node: Node) -> Node:
            return copies.get(node) or copies.setdefault(node, node.copy())

        same._nodes = {path: copied(self._node(path)) for path in self.files}
        same.files = {path: node.content for path, node in same._nodes.items()}
        same._safe = {path: copied(node) for path, node in self._safe.items()}
        same._former = {
            path: [node and copied(node) for node in nodes] for path, nodes in self._former.items()
        }
        same._moved = {copied(node): path for node, path in self._moved.items()}
        return same

    def kill(self) -> None:
        """End the process that holds the locks: what it wrote is seen, but no safer than before."""
        self._held.clear()
        self.fault = lambda operation, path: None

    def add_fault(self, fault: Fault) -> Callable[[], None]:
        """Have another fault asked before every call, after `fault`; return what ends that."""
        self._faults.append(fault)

        def end() -> None:
            if fault in self._faults:
                self._faults.remove(fault)

        return end

    def take_after(self, other: "MemoryDisk") -> None:
        """Have the faults that were added to another disk, its room and its lag."""
        self._faults, self.room, self.lag_s = other._faults, other.room, other.lag_s

    def fail(self, nth: int, code: int) -> None:
        """Have the `nth` call from now on, and only that, end with an error: EIO, ENOSPC."""
        at = self.calls + nth

        def fault(operation: str, path: str) -> OSError | None:
            return OSError(code, os.strerror(code), path) if self.calls == at else None

        self.fault = fault

    def flip(self, path: str, bit: int) -> None:
        """Flip a bit of a file, counted from its beginning; the rot is durable."""
        self.files[path][bit // 8] ^= 1 << bit % 8
        self._node(path).settle()

    def settle(self) -> None:
        """Declare everything as it is now durable."""
        for path in self.files:
            self._node(path).settle()
        self._safe = {path: self._nodes[path] for path in self.files}
        self._former.clear()
        self._moved.clear()

    def touch(self, operation: str, path: str) -> None:
        """Count a call, and fail if it shall."""
        self.calls += 1
        for fault in (self.fault, *self._faults):
            error = fault(operation, path)
            if error is not None:
                raise error

    @contextmanager
    def calling(self, operation: str, path: str) -> Iterator[None]:
        """Do something in a call, unless it fails."""
        failed: OSError | None = None
        try:
            self.touch(operation, path)
        except OSError as error:
            if self.part < 1:
                raise
            failed = error
        yield
        if failed is not None:
            raise failed

    def sync(self, path: str, *, fail: bool = False) -> None:
        """Make the content of a file safe; its name is safe once its directory is synced."""
        if fail:
            self._node(path).refuse()
        elif not self.lying:
            self._node(path).sync()

    def change(self, path: str, at: int, data: bytes | None) -> None:
        """Write, unsynced, or with None for the data cut a file; at most as much as there is room.

        Raises: OSError.
        """
        node = self._node(path)
        room = None if self.room is None else max(0, self.room - sum(map(len, self.files.values())))
        written = data
        if data is not None and room is not None:
            written = data[: max(0, len(node.content) - at) + room]
        node.change(at, written)
        if data is not None and written is not None and len(written) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _node(self, path: str) -> Node:
        """Return the file a name stands for; it may have been put there without a call."""
        content, node = self.files[path], self._nodes.get(path)
        if node is None or node.content is not content:
            node = self._nodes[path] = Node(content)
        return node

    def _leave(self, path: str, *then: None) -> None:
        """Have a name stand for something else, or for None."""
        node = self._node(path)
        del self.files[path], self._nodes[path]
        self._former.setdefault(path, []).extend((node, *then))
        self._moved.pop(node, None)

    def _sync_directory(self, directory: str) -> None:
        def within(path: str) -> bool:
            return path.rpartition("/")[0] == directory

        for path in [p for p in self._safe if within(p)]:
            del self._safe[path]
        for path in filter(within, self.files):
            node = self._safe[path] = self._node(path)
            self._moved.pop(node, None)
        self._moved = {node: path for node, path in self._moved.items() if not within(path)}
        self._former = {path: nodes for path, nodes in self._former.items() if not within(path)}

    def _must_be(self, path: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)


class MemoryFile:
    """A file of a MemoryDisk, opened for writing."""

    def __init__(self, disk: MemoryDisk, path: str) -> None:
        self._disk, self._path = disk, path

    def write(self, data: bytes, at: int) -> None:
        landed, error = self._disk.aim(self._path, at), None
        try:
            self._disk.touch("write", self._path)
        except OSError as raised:
            data, error = data[: int(len(data) * self._disk.part)], raised  # As far as it came.
        if landed is not None:
            path, at = landed
            self._disk.change(path, at, data)
        if error is not None:
            raise error

    def writev(self, parts: Sequence[bytes], at: int) -> None:
        self.write(b"".join(parts), at)

    def sync(self) -> None:
        try:
            self._disk.touch("sync", self._path)
        except OSError:
            self._disk.sync(self._path, fail=self._disk.part < 1)
            raise
        self._disk.sync(self._path)

    def truncate(self, size: int) -> None:
        with self._disk.calling("truncate", self._path):
            self._disk.change(self._path, size, None)

    def close(self) -> None:
        """Syncs nothing."""
        self._disk.opened -= 1


class MemoryLock:
    """A held lock."""

    def __init__(self, held: set[str], path: str) -> None:
        self._held, self._path = held, path

    def release(self) -> None:
        self._held.discard(self._path)
