"""The store's memory: a single-writer, in-memory, multi-version map of packed objects. Pure.

The latest value of every key stands in one sorted map. The facts since the floor, and the versions
of the keys they are about, are kept beside it, so that a list or a watch from any revision since
the floor is exact. Values are bytes and never change: versions, facts and lists share them.
"""

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sortedcontainers import SortedDict, SortedList

from kubeloop.api.errors import Expired
from kubeloop.store.facts import Cause, Fact

_LAST: Final = "\U0010ffff"  # Sorts after every character of a key.


@dataclass(frozen=True, slots=True)
class Stored:
    """A value. revision: of its last change."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. revision: of the list;  remaining: how many follow after this page."""

    revision: int
    items: list[Stored]
    remaining: int


@dataclass(frozen=True, slots=True)
class Write:
    """A change of one key.

    value:  None deletes.
    expect: the revision the key must have now; 0: it must not exist; None: whatever it has.
    """

    key: str
    value: bytes | None
    expect: int | None = None


class CompareFailed(Exception):
    """A key was not what the writer expected; nothing of the transaction was done."""

    def __init__(self, key: str, *, expected: int, found: int) -> None:
        super().__init__(f"{key} is at revision {found}, not at {expected}: read it again")
        self.key = key


class History:
    """Knows nothing of files, sockets or time.

    revisions_max: how many revisions one can look back, at least; at most twice as many are kept.
    revision:      the newest.
    floor:         the oldest revision that can still be read and watched from.
    settled:       up to here nothing will be taken back any more; the floor stays below.
    """

    def __init__(self, *, revisions_max: int) -> None:
        assert revisions_max >= 1
        self.revisions_max = revisions_max
        self.revision = 0
        self.floor = 0
        self.settled = 0
        self._facts: list[Fact] = []  # Of the revisions after `floor`, oldest first.
        self._latest: SortedDict = SortedDict()  # Stored by key, of the keys there are.
        # Of every key changed since the floor, oldest first; an int: deleted at that revision.
        self._versions: dict[str, list[Stored | int]] = {}
        self._gone: SortedList = SortedList()  # The keys with versions that are no more.
        self._changed: dict[str, int] = {}  # The revision of the last change, by resource.

    def restore(self, revision: int, items: Sequence[Stored]) -> None:
        """Begin with these values, as of `revision`, and no history."""
        assert self.revision == 0, "only an empty history can be restored"
        self.revision = self.floor = self.settled = revision
        self._latest.update({item.key: item for item in items})

    # Writing.

    def commit(self, writes: Sequence[Write], cause: Cause) -> list[Fact]:
        """Do all writes as one revision, or none; return their facts.

        No key may be written twice.

        Raises: CompareFailed. Cost: O(log keys) for each write.
        """
        assert writes, "a commit changes something"
        for write in writes:
            if write.expect is not None:
                known = self._latest.get(write.key)
                found = 0 if known is None else known.revision
                if found != write.expect:
                    raise CompareFailed(write.key, expected=write.expect, found=found)
        self.revision += 1
        facts = [self._apply(write, cause) for write in writes]
        if self.revision - self.floor > 2 * self.revisions_max:  # Amortised: O(log keys) a commit.
            self.compact(self.revision - self.revisions_max)
        return facts

    def rollback(self, revision: int) -> None:
        """Undo what came after `revision`: it could not be made durable, and nobody was told."""
        assert self.floor <= revision <= self.revision
        while self._facts and self._facts[-1].revision > revision:
            self._undo(self._facts.pop())
        self.revision = revision

    def compact(self, revision: int) -> None:
        """Forget how things were before `revision`, or `settled`; that becomes the floor."""
        revision = min(revision, self.settled)
        if revision <= self.floor:
            return
        self.floor = revision
        count = self._after(revision)
        for fact in islice(self._facts, count):
            self._forget(fact.key)
        del self._facts[:count]

    # Reading.

    def get(self, key: str, revision: int | None = None) -> Stored | None:
        """Return the value of `key`, now or at a revision; None if it had none. Raises: Expired."""
        if revision is None or revision >= self.revision:
            found: Stored | None = self._latest.get(key)
            return found
        self._check(revision)
        return self._at(key, revision)

    def list(
        self, prefix: str, *, revision: int | None = None, start_after: str = "", limit: int = 0
    ) -> Page:
        """Return the values under `prefix` in the order of their keys, now or at a revision.

        prefix: of one resource, or of one namespace of it.
        limit:  0 for all.
        Raises: Expired.
        Cost:   O(page); in the past of a resource that has changed since, O(page + facts since).
        """
        at = self.revision if revision is None else min(revision, self.revision)
        self._check(at)
        if self._changed.get(prefix.split("/", 3)[2], 0) > at:
            return self._past(prefix, at, start_after, limit)
        first, last = self._range(prefix, start_after)
        stop = min(last, first + limit) if limit else last
        return Page(at, list(self._latest.values()[first:stop]), last - stop)

    def items(self) -> Sequence[Stored]:
        """Return every value there is now, in the order of the keys: a copy of the map only."""
        return list(self._latest.values())

    def since(self, revision: int) -> Sequence[Fact]:
        """Return the facts after `revision`, oldest first. Raises: Expired."""
        self._check(revision)
        return self._facts[self._after(revision) :]

    # Parts.

    def _apply(self, write: Write, cause: Cause) -> Fact:
        key, revision = write.key, self.revision
        before: Stored | None = self._latest.get(key)
        fact = Fact(revision, key, write.value, None if before is None else before.value, cause)
        versions = self._versions.get(key)
        if versions is None:
            versions = self._versions[key] = [] if before is None else [before]
        elif before is None:
            self._gone.discard(key)
        if write.value is None:
            self._latest.pop(key, None)
            self._gone.add(key)
            versions.append(revision)
        else:
            stored = self._latest[key] = Stored(key, write.value, revision)
            versions.append(stored)
        self._facts.append(fact)
        self._changed[fact.resource] = revision
        return fact

    def _undo(self, fact: Fact) -> None:
        key, versions = fact.key, self._versions[fact.key]
        versions.pop()
        before = versions[-1] if versions else 0
        self._gone.discard(key)
        if isinstance(before, Stored):
            self._latest[key] = before
        else:
            self._latest.pop(key, None)
            if versions:
                self._gone.add(key)
        if not versions:
            del self._versions[key]

    def _forget(self, key: str) -> None:
        """Drop the versions of a key that nobody can ask for any more."""
        versions = self._versions.get(key)
        if versions is None:
            return
        kept = bisect_right(versions, self.floor, key=_revision_of) - 1
        del versions[: max(0, kept)]
        if len(versions) == 1 and _revision_of(versions[0]) <= self.floor:
            del self._versions[key]  # It says no more than the map does.
            self._gone.discard(key)

    def _check(self, revision: int) -> None:
        if revision < self.floor:
            raise Expired.revision(asked=revision, oldest=self.floor)

    def _after(self, revision: int) -> int:
        """Return the index of the first fact after `revision`."""
        return bisect_right(self._facts, revision, key=_revision_of)

    def _at(self, key: str, revision: int) -> Stored | None:
        versions = self._versions.get(key)
        if versions is None:
            found: Stored | None = self._latest.get(key)
            return found
        index = bisect_right(versions, revision, key=_revision_of) - 1
        version = versions[index] if index >= 0 else 0
        return version if isinstance(version, Stored) else None

    def _range(self, prefix: str, start_after: str) -> tuple[int, int]:
        """Return where, in the map, the keys under `prefix` and after `start_after` are."""
        last = self._latest.bisect_left(prefix + _LAST)
        if start_after < prefix:
            return self._latest.bisect_left(prefix), last
        return min(self._latest.bisect_right(start_after), last), last

    def _past(self, prefix: str, revision: int, start_after: str, limit: int) -> Page:
        """Return a list as it was: the keys there are and those that are gone, at a revision."""
        low, high = max(prefix, start_after), prefix + _LAST
        keys = heapq.merge(self._latest.irange(low, high), self._gone.irange(low, high))
        found = (self._at(key, revision) for key in keys if key != start_after)
        items = list(islice(filter(None, found), limit or None))
        if not limit or len(items) < limit:
            return Page(revision, items, 0)
        return Page(revision, items, self._count(prefix, items[-1].key, revision))

    def _count(self, prefix: str, after: str, revision: int) -> int:
        """Return how many keys under `prefix` and after `after` there were at `revision`."""
        first, last = self._range(prefix, after)
        born = sum(
            (fact.value is not None) - (fact.prev is not None)
            for fact in islice(self._facts, self._after(revision), None)
            if fact.key > after and fact.key.startswith(prefix)
        )
        return last - first - born


def _revision_of(version: Stored | Fact | int) -> int:
    return version if isinstance(version, int) else version.revision
