"""The disk in memory keeps what was synced, and does the worst it may to the rest."""

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.sim.disk import MemoryDisk

seeds = st.integers(0, 2**32)


@given(seeds, st.lists(st.tuples(st.binary(min_size=1, max_size=2000), st.booleans())))
def test_what_was_synced_survives(seed: int, writes: list[tuple[bytes, bool]]) -> None:
    disk = MemoryDisk()
    file = disk.open("/d/a")
    disk.sync_directory("/d")
    written, safe = b"", b""
    for data, sync in writes:
        file.write(data, len(written))
        written += data
        if sync:
            file.sync()
            safe = written
    after = disk.crash(random.Random(seed)).read("/d/a")
    assert after.startswith(safe)
    assert len(after) <= len(written)
    assert all(a in (0, b) for a, b in zip(after, written, strict=False)), "written, or a hole"


def test_a_crash_loses_tears_and_punches_holes() -> None:
    disk = MemoryDisk()
    file = disk.open("/d/a")
    disk.sync_directory("/d")
    file.write(b"x" * 4096, 0)
    survivors = {disk.crash(random.Random(seed)).read("/d/a") for seed in range(300)}
    assert b"" in survivors or min(map(len, survivors)) < 512
    assert any(0 < len(s) < 4096 for s in survivors)
    assert any(b"\0" * 512 in s and s.endswith(b"x") for s in survivors)


def test_what_was_written_over_is_old_or_new_by_the_sector() -> None:
    disk = MemoryDisk()
    file = disk.open("/d/a")
    file.write(b"o" * 2048, 0)
    file.sync()
    disk.sync_directory("/d")
    file.write(b"n" * 1536, 256)
    survivors = {disk.crash(random.Random(seed)).read("/d/a") for seed in range(300)}
    news = {b"o" * 256 + b"n" * 256, b"n" * 512, b"n" * 256 + b"o" * 256}
    sectors = {s[n : n + 512] for s in survivors for n in range(0, 2048, 512)}
    assert sectors == {b"o" * 512, *news}
    assert len(survivors) == 16, "in every order"


def test_a_name_is_safe_once_its_directory_is_synced() -> None:
    def after(*, sync: bool) -> set[tuple[str, ...]]:
        disk = MemoryDisk()
        file = disk.open("/d/new")
        file.write(b"content", 0)
        file.sync()
        disk.sync_directory("/d")
        disk.rename("/d/new", "/d/name")
        if sync:
            disk.sync_directory("/d")
        return {tuple(disk.crash(random.Random(n)).names("/d")) for n in range(50)}

    assert after(sync=True) == {("name",)}
    assert ("new",) in after(sync=False)


def test_a_removal_may_be_undone_until_its_directory_is_synced() -> None:
    disk = MemoryDisk()
    disk.open("/d/a")
    disk.sync_directory("/d")
    disk.remove("/d/a")
    assert {tuple(disk.crash(random.Random(n)).names("/d")) for n in range(50)} == {(), ("a",)}
    disk.open("/d/a")
    crashes = {tuple(disk.crash(random.Random(n)).names("/d")) for n in range(50)}
    assert crashes == {("a",)}, "made again: it is there in any case"
    disk.remove("/d/a")
    disk.sync_directory("/d")
    assert {tuple(disk.crash(random.Random(n)).names("/d")) for n in range(50)} == {()}


def test_a_dead_process_leaves_what_it_wrote() -> None:
    disk = MemoryDisk()
    disk.lock("/d/lock")
    disk.open("/d/a").write(b"x", 0)
    disk.kill()
    disk.lock("/d/lock")
    assert disk.read("/d/a") == b"x"
    assert b"" not in disk.durable.values()


def test_the_nth_call_fails_and_no_other() -> None:
    disk = MemoryDisk()
    file = disk.open("/d/a")
    disk.fail(2, errno.EIO)
    file.write(b"one", 0)
    with pytest.raises(OSError, match="Input/output error"):
        file.write(b"two.", 3)
    file.write(b"three", 5)
    assert disk.read("/d/a") == b"onetwthree", "a write that fails may have begun"


def test_a_full_disk_takes_what_fits() -> None:
    disk = MemoryDisk()
    disk.room = 5
    file = disk.open("/d/a")
    with pytest.raises(OSError, match="No space left") as caught:
        file.write(b"12345678", 0)
    assert caught.value.errno == errno.ENOSPC
    assert disk.read("/d/a") == b"12345"
    file.truncate(0)
    file.write(b"123", 0)


def test_a_lock_has_one_holder_and_dies_with_a_crash() -> None:
    disk = MemoryDisk()
    lock = disk.lock("/d/lock")
    with pytest.raises(BlockingIOError, match="held"):
        disk.lock("/d/lock")
    lock.release()
    disk.lock("/d/lock")
    disk.crash(random.Random(0)).lock("/d/lock")


def test_a_flipped_bit_survives() -> None:
    disk = MemoryDisk()
    file = disk.open("/d/a")
    file.write(b"\0\0", 0)
    file.sync()
    disk.sync_directory("/d")
    disk.flip("/d/a", 9)
    assert disk.crash(random.Random(0)).read("/d/a") == b"\0\2"
