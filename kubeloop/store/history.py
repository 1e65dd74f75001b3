"""The store's memory: a single-writer, in-memory, multi-version map of packed objects. Pure.

Every revision since the floor keeps the facts that led to it, and one in some keeps a tree, which
shares with its neighbours all that did not change; what lies between follows from the tree before
and a few facts. So a read, a list, a fork at an old revision costs about what it costs now, going
back is forgetting the newest revisions, and compaction the oldest ones, a few at every commit:
never is there a pause. Values are bytes and never change: trees and facts share them.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from kubeloop.api.errors import Expired
from kubeloop.store import tree as trees
from kubeloop.store.facts import Cause, Fact
from kubeloop.store.tree import Found, Tree

_LAST: Final = "\U0010ffff"  # Sorts after every character of a key.
_STEP: Final = 32  # One revision in so many keeps its tree.
_FORGET_MAX: Final = 2 * _STEP  # Revisions forgotten at a commit: a backlog melts, nobody waits.
_NO_CHECKS: Final[Mapping[str, int]] = {}


class Stored(NamedTuple):
    """A value. revision: of its last change."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list: keys in order, the value of each, and the revision of its last change.

    revision: of the list;  remaining: how many follow after this page.
    """

    revision: int
    keys: list[str]
    values: list[bytes]
    revisions: list[int]
    remaining: int

    @property
    def items(self) -> list[Stored]:
        """The page, one by one."""
        return list(map(Stored, self.keys, self.values, self.revisions))


class Write(NamedTuple):
    """A change of one key.

    value:   None deletes.
    expect:  the revision the key must have now; 0: it must not exist; None: whatever it has.
    expires: when its lease runs out, in seconds since 1970, unless it is written again before;
             None: never.
    """

    key: str
    value: bytes | None
    expect: int | None = None
    expires: float | None = None


class CompareFailed(Exception):
    """A key was not what the writer expected; nothing of the transaction was done."""

    def __init__(self, key: str, *, expected: int, found: int) -> None:
        super().__init__(f"{key} is at revision {found}, not at {expected}: read it again")
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How far one can look back: what is beyond any of the limits is forgotten; None: no limit.

    revisions: how many there are to look back at.
    age_s:     for how many seconds, as told by the newest commit.
    bytes:     how many the values of these revisions may have together.
    """

    revisions: int | None = 10_000
    age_s: float | None = None
    bytes: int | None = 256 * 2**20

    def __post_init__(self) -> None:
        for name, least in (("revisions", 1), ("age_s", 0), ("bytes", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value}: a history keeps at least {least}, or None: all")


class Version(NamedTuple):
    """How things are at a revision, and the facts that led there.

    tree:   of all values; within a history `_LATER` if it has not been needed yet.
    leases: from `_lease` to nothing, at the revision of the write it belongs to.
    size:   the bytes of all values.
    told:   the bytes of the values of all facts there ever were, as far as it is known.
    """

    revision: int
    tree: Tree
    leases: Tree
    size: int
    told: int
    facts: tuple[Fact, ...]


_LATER: Final = trees.Leaf(None, [], [], [])


class History:
    """Knows nothing of files, sockets or time.

    revision: the newest.
    floor:    the oldest revision that can still be read and watched from.
    settled:  up to here nothing will be taken back any more; the floor stays below.
    """

    def __init__(self, *, retention: Retention | None = None, begin: Version | None = None) -> None:
        self.retention = retention or Retention()
        first = begin or Version(0, None, None, 0, 0, ())
        self.revision = self.settled = first.revision
        self.floor = first.revision
        self._floor_told = first.told
        self._now = first
        self._tree, self._edit = first.tree, object()  # The tree of now, which grows in place.
        # From one that keeps its tree, at the floor or before; and which ones do.
        self._versions: deque[Version] = deque([first])
        self._kept = 0  # How many of them are after the floor.
        self._whole: deque[int] = deque([first.revision])

    @classmethod
    def restored(
        cls,
        revision: int,
        items: Sequence[tuple[str, bytes, int]],
        leases: Iterable[tuple[str, int, float]] = (),
        *,
        retention: Retention | None = None,
    ) -> "History":
        """Return a history that begins with some values as of `revision`.

        items:  (key, value, revision), in the order of the keys.
        leases: (key, revision, expires) of those that have one.
        """
        columns = zip(*items, strict=True)
        keys, values, revisions = (list(c) for c in columns) if items else ([], [], [])
        leased: Tree = None
        for key, at, expires in leases:
            leased, _ = trees.put(leased, _lease(expires, key), b"", at)
        tree, size = trees.build(keys, values, revisions), sum(map(len, values))
        return cls(retention=retention, begin=Version(revision, tree, leased, size, 0, ()))

    @property
    def value_bytes(self) -> int:
        """How many bytes all values have."""
        return self._now.size

    # Writing.

    def commit(
        self,
        writes: Sequence[Write],
        cause: Cause,
        *,
        at: float = 0.0,
        checks: Mapping[str, int] = _NO_CHECKS,
    ) -> tuple[Fact, ...]:
        """Do all writes as the next revision, or none; return their facts.

        No key may be written twice.

        at:     seconds since 1970.
        checks: the revisions that keys must have which are not written; 0: it must not exist.
        Raises: CompareFailed. Cost: O(log keys) for each write.
        """
        for key, expected in checks.items():
            _compare(key, expected, trees.get(self._tree, key))
        return self.apply(self.revision + 1, writes, cause, at=at)

    def apply(
        self, revision: int, writes: Sequence[Write], cause: Cause, *, at: float = 0.0
    ) -> tuple[Fact, ...]:
        """Do all writes as this revision, newer than all; those in between are without facts.

        Raises: CompareFailed.
        """
        assert writes, "a commit changes something"
        assert revision > self.revision
        tree, edit = self._tree, self._edit
        _, _, leases, size, told, _ = self._now
        facts: list[Fact] = []
        for key, value, expect, expires in writes:
            if value is None:
                tree, found = trees.remove(tree, key, edit)
            else:
                tree, found = trees.put(tree, key, value, revision, edit)
                size += len(value)
                told += len(value)
            if found is None:
                facts.append(Fact(revision, key, value, None, cause, 0, at))
            else:
                facts.append(Fact(revision, key, value, found[0], cause, found[1], at))
                size -= len(found[0])
            if expect is not None and expect != facts[-1].prev_revision:
                self._tree = _undone(tree, facts, edit)
                raise CompareFailed(key, expected=expect, found=facts[-1].prev_revision)
            if expires is not None:
                leases, _ = trees.put(leases, _lease(expires, key), b"", revision)
        self._now = Version(revision, _LATER, leases, size, told, tuple(facts))
        self._tree, self.revision = tree, revision
        self._versions.append(self._now)
        self._kept += 1
        if revision - self._whole[-1] >= _STEP:
            self._freeze()
        self._raise_floor()
        if self._versions[0].revision < self._whole[0] or self._whole[-1] == revision:
            self._forget()
        return self._now.facts

    def advance(self, revision: int) -> None:
        """Hear that nothing happened until a revision: it is the newest now."""
        assert revision >= self.revision
        self.revision = revision

    def rollback(self, revision: int) -> None:
        """Undo what came after `revision`: it could not be made durable, and nobody was told."""
        assert self.settled <= revision <= self.revision
        self._tree, self._edit = self._at(revision).tree, object()
        while self._versions[-1].revision > revision:
            self._versions.pop()
            self._kept -= 1
        while self._whole[-1] > revision:
            self._whole.pop()
        self._now, self.revision = self._versions[-1], revision

    def compact(self, revision: int) -> None:
        """Forget how things were before `revision`, or `settled`; that becomes the floor.

        Memory is given back with the next commits, in pieces.
        """
        revision = min(revision, self.settled)
        if revision > self.floor:
            index = self._index(revision)
            self.floor, self._floor_told = revision, self._versions[index].told
            self._kept = len(self._versions) - 1 - index

    # Reading.

    def get(self, key: str, revision: int | None = None) -> Stored | None:
        """Return the value of `key`, now or at a revision; None if it had none. Raises: Expired."""
        found = trees.get(self._tree_at(revision), key)
        return None if found is None else Stored(key, *found)

    def list(
        self, prefix: str, *, revision: int | None = None, start_after: str = "", limit: int = 0
    ) -> Page:
        """Return the values under `prefix` in the order of their keys, now or at a revision.

        limit:  0 for all.
        Raises: Expired.
        Cost:   O(page + log keys), whatever has changed since; and for the first who asks for a
                revision that of _STEP writes.
        """
        at = self.revision if revision is None else min(revision, self.revision)
        tree = self._tree_at(revision)
        first = prefix if start_after < prefix else start_after + "\0"
        end = prefix + _LAST
        keys, values, revisions = trees.between(tree, first, end, limit)
        remaining = 0
        if limit and len(keys) == limit:
            remaining = trees.rank(tree, end) - trees.rank(tree, first) - limit
        return Page(at, keys, values, revisions, remaining)

    def version(self, revision: int | None = None) -> Version:
        """Return how things are, now or at a revision: a value that never changes.

        Raises: Expired. Cost: O(1) in the number of keys.
        """
        return self._at(self.revision if revision is None else revision)

    def since(self, revision: int) -> Sequence[Fact]:
        """Return the facts after `revision`, oldest first. Raises: Expired."""
        self._check(revision)
        return [fact for version in self._after(revision) for fact in version.facts]

    def facts_at(self, revision: int) -> tuple[Fact, ...]:
        """Return the facts of one revision. Raises: Expired, for the floor, too."""
        self._check(revision - 1)
        version = self._versions[self._index(revision)]
        return version.facts if version.revision == revision else ()

    def versions(self, key: str) -> Sequence[Fact]:
        """Return the facts about `key` that are kept, oldest first.

        Cost: O(log keys) for each, and O(revisions) where the key did not exist.
        """
        found: list[Fact] = []
        at = self.revision
        while at > self.floor:
            stored = self.get(key, at)
            if stored is None:
                fact = self._deletion(key, at)
                if fact is None:
                    break
            elif stored.revision > self.floor:
                fact = next(f for f in self.facts_at(stored.revision) if f.key == key)
            else:
                break
            found.append(fact)
            at = fact.revision - 1
        return found[::-1]

    def leases(self, revision: int | None = None) -> Iterator[tuple[str, int, float]]:
        """Yield (key, revision, expires) of every lease that holds, the earliest first."""
        return leases_of(self.version(revision))

    def due(self, now: float, *, limit: int = 1000) -> Sequence[str]:
        """Return the keys whose lease has run out: somebody ought to delete them.

        now: seconds since 1970.
        """
        found: list[str] = []
        over = trees.between(self._now.leases, "", _lease(now, _LAST))
        for lease, at in zip(over.keys, over.revisions, strict=True):
            _, key = _leased(lease)
            stored = trees.get(self._tree, key)
            if stored is not None and stored[1] == at:
                found.append(key)
                if len(found) == limit:
                    break
            elif self.settled == self.revision:  # Else it might have to be taken back.
                self._end_lease(lease)
        return found

    def next_expiry(self) -> float | None:
        """Return when the next lease may run out, seconds since 1970; None if there is none."""
        first = trees.between(self._now.leases, "", _LAST, 1).keys
        return _leased(first[0])[0] if first else None

    def fork(self, revision: int | None = None) -> "History":
        """Return a history that goes on from a revision, and shares everything before.

        Raises: Expired. Cost: O(1) in the number of keys.
        """
        return History(retention=self.retention, begin=self.version(revision)._replace(facts=()))

    # Parts.

    def _freeze(self) -> Version:
        """Have the tree of now stay as it is: the next change makes another."""
        if self._now.tree is _LATER:
            self._now = self._versions[-1] = self._now._replace(tree=self._tree)
            self._whole.append(self._now.revision)
            self._edit = object()
        return self._now

    def _raise_floor(self) -> None:
        """Raise the floor as far as the limits ask for it."""
        limits, now = self.retention, self._now
        revisions, age_s, size = limits.revisions, limits.age_s, limits.bytes
        while self._kept:
            oldest = self._versions[-self._kept]
            if not (
                (revisions is not None and self._kept > revisions)
                or (size is not None and now.told - self._floor_told > size)
                or (age_s is not None and now.facts[0].at - oldest.facts[0].at > age_s)
            ):
                return
            if oldest.revision > self.settled:
                return
            self.floor, self._floor_told = oldest.revision, oldest.told
            self._kept -= 1

    def _forget(self) -> None:
        """Drop some of what is not needed any more to tell how things were since the floor."""
        versions, whole = self._versions, self._whole
        while len(whole) > 1 and whole[1] <= self.floor:
            whole.popleft()
        for _ in range(_FORGET_MAX):
            if versions[0].revision >= whole[0]:
                return
            versions.popleft()

    def _check(self, revision: int) -> None:
        if revision < self.floor:
            raise Expired.revision(asked=revision, oldest=self.floor)

    def _tree_at(self, revision: int | None) -> Tree:
        """Return the tree that holds now or at a revision, to be read at once. Raises: Expired."""
        if revision is None or revision >= self.revision:
            return self._tree
        return self._at(revision).tree

    def _at(self, revision: int) -> Version:
        """Return the version that holds at a revision, with its tree. Raises: Expired."""
        if revision >= self.revision:
            return self._freeze()
        self._check(revision)
        index = before = self._index(revision)
        while self._versions[before].tree is _LATER:
            before -= 1
        if before < index:
            tree, edit = self._versions[before].tree, object()
            for later in range(before + 1, index + 1):
                for fact in self._versions[later].facts:
                    tree = _changed(tree, fact.key, fact.value, fact.revision, edit)
            self._versions[index] = self._versions[index]._replace(tree=tree)
        return self._versions[index]

    def _index(self, revision: int) -> int:
        """Return where the version is that holds at a revision, not older than the first."""
        guess = revision - self._versions[0].revision
        if guess < len(self._versions) and self._versions[guess].revision == revision:
            return guess
        return bisect_right(self._versions, revision, key=_revision_of) - 1

    def _after(self, revision: int) -> Iterator[Version]:
        """Yield the versions after `revision`, oldest first."""
        if revision < self._now.revision:
            for index in range(self._index(revision) + 1, len(self._versions)):
                yield self._versions[index]

    def _deletion(self, key: str, until: int) -> Fact | None:
        """Return the newest fact until a revision about a key that has no value then, if kept."""
        for index in range(self._index(until), 0, -1):
            version = self._versions[index]
            if version.revision <= self.floor:
                return None
            for fact in version.facts:
                if fact.key == key:
                    return fact
        return None

    def _end_lease(self, lease: str) -> None:
        """Drop a lease that no version from now on will know."""
        now = self._now._replace(leases=trees.remove(self._now.leases, lease)[0])
        self._now = self._versions[-1] = now


def _compare(key: str, expected: int, found: Found) -> None:
    revision = 0 if found is None else found[1]
    if revision != expected:
        raise CompareFailed(key, expected=expected, found=revision)


def _changed(tree: Tree, key: str, value: bytes | None, revision: int, edit: object) -> Tree:
    if value is None:
        return trees.remove(tree, key, edit)[0]
    return trees.put(tree, key, value, revision, edit)[0]


def _undone(tree: Tree, facts: Sequence[Fact], edit: object) -> Tree:
    """Return a tree without the changes these facts tell of, the newest of which comes last."""
    for fact in reversed(facts):
        tree = _changed(tree, fact.key, fact.prev, fact.prev_revision, edit)
    return tree


def leases_of(version: Version) -> Iterator[tuple[str, int, float]]:
    """Yield (key, revision, expires) of every lease that holds, the earliest first."""
    for lease, _, at in trees.items(version.leases):
        expires, key = _leased(lease)
        found = trees.get(version.tree, key)
        if found is not None and found[1] == at:
            yield key, at, expires


def _lease(expires: float, key: str) -> str:
    """Return what sorts by the time, then by the key. Exact to the millisecond, later rather."""
    return f"{max(0, -int(-expires * 1000 // 1)):015d}{key}"


def _leased(lease: str) -> tuple[float, str]:
    return int(lease[:15]) / 1000, lease[15:]


def _revision_of(version: Version) -> int:
    return version.revision
