"""The process runtime on a host that forbids user namespaces: fewer walls, the same life."""

import logging
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from process_ground import Ground, answer, define, ground

from kubeloop.actors.runtimes.process_zygote import Abilities, Zygote
from kubeloop.actors.runtimes.protocol import RuntimeFailure


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground(tmp_path, namespaces=False) as found:
        yield found


def free_port(ip: str) -> int:
    with socket.create_server((ip, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


async def test_a_pod_has_a_loopback_address_and_answers_on_it(node: Ground) -> None:
    port = free_port("127.244.1.1")
    ip = await node.serve("pod", 1, port=port, BIND="127.244.1.1")
    assert ip == "127.244.1.1"
    assert await answer(node.runtime, ip, port) == socket.gethostname()
    with pytest.raises(ConnectionRefusedError):
        await node.runtime.network.dial(ip, free_port(ip))
    with pytest.raises(OSError, match="no ClusterIPs"):
        await node.runtime.network.listen("pod", "10.96.0.10", 80)


async def test_the_files_of_the_image_are_in_a_directory(node: Ground) -> None:
    await node.pod("pod")
    script = 'cat hello "$KUBELOOP_ROOTFS/etc/config/key"; echo > new; pwd'
    await node.run("pod", "sh", "-c", script, files={"/etc/config": {"key": b"value\n"}})
    text = (await node.output("pod")).splitlines()
    assert text[:2] == ["hi", "value"]
    assert text[2].startswith(str(node.directory)) and text[2].endswith("/app")
    await node.run("pod", "ls", attempt=1)  # What one run wrote is not in the next.
    assert await node.output("pod", attempt=1) == "Containerfile\nhello\n"


async def test_stop_exec_and_kill_work_alike(node: Ground) -> None:
    await node.pod("pod")
    await node.run("pod", "sh", "-c", "setsid sleep 1000 & sleep 1000 & echo ready; wait")
    assert await node.first_line("pod") == b"ready\n"
    assert await node.exec("pod", "sh", "-c", "cat hello; exit 3") == (3, "hi\n")
    with pytest.raises(RuntimeFailure, match="executable file not found"):
        await node.exec("pod", "no-such-program")
    await node.runtime.stop_container("pod", "c", grace_s=30)
    await node.run("pod", "sleep", "1000", attempt=1)
    node.runtime.signal("pod", "c", signal.SIGKILL)
    await node.output("pod", attempt=1)
    assert [told.code for told in node.exits] == [143, 137]


async def test_an_image_with_its_own_root_is_refused_with_the_reason(node: Ground) -> None:
    build = define(node.directory / "own", "FROM scratch", "COPY a /", "CMD /a", a="")
    node.source.store.build(build, "own:1")
    await node.runtime.pull("own:1")
    await node.pod("pod")
    with pytest.raises(RuntimeFailure, match="only images built FROM host can run"):
        await node.run("pod", image="own:1")


async def test_a_host_that_forbids_namespaces_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def forbidden(*_: Any) -> Abilities:
        return Abilities(namespaces=False, overlay=False, why="Operation not permitted")

    monkeypatch.setattr(Zygote, "probe", forbidden)
    with caplog.at_level(logging.WARNING):
        async with ground(tmp_path, namespaces=None) as node:
            assert await node.pod("one", 1) == "127.244.1.1"
            assert await node.pod("two", 2) == "127.244.1.2"
            assert node.runtime.abilities is not None
            assert not node.runtime.abilities.namespaces
    [record] = caplog.records
    assert "Operation not permitted" in record.message
    assert "docs/rootless.md" in record.message
