"""What tests of the process runtime stand on; standard library and kubeloop only.

Also run by itself, as another user or to be killed: see `main`.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from kubeloop.actors.runtimes.process import ProcessRuntime
from kubeloop.actors.runtimes.protocol import ContainerSpec, Exited, SandboxSpec
from kubeloop.actors.world import LoopWorld
from kubeloop.net.registry import ImageStore, Reference

IMAGE = "app:1"
SERVER = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
listener = socket.create_server((os.environ.get("BIND", "0.0.0.0"), int(os.environ["PORT"])))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(socket.gethostname().encode() + b"\\n")
    connection.close()
"""


@dataclass
class Layer:
    digest: str
    diff_id: str
    size_bytes: int


@dataclass
class Fetched:
    name: str
    digest: str
    config: Mapping[str, Any]
    layers: Sequence[Layer]


class StoreSource:
    """Images straight from a store on disk, without a registry between."""

    def __init__(self, store: ImageStore) -> None:
        self.store, self.fetches = store, 0

    async def fetch(self, reference: str) -> Fetched:
        self.fetches += 1
        found = self.store.find(Reference.parse(reference))
        if found is None:
            raise OSError(f"{reference}: not found")
        manifest = self.store.read_json(found["digest"])
        config = self.store.read_json(manifest["config"]["digest"])
        layers = [
            Layer(layer["digest"], diff_id, layer["size"])
            for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        ]
        return Fetched(reference, found["digest"], config, layers)

    async def download(self, name: str, layer: Layer, to: IO[bytes]) -> None:
        path = self.store.blob(layer.digest)
        assert path is not None
        to.write(path.read_bytes())


@dataclass
class Ground:
    """A runtime, and what it told."""

    runtime: ProcessRuntime
    source: StoreSource
    directory: Path
    exits: list[Exited] = field(default_factory=list)

    async def pod(self, uid: str, number: int = 1) -> str:
        spec = SandboxSpec(
            pod_uid=uid, namespace="default", name=uid, ip=f"10.244.1.{number}", hostname=uid
        )
        return await self.runtime.start_sandbox(spec)

    async def run(self, uid: str, *command: str, **options: Any) -> str:
        options = {"name": "c", "attempt": 0, "image": IMAGE, **options}
        return await self.runtime.start_container(
            ContainerSpec(pod_uid=uid, command=command, **options)
        )

    async def serve(self, uid: str, number: int = 1, *, port: int = 8080, **env: str) -> str:
        """Start a pod that listens, and wait until it does."""
        ip = await self.pod(uid, number)
        await self.run(uid, "python3", "-S", "-c", SERVER, env={"PORT": str(port), **env})
        assert await self.first_line(uid) == b"listening\n"
        return ip

    async def first_line(self, uid: str, **options: Any) -> bytes:
        async for _, line in self.runtime.logs(uid, "c", attempt=0, follow=True, **options):
            return line
        return b""

    async def output(self, uid: str, name: str = "c", attempt: int = 0) -> str:
        """Return all that a container writes until it ends."""
        lines = self.runtime.logs(uid, name, attempt=attempt, follow=True)
        return b"".join([line async for _, line in lines]).decode()

    async def exec(self, uid: str, *command: str, timeout_s: float = 10) -> tuple[int, str]:
        result = await self.runtime.exec(uid, "c", command, timeout_s=timeout_s)
        return result.code, result.output.decode()


async def answer(runtime: ProcessRuntime, ip: str, port: int = 8080) -> str:
    """Dial a pod, and return what it says."""
    sock = await runtime.network.dial(ip, port)
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        return (await reader.read()).decode().strip()
    finally:
        writer.close()


def define(directory: Path, *lines: str, **files: str) -> Path:
    """Write an image definition and its files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(content)
    (directory / "Containerfile").write_text("\n".join(lines) + "\n")
    return directory


@asynccontextmanager
async def ground(directory: Path, *, namespaces: bool | None = True) -> AsyncIterator[Ground]:
    """Give a runtime with one image, FROM host, on its node; close it in the end."""
    store = ImageStore(directory / "images")
    if not store.list():
        define(directory / "build", "FROM host", "COPY . /app", "WORKDIR /app", hello="hi\n")
        store.build(directory / "build", IMAGE)
    source = StoreSource(store)
    world = LoopWorld(asyncio.get_running_loop())
    runtime = ProcessRuntime(world, directory / "node", source, namespaces=namespaces)
    found = Ground(runtime, source, directory)
    runtime.listen(found.exits.append)
    try:
        await runtime.pull(IMAGE)
        yield found
    finally:
        await runtime.close()


async def main(what: str) -> None:
    """answer: print what a pod answers. wait: start two pods, say so, and wait to be killed."""
    namespaces = what != "wait-plain"
    with tempfile.TemporaryDirectory() as directory:
        async with ground(Path(directory), namespaces=namespaces) as found:
            if what == "answer":
                ip = await found.serve("first", 1)
                await found.serve("second", 2)
                print(await answer(found.runtime, ip), flush=True)
                print(*await found.exec("first", "cat", "hello"), flush=True)
                return
            for number in (1, 2):
                await found.pod(f"pod-{number}", number)
                # One that has children of its own, one of them in another session.
                script = "sleep 1000 & setsid sleep 1000 & echo ready; wait"
                await found.run(f"pod-{number}", "sh", "-c", script)
                assert await found.first_line(f"pod-{number}") == b"ready\n"
            print("ready", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
