"""Files of a store, mangled: it opens with what was written, or is refused, and says where.

Accidents change bytes, frames, names, files; what comes back then is how things were at a revision,
or nothing. Forgeries have right checksums: no promise holds, but that nothing breaks. Either way
nothing is thrown but what is documented, and `kubeloop store` copes with the same files.

    KUBELOOP_FUZZ=100000 pytest tests/store/test_fuzz_files.py
"""

import gc
import os
import tracemalloc
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgpack
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeloop.cli import store as store_command
from kubeloop.cli.store_text import Source, redacted, render_log, render_objects, statistics
from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import backup
from kubeloop.store.disk import RealDisk
from kubeloop.store.facts import NO_CAUSE, Fact
from kubeloop.store.frames import HEADER_SIZE, LOG, SNAPSHOT, header
from kubeloop.store.history import Stored, Write
from kubeloop.store.log import file_name
from kubeloop.store.recovery import CorruptLog
from kubeloop.store.store import Store
from tests.store.faults import BY, DIRECTORY, ID, KEYS, reopen, small_files, state_of
from tests.store.mangle import ACCIDENTS, FORGERIES, Change, Files, mangled, pack, sealed
from tests.store.test_damage import Kept, kept

EXAMPLES = int(os.environ.get("KUBELOOP_FUZZ", "100"))
POD, SECRET = "/registry/pods/a/b", "/registry/secrets/a/b"
WHY = ["", "", 0, ""]


@cache
def stores() -> tuple[Kept, ...]:
    """Return what a few stores leave: segments, with or without a snapshot, small and large."""
    with small_files(segment=1500, snapshot=3000, piece=400):
        return tuple(
            kept(seed, (0, 3, 60, 600), groups, revisions=revisions)
            for seed, (groups, revisions) in enumerate(((1, 5), (4, 12), (9, 7), (14, 5), (20, 9)))
        )


numbers = st.one_of(st.integers(0, 9), st.integers(0, 2**16), st.integers(2**15 - 3, 2**15 + 3))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=9),
    st.binary(max_size=9), st.sampled_from([POD, SECRET, "/registry/", "keys", 0, 1, 2**63]),
    st.just(msgpack.Timestamp(1, 1)), st.just(msgpack.ExtType(5, b"x")),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=9,
)
objects = values.map(pack)
writes = st.lists(st.one_of(st.tuples(st.sampled_from([POD, SECRET]), objects), values), max_size=3)
transactions = st.tuples(
    st.integers(0, 40) | scalars, writes | values, st.just(WHY) | values, scalars
)
rows = st.tuples(st.sampled_from([POD, SECRET]) | scalars, objects | scalars, st.integers(0, 40))
contents = st.one_of(
    values,
    st.lists(transactions, max_size=3),
    st.lists(rows, max_size=3),
    st.fixed_dictionaries({"keys": st.integers(0, 5) | values, "revision": st.integers(-1, 40)}),
)


def changes_of(kinds: Sequence[str]) -> st.SearchStrategy[Change]:
    return st.builds(
        Change,
        st.sampled_from(kinds),
        st.integers(0, 7),
        numbers,
        numbers,
        st.one_of(st.integers(0, 9), st.integers(0, 3000)),
        st.binary(max_size=12),
        contents,
    )


def outcome(files: Files) -> tuple[Store, MemoryDisk] | CorruptLog:
    """Open a store; nothing but CorruptLog may happen, and that names a place."""
    disk = MemoryDisk.holding(files)
    try:
        return reopen(disk), disk
    except CorruptLog as error:
        assert error.path in files
        assert 0 <= error.offset <= len(files[error.path])
        assert error.revision >= 0
        assert disk.opened == 0
        return error


def check_use(store: Store, disk: MemoryDisk) -> None:
    """Assert that a store can be read, and goes on."""
    state, revision, history = state_of(store), store.revision, store.history
    for fact in history.since(history.floor):
        assert fact.resource is not None
    assert len(list(history.leases())) <= len(state)
    if revision == 2**63 - 1:
        return
    told: list[Exception | None] = []
    store.commit([Write(KEYS[0], b"on")], BY)
    store.flush(told.append)
    assert told == [None]
    store.close()
    again = reopen(disk)
    assert again.revision == revision + 1
    assert state_of(again) == state | {KEYS[0]: b"on"}


def check_tools(files: Files, opened: "CorruptLog | None") -> backup.Loss | None:
    """Assert that reading agrees with opening, and that there is a way back, or it is refused."""
    disk = MemoryDisk.holding(files)
    try:
        history, _ = backup.read(disk, DIRECTORY)
    except CorruptLog as error:
        assert opened is not None
        assert (error.path, error.offset) == (opened.path, opened.offset)
    except backup.Refused:
        assert opened is None, "there is no store"
    else:
        assert opened is None
        list(render_log(history.since(history.floor), "json"))
    if opened is None:
        return None
    with backup.held(disk, DIRECTORY):
        try:
            loss = backup.find_loss(disk, DIRECTORY)
        except backup.Refused:
            return None
        backup.go_back(disk, DIRECTORY, loss, backup.aside_name(disk, DIRECTORY))
    assert loss.damage.offset == opened.offset
    store = reopen(disk)
    assert store.revision == loss.revision
    left = [bytes(data) for data in disk.files.values()]
    assert all(files[f"{DIRECTORY}/{name}"] in left for name in loss.aside), "nothing is deleted"
    return loss


def check_backups(files: Files) -> None:
    """Assert that a snapshot is a backup that restores to what it tells, or is refused."""
    for path, data in files.items():
        disk = MemoryDisk.holding({"/kept/backup": data})
        try:
            content = backup.read_backup(disk, "/kept/backup")
        except backup.DamagedBackup as error:
            assert 0 <= error.offset <= len(data), path
            continue
        backup.restore(disk, "/kept/backup", "/new")
        again = Store.open(disk, "/new", threadsafe=None, fresh_id=bytes(16))
        assert again.revision == content.history.revision
        assert again.list("").items == content.history.list("").items


@given(st.integers(0, 4), st.lists(changes_of(ACCIDENTS), min_size=1, max_size=4))
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_after_accidents_what_opens_is_true(index: int, changes: list[Change]) -> None:
    base = stores()[index]
    files = mangled(base.files, changes)
    found = outcome(files)
    if isinstance(found, CorruptLog):
        loss = check_tools(files, found)
        if loss is not None:
            assert loss.revision <= base.newest
        return
    store, disk = found
    assert store.revision <= base.newest
    assert state_of(store) == base.states[store.revision]
    check_use(store, disk)
    check_tools(files, None)


@given(st.integers(0, 4), st.lists(changes_of(ACCIDENTS + FORGERIES * 3), min_size=1, max_size=4))
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_a_forgery_breaks_nothing(index: int, changes: list[Change]) -> None:
    files = mangled(stores()[index].files, changes)
    found = outcome(files)
    check_tools(files, found if isinstance(found, CorruptLog) else None)
    if not isinstance(found, CorruptLog):
        check_use(*found)
    check_backups(files)


headers = st.sampled_from([b"", header(LOG, ID), header(SNAPSHOT, ID)])
names = st.sampled_from([file_name(kind, n) for kind in ("log", "snapshot") for n in (1, 2, 9)])


@given(st.dictionaries(names, st.tuples(headers, st.binary(max_size=90))))
def test_bytes_that_are_no_store_break_nothing(parts: dict[str, tuple[bytes, bytes]]) -> None:
    files = {f"{DIRECTORY}/{name}": head + rest for name, (head, rest) in parts.items()}
    found = outcome(files)
    check_tools(files, found if isinstance(found, CorruptLog) else None)
    check_backups(files)


# What was found, one by one.


def log_of(*payloads: Any) -> Files:
    """Return a segment of forged groups."""
    data = header(LOG, ID) + b"".join([sealed(pack(p), HEADER_SIZE) for p in payloads])
    return {f"{DIRECTORY}/{file_name('log', 1)}": data}


def snapshot_of(*payloads: Any) -> Files:
    """Return a forged snapshot of revision 5."""
    data = header(SNAPSHOT, ID) + b"".join([sealed(pack(p)) for p in payloads])
    return {f"{DIRECTORY}/{file_name('snapshot', 5)}": data}


GOOD = [1, [[POD, b"x"]], WHY, 0.0]
END = {"keys": 1, "revision": 5}


@pytest.mark.parametrize(
    "transaction, why",
    [
        ([2.0, [[POD, b""]], WHY, 0.0], "2.0 is no revision"),
        ([True, [[POD, b""]], WHY, 0.0], "True is no revision"),
        ([2, [], WHY, 0.0], "are no writes"),
        ([2, "ab", WHY, 0.0], "are no writes"),
        ([2, {POD: b""}, WHY, 0.0], "are no writes"),
        ([2, [["pods/b", b""]], WHY, 0.0], "'pods/b' is no key"),
        ([2, [[POD, "text"]], WHY, 0.0], "neither bytes nor nil"),
        ([2, [[POD, b"", float("inf")]], WHY, 0.0], "inf is no time"),
        ([2, [[POD, b"", float("nan")]], WHY, 0.0], "nan is no time"),
        ([2, [[POD, b"", 1.0, 2]], WHY, 0.0], "positional arguments"),
        ([2, [[POD, b""]], [1, "", 0, ""], 0.0], "who wrote it"),
        ([2, [[POD, b""]], ["", b"", 0, ""], 0.0], "who wrote it"),
        ([2, [[POD, b""]], ["", "", "0", ""], 0.0], "who wrote it"),
        ([2, [[POD, b""]], "abcd", 0.0], "who wrote it"),
        ([2, [[POD, b""]], WHY, "now"], "'now' is no time"),
        ([2, [[POD, b""]], WHY, float("nan")], "nan is no time"),
        ([2, [[POD, b""]], WHY], "not enough values"),
        ([3, [[POD, b""]], WHY, 0.0], "revision 3 follows 1"),
    ],
)
def test_a_group_with_right_checksums_that_no_store_wrote(transaction: Any, why: str) -> None:
    assert not isinstance(outcome(log_of([GOOD])), CorruptLog)
    for files in (log_of([GOOD], [transaction]), log_of([GOOD], [transaction], [transaction])):
        found = outcome(files)
        assert isinstance(found, CorruptLog)
        assert why in found.why
        assert found.revision == 1
        assert check_tools(files, found) is not None
    files = log_of([GOOD, transaction])
    found = outcome(files)
    assert isinstance(found, CorruptLog)
    assert found.revision == 0, "a group is good as a whole, or not at all"


@pytest.mark.parametrize(
    "payloads, why",
    [
        (([["pods/b", b"x", 1]], END), "is no key"),
        (([[1, b"x", 1]], END), "is no key"),
        (([[POD, "x", 1]], END), "neither bytes nor nil"),
        (([[POD, None, 1]], END), "no value, or no revision"),
        (([[POD, b"x", 0]], END), "no value, or no revision"),
        (([[POD, b"x", "1"]], END), "no value, or no revision"),
        (([[POD, b"x", True]], END), "no value, or no revision"),
        (([[POD, b"x", 1, float("inf")]], END), "inf is no time"),
        (([[POD, b"x", 1, "soon"]], END), "'soon' is no time"),
        ((7, END), "not iterable"),
        (("text", END), "no values"),
        (([[POD, b"x", 1]], {"keys": 1, "revision": "5"}), "cannot be of revision '5'"),
        (([[POD, b"x", 1]], {"keys": 1, "revision": 5.0}), "cannot be of revision 5.0"),
        (([[POD, b"x", 6]], END), "cannot be of revision 5"),
        (([], {"keys": 0, "revision": -5}), "cannot be of revision -5"),
        (([], {"keys": 0, "revision": 2**63}), "cannot be of revision"),
        (([[POD, b"x", 1]], {"keys": 2, "revision": 5}), "is not whole"),
        (([[POD, b"x", 1]], {}), "is not whole"),
        (([[POD, b"x", 1]], END, END), "goes on after its end"),
    ],
)
def test_a_snapshot_with_right_checksums_that_no_store_wrote(payloads: Any, why: str) -> None:
    assert not isinstance(outcome(snapshot_of([[POD, b"x", 1]], END)), CorruptLog)
    files = snapshot_of(*payloads)
    found = outcome(files)
    assert isinstance(found, CorruptLog)
    assert why in found.why
    assert found.revision == 0
    with pytest.raises(backup.DamagedBackup, match="is no whole backup: at byte"):
        backup.read_backup(MemoryDisk.holding(files), next(iter(files)))
    check_backups(files)


@pytest.mark.parametrize(
    "name", ["log-²", "snapshot-٣", "log-5", "log-", "log--0000000000000000001"]
)
def test_a_name_that_is_none_of_ours_is_left_alone(name: str) -> None:
    base = stores()[2]
    path = f"{DIRECTORY}/{name}"
    files = base.files | {path: b"what somebody else put there"}
    found = outcome(files)
    assert not isinstance(found, CorruptLog)
    store, disk = found
    assert (store.revision, state_of(store)) == (base.newest, base.states[-1])
    assert disk.files[path] == files[path]


def test_a_lock_file_that_holds_anything_is_a_lock(tmp_path: Path) -> None:
    store = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=ID)
    (tmp_path / "lock").write_bytes(b"\xff\xfe" * 40)
    with pytest.raises(BlockingIOError, match="is held by process"):
        RealDisk().lock(str(tmp_path / "lock"))
    assert store_command.holder_of(tmp_path / "lock") is None
    store.close()


@pytest.mark.parametrize("kind", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_a_length_of_4_gib_takes_no_memory(kind: bytes) -> None:
    """Of an array, a map, a string, bytes, an extension; of a frame; and deep nests of arrays."""
    rest = bytes(range(256)) * 8
    claim = kind + b"\xff\xff\xff\xff" + rest
    whole = header(LOG, ID)
    logs = [
        whole + sealed(claim),
        whole + sealed(b"\x91\x94\x01" + claim),
        whole + sealed(rest, length=2**32 - 1),
        whole + sealed(rest, length=2**31) + sealed(rest),
        whole + sealed(b"\xdd\x00\x00\x08\x00" * 900 + rest),
        whole + sealed(b"\x91" * 100_000 + b"\xc0"),
    ]
    for data in logs:
        for number, name in ((LOG, "log"), (SNAPSHOT, "snapshot")):
            path = f"{DIRECTORY}/{file_name(name, 1)}"
            files = {path: header(number, ID) + data[HEADER_SIZE:]}
            tracemalloc.start()
            found = outcome(files)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert isinstance(found, CorruptLog) or found[0].revision == 0
            assert peak < 40 * 2**20


# What `kubeloop store` makes of them.


def run(*arguments: str) -> Result:
    """Run `kubeloop store`, in this process."""
    collecting = gc.isenabled()
    try:
        result = CliRunner().invoke(store_command.command, arguments)
    finally:
        if collecting:
            gc.enable()
    assert result.exception is None or isinstance(result.exception, SystemExit), arguments
    assert "Traceback" not in result.output
    return result


@given(index=st.integers(0, 4), changes=st.lists(changes_of(ACCIDENTS + FORGERIES), max_size=3))
@settings(max_examples=max(25, EXAMPLES // 8), suppress_health_check=[HealthCheck.too_slow])
def test_the_commands_cope(index: int, changes: list[Change]) -> None:
    with TemporaryDirectory() as directory:
        check_commands(Path(directory), mangled(stores()[index].files, changes))


def check_commands(directory: Path, files: Files) -> None:
    """Assert that every command succeeds, or says in a sentence why not."""
    store = directory / "store"
    store.mkdir()
    for path, data in files.items():
        (store / path.rpartition("/")[2]).write_bytes(data)
    there = f"--data-dir={directory}"
    verified = run("verify", there)
    for arguments in (("dump",), ("dump", "--log"), ("dump", "--log", "-o", "yaml"), ("stat",)):
        shown = run(*arguments, there)
        assert shown.exit_code == 0 or "Error:" in shown.output
    if "is damaged at byte" not in verified.output:
        return
    assert verified.exit_code == 1
    returned = run("restore", "--until-damage", "--yes", there)
    assert (run("verify", there).exit_code == 0) == (returned.exit_code == 0), returned.output


def test_an_object_that_is_nested_deeply_is_shown() -> None:
    deep: Any = "bottom"
    for _ in range(400):
        deep = {"a": deep}
    item = Stored(POD, pack(deep), 1)
    for output in ("yaml", "json"):
        (text,) = render_objects([item], output, show_secrets=False)
        assert "bottom" in text


@pytest.mark.parametrize("value", [pack(msgpack.Timestamp(1, 1)), pack({"a": b"b"}), b"\x91" * 999])
@pytest.mark.parametrize("output", ["yaml", "json"])
def test_a_value_that_is_no_object_is_named(value: bytes, output: str) -> None:
    with pytest.raises(backup.Refused, match=f"the value of {POD} at revision 7 is no object"):
        list(render_objects([Stored(POD, value, 7)], output, show_secrets=False))


@pytest.mark.parametrize(
    "content",
    [
        {"data": "hush"},
        {"data": ["hush"]},
        {"stringData": {"a": "hush"}, "metadata": 7},
        {"metadata": "hush"},
        {"metadata": ["hush"]},
        {"metadata": {"annotations": "hush"}},
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hush"}}},
    ],
)
def test_what_a_strange_secret_hides_is_not_shown(content: dict[str, Any]) -> None:
    assert "hush" not in str(redacted(SECRET, content))
    assert redacted(POD, content) == content


def test_a_time_beyond_the_calendar_is_shown_in_seconds() -> None:
    facts = [Fact(1, POD, b"", cause=NO_CAUSE, at=1e300)]
    (line,) = render_log(facts, None)
    assert line.startswith("1 1e+300 s user=- ")


def test_statistics_of_the_shortest_key() -> None:
    disk = MemoryDisk.holding(log_of([[1, [["/registry/", b""]], WHY, 0.0]]))
    content = backup.read(disk, DIRECTORY)
    assert statistics(Source(Path("x"), False, content), {}, None)["resources"] == {"": 1}
