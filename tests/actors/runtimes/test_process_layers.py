"""Archives from strangers: whatever they say, nothing outside of the target changes."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop.actors.runtimes.process_layers import LayerError, remove_tree, unpack

Change = Callable[[tarfile.TarFile], None]


def member(name: str, content: bytes = b"", **fields: object) -> Change:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return lambda archive: archive.addfile(info, io.BytesIO(content))


def link(name: str, target: str) -> Change:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> Change:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def directory(name: str, mode: int = 0o755) -> Change:
    return member(name, type=tarfile.DIRTYPE, mode=mode)


def archive(*changes: Change) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for change in changes:
            change(tar)
    return out.getvalue()


def apply(target: Path, *changes: Change, bytes_max: int = 1 << 20) -> int:
    data = archive(*changes)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return unpack(io.BytesIO(data), target, diff_id=digest, bytes_max=bytes_max)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def untouched(target: Path) -> bool:
    outside = target.parent / "outside"
    return [p.name for p in outside.iterdir()] == ["secret"] and (
        outside / "secret"
    ).read_text() == "secret"


def test_files_directories_and_links_are_what_they_were(target: Path) -> None:
    apply(
        target,
        directory("./bin", 0o700),
        member("bin/tool", b"tool", mode=0o4755, mtime=1234),
        link("sbin", "bin"),
        link("absolute", "/bin/tool"),
        hard("copy", "bin/tool"),
        member("sbin/other", b"other"),
    )
    assert (target / "bin/tool").read_bytes() == b"tool"
    found = (target / "bin/tool").stat()
    assert (found.st_mode & 0o7777, found.st_mtime, found.st_nlink) == (0o755, 1234, 2)
    assert os.readlink(target / "absolute") == "/bin/tool"
    assert (target / "bin/other").read_bytes() == b"other"


def test_a_directory_of_a_later_layer_keeps_the_link_of_an_earlier_one(target: Path) -> None:
    apply(target, directory("usr/bin"), link("bin", "/usr/bin"))
    apply(target, directory("bin"), member("bin/tool", b"tool"))
    assert (target / "bin").is_symlink()
    assert (target / "usr/bin/tool").read_bytes() == b"tool"


def test_whiteouts_remove_what_was_below(target: Path) -> None:
    apply(target, member("a/one", b"1"), member("a/two", b"2"), member("b/three", b"3"))
    apply(target, member("a/.wh.one"), member("b/.wh..wh..opq"), member("b/four", b"4"))
    assert sorted(p.name for p in target.glob("*/*")) == ["four", "two"]
    apply(target, member(".wh.a"), member("nowhere/.wh.x"))
    assert sorted(p.name for p in target.iterdir()) == ["b"]


@pytest.mark.parametrize(
    "changes",
    [
        [member("../outside/evil", b"x")],
        [member("a/../../outside/evil", b"x")],
        [hard("evil", "../outside/secret")],
        [hard("evil", "nowhere")],
        [directory("d"), hard("evil", "d")],
        [link("l", "../outside"), hard("evil", "l/secret")],
        [member("file", b""), member("file/below", b"x")],
        [link("a", "b"), link("b", "a"), member("a/x", b"x")],
        [directory("x"), member("x/.wh...")],
        [member("/".join(["d"] * 300), b"x")],
    ],
    ids=[f"case {n}" for n in range(10)],
)
def test_what_leads_outside_is_refused(target: Path, changes: list[Change]) -> None:
    with pytest.raises(LayerError):
        apply(target, *changes)
    assert untouched(target)


@pytest.mark.parametrize("text", ["{outside}", "../outside", "../../../../{outside}", "/"])
def test_links_are_followed_inside_only(target: Path, text: str) -> None:
    outside = target.parent / "outside"
    apply(
        target,
        link("door", text.format(outside=outside)),
        member("door/evil", b"x"),
        directory("door/more"),
        member("door/.wh.secret"),
        member("/absolute", b"x"),
    )
    assert untouched(target)
    assert (target / "absolute").read_bytes() == b"x"


def test_a_file_replaces_a_link_and_not_what_it_leads_to(target: Path) -> None:
    apply(target, link("door", str(target.parent / "outside/secret")), member("door", b"mine"))
    assert untouched(target)
    assert (target / "door").read_bytes() == b"mine"


def test_devices_and_pipes_are_left_out(target: Path) -> None:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    apply(target, *(member(f"dev/{n}", type=kind) for n, kind in enumerate(kinds)))
    assert list((target / "dev").iterdir()) == []


def test_what_is_no_layer_is_refused(target: Path) -> None:
    data = archive(member("a", b"a" * 5000))
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    packed = gzip.compress(data)
    assert unpack(io.BytesIO(packed), target, diff_id=digest) == len(data)
    for broken, message in (
        (b"no archive", "damaged"),
        (packed[:-20], "damaged"),
        (data[:1000], "damaged"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (archive(member("a", b"b")), "but the image says"),
    ):
        with pytest.raises(LayerError, match=message):
            unpack(io.BytesIO(broken), target, diff_id=digest)
    with pytest.raises(LayerError, match="more than"):
        apply(target, member("big", bytes(100_000)), bytes_max=50_000)


parts = st.sampled_from(["a", "b", "..", ".", "", "door", ".wh.a", ".wh..wh..opq"])
names = st.lists(parts, min_size=1, max_size=4).map("/".join)
changes = st.one_of(
    st.builds(member, names, st.just(b"x")),
    st.builds(directory, names),
    st.builds(link, names, st.sampled_from(["..", "/", "../outside", "a", "../../..", "b/../.."])),
    st.builds(hard, names, names),
)


@settings(max_examples=150)
@given(st.lists(changes, max_size=8))
def test_no_archive_reaches_outside(tmp_path_factory, plan: list[Change]) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path_factory.mktemp("layers")
    (place / "outside").mkdir()
    (place / "outside" / "secret").write_text("secret")
    (place / "target").mkdir()
    with suppress(LayerError):
        apply(place / "target", *plan)
    assert untouched(place / "target")
    assert sorted(p.name for p in place.iterdir()) == ["outside", "target"]


def test_a_tree_is_removed_whatever_its_modes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("")
    (tree / "a" / "b").chmod(0)
    (tree / "a").chmod(0)
    remove_tree(tree)
    assert not tree.exists()
    remove_tree(tree)
