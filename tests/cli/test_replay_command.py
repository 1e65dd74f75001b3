"""A real cluster is recorded while kubectl works with it, and its actors live through it again."""

import errno
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_shell import Shell

from kubeloop import Cluster
from kubeloop.actors.scheduler import Scheduler
from kubeloop.cli.replay import command
from kubeloop.cli.up import command as up
from kubeloop.recordings import RecordingFailed

ACTORS = ("apiserver", "controller-manager", "kube-proxy-node-1", "kubelet-node-1", "scheduler")


@pytest.mark.kubectl
@pytest.mark.process
def test_a_cluster_is_recorded_and_replayed(tmp_path: Path) -> None:
    shell, directory = Shell(tmp_path), tmp_path / "tapes"
    with shell.up("--record", str(directory), "--data-dir", str(tmp_path / "cluster")):
        shell.kubectl("create", "deployment", "web", "--image=none.example/web", "--replicas=2")
        shell.kubectl("wait", "pod", "-l=app=web", "--for=condition=PodScheduled")
        shell.kubectl("scale", "deployment", "web", "--replicas=1")
        shell.kubectl("delete", "deployment", "web")
        shell.run("down")
    assert sorted(path.name for path in directory.iterdir()) == [f"{a}.tape" for a in ACTORS]
    for actor in ACTORS:
        told = shell.run("replay", "-q", str(directory / f"{actor}.tape"))
        assert "all as they were" in told and "middle" not in told
    scheduler = str(directory / "scheduler.tape")
    lines = shell.run("replay", scheduler).splitlines()
    spoken = [line.split()[0] for line in lines if "turn" in line and not line.endswith("said 0")]
    turns = [shell.run("replay", scheduler, "--turn", turn) for turn in spoken if turn.isdecimal()]
    assert any("says   to apiserver: create pods" in told and "binding" in told for told in turns)
    assert "there is no turn 9999" in shell.run("replay", scheduler, "--turn", "9999", code=1)
    assert "is not a tape" in shell.run("replay", __file__, code=1)


async def test_a_difference_is_told_and_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(nodes=1, seed=1, runtime="simulated") as cluster:
        with cluster.record(tmp_path, actors=["scheduler"]) as recordings:
            pod = {"containers": [{"name": "c", "image": "i"}]}
            meta = {"name": "p"}
            await cluster.api.create(
                {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod}
            )
            await cluster.api.wait("pod/p", "condition=Ready")
        tape = str(recordings.paths["scheduler"])
    assert CliRunner().invoke(command, [tape]).exit_code == 0
    monkeypatch.setattr(Scheduler, "_place_all", lambda self: None)
    told = CliRunner().invoke(command, [tape, "-q"])
    assert told.exit_code == 1
    assert "differs: it" in told.output and "where it" in told.output


async def test_tapes_are_for_their_owner(tmp_path: Path) -> None:
    directory = tmp_path / "tapes"
    async with Cluster(nodes=1, seed=1, runtime="simulated") as cluster:
        with cluster.record(directory, actors=["scheduler"]) as recordings:
            await cluster.settled()
        mode = recordings.paths["scheduler"].stat().st_mode
    assert (stat.S_IMODE(directory.stat().st_mode), stat.S_IMODE(mode)) == (0o700, 0o600)


async def test_a_tape_that_ends_in_the_middle_says_so(tmp_path: Path) -> None:
    async with Cluster(nodes=1, seed=1, runtime="simulated") as cluster:
        with cluster.record(tmp_path, actors=["scheduler"]) as recordings:
            await cluster.settled()
        tape = recordings.paths["scheduler"]
    whole = CliRunner().invoke(command, [str(tape), "-q"])
    assert whole.exit_code == 0 and "middle" not in whole.output
    turns, data = int(whole.output.split()[0]), tape.read_bytes()
    tape.write_bytes(data[:-1])
    told = CliRunner().invoke(command, [str(tape), "-q"])
    assert told.exit_code == 0
    rest = "1 turn" if turns == 2 else f"{turns - 1} turns"
    assert f"{rest}, all as they were\n" in told.output
    assert f"ends in the middle of turn {turns}, at byte " in told.output
    assert f" of {len(data) - 1}: its writer was killed" in told.output


def test_where_nothing_can_be_written_the_cluster_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = CliRunner().invoke(up, ["--record", str(tmp_path / "file" / "below")])
    assert told.exit_code == 2
    assert "Invalid value for --record" in told.output and "name a directory" in told.output


async def test_what_cannot_be_recorded_is_told(tmp_path: Path) -> None:
    async with Cluster(nodes=1, seed=1, runtime="simulated") as cluster:
        with pytest.raises(RecordingFailed, match="no actor is called 'nobody'; there are"):
            cluster.record(tmp_path, actors=["scheduler", "nobody"])
        (tmp_path / "file").write_text("")
        below = tmp_path / "file" / "below"
        with pytest.raises(RecordingFailed, match=f"{below} cannot begin: .*; name a directory"):
            cluster.record(below)
        with pytest.raises(RecordingFailed, match=r"scheduler\.tape"):
            (tmp_path / "scheduler.tape").unlink()
            (tmp_path / "scheduler.tape").mkdir()
            cluster.record(tmp_path, actors=["scheduler"])
        await cluster.settled()


async def test_a_full_disk_ends_the_tape_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("the system has no /dev/full")
    (tmp_path / "scheduler.tape").symlink_to("/dev/full")
    async with Cluster(nodes=1, seed=1, runtime="simulated") as cluster:
        with cluster.record(tmp_path, actors=["scheduler"]):
            await cluster.settled()
        assert cluster.supervisor.restarts == {}
    assert "cannot be written, and ends here" in caplog.text
    assert os.strerror(errno.ENOSPC) in caplog.text
