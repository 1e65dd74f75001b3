"""The disk in memory keeps what was synced, and does the worst it may to the rest."""

import errno
import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.sim.disk import MemoryDisk, MemoryFile

seeds = st.integers(0, 2**32)


def outcomes(disk: MemoryDisk, most: int = 10_000) -> list[dict[str, bytes]]:
    """Return all that a loss of power may leave."""
    return list(disk.fates().some(random.Random(0), most))


def contents(disk: MemoryDisk) -> set[bytes]:
    """Return all that a loss of power may leave in a file."""
    return {files["/d/a"] for files in outcomes(disk)}


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
    disk.open("/d/a").write(b"again", 0)
    found = outcomes(disk)
    for files in ({}, {"/d/a": b""}, {"/d/a": b"again"}):
        assert files in found, "made again: none, the old one, or the new one"
    disk.remove("/d/a")
    disk.sync_directory("/d")
    assert {tuple(disk.crash(random.Random(n)).names("/d")) for n in range(50)} == {()}


def test_a_file_that_takes_the_place_of_another_is_not_safe_either() -> None:
    disk = MemoryDisk.holding({"/d/a": b"old"})
    file = disk.open("/d/a.new")
    file.write(b"new", 0)
    file.sync()
    disk.rename("/d/a.new", "/d/a")
    assert {files["/d/a"] for files in outcomes(disk)} == {b"old", b"new"}
    disk.sync_directory("/d")
    assert outcomes(disk) == [{"/d/a": b"new"}]


def test_a_file_that_is_renamed_is_lost_only_between_directories() -> None:
    disk = MemoryDisk.holding({"/d/a": b"x"})
    disk.rename("/d/a", "/d/b")
    disk.rename("/d/b", "/d/e/c")
    assert all(b"x" in files.values() for files in outcomes(disk))
    assert {"/d/e/c": b"x"} in outcomes(disk)
    away = disk.copy()
    away.sync_directory("/d")
    assert {} in outcomes(away), "its name here is gone, and the one there not yet safe"
    disk.sync_directory("/d/e")
    assert {"/d/e/c": b"x"} in outcomes(disk)
    disk.sync_directory("/d")
    assert outcomes(disk) == [{"/d/e/c": b"x"}]


def test_every_outcome_of_a_few_sectors() -> None:
    disk = MemoryDisk.holding({"/d/a": b"o" * 1024, "/d/b": b"safe"})
    file = disk.open("/d/a")
    file.write(b"n" * 512, 256)
    file.write(b"m" * 512, 768)
    first = {b"o" * 512, b"o" * 256 + b"n" * 256}
    second = {b"o" * 512, b"n" * 256 + b"o" * 256, b"n" * 256 + b"m" * 256}
    found = [files["/d/a"] for files in outcomes(disk)]
    assert len(found) == len(set(found))
    assert {content[:512] for content in found} == first
    assert {content[512:1024] for content in found} == second
    assert {(c[:512], c[512:1024]) for c in found} == set(product(first, second))
    assert {1024, 1025, 1048, 1256, 1280} <= {len(content) for content in found}


@given(seeds, st.integers(1, 60))
def test_of_too_many_outcomes_some_are_told_and_the_extremes_among_them(
    seed: int, most: int
) -> None:
    chance, disk = random.Random(seed), MemoryDisk.holding({"/d/a": b"o" * 700, "/d/c": b"c"})
    file = disk.open("/d/a")
    for size in (4000, *chance.choices(range(1, 1500), k=chance.randint(0, 9))):
        file.write(chance.randbytes(size), chance.randint(0, 900))
    disk.open("/d/b")
    disk.remove("/d/c")
    before = disk.copy()
    found = list(disk.fates().some(random.Random(seed), most))
    assert len({tuple(sorted(files.items())) for files in found}) == len(found) == most
    assert (
        found[:2]
        == [
            {"/d/a": b"o" * 700, "/d/c": b"c"},
            {"/d/a": bytes(disk.files["/d/a"]), "/d/b": b""},
        ][:most]
    )
    assert found == list(before.fates().some(random.Random(seed), most)), "a copy is the same"
    safe = disk.crash(chance)
    assert outcomes(safe) == [{path: bytes(data) for path, data in safe.files.items()}]


def test_a_dead_process_leaves_what_it_wrote() -> None:
    disk = MemoryDisk()
    disk.lock("/d/lock")
    disk.open("/d/a").write(b"x", 0)
    disk.kill()
    disk.lock("/d/lock")
    assert disk.read("/d/a") == b"x"
    assert {} in outcomes(disk), "and it is no safer than before"


def test_the_nth_call_fails_and_no_other() -> None:
    disk = MemoryDisk()
    file = disk.open("/d/a")
    disk.fail(2, errno.EIO)
    file.write(b"one", 0)
    with pytest.raises(OSError, match="Input/output error"):
        file.write(b"two.", 3)
    file.write(b"three", 5)
    assert disk.read("/d/a") == b"onetwthree", "a write that fails may have begun"


@pytest.mark.parametrize("part, done", [(0.0, False), (0.5, False), (1.0, True)])
def test_a_call_that_fails_may_have_been_done(part: float, done: bool) -> None:
    disk = MemoryDisk.holding({"/d/a": b"a", "/d/b": b"b", "/d/c": b"ccc"})
    disk.part = part
    disk.fault = lambda operation, path: OSError(errno.EIO, "EIO")
    file = MemoryFile(disk, "/d/c")
    for call in (
        lambda: disk.open("/d/new"),
        lambda: disk.rename("/d/a", "/d/z"),
        lambda: disk.remove("/d/b"),
        lambda: file.truncate(1),
        lambda: disk.sync_directory("/d"),
        lambda: file.sync(),
    ):
        with pytest.raises(OSError, match="EIO"):
            call()
    assert ("/d/new" in disk.files) == ("/d/a" not in disk.files) == done
    assert ("/d/b" not in disk.files) == (len(disk.files["/d/c"]) == 1) == done
    assert disk.opened == 0, "who is told of an error has nothing to close"
    if done:
        assert outcomes(disk) == [{"/d/c": b"c", "/d/new": b"", "/d/z": b"a"}]
    with pytest.raises(OSError, match="EIO"):
        file.write(b"12345678", 0)
    assert disk.files["/d/c"][: int(8 * part)] == b"12345678"[: int(8 * part)]


def test_what_a_sync_has_refused_is_not_safe_after_the_next_one() -> None:
    disk = MemoryDisk.holding({"/d/a": b"o" * 2048})
    file = disk.open("/d/a")
    file.write(b"n" * 700, 0)
    disk.fail(1, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    assert {len(c) - c.count(b"n") for c in contents(disk)} == {1348, 1536, 1860, 2048}, "or not"
    file.sync()
    assert contents(disk) == {b"o" * 2048}, "it said that all went well"
    assert disk.read("/d/a") == b"n" * 700 + b"o" * 1348, "and shows it"
    file.write(b"m", 600)
    file.sync()
    half = b"o" * 512 + b"n" * 88 + b"m" + b"n" * 99 + b"o" * 1348
    assert contents(disk) == contents(disk.copy()) == {half}, "sectors are written whole"
    file.write(b"n" * 700, 0)
    file.sync()
    assert contents(disk) == {b"n" * 700 + b"o" * 1348}, "what is written again is safe"


def test_open_files_are_counted() -> None:
    disk = MemoryDisk()
    files = [disk.open("/d/a"), disk.open("/d/b")]
    assert disk.opened == 2
    for file in files:
        file.close()
    assert disk.opened == 0


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
