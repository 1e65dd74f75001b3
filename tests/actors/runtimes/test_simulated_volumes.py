"""Files of simulated containers, compared with a tree of dicts; links below real directories."""

import errno
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.runtimes import process_volumes
from kubeloop.actors.runtimes.protocol import ContainerSpec, Mount, RuntimeFailure
from kubeloop.actors.runtimes.sandbox.beneath import walk
from kubeloop.actors.runtimes.simulated_volumes import Disk, Inside, command

PATHS = st.sampled_from(["/a/f", "/a/g", "/a/d/f", "/b/f", "/ro/f", "/e/f", "/cm/key", "/none/f"])
OPS = st.lists(
    st.tuples(st.sampled_from("123"), PATHS, st.booleans(), st.sampled_from(["x", "y"])),
    max_size=20,
)


def spec(name: str) -> ContainerSpec:
    """A container that sees one directory of its node twice, a part of it, and a file of it."""
    return ContainerSpec(
        pod_uid=name, name="c", attempt=0, image="i",
        files={"/cm": {"key": b"told"}}, shared={"/e": "empty"},
        mounts=[
            Mount(target="/a", host="/v"),
            Mount(target="/b", host="/v", sub_path="d"),
            Mount(target="/ro", host="/v", read_only=True),
        ],
    )  # fmt: skip


def real(pod: str, path: str) -> str | None:
    """Where a path of a pod leads to; None: nowhere."""
    top, _, rest = path[1:].partition("/")
    return {
        "a": f"node/v/{rest}", "b": f"node/v/d/{rest}", "ro": f"node/v/{rest}", "e": f"{pod}/{rest}"
    }.get(top)  # fmt: skip


@given(OPS)
def test_files_are_where_the_mounts_say(ops: list[tuple[str, str, bool, str]]) -> None:
    node, remote = Disk(), Disk()
    pods = {name: Inside(spec(name), node=node, remote=remote, own=Disk()) for name in "123"}
    model: dict[str, str] = {}
    for pod, path, append, text in ops:
        place = real(pod, path)
        sign = ">>" if append else ">"
        done = command(pods[pod], ["sh", "-c", f"echo {text} {sign} {path}"])
        assert done is not None
        writable = place is not None and not path.startswith("/ro")
        assert (done.code == 0) == writable, done.stderr
        if writable and place is not None:
            model[place] = (model.get(place, "") if append else "") + f"{text}\n"
        for other in "123":
            for looked in ("/a/f", "/a/g", "/a/d/f", "/b/f", "/ro/f", "/e/f"):
                found = command(pods[other], ["cat", looked])
                wanted = model.get(real(other, looked) or "")
                assert found is not None and (found.stdout if found.code == 0 else None) == wanted
    told = command(pods["1"], ["cat", "/cm/key"])
    assert told is not None and told.stdout == "told"
    listed = command(pods["1"], ["ls", "/b"])
    assert listed is not None
    assert listed.stdout.split() == sorted({p.split("/")[3] for p in model if "/d/" in p})
    node.remove("/v")
    assert not node.files and not node.directories


def test_what_is_not_about_files_is_none_of_ours() -> None:
    inside = Inside(spec("1"), node=Disk(), remote=Disk(), own=Disk())
    for line in ("true", "cat", "cat -", "sh -c 'exit 3'", "ls", "echo hi"):
        assert command(inside, shlex.split(line)) is None
    missing = command(inside, ["ls", "/nowhere"])
    assert missing is not None and missing.code == 1


@pytest.mark.parametrize(("kind", "fails"), [("Directory", True), ("FileOrCreate", False),
                                             ("Local", True), ("Socket", True)])  # fmt: skip
def test_what_must_be_there_is_or_is_made(kind: str, fails: bool, tmp_path: Path) -> None:
    mount = Mount(target="/a", volume="v", host="/dev/x", kind=kind)
    told = ContainerSpec(pod_uid="1", name="c", attempt=0, image="i", mounts=[mount])
    (tmp_path / "host" / "dev").mkdir(parents=True)
    for begin in (
        lambda: Inside(told, node=Disk(), remote=Disk(), own=Disk()),
        lambda: list(process_volumes.volumes(tmp_path / "host", tmp_path, iter([mount]))),
    ):
        if fails:
            with pytest.raises(RuntimeFailure) as raised:
                begin()
            assert raised.value.reason == "FailedMount"
        else:
            begin()
    assert (tmp_path / "host" / "dev" / "x").is_file() != fails


def test_no_link_is_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    (outside / "kept").mkdir(parents=True)
    (root / "up").symlink_to(outside)
    (root / "a" / "link").symlink_to(outside / "kept")
    for parts in (["up"], ["up", "kept"], ["a", "link"], ["a", "link", "new"]):
        with pytest.raises(OSError, match="symbolic links") as raised:
            os.close(walk(str(root), parts, make=True))
        assert raised.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="symbolic links"):
        process_volumes.remove(root, "/up/kept")
    assert (outside / "kept").is_dir() and not (outside / "kept" / "new").exists()
    at = walk(str(root), ["a", "b", "c"], make=True)
    os.close(at)
    assert (root / "a" / "b" / "c").is_dir()
    process_volumes.remove(root, "/a")
    process_volumes.remove(root, "/a")
    assert not (root / "a").exists() and (outside / "kept").is_dir()
    with pytest.raises(OSError, match=r"\.\."):
        process_volumes.remove(root, "/a/../..")


def test_what_no_node_mounts_is_named(tmp_path: Path) -> None:
    for remote, why in (("nfs", "nfs volumes are not"), ("csi d.example", "driver name d.example")):
        mount = Mount(target="/a", volume="v", host="/v", remote=remote)
        with pytest.raises(RuntimeFailure, match=why):
            list(process_volumes.volumes(tmp_path, tmp_path, iter([mount])))
