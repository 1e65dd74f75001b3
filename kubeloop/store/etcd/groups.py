"""Groups of commits as transactions of etcd."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aetcd import rpc

from kubeloop.store.etcd.keys import Keys
from kubeloop.store.etcd.records import (
    Commit,
    Record,
    Value,
    encode_record,
    final_writes,
)

OPS_MAX: Final = 120  # Of a group; etcd takes 128 (--max-txn-ops).
BYTES_MAX: Final = 1_200_000  # Of its values; etcd takes 1.5 MiB (--max-request-bytes).


@dataclass(slots=True, eq=False)
class Group:
    """A transaction under way.

    base:     the revision of etcd at which the newest group must be;
    compared: the keys, and the revision of etcd each must be at.
    """

    record: Record
    base: int
    compared: Mapping[str, int]
    attempts: int = 0
    task: "asyncio.Task[None] | None" = None
    timer: asyncio.TimerHandle | None = None

    def wrote(self, record: Record) -> bool:
        """Tell whether a record is that of this group."""
        return (record.writer, record.number) == (self.record.writer, self.record.number)

    def end(self) -> None:
        """Ask etcd no more about it."""
        if self.timer is not None:
            self.timer.cancel()
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def request(self, keys: Keys) -> rpc.TxnRequest:
        """Return the transaction. If it fails, it answers with the newest group's key."""
        success = [_put(keys.sequence, encode_record(self.record))]
        for key, (revision, write) in final_writes(self.record.commits).items():
            outer = keys.outer(key)
            if write.value is None:
                delete = rpc.DeleteRangeRequest(key=outer)
                success.append(rpc.RequestOp(request_delete_range=delete))
            else:
                success.append(_put(outer, Value(revision, write.expires, write.value).encode()))
        compare = [_at(keys.sequence, self.base)]
        compare += [_at(keys.outer(key), mod) for key, mod in self.compared.items()]
        found = rpc.RangeRequest(key=keys.sequence, keys_only=True)
        failure = [rpc.RequestOp(request_range=found)]
        return rpc.TxnRequest(compare=compare, success=success, failure=failure)

    def question(self, keys: Keys) -> rpc.TxnRequest:
        """Return the transaction that reads the compared keys, if no other group came."""
        ranges = [rpc.RangeRequest(key=keys.outer(key)) for key in self.compared]
        return rpc.TxnRequest(
            compare=[_at(keys.sequence, self.base)],
            success=[rpc.RequestOp(request_range=one) for one in ranges],
        )


def take_group(commits: Sequence[Commit], last: int) -> int:
    """Return how many of these commits fit into one group, up to revision `last`: at least one."""
    keys: set[str] = set()
    size = 0
    for count, commit in enumerate(commits):
        keys.update(write.key for write in commit.writes)
        keys.update(commit.checks)
        size += sum(len(write.value or b"") for write in commit.writes)
        if count and (len(keys) > OPS_MAX or size > BYTES_MAX or commit.revision > last):
            return count
    return len(commits)


def _put(key: bytes, value: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))


def _at(key: bytes, mod: int) -> rpc.Compare:
    return rpc.Compare(key=key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=mod)
