"""`kubeloop store …` as a user types it: real processes, beside a cluster that runs or not."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import yaml
from command_shell import Shell

from kubeloop.store.disk import RealDisk
from kubeloop.store.facts import NO_CAUSE, Cause, key_of
from kubeloop.store.history import Write
from kubeloop.store.store import Store

SECRET = "c3dvcmRmaXNo"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
CLUSTER_ID = bytes(range(16))
AT = 1.7e9


class Installed(Shell):
    """Runs the installed `kubeloop`, in a directory of its own."""

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("kubeloop")), *arguments]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Installed(tmp_path)


def object_of(kind: str, name: str, **fields: Any) -> bytes:
    content = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}} | fields
    packed: bytes = msgpack.packb(content)
    return packed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An open store in ./data with three pods, one of them deleted, and a Secret."""
    (tmp_path / "data" / "store").mkdir(parents=True)
    path = str(tmp_path / "data" / "store")
    store = Store.open(RealDisk(), path, threadsafe=None, fresh_id=CLUSTER_ID)
    metadata = {"name": "s", "annotations": {LAST_APPLIED: SECRET, "team": "a"}}
    secret = {"metadata": metadata, "data": {"key": SECRET}, "stringData": {"other": SECRET}}
    writes = [
        [Write(key_of("pods", "default", f"p{n}"), object_of("Pod", f"p{n}"))] for n in range(3)
    ]
    writes.append([Write(key_of("secrets", "default", "s"), object_of("Secret", "s", **secret))])
    writes.append([Write(key_of("pods", "default", "p0"), None)])
    for n, transaction in enumerate(writes):
        store.commit(transaction, Cause("kubelet", f"m{n}", n, "system:node"), at=AT + n)
        store.flush(lambda error: None)
    yield store
    store.close()


@pytest.fixture
def closed(store: Store) -> None:
    store.close()


KEYS = ["/registry/pods/default/p1", "/registry/pods/default/p2", "/registry/secrets/default/s"]


# What is there.


@pytest.mark.usefixtures("closed")
def test_dump(shell: Shell) -> None:
    dump = ["store", "dump", "--data-dir=data"]
    assert shell.run(*dump, "--keys-only").splitlines() == KEYS
    assert shell.run(*dump, "--keys-only", "--prefix=/registry/pods").splitlines() == KEYS[:2]
    assert "/registry/pods/default/p0" in shell.run(*dump, "--keys-only", "--revision=4")
    rows = [json.loads(line) for line in shell.run(*dump, "--output=json").splitlines()]
    assert [(row["key"], row["revision"]) for row in rows] == list(
        zip(KEYS, (2, 3, 4), strict=True)
    )
    documents = list(yaml.safe_load_all(shell.run(*dump)))
    assert documents == [row["object"] for row in rows]
    assert documents[0] == msgpack.unpackb(object_of("Pod", "p1"))


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("output", ["json", "yaml"])
def test_dump_hides_what_is_secret(shell: Shell, output: str) -> None:
    shell.run("store", "snapshot", "--data-dir=data", "kept")
    for where in ("--data-dir=data", "kept"):
        told = shell.run("store", "dump", where, "-o", output)
        assert SECRET not in told
        assert told.count("REDACTED") == 3
        assert "key" in told
        assert "team" in told
        told = shell.run("store", "dump", where, "-o", output, "--show-secrets")
        assert told.count(SECRET) == 3


@pytest.mark.usefixtures("closed")
def test_dump_of_the_log(shell: Shell) -> None:
    dump = ["store", "dump", "--data-dir=data", "--log"]
    lines = shell.run(*dump).splitlines()
    assert len(lines) == 5
    assert lines[-1] == (
        "5 2023-11-14T22:13:24.000Z user=system:node actor=kubelet cause=4 "
        "-/registry/pods/default/p0"
    )
    first, last = (json.loads(line) for line in shell.run(*dump, "--output=json").splitlines()[::4])
    assert first["written"] == last["deleted"] == ["/registry/pods/default/p0"]
    assert (last["revision"], last["message"]) == (5, "m4")
    assert first["deleted"] == last["written"] == []
    assert len(list(yaml.safe_load_all(shell.run(*dump, "--output=yaml")))) == 5
    some = shell.run(*dump, "--prefix=/registry/pods/default/p0", "--revision=4")
    assert [line.split()[0] for line in some.splitlines()] == ["1"]


def test_stat(shell: Shell, store: Store) -> None:
    def stat() -> dict[str, Any]:
        told: dict[str, Any] = json.loads(
            shell.run("store", "stat", "--data-dir=data", "--output=json")
        )
        return told

    told = stat()
    assert (told["revision"], told["floor"], told["keys"]) == (5, 0, 3)
    assert told["clusterId"] == CLUSTER_ID.hex()
    assert told["resources"] == {"pods": 2, "secrets": 1}
    assert told["valueBytes"] == store.history.value_bytes
    assert told["holder"] == os.getpid()
    assert "process" in shell.run("store", "stat", "--data-dir=data")
    store.close()
    (log,) = Path("data/store").glob("log-*")
    size = log.stat().st_size
    os.truncate(log, size - 1)
    other = RealDisk().lock("other")
    told = stat()
    other.release()
    assert told["holder"] is None
    assert told["files"] == [{"name": log.name, "bytes": size - 1}]
    assert told["tornTail"]["why"] == "the file ends in a frame"
    text = shell.run("store", "stat", "--data-dir=data")
    assert "no process" in text
    assert "the file ends in a frame" in text


@pytest.mark.usefixtures("closed")
def test_verify(shell: Shell) -> None:
    verify = ["store", "verify"]
    shell.run("store", "snapshot", "--data-dir=data", "kept")
    assert "good: revision 5, 3 keys; 5 transactions" in shell.run(*verify, "data")
    assert "good: revision 5" in shell.run(*verify, "--data-dir=data")
    assert "kept is good: a backup of revision 5, 3 keys" in shell.run(*verify, "kept")
    (log,) = Path("data/store").glob("log-*")
    whole = log.read_bytes()
    log.write_bytes(whole[:-1])
    assert "a write that was cut short" in shell.run(*verify, "data")
    place = whole.index(b"p1")
    log.write_bytes(whole[:place] + b"q" + whole[place + 1 :])
    told = shell.run(*verify, "data", code=1)
    assert f"{log.name} is damaged at byte " in told
    assert "everything up to revision 1 is good" in told
    kept = Path("kept").read_bytes()
    Path("kept").write_bytes(kept.replace(b"p1", b"q1"))
    assert "kept is no whole backup: at byte 36, the checksum" in shell.run(*verify, "kept", code=1)
    assert "it begins with" in shell.run(*verify, __file__, code=1)


# Changes.


@pytest.mark.usefixtures("closed")
def test_snapshot_and_restore(shell: Shell) -> None:
    snapshot = ["store", "snapshot", "--data-dir=data"]
    assert "kept: revision 5, 3 keys, " in shell.run(*snapshot, "kept")
    assert "FILE kept exists already" in shell.run(*snapshot, "kept", code=1)
    assert Path("kept").stat().st_mode & 0o077 == 0, "Secrets are in there"
    assert "revision 4, 4 keys" in shell.run(*snapshot, "kept", "--revision=4", "--force")
    assert "from 0, the oldest" in shell.run(*snapshot, "x", "--revision=9", code=1)
    told = shell.run("store", "restore", "kept", "--data-dir=some/new")
    assert "revision 4, 4 keys; start the cluster with: kubeloop up --data-dir some/new" in told
    assert "holds a store already" in shell.run(
        "store", "restore", "kept", "--data-dir=some/new", code=1
    )
    assert "/registry/pods/default/p0" in shell.run("store", "dump", "some/new", "--keys-only")


@pytest.mark.usefixtures("closed")
def test_restore_until_damage(shell: Shell) -> None:
    restore = ["store", "restore", "--until-damage", "--data-dir=data"]
    assert "is not damaged: there is nothing to give up" in shell.run(*restore, code=1)
    (log,) = Path("data/store").glob("log-*")
    damaged = log.read_bytes().replace(b"p2", b"q2")
    log.write_bytes(damaged)
    told = shell.run(*restore, code=1)
    assert "Go back to revision 2? [y/N]" in told
    assert "Aborted" in told
    assert log.read_bytes() == damaged
    lock = RealDisk().lock("data/store/lock")
    assert f"held by process {os.getpid()}; stop that" in shell.run(*restore, "--yes", code=1)
    lock.release()
    told = shell.run(*restore, "--yes")
    assert "revision 2 is the newest before that; what came after it is lost" in told
    assert "store: revision 2 is the newest now" in told
    assert (log.parent / "damaged-1" / log.name).read_bytes() == damaged
    assert "good: revision 2, 2 keys" in shell.run("store", "verify", "data")


def test_compact(shell: Shell, store: Store) -> None:
    told = shell.run("store", "compact", "--data-dir=data", code=1)
    assert f"held by process {os.getpid()}: a running cluster compacts by itself" in told
    store.close()
    assert "revision 3 is the oldest now" in shell.run(
        "store", "compact", "--data-dir=data", "--revision=3"
    )
    told = shell.run("store", "dump", "data", "--keys-only", "--revision=2", code=1)
    assert "revision 2 is not there: it must be from 3" in told
    assert "revision 5 is the oldest now; 2 files removed" in shell.run(
        "store", "compact", "--data-dir=data"
    )
    assert shell.run("store", "dump", "data", "--keys-only").splitlines() == KEYS


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["stat"], 1, "no cluster called 'kubeloop' is running: give the --name of one that is"),
        (["stat", "--data-dir=x"], 1, "--data-dir x holds no store: there is no "),
        (["stat", "--data-dir=data/store"], 1, "give the directory around it: --data-dir "),
        (["stat", "--data-dir=data", "--name=x"], 2, "give either --data-dir or --name"),
        (["verify", "data", "--name=x"], 2, "give one of PATH, --data-dir and --name"),
        (["verify", "nowhere"], 2, "'nowhere' does not exist"),
        (["dump", "data", "--log", "--keys-only"], 2, "do not go together: give one of them"),
        (["dump", "data", "--revision=6"], 1, "revision 6 is not there: it must be from 0, "),
        (["dump", "data", "--revision=-1"], 2, "-1 is not in the range"),
        (["snapshot", "--data-dir=data", "no/where"], 1, "FILE no/where: there is no directory"),
        (["snapshot", "--data-dir=data", "data/../data/store/x"], 1, "belongs somewhere else"),
        (["restore", "--data-dir=new"], 2, "give either a backup FILE or --until-damage"),
        (["restore", "f", "--data-dir=new", "--until-damage"], 2, "give either a backup FILE or"),
        (["restore", "f"], 2, "Missing option '--data-dir'"),
        (["restore", "nowhere", "--data-dir=new"], 1, "nowhere: No such file or directory"),
        (["compact", "--data-dir=data", "--revision=6"], 1, "to 5, the newest"),
    ],
)
@pytest.mark.usefixtures("closed")
def test_mistakes_are_explained(shell: Shell, arguments: list[str], code: int, told: str) -> None:
    assert told in shell.run("store", *arguments, code=code)
    assert not Path("new").exists()


def test_a_reader_may_have_seen_enough(shell: Shell, store: Store) -> None:
    for n in range(2000):
        store.commit([Write(key_of("pods", "x", f"{n}"), object_of("Pod", f"{n}"))], NO_CAUSE)
    store.flush(lambda error: None)
    command = shell.command("store", "dump", "data", "--keys-only")
    with subprocess.Popen(
        command, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"/registry/pods/default/p1\n"
        process.stdout.close()
        assert process.stderr.read() == b""


# Beside a cluster.


@pytest.mark.kubectl
def test_a_backup_of_a_running_cluster_starts_another(shell: Shell) -> None:
    up = ["--runtime=simulated", "--nodes=1"]
    with shell.up(*up, "--data-dir=one") as process:
        shell.kubectl("create", "configmap", "kept", "--from-literal=a=1")
        uid = shell.kubectl("get", "configmap", "kept", "-o=jsonpath={.metadata.uid}")
        elsewhere = shell.home / "elsewhere"
        elsewhere.mkdir()
        os.chdir(elsewhere)  # What the running cluster said of its directory holds everywhere.
        assert "kept: revision " in shell.run("store", "snapshot", "../kept")
        shell.kubectl("create", "configmap", "late")
        assert "is good: revision" in shell.run("store", "verify")
        stat = json.loads(shell.run("store", "stat", "--output=json"))
        assert stat["holder"] == process.pid
        assert "configmaps" in stat["resources"]
        assert "/registry/configmaps/default/late" in shell.run("store", "dump", "--keys-only")
        assert "user=system:admin" in shell.run("store", "dump", "--log")
        told = shell.run("store", "compact", code=1)
        assert f"held by process {process.pid}: a running cluster compacts by itself" in told
        os.chdir(shell.home)
        shell.run("down")
        process.wait()
    shell.run("store", "restore", "kept", "--data-dir=two")
    with shell.up(*up, "--data-dir=two") as process:
        kept = json.loads(shell.kubectl("get", "configmap", "kept", "-o=json"))
        assert kept["data"] == {"a": "1"}
        assert kept["metadata"]["uid"] == uid
        shell.run("kubectl", "get", "configmap", "late", code=1)
        shell.kubectl("create", "configmap", "later")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert "is good" in shell.run("store", "verify", "two")


def test_a_cluster_that_keeps_nothing(shell: Shell) -> None:
    with shell.up("--runtime=simulated", "--nodes=0", "--name=light"):
        told = shell.run("store", "snapshot", "--name=light", "kept", code=1)
        assert "cluster 'light' keeps nothing: it was started without --data-dir" in told
