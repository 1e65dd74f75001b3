"""Our side of a node's zygote: starts it, learns what the host allows, has pods made and ended."""

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubeloop.actors.runtimes.process_channel import HELLO, Channel
from kubeloop.actors.runtimes.process_launch import root_of

_HERE: Final = Path(__file__).parent
# The sandbox package is a program of its own: see its docstring. The path comes last, so that
# nothing beside it can take the place of a standard module.
_BOOT: Final = "import sys; sys.path.append(sys.argv[1]); from sandbox.zygote import main; main()"
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")

logger = logging.getLogger("kubeloop.runtime")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the host allows. why: what it said where it does not."""

    namespaces: bool
    overlay: bool
    why: str = ""


class Zygote:
    """A running zygote. on_lost: called if it dies by itself, and all its pods with it."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self.on_lost = on_lost
        self._ending = False
        self._gone: dict[str, asyncio.Event] = {}  # Pods that live, by key.
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(_HERE), str(theirs.fileno()),
                 str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                start_new_session=True,  # A Ctrl-C in the terminal is for us alone.
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )  # fmt: skip
        self._channel = Channel(ours, on_event=self._event, on_close=self._closed)

    @property
    def alive(self) -> bool:
        """Whether it can be asked for pods."""
        return not self._channel.closed

    async def probe(self, base: Path) -> Abilities:
        """Try in a scratch directory below `base` what pods need. Raises: OSError if it dies."""
        scratch = base / "probe"
        shutil.rmtree(scratch, ignore_errors=True)
        for name in ("image", "upper", "work", "root"):
            (scratch / name).mkdir(parents=True)
        root = root_of(
            scratch, base=base, image=scratch / "image", overlay=True, borrows_host=False,
            volumes=(),
        )  # fmt: skip
        try:
            answer, _ = await self._channel.ask({"op": "probe", "root": root})
        except ConnectionResetError:
            raise
        except OSError as error:
            return Abilities(namespaces=False, overlay=False, why=error.strerror or str(error))
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        return Abilities(namespaces=True, overlay=answer["overlay"], why=answer["why"])

    async def spawn(
        self,
        key: str,
        order: Mapping[str, Any],
        *,
        on_event: Callable[[Mapping[str, Any]], None],
        on_close: Callable[[], None],
    ) -> Channel:
        """Make a pod; return the channel to its init. Raises: OSError."""
        ours, theirs = socket.socketpair()
        channel = Channel(ours, on_event=on_event, on_close=on_close)
        expected = channel.expect(HELLO)
        self._gone[key] = asyncio.Event()
        ready = False
        try:
            with theirs:
                await self._channel.ask({"op": "pod", "key": key, **order}, [theirs.fileno()])
            await channel.answer(HELLO, expected)
            ready = True
        finally:
            if not ready:  # `kill` tells when it is gone, if there ever was one.
                self._channel.tell({"op": "kill", "key": key})
                channel.close()
        return channel

    async def kill(self, key: str) -> None:
        """End a pod; return when everything in it is gone. Harmless if it is gone."""
        gone = self._gone.get(key)
        if gone is None:
            return
        try:
            answer, _ = await self._channel.ask({"op": "kill", "key": key})
        except ConnectionResetError:
            return  # The zygote is gone, and everything with it.
        if answer["alive"]:
            await gone.wait()
        else:
            self._gone.pop(key, None)

    async def close(self) -> None:
        """End it and all its pods; return when they are gone."""
        self._ending = True
        self._channel.close()
        if self._process.returncode is not None:
            return
        pidfd = os.pidfd_open(self._process.pid)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        self._process.wait()

    def _event(self, message: Mapping[str, Any]) -> None:
        gone = self._gone.pop(message["key"], None)
        if gone is not None:
            gone.set()

    def _closed(self) -> None:
        for gone in self._gone.values():
            gone.set()
        self._gone.clear()
        if not self._ending:
            self._process.kill()  # Should it be that only our connection broke.
            code = self._process.wait()
            logger.error("the zygote of the process runtime ended with status %d", code)
            self.on_lost()
