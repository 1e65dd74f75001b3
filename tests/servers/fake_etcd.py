"""As much of etcd as the store uses, in memory, and a client to it over a bad network.

It does what a transaction, a range, a watch and a compaction do in etcd, no more.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import pytest

pytest.importorskip("aetcd", reason="no etcd client: pip install 'kubeloop[etcd]'")

from aetcd import rpc

from kubeloop.store.etcd.client import Client, Compacted, Event, Heard, Item, Unavailable


@dataclass
class FakeEtcd:
    """kvs: key -> (value, revision);  log: what happened at each revision since the first."""

    kvs: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    log: list[list[Event]] = field(default_factory=list)
    compacted: int = 0

    @property
    def revision(self) -> int:
        """The newest; an empty etcd is at 1."""
        return 1 + len(self.log)

    def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        """Do a transaction."""
        succeeded = all(
            self.kvs.get(compare.key, (b"", 0))[1] == compare.mod_revision
            for compare in request.compare
        )
        answer = rpc.TxnResponse(succeeded=succeeded)
        events: dict[bytes, bytes | None] = {}
        for op in request.success if succeeded else request.failure:
            one = answer.responses.add()
            if op.HasField("request_put"):
                assert op.request_put.key not in events, "duplicate key given in txn request"
                events[op.request_put.key] = op.request_put.value
            elif op.HasField("request_delete_range"):
                if op.request_delete_range.key in self.kvs:
                    events[op.request_delete_range.key] = None
            elif op.request_range.key in self.kvs:
                value, mod = self.kvs[op.request_range.key]
                one.response_range.kvs.add(key=op.request_range.key, value=value, mod_revision=mod)
            else:
                one.response_range.SetInParent()
        assert len(request.compare) <= 128
        assert len(request.success) <= 128
        self.write(events)
        answer.header.revision = self.revision
        return answer

    def write(self, events: Mapping[bytes, bytes | None]) -> None:
        """Put and delete some keys as one revision."""
        if not events:
            return
        self.log.append([Event(key, value) for key, value in events.items()])
        for key, value in events.items():
            if value is None:
                self.kvs.pop(key, None)
            else:
                self.kvs[key] = value, self.revision

    def after(self, revision: int) -> list[tuple[int, list[Event]]]:
        """Return what happened after a revision. Raises: Compacted."""
        if revision + 1 < self.compacted:
            raise Compacted(f"etcd begins at {self.compacted}")
        return list(enumerate(self.log[revision - 1 :], revision + 1))


class FakeClient(Client):
    """A client whose calls are late, get lost on the way there or back, or arrive in the end.

    trouble: how likely each of that is.
    """

    def __init__(self, etcd: FakeEtcd, chance: random.Random, trouble: float) -> None:
        self.etcd, self.chance, self.trouble = etcd, chance, trouble

    async def close(self) -> None:
        pass

    def move_on(self) -> None:
        pass

    async def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        await self._pass()
        if self._happens():
            if self._happens(0.5):  # It is still under way, and arrives some time.
                delay_s = self.chance.uniform(0, 2)
                asyncio.get_running_loop().call_later(delay_s, self.etcd.txn, request)
            raise Unavailable("lost on the way there")
        answer = self.etcd.txn(request)
        await self._pass()
        if self._happens():
            raise Unavailable("lost on the way back")
        return answer

    async def list(self, first: bytes, end: bytes) -> tuple[int, list[Item]]:
        await self._pass()
        found = (self.etcd.revision, sorted(self.etcd.kvs.items()))
        await self._pass()
        if self._happens():
            raise Unavailable("lost")
        return found[0], [Item(k, v, mod) for k, (v, mod) in found[1] if first <= k < end]

    async def compact(self, revision: int) -> None:
        self.etcd.compacted = max(self.etcd.compacted, revision)

    async def watch(self, first: bytes, end: bytes, after: int, heard: Heard) -> NoReturn:
        while True:
            await self._pass()
            if self._happens():
                await asyncio.sleep(self.chance.uniform(0, 2))
                raise Unavailable("the watch broke")
            told = self.etcd.after(after)[: self.chance.randint(1, 5)]
            if told:
                after = told[-1][0]
                mine = [(r, [e for e in events if first <= e.key < end]) for r, events in told]
                heard([one for one in mine if one[1]])

    async def _pass(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, 0.1))

    def _happens(self, factor: float = 0.0) -> bool:
        return self.chance.random() < (factor or self.trouble)
