"""Containers of the process runtime: prepared on disk, started by their pod's init, ended."""

import asyncio
import os
import pty
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kubeloop.actors.runtimes import process_launch as launch
from kubeloop.actors.runtimes import process_skeleton as skeleton
from kubeloop.actors.runtimes import process_volumes
from kubeloop.actors.runtimes.process_images import NodeImage, NodeImages
from kubeloop.actors.runtimes.process_layers import remove_tree
from kubeloop.actors.runtimes.process_logs import Log, Output
from kubeloop.actors.runtimes.process_runs import Pod, Run
from kubeloop.actors.runtimes.process_sessions import CommandSession, Outlet
from kubeloop.actors.runtimes.process_zygote import Abilities
from kubeloop.actors.runtimes.protocol import ContainerSpec, ExecResult, RuntimeFailure
from kubeloop.actors.runtimes.sessions import STDERR, STDOUT

EXEC_OUTPUT_MAX: Final = 16 * 1024 * 1024  # The rest is thrown away: somebody holds it in memory.


class Containers:
    """Starts and stops what runs in the pods of one node. wall: Unix time."""

    def __init__(self, state: Path, images: NodeImages, wall: Callable[[], float]) -> None:
        self.state, self.images, self.wall = state, images, wall
        self._commands = 0
        self._making = threading.Lock()

    async def start(self, pod: Pod, spec: ContainerSpec, abilities: Abilities) -> str:
        """Start a container; return its id. Raises: RuntimeFailure."""
        channel = pod.need()
        image = self.images.find(spec.image)
        if image is None:
            raise RuntimeFailure("CreateContainerError", f'image "{spec.image}" is not on the node')
        if pod.running(spec.name) is not None:
            raise RuntimeFailure("CreateContainerError", f"container {spec.name} runs already")
        if not abilities.namespaces and not image.config.borrows_host:
            raise RuntimeFailure(
                "CreateContainerError",
                f"the image {spec.image} brings its own root file system, which takes user "
                f"namespaces, and here there are none ({abilities.why}): only images built "
                "FROM host can run",
            )
        argv = launch.arguments(spec, image.config)
        run = self._begin(pod, spec, image)
        try:
            order = await asyncio.to_thread(self._prepare, pod, run, abilities)
            order["argv"] = _rooted(argv, order["env"])
            with _terminal(run) if spec.tty else _pipes(run) as files:
                await channel.ask({"op": "start", "key": run.key, **order}, files)
        except (OSError, ValueError) as error:  # The latter: a NUL in a path.
            self._forget(pod, run)
            await asyncio.to_thread(remove_tree, run.directory)
            told = error.strerror if isinstance(error, OSError) else ""
            why = f"unable to start container process: {told or error}"
            message = f'failed to start container "{spec.name}": {why}'
            raise RuntimeFailure("RunContainerError", message) from error
        except RuntimeFailure:  # A volume cannot be mounted.
            self._forget(pod, run)
            await asyncio.to_thread(remove_tree, run.directory)
            raise
        except asyncio.CancelledError:
            channel.tell({"op": "kill", "key": run.key, "signal": int(signal.SIGKILL)})
            if not run.outputs:
                self._forget(pod, run)  # It had not been asked for yet.
            raise
        return run.id

    async def stop(self, pod: Pod, run: Run, grace_s: float) -> None:
        """Send TERM, after `grace_s` KILL; return when it has ended."""
        if grace_s > 0:
            if not run.told_to_stop:
                run.told_to_stop = True
                _signal(pod, run, signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await run.ended.wait()
            except TimeoutError:
                pass
        if run.running:
            _signal(pod, run, signal.SIGKILL)
        await run.ended.wait()

    async def execute(
        self,
        pod: Pod,
        run: Run,
        command: Sequence[str],
        *,
        timeout_s: float,
        abilities: Abilities,
    ) -> ExecResult:
        """Run a command beside a container's process. Raises: RuntimeFailure, TimeoutError."""
        channel = pod.need()
        key, message = self._order(pod, run, command, abilities, tty=False)
        reading, writing = os.pipe()
        output = _Collected(reading)
        ended = pod.commands[key] = asyncio.get_running_loop().create_future()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    await channel.ask(message, [null, writing, writing])
                except OSError as error:
                    raise _not_executed(error) from error
                code = await ended
        finally:
            pod.commands.pop(key, None)
            if not ended.done() or ended.cancelled():
                channel.tell({"op": "kill", "key": key, "signal": int(signal.SIGTERM)})
            os.close(writing)
            os.close(null)
            output.finish()
        return ExecResult(code, bytes(output.data))

    async def open(
        self,
        pod: Pod,
        run: Run,
        command: Sequence[str],
        *,
        stdin: bool,
        tty: bool,
        abilities: Abilities,
    ) -> CommandSession:
        """Start a command beside a container's process; return its streams. Raises: RuntimeFailure.

        stdin: whether something will be written to its standard input.
        """
        channel = pod.need()
        key, message = self._order(pod, run, command, abilities, tty=tty)
        theirs, ours, writing = _streams(stdin=stdin, tty=tty)
        ended = pod.commands[key] = asyncio.get_running_loop().create_future()

        def kill() -> None:
            pod.commands.pop(key, None)
            channel.tell({"op": "kill", "key": key, "signal": int(signal.SIGTERM)})

        try:
            await channel.ask(message, theirs)
        except (OSError, asyncio.CancelledError) as error:
            kill()
            for fd in (*(fd for fd, _ in ours), *([writing] if writing >= 0 else [])):
                os.close(fd)
            if isinstance(error, OSError):
                raise _not_executed(error) from error
            raise
        finally:
            for fd in dict.fromkeys(theirs):
                os.close(fd)
        outlet = Outlet(writing, terminal=tty) if writing >= 0 else None
        session = CommandSession(ours, outlet, kill)
        ended.add_done_callback(lambda code: session.ended(code.result()))
        return session

    def _order(
        self, pod: Pod, run: Run, command: Sequence[str], abilities: Abilities, *, tty: bool
    ) -> tuple[str, dict[str, Any]]:
        """Return the key of a new command, and the order for the init. Raises: RuntimeFailure."""
        if not command:
            raise RuntimeFailure("ExecError", "no command is given")
        self._commands += 1
        key = f"exec-{self._commands}"
        order = {**self._surroundings(pod, run, abilities), "tty": tty}
        if tty:
            order["env"].setdefault("TERM", "xterm")
        order["argv"] = _rooted(command, order["env"])
        return key, {"op": "exec", "key": key, "container": run.key, **order}

    async def tidy(self, run: Run) -> None:
        """Free what a run that has ended no longer needs: all but its log."""
        for name in ("upper", "work", "root", "volumes"):
            await asyncio.to_thread(remove_tree, run.directory / name)

    def _begin(self, pod: Pod, spec: ContainerSpec, image: NodeImage) -> Run:
        directory = pod.directory / "containers" / f"{spec.name}-{spec.attempt}"
        if pod.find(spec.name, spec.attempt) is not None:
            why = f"container {spec.name} had a run {spec.attempt} already"
            raise RuntimeFailure("CreateContainerError", why)
        try:
            remove_tree(directory)  # Of an attempt that never began.
            directory.mkdir(parents=True, mode=0o700)
            log = Log(directory / "log", self.wall)
        except OSError as error:
            raise RuntimeFailure("CreateContainerError", str(error)) from error
        key = f"{spec.name}/{spec.attempt}"
        run = Run(spec, key, directory, image, log, self.wall())
        pod.runs.setdefault(spec.name, []).append(run)
        return run

    @staticmethod
    def _forget(pod: Pod, run: Run) -> None:
        run.discard()
        pod.runs[run.spec.name].remove(run)

    def _prepare(self, pod: Pod, run: Run, abilities: Abilities) -> dict[str, Any]:
        """Lay out the container's directory; return the order for the init. Raises: OSError."""
        order: dict[str, Any] = {
            **self._surroundings(pod, run, abilities),
            "tty": run.spec.tty,
            "root": {},
        }
        image = run.image
        run.termination_log.touch(mode=0o666)
        volumes = list(_volumes(self.state / "host", pod, run))
        root = run.directory / "root"
        if not abilities.namespaces:
            shutil.copytree(image.root, root, symlinks=True)
            _link_volumes(root, volumes)
            Path(order["cwd"]).mkdir(parents=True, exist_ok=True)
            return order
        if abilities.overlay:
            for name in ("upper", "work"):
                (run.directory / name).mkdir(mode=0o755)
        else:
            shutil.copytree(image.root, root, symlinks=True)
        order["root"] = launch.root_of(
            run.directory, base=self.state, image=image.root, overlay=abilities.overlay,
            borrows_host=image.config.borrows_host, etc=pod.directory / "etc", volumes=volumes,
            skeleton=self._skeleton(host=image.config.borrows_host),
        )  # fmt: skip
        return order

    def _skeleton(self, *, host: bool) -> Path:
        """Return the lowest layer; it is made when the first container wants it."""
        path = self.state / "pods" / f".skeleton{'-host' if host else ''}"
        with self._making:  # Containers are prepared by several threads.
            if not path.exists():
                aside = path.with_suffix(".new")
                aside.mkdir(mode=0o755)
                skeleton.make(aside, host=host)
                aside.rename(path)
        return path

    def _surroundings(self, pod: Pod, run: Run, abilities: Abilities) -> dict[str, Any]:
        env = launch.environment(run.spec, run.image.config, pod.spec.hostname)
        cwd = launch.working_directory(run.spec, run.image.config)
        if not abilities.namespaces:
            root = run.directory / "root"
            env["KUBELOOP_ROOTFS"] = str(root)
            env["PATH"] += f":{os.path.dirname(launch.python())}"
            cwd = os.path.normpath(str(root) + cwd)
        return {"env": env, "cwd": cwd}


class _Collected:
    """What a command writes, kept in memory up to a limit."""

    def __init__(self, fd: int) -> None:
        self.data = bytearray()
        self._output = Output(fd, "stdout", self)

    def write(self, stream: str, data: bytes) -> None:
        """Keep it while there is room."""
        self.data += data[: EXEC_OUTPUT_MAX - len(self.data)]

    def finish(self) -> None:
        """Take what is left, and close."""
        self._output.finish()


def _not_executed(error: OSError) -> RuntimeFailure:
    why = f"failed to exec in container: {error.strerror or error}"
    return RuntimeFailure("ExecError", why)


def _streams(*, stdin: bool, tty: bool) -> tuple[list[int], list[tuple[int, int]], int]:
    """Make the files of a command.

    Return its descriptors 0, 1 and 2; ours to read from, with the stream each is; and ours to
    write to, -1 if nothing is written.
    """
    if tty:
        ours, theirs = pty.openpty()
        return [theirs] * 3, [(ours, STDOUT)], os.dup(ours) if stdin else -1
    writing = -1
    if stdin:
        reading, writing = os.pipe()
    else:
        reading = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    out, err = os.pipe(), os.pipe()
    return [reading, out[1], err[1]], [(out[0], STDOUT), (err[0], STDERR)], writing


def _signal(pod: Pod, run: Run, number: signal.Signals) -> None:
    if pod.channel is not None:
        pod.channel.tell({"op": "kill", "key": run.key, "signal": int(number)})


def _rooted(argv: Sequence[str], env: dict[str, str]) -> list[str]:
    """Return the command line; without namespaces, the image's own programs by their real path."""
    root = env.get("KUBELOOP_ROOTFS", "")
    if root and argv[0].startswith("/") and os.path.isfile(root + argv[0]):
        return [root + argv[0], *argv[1:]]
    return list(argv)


@contextmanager
def _pipes(run: Run) -> Iterator[list[int]]:
    """Yield standard input, output and error of a container; what it writes goes to its log."""
    if run.spec.stdin:
        first, ours = os.pipe()
        run.stdin = Outlet(ours, terminal=False)
    else:
        first = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    files = [first]
    try:
        for stream in ("stdout", "stderr"):
            reading, writing = os.pipe()
            files.append(writing)
            run.outputs.append(Output(reading, stream, run))
        yield files
    finally:
        for fd in files:
            os.close(fd)


@contextmanager
def _terminal(run: Run) -> Iterator[list[int]]:
    """Yield a terminal as standard input, output and error."""
    ours, theirs = pty.openpty()
    run.outputs.append(Output(ours, "stdout", run))
    if run.spec.stdin:
        run.stdin = Outlet(os.dup(ours), terminal=True)
    try:
        yield [theirs, theirs, theirs]
    finally:
        os.close(theirs)


def _volumes(host: Path, pod: Pod, run: Run) -> Iterator[launch.Volume]:
    """Write the pod's volumes where they can be mounted from, and yield them. host: the node's."""
    spec = run.spec
    for number, (target, files) in enumerate(spec.files.items()):
        source = run.directory / "volumes" / str(number)
        if "" in files:
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(files[""])
        else:
            source.mkdir(parents=True)
            for name, content in files.items():
                path = Path(os.path.normpath(source / name))
                if not path.is_relative_to(source):
                    raise OSError(f"the volume at {target} has a file {name!r} outside of it")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        yield launch.Volume(str(source), target, read_only=True)
    yield from process_volumes.volumes(host, pod.directory, iter(spec.mounts))
    for target, name in spec.shared.items():
        source = pod.directory / "volumes" / name
        source.mkdir(parents=True, exist_ok=True, mode=0o777)
        yield launch.Volume(str(source), target, read_only=False)
    yield launch.Volume(str(run.termination_log), launch.TERMINATION_LOG, read_only=False)


def _link_volumes(root: Path, volumes: Sequence[launch.Volume]) -> None:
    """Without mounts, volumes are links below the directory of the image's files."""
    for volume in volumes:
        place = Path(os.path.normpath(root / volume.target.lstrip("/")))
        if place.is_relative_to(root) and not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(Path(volume.source, *volume.beneath))
