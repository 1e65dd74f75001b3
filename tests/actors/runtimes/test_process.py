"""Real processes in real namespaces: what a kubelet and a proxy may rely on."""

import asyncio
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from process_ground import Ground, answer, define, ground

from kubeloop.actors.runtimes.process_zygote import Abilities, Zygote
from kubeloop.actors.runtimes.protocol import Exited, RuntimeFailure

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[3]
CHILD = Path(__file__).with_name("process_ground.py")
NOBODY = 65534


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground(tmp_path) as found:
        yield found


# The network.


async def test_every_pod_binds_the_same_port_and_answers_by_its_address(node: Ground) -> None:
    first, second = await asyncio.gather(node.serve("first", 1), node.serve("second", 2))
    assert await answer(node.runtime, first) == "first"
    assert await answer(node.runtime, second) == "second"
    assert sorted(node.runtime.network.pods()) == [("first", first), ("second", second)]


async def test_many_may_dial_at_once(node: Ground) -> None:
    ip = await node.serve("pod")
    answers = await asyncio.gather(*(answer(node.runtime, ip) for _ in range(50)))
    assert answers == ["pod"] * 50


async def test_a_dial_fails_as_a_connect_would(node: Ground) -> None:
    ip = await node.pod("pod")
    with pytest.raises(ConnectionRefusedError):
        await node.runtime.network.dial(ip, 8080)
    with pytest.raises(OSError) as unknown:
        await node.runtime.network.dial("10.244.1.99", 8080)
    assert unknown.value.errno == errno.EHOSTUNREACH


async def test_a_pod_has_no_way_out(node: Ground) -> None:
    """Neither to the host's own listeners nor to other pods."""
    with socket.create_server(("127.0.0.1", 0)) as host:
        await node.serve("pod", 1)
        await node.serve("other", 2)
        program = (
            "import socket\n"
            f"for address in (('127.0.0.1', {host.getsockname()[1]}), ('10.244.1.2', 8080)):\n"
            "    try: socket.create_connection(address, 1); print('connected')\n"
            "    except OSError as error: print(error.errno)\n"
        )
        code, text = await node.exec("pod", "python3", "-c", program)
    assert (code, text.split()) == (0, [str(errno.ECONNREFUSED), str(errno.ENETUNREACH)])


async def test_a_cluster_ip_can_be_listened_on_inside_a_pod(node: Ground) -> None:
    await node.serve("pod")
    listener = await node.runtime.network.listen("pod", "10.96.0.10", 80)
    program = "import socket; s = socket.create_connection(('10.96.0.10', 80)); print(s.recv(9))"
    loop = asyncio.get_running_loop()
    with listener:
        asked = asyncio.create_task(node.exec("pod", "python3", "-c", program))
        connection, _ = await loop.sock_accept(listener)
        with connection:
            await loop.sock_sendall(connection, b"service")
        assert await asked == (0, "b'service'\n")
    with pytest.raises(OSError):
        await node.runtime.network.listen("pod", "192.0.2.1", 80)


async def test_changes_of_the_network_are_told(node: Ground) -> None:
    seen: list[int] = []
    node.runtime.network.on_change(lambda: seen.append(len(node.runtime.network.pods())))
    await node.pod("pod")
    await node.runtime.remove_sandbox("pod")
    assert (seen[0], seen[-1]) == (1, 0)


# The life of containers.


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [("exit 0", 0, "Completed"), ("exit 3", 3, "Error"), ("sh -c 'kill -9 $$'", 137, "Error")],
)
async def test_an_exit_is_told_once(node: Ground, script: str, code: int, reason: str) -> None:
    await node.pod("pod")
    await node.run("pod", "sh", "-c", f"echo bye > /dev/termination-log; {script}")
    await node.output("pod")
    await node.runtime.stop_container("pod", "c", grace_s=0)
    assert node.exits == [Exited("pod", "c", 0, code, reason, "bye\n")]


async def test_a_killed_process_is_told_with_its_signal(node: Ground) -> None:
    await node.serve("pod")
    node.runtime.signal("pod", "c", signal.SIGKILL)
    assert await node.output("pod") == "listening\n"
    assert [(told.code, told.reason) for told in node.exits] == [(137, "Error")]
    [record] = node.runtime.sandboxes()
    assert (record.containers[0].running, record.containers[0].code) == (False, 137)


async def test_a_container_takes_its_children_along(node: Ground) -> None:
    """Or its next run could not bind the port that a forgotten child holds."""
    await node.pod("pod")
    script = f"setsid python3 -S -c '{LISTENER}' & wait"
    for attempt in range(2):
        await node.run("pod", "sh", "-c", script, attempt=attempt)
        assert await _line(node, attempt) == b"bound\n"
        node.runtime.signal("pod", "c", signal.SIGKILL)
        await node.output("pod", attempt=attempt)
    assert [told.code for told in node.exits] == [137, 137]


LISTENER = (
    'import socket; s = socket.create_server(("", 8080)); print("bound", flush=True); '
    'c, _ = s.accept(); c.sendall(b"once")'
)


async def _line(node: Ground, attempt: int) -> bytes:
    async for _, line in node.runtime.logs("pod", "c", attempt=attempt, follow=True):
        return line
    return b""


async def test_stop_sends_term_and_waits(node: Ground) -> None:
    await node.pod("pod")
    script = 'trap "echo stopping; exit 7" TERM; echo ready; while :; do sleep 1000 & wait; done'
    await node.run("pod", "sh", "-c", script)
    assert await node.first_line("pod") == b"ready\n"
    await node.runtime.stop_container("pod", "c", grace_s=30)
    assert [told.code for told in node.exits] == [7]
    assert await node.output("pod") == "ready\nstopping\n"


async def test_stop_kills_who_does_not_listen(node: Ground) -> None:
    await node.pod("pod")
    await node.run("pod", "sh", "-c", 'trap "" TERM; echo ready; sleep 1000 & wait; wait')
    assert await node.first_line("pod") == b"ready\n"
    patient = asyncio.create_task(node.runtime.stop_container("pod", "c", grace_s=1000))
    await asyncio.sleep(0)
    await node.runtime.stop_container("pod", "c", grace_s=0.05)  # A second call shortens the grace.
    await patient
    assert [told.code for told in node.exits] == [137]
    await node.runtime.stop_container("pod", "c", grace_s=1)  # Harmless.


async def test_logs_follow_to_the_end_and_keep_runs_apart(node: Ground) -> None:
    await node.pod("pod")
    await node.run("pod", "sh", "-c", "echo one; echo two >&2; printf three")
    assert sorted((await node.output("pod")).split()) == ["one", "three", "two"]
    await node.run("pod", "echo", "again", attempt=1)
    assert await node.output("pod", attempt=1) == "again\n"
    await node.runtime.remove_container("pod", "c", 0)
    with pytest.raises(RuntimeFailure, match="has no run 0"):
        await node.output("pod")


async def test_a_terminal_is_one(node: Ground) -> None:
    await node.pod("pod")
    await node.run("pod", "sh", "-c", "test -t 0 && test -t 2 && echo $TERM < /dev/tty", tty=True)
    assert await node.output("pod") == "xterm\r\n"


async def test_exec_runs_beside_the_process(node: Ground) -> None:
    await node.serve("pod")
    assert await node.exec("pod", "sh", "-c", "hostname; cat hello; exit 4") == (4, "pod\nhi\n")
    assert await node.exec("pod", "sh", "-c", "kill -9 $$") == (137, "")
    with pytest.raises(RuntimeFailure, match=r'exec: "nope": executable file not found in \$PATH'):
        await node.exec("pod", "nope")
    with pytest.raises(TimeoutError):
        await node.exec("pod", "sleep", "1000", timeout_s=0.1)
    assert "sleep" not in (await node.exec("pod", "sh", "-c", "cat /proc/[0-9]*/comm"))[1]
    node.runtime.signal("pod", "c", signal.SIGKILL)
    await node.output("pod")
    with pytest.raises(RuntimeFailure, match="does not run"):
        await node.exec("pod", "true")


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (("foo",), {}, 'exec: "foo": executable file not found in $PATH'),
        (("/foo",), {}, 'exec: "/foo": stat /foo: no such file or directory'),
        (("/app/hello",), {}, 'exec: "/app/hello": permission denied'),
        (("true",), {"working_dir": "/app/hello"}, 'chdir to cwd ("/app/hello"): '),
        (
            ("true",),
            {"files": {"/usr/nowhere": {"a": b""}}},
            "cannot mount a volume at /usr/nowhere",
        ),
        (("true",), {"files": {"/x": {"../a": b""}}}, "outside of it"),
        (("true", "\0"), {}, "embedded null byte"),
        (("true",), {"files": {"/x": {"\0": b""}}}, "embedded null byte"),
    ],
)
async def test_what_cannot_start_says_why(
    node: Ground, command: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    await node.pod("pod")
    with pytest.raises(RuntimeFailure) as failure:
        await node.run("pod", *command, **options)
    assert failure.value.reason == "RunContainerError"
    assert message in failure.value.message
    assert node.runtime.sandboxes()[0].containers == ()
    await node.run("pod", "true")  # The same attempt may be tried again.
    await node.output("pod")
    assert len(node.exits) == 1


async def test_the_surroundings_are_those_of_the_image_and_the_pod(node: Ground) -> None:
    store = node.source.store
    lines = ("FROM host", "ENV A=image B=image", "WORKDIR /srv/dir", 'ENTRYPOINT ["env"]')
    store.build(define(node.directory / "other", *lines), "other:1")
    await node.runtime.pull("other:1")
    await node.pod("pod")
    await node.run(
        "pod", image="other:1", env={"B": "pod", "C": "pod"}, args=("sh", "-c", "env; pwd")
    )
    text = (await node.output("pod")).splitlines()
    assert {"A=image", "B=pod", "C=pod", "HOSTNAME=pod", "HOME=/root", "/srv/dir"} <= set(text)


async def test_volumes_are_mounted_and_shared(node: Ground) -> None:
    await node.pod("pod")
    files = {"/etc/config": {"key": b"value\n", "deep/er": b"more\n"}, "/app/one": {"": b"file\n"}}
    script = (
        "cat /etc/config/key /etc/config/deep/er /app/one; echo x > /etc/config/key; echo y > /s/f"
    )
    shared = {"/s": "scratch"}
    await node.run("pod", "sh", "-c", script, files=files, shared=shared)
    text = await node.output("pod")
    assert {"value", "more", "file"} <= set(text.split())
    assert "Read-only file system" in text
    await node.run("pod", "cat", "/t/f", name="d", shared={"/t": "scratch"})
    assert await node.output("pod", "d") == "y\n"


# Safety.


async def test_the_host_is_read_only_and_out_of_reach(node: Ground) -> None:
    await node.serve("pod")
    attempts = (
        "touch /usr/x", "mount -t tmpfs x /mnt", "mount -o remount,rw /usr",
        "echo 1 > /proc/sys/kernel/panic", "cat /etc/shadow", "ls /boot /home",
        "hostname other",
    )  # fmt: skip
    for attempt in attempts:
        code, text = await node.exec("pod", "sh", "-c", attempt)
        assert code != 0, f"{attempt}: {text}"
    code, text = await node.exec(
        "pod", "sh", "-c", "cd /var/tmp && touch x /app/x /x && ls /proc | grep -c '^[0-9]'"
    )
    assert code == 0 and int(text) < 6, text


async def test_links_in_an_image_lead_nowhere_outside(node: Ground, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    build = define(tmp_path / "hostile", "FROM host", "COPY tree /")
    (build / "tree").mkdir()
    for name in ("srv", "opt", "mnt"):
        (build / "tree" / name).symlink_to(outside)
    node.source.store.build(build, "hostile:1")
    await node.runtime.pull("hostile:1")
    await node.pod("pod")
    try:
        await node.run(
            "pod", "sh", "-c", "echo > /srv/x", image="hostile:1", shared={"/mnt/v": "v"}
        )
        await node.output("pod")
    except RuntimeFailure:
        pass  # Refused is as good.
    assert list(outside.iterdir()) == []


async def test_an_image_may_bring_files_for_host_directories(node: Ground) -> None:
    lines = ("FROM host", "COPY tool /usr/bin/tool")
    build = define(node.directory / "tool", *lines, tool="#!/bin/sh\necho tool\n")
    (build / "tool").chmod(0o755)
    node.source.store.build(build, "tool:1")
    await node.runtime.pull("tool:1")
    await node.pod("pod")
    await node.run("pod", "sh", "-c", "tool; ls /usr/bin/env", image="tool:1")
    assert await node.output("pod") == "tool\n/usr/bin/env\n"


async def test_an_image_from_scratch_sees_nothing_of_the_host(node: Ground) -> None:
    store, build = node.source.store, node.directory / "scratch"
    store.build(define(build, "FROM scratch", "COPY a /", a="a"), "scratch:1")
    await node.runtime.pull("scratch:1")
    await node.pod("pod")
    with pytest.raises(RuntimeFailure, match="stat /bin/sh: no such file"):
        await node.run("pod", "/bin/sh", image="scratch:1")
    with pytest.raises(RuntimeFailure, match="no command specified"):
        await node.run("pod", image="scratch:1")


# Images.


async def test_what_cannot_be_pulled_says_why(node: Ground) -> None:
    with pytest.raises(RuntimeFailure, match="not found") as failure:
        await node.runtime.pull("nope:1")
    assert failure.value.reason == "ErrImagePull"
    with pytest.raises(RuntimeFailure) as failure:
        await node.runtime.pull("Not A Name")
    assert failure.value.reason == "InvalidImageName"


async def test_images_stay_on_the_node(tmp_path: Path) -> None:
    async with ground(tmp_path) as first:
        [before] = first.runtime.images()
        with pytest.raises(OSError, match="in use by another process"):
            async with ground(tmp_path):
                pass
    async with ground(tmp_path) as second:
        assert list(second.runtime.images()) == [before]
        await second.serve("pod")
        with pytest.raises(RuntimeFailure, match="is used by container c"):
            await second.runtime.remove_image(before.digest)
        await second.runtime.remove_sandbox("pod")
        await second.runtime.remove_image(before.digest)
        await second.pod("pod")
        with pytest.raises(RuntimeFailure, match="not on the node"):
            await second.run("pod", "true")


# Nothing is left behind.


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def descendants(pid: int) -> list[int]:
    """Return every process below `pid`, in whatever namespace."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                status = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(status.rpartition(")")[2].split()[1]), []).append(int(name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


async def test_close_leaves_nothing(tmp_path: Path) -> None:
    before, mounts = descriptors(), Path("/proc/self/mountinfo").read_text()
    async with ground(tmp_path) as node:
        await asyncio.gather(*(node.serve(f"pod-{n}", n) for n in range(1, 5)))
        follower = asyncio.create_task(node.output("pod-1"))
        await asyncio.sleep(0)
        living = descendants(os.getpid())
        assert len(living) >= 9
    await follower
    assert not [pid for pid in living if os.path.exists(f"/proc/{pid}")]
    assert descriptors() <= before
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not (tmp_path / "node" / "pods").exists()


async def test_removing_a_pod_leaves_nothing(node: Ground) -> None:
    await node.pod("warm")
    before, others = descriptors(), set(descendants(os.getpid()))
    await node.serve("pod", 2)
    await node.runtime.stop_sandbox("pod")
    assert [told.code for told in node.exits] == [137]
    assert await node.output("pod") == "listening\n"  # Logs stay until it is removed.
    await node.runtime.remove_sandbox("pod")
    assert set(descendants(os.getpid())) == others
    assert descriptors() == before
    assert not (node.directory / "node/pods/pod").exists()


async def test_a_start_that_is_cancelled_leaves_nothing_running(node: Ground) -> None:
    await node.pod("warm")
    others = set(descendants(os.getpid()))
    for turns in range(12):
        uid = f"pod-{turns}"
        starting = asyncio.create_task(_start(node, uid, turns + 2))
        for _ in range(turns * 3):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await node.runtime.remove_sandbox(uid)
    assert set(descendants(os.getpid())) - others == set()


async def _start(node: Ground, uid: str, number: int) -> None:
    await node.pod(uid, number)
    await node.run(uid, "sleep", "1000")


async def test_a_pod_whose_init_was_killed_starts_again(node: Ground) -> None:
    ip = await node.serve("pod")
    [init] = [pid for pid in descendants(os.getpid()) if _name(pid) == "kubeloop-pause"]
    os.kill(init, signal.SIGKILL)
    assert await node.output("pod") == "listening\n"
    assert [told.code for told in node.exits] == [137]
    await node.run("pod", "python3", "-S", "-c", LISTENER, attempt=1)
    assert await _line(node, 1) == b"bound\n"
    assert await answer(node.runtime, ip) == "once"


async def test_a_zygote_that_was_killed_takes_all_pods_along_and_comes_back(node: Ground) -> None:
    await node.serve("pod")
    living = descendants(os.getpid())
    [zygote] = [pid for pid in living if _name(pid) == "kubeloop-zygote"]
    os.kill(zygote, signal.SIGKILL)
    await node.output("pod")
    assert [told.code for told in node.exits] == [137]
    await node.run("pod", "true", attempt=1)
    await node.output("pod", attempt=1)
    assert not set(living) & set(descendants(os.getpid()))


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.parametrize("what", ["wait", "wait-plain"])
def test_kill_9_of_the_parent_leaves_nothing(what: str, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, CHILD, what],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"ready\n"
        pidfds = [os.pidfd_open(pid) for pid in descendants(child.pid)]
        assert len(pidfds) >= 1 + 2 * 4
        child.kill()
        child.wait()
    for pidfd in pidfds:
        gone, _, _ = select.select([pidfd], [], [], 10)
        os.close(pidfd)
        assert gone, "a process outlived its runtime"


def test_an_ordinary_user_needs_no_more(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's own is closed to others.
        directory = Path(place)
        directory.chmod(0o755)
        (directory / "main.py").write_text(CHILD.read_text())
        (directory / "scratch").mkdir()
        if os.geteuid() == 0:
            os.chown(directory / "scratch", NOBODY, NOBODY)
        python = _python_for_nobody(directory)
        if python is None:
            pytest.skip("there is no Python >= 3.11 that user nobody may run")
        result = _as_nobody([python, str(directory / "main.py"), "answer"], directory)
    assert (result.stdout, result.returncode) == ("first\n0 hi\n\n", 0), result.stderr


def _as_nobody(command: list[str], directory: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command as user nobody if we may, else as who we are."""
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    scratch = str(directory / "scratch")
    env = {"PYTHONPATH": str(ROOT), "TMPDIR": scratch, "PATH": os.environ["PATH"]}
    return subprocess.run(
        command, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False, **who
    )


def _python_for_nobody(directory: Path) -> str | None:
    program = "import sys, kubeloop.net.registry; assert sys.version_info >= (3, 11)"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if _as_nobody([python, "-c", program], directory).returncode == 0:
                return python
        except OSError:
            continue
    return None


async def test_where_users_may_not_mount_overlays_images_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_overlays(*_: Any) -> Abilities:
        return Abilities(namespaces=True, overlay=False, why="No such device")

    monkeypatch.setattr(Zygote, "probe", no_overlays)
    async with ground(tmp_path) as node:
        await node.pod("pod")
        script = "cat hello; echo other > hello; cat hello; mount | grep -c overlay"
        for attempt in range(2):
            await node.run("pod", "sh", "-c", script, attempt=attempt)
            assert await node.output("pod", attempt=attempt) == "hi\nother\n0\n"
        build = define(tmp_path / "tool", "FROM host", "COPY tool /usr/bin/tool", tool="")
        node.source.store.build(build, "tool:1")
        await node.runtime.pull("tool:1")
        with pytest.raises(RuntimeFailure, match="put them elsewhere, /app for example"):
            await node.run("pod", "true", image="tool:1", attempt=2)
