"""A store that is abandoned is as one whose process was killed; one on a slow disk tells late."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.sim import MemoryDisk
from kubeloop.store.facts import NO_CAUSE
from kubeloop.store.history import Write
from kubeloop.store.store import Store, StoreFailed, Sync

KEY = "/registry/pods/default/p"


class Later:
    """A loop that makes calls when it is told to. calls: (seconds, call)."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, delay_s: float, call: Callable[[], None]) -> None:
        self.calls.append((delay_s, call))

    def go(self) -> None:
        calls, self.calls = self.calls, []
        for _, call in calls:
            call()


def opened(disk: MemoryDisk, later: Later, sync: Sync = "always") -> Store:
    return Store.open(disk, "/s", threadsafe=None, fresh_id=bytes(16), later=later, sync=sync)


def put(store: Store, value: bytes, told: list[object]) -> None:
    store.commit([Write(KEY, value)], NO_CAUSE)
    store.flush(lambda error: told.append(error or value))


def value(store: Store) -> bytes | None:
    found = store.get(KEY)
    return None if found is None else found.value


def test_a_slow_disk_tells_late_and_others_share_the_next_group() -> None:
    disk, later, told = MemoryDisk(), Later(), list[object]()
    store = opened(disk, later)
    disk.lag_s = 2.5
    put(store, b"1", told)
    calls = disk.calls
    put(store, b"2", told)
    put(store, b"3", told)
    assert told == [] and store.durable == 0
    assert disk.calls == calls, "what comes while it is busy waits"
    assert [delay_s for delay_s, _ in later.calls] == [2.5]
    later.go()
    assert told == [b"1"] and store.durable == 1
    assert disk.calls == calls + 2, "one write, one sync"
    disk.lag_s = 0
    later.go()
    assert told == [b"1", b"2", b"3"] and store.durable == 3
    put(store, b"4", told)
    assert told[-1] == b"4", "it is quick again"


def test_closing_waits_for_what_is_under_way() -> None:
    disk, later, told = MemoryDisk(), Later(), list[object]()
    store = opened(disk, later)
    disk.lag_s = 1.0
    put(store, b"1", told)
    put(store, b"2", told)
    store.close()
    assert told == [b"1", b"2"]
    assert value(opened(disk, later)) == b"2"
    later.go()
    assert told == [b"1", b"2"], "nobody is told twice"


@pytest.mark.parametrize("sync", ["always", "interval", "never"])
def test_an_abandoned_store_does_and_tells_nothing_more(sync: Sync) -> None:
    disk, later, told = MemoryDisk(), Later(), list[object]()
    store = opened(disk, later, sync)
    put(store, b"1", told)
    disk.lag_s = 1.0
    put(store, b"2", told)
    store.commit([Write(KEY, b"3")], NO_CAUSE)
    store.abandon()
    calls = disk.calls
    again = opened(disk, later, sync)  # The lock is free, too.
    assert value(again) == b"2", "it was written, though nobody was told"
    calls = disk.calls
    later.go()
    store.flush(told.append)
    store.close()
    with pytest.raises(StoreFailed, match="abandoned"):
        store.commit([Write(KEY, b"4")], NO_CAUSE)
    assert (told, disk.calls) == ([b"1"], calls)
    with pytest.raises(BlockingIOError):
        opened(disk, later)  # What holds the lock now is the other one.


@given(st.integers(1, 60), st.integers(0, 2**32), st.booleans())
def test_it_may_be_abandoned_in_the_middle_of_a_call(nth: int, seed: int, power: bool) -> None:
    """As a machine does whose power goes just then: what was acknowledged is there afterwards."""
    disk, later, told = MemoryDisk(), Later(), list[object]()
    store = opened(disk, later)

    def fault(operation: str, path: str) -> OSError | None:
        if disk.calls >= nth:
            store.abandon()
            return OSError(5, "the power is gone")
        return None

    end = disk.add_fault(fault)
    for number in range(30):
        if store.failure is None:
            put(store, b"%d" % number, told)
    end()
    after = disk.crash(Random(seed)) if power else disk
    again = opened(after, later)
    found = value(again)
    least = told[-1] if told else None
    assert found in (least, b"%d" % len(told)), f"{told} was told, and {found!r} is there"


def test_faults_are_asked_one_after_the_other_and_taken_over() -> None:
    disk, asked = MemoryDisk(), list[str]()

    def fault(name: str) -> Callable[[str, str], OSError | None]:
        def ask(operation: str, path: str) -> OSError | None:
            asked.append(name)
            return OSError(5, name) if name == "bad" else None

        return ask

    ends = [disk.add_fault(fault(name)) for name in ("good", "bad", "never")]
    with pytest.raises(OSError, match="bad"):
        disk.names("/")
    assert asked == ["good", "bad"]
    disk.room, disk.lag_s = 10, 1.5
    other = MemoryDisk()
    other.take_after(disk)
    assert (other.room, other.lag_s) == (10, 1.5)
    with pytest.raises(OSError, match="bad"):
        other.names("/")
    for end in ends:
        end()
        end()
    assert other.names("/") == [], "what is ended there is ended here"
