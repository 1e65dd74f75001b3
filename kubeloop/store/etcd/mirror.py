"""The mirror of etcd: which revision of etcd each key is at, and what is yet to be adopted.

Groups bring commits to the history. What somebody changes by other means is set aside, as foreign,
until it comes by a group, too; meanwhile the history has what it had.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from kubeloop.store.etcd.groups import BYTES_MAX, OPS_MAX
from kubeloop.store.etcd.keys import Keys
from kubeloop.store.etcd.listing import Listing
from kubeloop.store.etcd.records import (
    Commit,
    Record,
    Value,
    adopted,
    decode_record,
    final_writes,
)
from kubeloop.store.etcd.versions import splice
from kubeloop.store.facts import Cause, Fact
from kubeloop.store.history import History, Write
from kubeloop.store.store import StoreFailed

_BY_HAND: Final = Cause("etcd", "", 0, "")
_MISSED: Final = Cause("", "", 0, "")

logger = logging.getLogger("kubeloop.store.etcd")


class Foreign(NamedTuple):
    """What somebody did to a key by other means than a group, to be adopted.

    seen:  the revision of etcd at which it was so;  mod: the key's revision, 0 if it is gone.
    value: the object, packed; None if it is gone, or none.
    """

    seen: int
    mod: int
    value: bytes | None


_NOTHING: Final = Foreign(0, -1, None)


class Mirror:
    """What is known of etcd beside the history. Its commits up to `history.settled` are in etcd.

    seen: the revision of etcd up to which all is known;  base: that of the newest group.
    mods: the revisions of etcd of the keys, as the history has them.
    """

    def __init__(self, history: History, keys: Keys, listing: Listing) -> None:
        self.history, self.keys = history, keys
        self.foreign: dict[str, Foreign] = {}
        self.mods: dict[str, int] = {}
        self._take(listing)

    def expected(self, commits: Sequence[Commit]) -> dict[str, int]:
        """Return the revision of etcd at which each key of some commits must be."""
        names = [key for commit in commits for key in commit.checks]
        return {key: self.mods.get(key, 0) for key in (*names, *final_writes(commits))}

    def recorded(self, record: Record, revision: int) -> None:
        """Hear of the newest group in etcd, and the revision of etcd it is."""
        self.base, self.recent = revision, record.recent
        for key, (_, write) in final_writes(record.commits).items():
            if write.value is None:
                self.mods.pop(key, None)
            else:
                self.mods[key] = revision
            if self.foreign.get(key, _NOTHING).seen < revision:
                self.foreign.pop(key, None)

    def apply(self, commit: Commit) -> Sequence[Fact]:
        """Commit what is in etcd to the history, without what is so already; return the facts."""
        there = self.history.get
        real = [w for w in commit.writes if w.value is not None or there(w.key) is not None]
        facts: Sequence[Fact] = ()
        if real:
            facts = self.history.apply(commit.revision, real, commit.cause, at=commit.at)
        self.history.advance(commit.revision)  # Even if it is without facts.
        return facts

    def changed(self, key: str, value: bytes | None, mod: int, seen: int) -> None:
        """Hear what a key had at a revision of etcd, `seen`, that no group brought about."""
        before = self.foreign.get(key, _NOTHING)
        if seen <= max(self.mods.get(key, 0), before.seen) or before.mod == mod:
            return
        there = self.history.get(key, self.history.settled) is not None
        content = None if value is None else adopted(key, value)
        if content is not None or there:
            self.foreign[key] = Foreign(seen, mod, content)
            return
        self.foreign.pop(key, None)
        self.mods.pop(key, None)
        if mod:
            logger.warning("%s in etcd is no object: it is left alone", key)
            self.mods[key] = mod

    def adoption(self) -> tuple[Commit, Mapping[str, int]]:
        """Return the next commit of what is foreign, and at what revision each key must be."""
        revision, size = self.history.settled + 1, 0
        writes: list[Write] = []
        for key, (_, _, value) in self.foreign.items():
            size += len(value or b"")
            if writes and (len(writes) == OPS_MAX or size > BYTES_MAX):
                break
            writes.append(Write(key, value and splice(value, str(revision))))
        compared = {write.key: self.foreign[write.key].mod for write in writes}
        return Commit(revision, writes, _BY_HAND, 0.0), compared

    def record(self, told: Mapping[bytes, bytes | None]) -> Record:
        """Return the record in the changes of a group. Raises: StoreFailed."""
        packed = told[self.keys.sequence]
        if packed is None:
            raise StoreFailed(self.backwards())
        puts: dict[str, bytes] = {}
        for outer, value in told.items():
            key = self.keys.inner(outer)
            kept = None if value is None else Value.decode(value)
            if key is not None and kept is not None:
                puts[key] = kept.value
        try:
            return decode_record(packed, puts)
        except (ValueError, KeyError) as error:
            name = self.keys.sequence.decode()
            raise StoreFailed(f"{name} in etcd is not what it should be: {error}") from error

    def compare(self, listing: Listing) -> None:
        """Learn from a listing what was changed by other means, if it has no newer group."""
        assert listing.base == self.base
        for key in self.mods.keys() - listing.mods.keys() - listing.others.keys():
            self.changed(key, None, 0, listing.revision)
        for key, (mod, value) in listing.others.items():
            self.changed(key, value, mod, listing.revision)
        self.seen = listing.revision

    def replace(self, listing: Listing) -> None:
        """Become like a listing with a newer group. How it came to be so is not known."""
        page = self.history.list("/registry/")
        before = dict(zip(page.keys, page.revisions, strict=True))
        gone = before.keys() - listing.values.keys() - listing.others.keys()
        missed = {listing.last: [Write(key, None) for key in sorted(gone)]}
        for key, kept in listing.values.items():
            if before.get(key) != kept.revision:
                write = Write(key, kept.value, None, kept.expires)
                missed.setdefault(kept.revision, []).append(write)
        for revision, writes in sorted(missed.items()):
            self.apply(Commit(revision, writes, _MISSED, 0.0))
        self.history.settled = listing.last
        self.history.compact(listing.last)
        self._take(listing)

    def backwards(self) -> str:
        """Return what to say when etcd knows less than it did."""
        return (
            f"{self.keys.sequence.decode()} in etcd is gone, or older than it was: was etcd "
            "restored from a backup? Start again"
        )

    def _take(self, listing: Listing) -> None:
        self.seen, self.base, self.mods = listing.revision, listing.base, listing.mods
        self.recent = {} if listing.record is None else listing.record.recent
        self.foreign.clear()
        for key, (mod, value) in listing.others.items():
            self.changed(key, value, mod, listing.revision)
