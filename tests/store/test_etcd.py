"""etcd as the store: the same promises as of the others, also to several API servers at once."""

import asyncio
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aetcd", reason="no etcd client: pip install 'kubeloop[etcd]'")

from kubeloop.api.errors import Expired
from kubeloop.store.etcd.groups import BYTES_MAX, OPS_MAX, take_group
from kubeloop.store.etcd.keys import Keys
from kubeloop.store.etcd.outcomes import StoreUnavailable
from kubeloop.store.etcd.records import (
    Commit,
    Record,
    Value,
    adopted,
    decode_record,
    encode_record,
)
from kubeloop.store.etcd.versions import splice
from kubeloop.store.facts import NO_CAUSE, Cause
from kubeloop.store.history import CompareFailed, Write
from kubeloop.store.store import StoreFailed, StoreFull
from tests.servers.certificates import make_tls
from tests.servers.etcd import Etcd, NoEtcd, running_etcd
from tests.servers.etcd_stores import (
    COUNTER,
    EtcdStore,
    Listener,
    Superseded,
    caught_up,
    count_up,
    flush,
    fresh_id,
    put,
    stores,
)
from tests.servers.proxy import proxy_to

POD = "/registry/pods/default/web"
prefixes = count(1)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    try:
        with running_etcd(tmp_path_factory.mktemp("etcd")) as etcd:
            yield etcd
    except NoEtcd as error:
        pytest.skip(str(error))


@pytest.fixture
def prefix() -> str:
    return f"/test-{next(prefixes)}/registry/"


# The pure parts.

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)
metadata = st.dictionaries(
    st.sampled_from(["name", "resourceVersion", "uid"]) | st.text(), values, max_size=20
)
objects = st.dictionaries(st.text(), values).flatmap(
    lambda rest: metadata.map(lambda own: {**rest, "metadata": own, "spec": rest})
)


@given(objects, st.text(max_size=40))
def test_a_version_is_spliced_as_if_unpacked_and_packed_again(obj: Any, version: str) -> None:
    expected = {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}
    assert splice(msgpack.packb(obj), version) == msgpack.packb(expected)


@given(values.filter(lambda value: not isinstance(value, dict) or "metadata" not in value))
def test_what_has_no_metadata_stays_as_it_is(value: Any) -> None:
    assert splice(msgpack.packb(value), "7") == msgpack.packb(value)


@given(st.data())
def test_half_an_object_is_refused(data: st.DataObject) -> None:
    packed = msgpack.packb({"metadata": {"name": "a", "labels": {"x": "y" * 40}}})
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(ValueError, match="ends before its end"):
        splice(packed[:cut], "7")


commits = st.lists(
    st.tuples(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "c"]), st.none() | st.binary(max_size=3),
                st.none() | st.floats(0, 1e10),
            ),
            min_size=1, max_size=3, unique_by=lambda write: write[0],
        ),
        st.floats(0, 1e10),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@given(commits)
def test_a_record_and_the_puts_tell_every_commit(told: Any) -> None:
    cause = Cause("scheduler", "m7", 3, "system:kube-scheduler")
    made = [
        Commit(revision, [Write(k, v, None, e if v is not None else None) for k, v, e in writes],
               cause, at)
        for revision, (writes, at) in enumerate(told, 5)
    ]  # fmt: skip
    record = Record(b"w" * 16, 3, {b"w" * 16: 3}, made)
    puts = {write.key: write.value for commit in made for write in commit.writes}
    kept = {key: value for key, value in puts.items() if value is not None}
    assert decode_record(encode_record(record), kept) == record
    assert decode_record(encode_record(record), None).last == record.last


@pytest.mark.parametrize("packed", [b"", b"\xc1", msgpack.packb([2, b"", 0, [], []]), b"{}"])
def test_no_record_is_taken_for_one(packed: bytes) -> None:
    with pytest.raises(ValueError):
        decode_record(packed, None)


def test_keys_are_what_they_are_everywhere() -> None:
    keys = Keys("/registry/")
    assert keys.outer(POD) == POD.encode()
    assert keys.inner(POD.encode()) == POD
    other = Keys("/team/")
    assert other.outer(POD) == b"/team/pods/default/web"
    assert other.inner(b"/team/pods/default/web") == POD
    for foreign in (b"/registry", b"/registry/x", b"/registry/pods/\xff", keys.sequence):
        assert keys.inner(foreign) is None
    assert keys.first < keys.sequence < POD.encode() < keys.end
    with pytest.raises(ValueError, match="prefix"):
        Keys("/registry")


def test_what_is_adopted() -> None:
    pod = {"metadata": {"name": "web", "namespace": "default"}}
    for value in (json.dumps(pod).encode(), msgpack.packb(pod),
                  Value(7, None, msgpack.packb(pod)).encode()):  # fmt: skip
        assert adopted(POD, value) == msgpack.packb(pod)
    for value in (b"", b"{", b"k8s\0binary", b"[1]", b'{"metadata": {"name": "other"}}',
                  b'{"metadata": {"name": "web", "namespace": "x"}}', b"[" * 100_000):  # fmt: skip
        assert adopted(POD, value) is None


def test_a_group_is_what_etcd_takes_at_once_and_what_was_flushed() -> None:
    def made(revision: int, count: int, size: int, checks: int = 0) -> Commit:
        writes = [Write(f"{POD}-{revision}-{n}", b"x" * size) for n in range(count)]
        return Commit(revision, writes, NO_CAUSE, 0.0, {f"{POD}-c{n}": 0 for n in range(checks)})

    small = [made(revision, 1, 10) for revision in range(1, 6)]
    assert take_group(small, 5) == 5
    assert take_group(small, 3) == 3
    assert take_group([made(1, OPS_MAX - 1, 1), made(2, 1, 1), made(3, 1, 1)], 3) == 2
    assert take_group([made(1, 1, 1), made(2, 1, 1, checks=OPS_MAX - 2), made(3, 1, 1)], 3) == 2
    assert take_group([made(1, 1, BYTES_MAX), made(2, 1, 1)], 2) == 1
    assert take_group([made(1, 1, BYTES_MAX - 1), made(2, 1, 1)], 2) == 2


# One store.


async def test_what_is_committed_is_in_etcd_when_it_is_told_so(etcd: Etcd) -> None:
    async with stores(etcd.endpoints, "/registry/", 2) as (store, other):
        listener = Listener(store)
        cause = Cause("kubelet", "m1", 0, "system:node:n1")
        assert await put(store, Write(POD, b"one", 0), cause=cause) == 1
        assert await put(store, Write(POD, b"two", 1)) == 2
        assert await put(store, Write(POD + "-2", b"three", 0, 99.5)) == 3
        assert await put(store, Write(POD, None, 2)) == 4
        await caught_up(other, 4)
        for one in (store, other):
            assert one.get(POD) is None
            assert one.get(POD, 2) == (POD, b"two", 2)
            assert one.list("/registry/pods/").keys == [POD + "-2"]
            assert (one.next_expiry(), list(one.due(99.6))) == (99.5, [POD + "-2"])
            assert one.history.facts_at(1)[0].cause == cause
        listener.check()
        assert [fact.value for fact in listener.facts] == [b"one", b"two", b"three", None]
        shown = etcd.ctl("get", "--prefix", "/registry/pods", "--keys-only").split()
        assert shown == [POD + "-2"]


async def test_what_was_compared_and_is_not_so_is_refused_at_once(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix) as (store,):
        await put(store, Write(POD, b"one"))
        for writes, checks in (
            ([Write(POD, b"two", 0)], {}),
            ([Write(POD + "-2", b"two", 3)], {}),
            ([Write(POD + "-2", b"two")], {POD: 0}),
        ):
            with pytest.raises(CompareFailed):
                store.commit(writes, NO_CAUSE, checks=checks)
        assert store.commit([Write(POD + "-2", b"two", 0)], NO_CAUSE, checks={POD: 1}) == 2
        assert await flush(store) is None


async def test_a_key_written_often_in_one_flush_tells_each_value(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix, 2) as (store, other):
        listeners = [Listener(store), Listener(other)]
        values = [b"1", b"2", None, b"4", None, b"", b"7"]
        for value in values:
            store.commit([Write(POD, value)], NO_CAUSE)
        store.commit([Write(POD + "-2", b"x"), Write(POD + "-3", b"y")], NO_CAUSE)
        store.commit([Write(POD + "-2", None)], NO_CAUSE)
        assert await flush(store) is None
        await caught_up(other, 9)
        assert listeners[0].told() == listeners[1].told()
        assert [f.value for f in listeners[0].facts][:7] == [
            b"1",
            b"2",
            None,
            b"4",
            None,
            b"",
            b"7",
        ]
        async with stores(etcd.endpoints, prefix) as (third,):
            assert third.list("/registry/").items == store.list("/registry/").items


async def test_more_than_one_transaction_takes_is_several(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix, 2) as (store, other):
        told = []
        for n in range(700):
            store.commit([Write(f"{POD}-{n}", b"x" * 10_000)], NO_CAUSE)
            told.append(asyncio.create_task(flush(store)))
        assert set(await asyncio.gather(*told)) == {None}
        await caught_up(other, 700)
        assert other.list("/registry/").items == store.list("/registry/").items
        for writes in ([Write(f"{POD}-{n}", b"") for n in range(200)], [Write(POD, b"x" * 2**21)]):
            with pytest.raises(StoreFull, match="at once"):
                store.commit(writes, NO_CAUSE)
        assert await flush(store) is None


async def test_a_successor_begins_where_the_one_before_ended(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix) as (store,):
        for n in range(150):
            store.commit([Write(f"{POD}-{n}", b"x", 0, 50.0 + n)], NO_CAUSE)
        store.commit([Write(f"{POD}-7", None)], NO_CAUSE)
        await store.aclose()
        before = store.list("/registry/")
        with pytest.raises(StoreFailed, match="closed"):
            store.commit([Write(POD, b"")], NO_CAUSE)
        assert isinstance(await flush(store), StoreFailed)
    async with stores(etcd.endpoints, prefix) as (store,):
        assert store.list("/registry/") == before
        assert (store.revision, store.durable, store.history.floor) == (151, 151, 151)
        assert list(store.due(52.0)) == [f"{POD}-{n}" for n in range(3)]
        with pytest.raises(Expired):
            store.hub.open(resources=["pods"], revision=150, wake=lambda: None)
        assert await put(store, Write(f"{POD}-8", b"y", 9)) == 152


async def test_a_fork_leaves_etcd_alone(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix) as (store,):
        await put(store, Write(POD, b"one"))
        fork = store.fork()
        fork.commit([Write(POD, b"other")], NO_CAUSE)
        fork.flush(lambda error: None)
        store.compact(1)
        assert (await count_up(store), store.get(POD)) == ((1, 2), (POD, b"one", 1))


# Several stores.


async def test_nobody_loses_what_two_write_at_once(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix, 2) as pair:
        listeners = [Listener(store) for store in pair]
        acknowledged: list[tuple[int, str]] = []

        async def work(store: EtcdStore, name: str) -> None:
            for n in range(8):
                await count_up(store)
                key = f"{POD}-{name}-{n}"
                acknowledged.append((await put(store, Write(key, name.encode())), key))

        await asyncio.gather(*(work(pair[n % 2], f"w{n}") for n in range(10)))
        last = max(store.durable for store in pair)
        assert last == 160
        for store, listener in zip(pair, listeners, strict=True):
            await caught_up(store, last)
            listener.check()
            assert listener.told() == listeners[0].told()
            assert store.get(COUNTER) is not None
            assert int(store.list(COUNTER).values[0]) == 80
            for revision, key in acknowledged:
                stored = store.get(key)
                assert stored is not None
                assert stored.revision == revision
        assert sorted(f.revision for f in listeners[0].facts) == list(range(1, 161))


async def test_who_came_second_wrote_nothing_and_can_read_what_came_first(
    etcd: Etcd, prefix: str
) -> None:
    async with (
        proxy_to(etcd.endpoints[0]) as proxy,
        stores(etcd.endpoints, prefix) as (first,),
        stores([proxy.endpoint], prefix) as (second,),
    ):
        proxy.cut()  # So that it does come second.
        first.commit([Write(POD, b"first", 0)], NO_CAUSE)
        assert await flush(first) is None
        second.commit([Write(POD, b"second", 0)], NO_CAUSE)
        told = asyncio.create_task(flush(second))
        await asyncio.sleep(0)
        second.commit([Write(POD + "-2", b"second", 0)], NO_CAUSE)
        told_next = asyncio.create_task(flush(second))
        await asyncio.sleep(0)
        assert second.get(POD) == (POD, b"second", 1)  # Speculative, until it is told.
        proxy.heal()
        assert isinstance(await told, Superseded)
        assert isinstance(await told_next, Superseded)
        assert second.list("/registry/").items == [(POD, b"first", 1)]
        assert (second.revision, second.durable) == (1, 1)
        assert len(etcd.ctl("get", "--prefix", prefix, "--keys-only").split()) == 1


# Changes by other means.


def text_of(name: str, **more: Any) -> str:
    return json.dumps({"kind": "Pod", "metadata": {"name": name, "namespace": "default", **more}})


async def test_what_etcdctl_changes_becomes_a_commit_that_all_agree_on(
    etcd: Etcd, prefix: str
) -> None:
    async with stores(etcd.endpoints, prefix, 2) as pair:
        listeners = [Listener(store) for store in pair]
        await put(pair[0], Write(POD + "-2", b"two"))
        etcd.ctl("put", f"{prefix}pods/default/web", text_of("web", resourceVersion="99"))
        for store in pair:
            await caught_up(store, 2)
        etcd.ctl("del", f"{prefix}pods/default/web-2")
        for store in pair:
            await caught_up(store, 3)
        expected = {**json.loads(text_of("web", resourceVersion="2"))}
        for store in pair:
            assert store.list("/registry/").keys == [POD]
            assert msgpack.unpackb(store.list("/registry/").values[0]) == expected
        assert listeners[0].told() == listeners[1].told()
        assert listeners[0].facts[1].cause.actor == "etcd"
        async with stores(etcd.endpoints, prefix) as (third,):
            assert third.list("/registry/").items == pair[0].list("/registry/").items
            assert third.revision == 3


async def test_what_was_changed_while_nobody_looked_is_adopted_on_connecting(
    etcd: Etcd, prefix: str
) -> None:
    async with stores(etcd.endpoints, prefix) as (store,):
        for name in ("a", "b", "c"):
            await put(store, Write(f"/registry/pods/default/{name}", name.encode()))
    kept = etcd.ctl("get", f"{prefix}pods/default/a", "--print-value-only", "--hex")
    assert kept
    etcd.ctl("put", f"{prefix}pods/default/a", text_of("a"))
    etcd.ctl("del", f"{prefix}pods/default/b")
    etcd.ctl("put", f"{prefix}pods/default/c", "nonsense")
    async with stores(etcd.endpoints, prefix) as (store,):
        assert store.revision == 4
        (a,) = store.list("/registry/").items
        assert (a.key, a.revision) == ("/registry/pods/default/a", 4)
        await put(store, Write("/registry/pods/default/c", b"mine", 0))  # Nothing was there.


async def test_a_write_never_goes_over_what_etcdctl_changed_meanwhile(
    etcd: Etcd, prefix: str
) -> None:
    async with proxy_to(etcd.endpoints[0]) as proxy, stores([proxy.endpoint], prefix) as (store,):
        await put(store, Write(POD, b"one"), Write(POD + "-2", b"one"))
        listener = Listener(store)
        proxy.cut()
        store.commit([Write(POD, b"two", 1)], NO_CAUSE)
        store.commit([Write(POD + "-2", b"two", 1)], NO_CAUSE)
        waiting = asyncio.create_task(flush(store))
        etcd.ctl("put", f"{prefix}pods/default/web", text_of("web"))
        proxy.heal()
        assert isinstance(await waiting, Superseded)
        assert store.get(POD + "-2") == (POD + "-2", b"one", 1)
        found = store.get(POD)
        assert found is not None
        assert b"resourceVersion\xa12" in found.value
        assert await put(store, Write(POD, b"three", 2)) == 3
        listener.check()


async def test_what_was_checked_and_etcdctl_changed_meanwhile_supersedes(
    etcd: Etcd, prefix: str
) -> None:
    async with proxy_to(etcd.endpoints[0]) as proxy, stores([proxy.endpoint], prefix) as (store,):
        await put(store, Write(POD, b"one"))
        proxy.cut()
        store.commit([Write(POD + "-2", b"two", 0)], NO_CAUSE, checks={POD: 1})
        waiting = asyncio.create_task(flush(store))
        etcd.ctl("del", f"{prefix}pods/default/web")
        proxy.heal()
        assert isinstance(await waiting, Superseded)
        assert store.list("/registry/").items == []


# What may go wrong on the way.


async def test_an_answer_that_got_lost_is_found_out(etcd: Etcd, prefix: str) -> None:
    async with (
        proxy_to(etcd.endpoints[0]) as proxy,
        stores([proxy.endpoint], prefix) as (store,),
        stores(etcd.endpoints, prefix) as (other,),
    ):
        await put(store, Write(POD, b"one"))
        listener = Listener(store)
        proxy.deaf = True
        store.commit([Write(POD, b"two", 1)], NO_CAUSE)
        waiting = asyncio.create_task(flush(store))
        await caught_up(other, 2)  # It is in etcd, but its writer does not know.
        await put(other, Write(POD + "-2", b"other"))
        assert not waiting.done()
        proxy.heal()
        assert await waiting is None
        await caught_up(store, 3)
        listener.check()
        assert store.list("/registry/").items == other.list("/registry/").items


async def test_who_does_not_want_to_wait_is_told_that_nobody_knows(etcd: Etcd, prefix: str) -> None:
    async with (
        proxy_to(etcd.endpoints[0]) as proxy,
        stores([proxy.endpoint], prefix, patience_s=0.3) as (store,),
        stores(etcd.endpoints, prefix) as (other,),
    ):
        await put(store, Write(POD, b"one"))
        listener = Listener(store)
        proxy.deaf = True
        store.commit([Write(POD, b"two", 1)], NO_CAUSE)
        assert isinstance(await flush(store), StoreUnavailable)
        assert store.get(POD) == (POD, b"one", 1)
        await caught_up(other, 2)
        proxy.heal()
        await caught_up(store, 2)
        assert store.get(POD) == (POD, b"two", 2)
        assert await put(store, Write(POD, b"three", 2)) == 3
        listener.check()


async def test_who_cannot_connect_is_told_where(etcd: Etcd, prefix: str) -> None:
    async with proxy_to(etcd.endpoints[0]) as proxy:
        proxy.cut()
        with pytest.raises(StoreUnavailable, match=proxy.endpoint):
            await EtcdStore.connect([proxy.endpoint], fresh_id=fresh_id(), patience_s=0.3)
    with pytest.raises(ValueError, match="at least one"):
        await EtcdStore.connect([], fresh_id=fresh_id())


@pytest.mark.parametrize("under_way", [False, True])
async def test_after_etcd_forgot_what_happened_watchers_begin_again(
    etcd: Etcd, prefix: str, under_way: bool
) -> None:
    async with (
        proxy_to(etcd.endpoints[0]) as proxy,
        stores([proxy.endpoint], prefix) as (store,),
        stores(etcd.endpoints, prefix) as (other,),
    ):
        for n in range(3):
            await put(store, Write(f"{POD}-{n}", b"x"))
        await caught_up(other, 3)
        bell = asyncio.Event()
        cursor = store.hub.open(resources=["pods"], revision=3, wake=bell.set)
        waiting = None
        if under_way:
            proxy.deaf = True
            store.commit([Write(POD, b"under way")], NO_CAUSE)
            waiting = asyncio.create_task(flush(store))
            await caught_up(other, 4)
            store.commit([Write(POD, b"staged")], NO_CAUSE)
            staged = asyncio.create_task(flush(store))
        proxy.cut()
        await put(other, Write(f"{POD}-1", b"y"))
        await put(other, Write(f"{POD}-2", None))
        await put(other, Write(f"{POD}-9", b"z"), Write(f"{POD}-8", b"z"))
        etcd.ctl("compact", str(other._mirror.seen))
        proxy.heal()
        await asyncio.wait_for(bell.wait(), 20)
        with pytest.raises(Expired):
            cursor.take()
        if waiting is not None:
            assert await waiting is None
            assert isinstance(await staged, Superseded)
        assert store.durable == other.durable == store.history.floor
        assert store.list("/registry/").items == other.list("/registry/").items
        listener = Listener(store)
        assert await put(other, Write(POD, b"on")) == await put(store, Write(POD, b"and on")) - 1
        listener.check()


async def test_a_changed_key_is_found_after_etcd_forgot_that_it_was(
    etcd: Etcd, prefix: str
) -> None:
    async with proxy_to(etcd.endpoints[0]) as proxy, stores([proxy.endpoint], prefix) as (store,):
        for n in range(3):
            await put(store, Write(f"{POD}-{n}", b"x"))
        listener = Listener(store)
        proxy.cut()
        etcd.ctl("put", f"{prefix}pods/default/web", text_of("web"))
        etcd.ctl("del", f"{prefix}pods/default/web-0")
        etcd.ctl("put", f"{prefix}pods/default/web-1", "nonsense")
        found = json.loads(etcd.ctl("get", prefix, "--write-out=json"))
        etcd.ctl("compact", str(found["header"]["revision"]))
        proxy.heal()
        await caught_up(store, 4)
        assert store.list("/registry/").keys == [POD, f"{POD}-2"]
        assert {fact.revision for fact in listener.facts} == {4}


async def test_etcd_is_made_to_forget(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix, compact_s=0.05) as (store,):
        await put(store, Write(POD, b"one"))
        first = store._mirror.seen
        async with asyncio.timeout(20):
            while True:
                await put(store, Write(POD, b"two"))
                try:
                    etcd.ctl("get", POD, "--rev", str(first))
                except RuntimeError as error:
                    assert "compacted" in str(error)
                    break


async def test_a_store_from_the_past_is_refused(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix) as (store,):
        await put(store, Write(POD, b"one"))
        etcd.ctl("del", Keys(prefix).sequence.decode())
        with pytest.raises(StoreFailed, match="backup"):
            await put(store, Write(POD, b"two"))
        with pytest.raises(StoreFailed, match="backup"):
            store.commit([Write(POD, b"two")], NO_CAUSE)


# TLS.


async def test_tls_both_ways(tmp_path: Path, prefix: str) -> None:
    tls = make_tls(tmp_path)
    try:
        with running_etcd(tmp_path / "etcd", tls=tls) as etcd:
            ca, cert, key = (p.read_bytes() for p in (tls.ca, tls.client_cert, tls.client_key))
            async with stores(etcd.endpoints, prefix, ca=ca, cert=cert, key=key) as (store,):
                await put(store, Write(POD, b"one"))
            incomplete: list[dict[str, Any]] = [{}, {"ca": ca}]
            for options in incomplete:
                with pytest.raises(StoreUnavailable):
                    await EtcdStore.connect(
                        etcd.endpoints, fresh_id=fresh_id(), patience_s=0.5, **options
                    )
    except NoEtcd as error:
        pytest.skip(str(error))
