"""How things are kept in etcd: values, and the record of every group of commits. Pure.

A group is one transaction of etcd. Beside the values it puts its record under one key, always the
same, and it compares that this key is as its writer knew it: so all groups of all API servers are
in one row, each begins at the revision where the one before ended, and a writer knows the revisions
of its commits before etcd has seen them. The record tells what happened: every commit, its keys,
why and when. The newest value of a key is in its put, values between in the record.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from kubeloop.store.facts import Cause
from kubeloop.store.history import Write

FORMAT: Final = 1
WRITERS_MAX: Final = 16  # So many writers' newest groups are remembered.

_NO_CHECKS: Final[Mapping[str, int]] = {}


class Commit(NamedTuple):
    """Writes that are one revision. checks: keys that must be as they are, as in a commit."""

    revision: int
    writes: Sequence[Write]
    cause: Cause
    at: float
    checks: Mapping[str, int] = _NO_CHECKS


class Record(NamedTuple):
    """A group of commits.

    writer: who wrote it;  number: which of his groups it is.
    recent: the newest group of each of the last writers, the latest last.
    commits: all, oldest first; where a value is in a put of the group, the record has none.
    """

    writer: bytes
    number: int
    recent: Mapping[bytes, int]
    commits: Sequence[Commit]

    @property
    def first(self) -> int:
        """The revision of the first commit."""
        return self.commits[0].revision

    @property
    def last(self) -> int:
        """The revision of the last commit."""
        return self.commits[-1].revision


class Value(NamedTuple):
    """A value as it is kept. revision: of its last change;  expires: as in a `Write`."""

    revision: int
    expires: float | None
    value: bytes

    def encode(self) -> bytes:
        """Return the msgpack array [format, revision, expires, value]."""
        packed: bytes = msgpack.packb([FORMAT, self.revision, self.expires, self.value])
        return packed

    @classmethod
    def decode(cls, packed: bytes) -> "Value | None":
        """Invert `encode`; None if it is nothing of ours."""
        if packed[:2] != _VALUE_START:
            return None
        try:
            _, revision, expires, value = msgpack.unpackb(packed)
        except ValueError:
            return None
        whole = isinstance(revision, int) and isinstance(value, bytes)
        return cls(revision, expires, value) if whole else None


_VALUE_START: Final = bytes([0x94, FORMAT])  # An array of four, the format.


def next_recent(recent: Mapping[bytes, int], writer: bytes, number: int) -> dict[bytes, int]:
    """Return who wrote lately, after another group."""
    after = {w: n for w, n in recent.items() if w != writer}
    after[writer] = number
    return dict(list(after.items())[-WRITERS_MAX:])


def final_writes(commits: Sequence[Commit]) -> dict[str, tuple[int, Write]]:
    """Return what the commits leave behind: key -> (revision, write)."""
    return {write.key: (c.revision, write) for c in commits for write in c.writes}


def encode_record(record: Record) -> bytes:
    """Return a record, packed: a value that is put under its key is left out."""
    final = final_writes(record.commits)
    commits = [
        (
            commit.revision,
            commit.at,
            tuple(commit.cause),
            [
                (
                    write.key,
                    write.expires,
                    # True: it is in the put of this key.
                    write.value is not None and (final[write.key][1] is write or write.value),
                )
                for write in commit.writes
            ],
        )
        for commit in record.commits
    ]
    recent = list(record.recent.items())
    packed: bytes = msgpack.packb([FORMAT, record.writer, record.number, recent, commits])
    return packed


def decode_record(packed: bytes, puts: Mapping[str, bytes] | None) -> Record:
    """Invert `encode_record`.

    puts:   the values that were put in the same transaction; None if they do not matter: then
            the writes have none.
    Raises: ValueError if it is no record, or of another format; KeyError if a put is missing.
    """

    def value_of(key: str, told: bytes | bool) -> bytes | None:
        if isinstance(told, bytes):
            return told
        return puts[key] if told and puts is not None else None

    content: Any = msgpack.unpackb(packed)
    if not isinstance(content, list) or len(content) != 5 or content[0] != FORMAT:
        raise ValueError(f"this is no record of format {FORMAT}: {packed[:40]!r}")
    _, writer, number, recent, commits = content
    return Record(
        writer,
        number,
        dict(recent),
        [
            Commit(
                revision,
                [Write(key, value_of(key, told), None, expires) for key, expires, told in writes],
                Cause(*cause),
                at,
            )
            for revision, at, cause, writes in commits
        ],
    )


def adopted(key: str, value: bytes) -> bytes | None:
    """Return the object in a value that somebody put by hand, packed; None if there is none.

    It may be what etcdctl got from another time, the msgpack of an object, or JSON; its name and
    namespace must be those of the key.
    """
    kept = Value.decode(value)
    if kept is not None:
        return kept.value
    try:
        is_json = value.lstrip()[:1] == b"{"
        content = json.loads(value) if is_json else msgpack.unpackb(value)
        packed: bytes = msgpack.packb(content)
    except (ValueError, OverflowError, RecursionError, TypeError):  # As the libraries refuse.
        return None
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(metadata, dict):
        return None
    *_, namespace, name = key.split("/")
    whose = metadata.get("name"), metadata.get("namespace", namespace)
    return packed if whose == (name, namespace) else None
