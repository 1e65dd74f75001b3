"""What runs inside simulated containers when somebody looks in: commands, and a web server.

A command is one the script tells of, or one of a few that can be done honestly. Any other is not
there, as in an image without it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from kubeloop.actors.runtimes import simulated_volumes as files
from kubeloop.actors.runtimes.protocol import RuntimeFailure
from kubeloop.actors.runtimes.scripts import PREFIX, Command, Script
from kubeloop.actors.runtimes.sessions import STDERR, STDOUT, Queue
from kubeloop.actors.runtimes.simulated_volumes import Inside
from kubeloop.actors.world import World

HEAD_MAX: Final = 64 << 10
_KILLED: Final = 128 + 9
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?")
_EXIT: Final = re.compile(r"\s*exit\s+(\d{1,3})\s*;?\s*")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)


class SimulatedSession:
    """A simulated command: implements `Session`. cat: it prints what it is given."""

    def __init__(self, world: World, command: Command, *, stdin: bool, cat: bool) -> None:
        self.code = command.code
        self._queue, self._cat = Queue(), cat
        for stream, text in ((STDOUT, command.stdout), (STDERR, command.stderr)):
            if text:
                self._queue.put(stream, text.encode())
        self._timer = None
        if command.takes_s:
            self._timer = world.later(command.takes_s, self._queue.end)
        elif not cat or not stdin:
            self._queue.end()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._queue.ended

    def killed(self) -> None:
        """The container has ended, and with it the command."""
        if not self._queue.ended:
            self.code = _KILLED
            self._queue.end()

    async def read(self) -> tuple[int, bytes] | None:
        return await self._queue.take()

    async def write(self, data: bytes) -> None:
        if self._cat and not self._queue.ended:
            self._queue.put(STDOUT, data)
            await self._queue.room()

    def end_input(self) -> None:
        if self._cat:
            self._queue.end()

    def resize(self, width: int, height: int) -> None:
        """A terminal is not simulated."""

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._queue.end()


def start(
    world: World, script: Script, argv: Sequence[str], *, stdin: bool, inside: Inside | None = None
) -> SimulatedSession:
    """Start a command. inside: the files it sees. Raises: RuntimeFailure if there is none."""
    if not argv:
        raise RuntimeFailure("ExecError", "no command is given")
    line = " ".join(argv)
    for wanted in (line, argv[0]):
        for command in script.commands:
            if command.line == wanted:
                return SimulatedSession(world, command, stdin=stdin, cat=False)
    about_files = None if inside is None else files.command(inside, argv)
    if about_files is not None:
        return SimulatedSession(world, about_files, stdin=stdin, cat=False)
    built_in = _built_in(argv, line)
    if built_in is None:
        why = f'failed to exec in container: exec: "{argv[0]}": executable file not found in $PATH'
        hint = f"it is simulated: its annotation {PREFIX}exec says what commands do"
        raise RuntimeFailure("ExecError", f"{why} ({hint})")
    return SimulatedSession(world, built_in, stdin=stdin, cat=_name(argv) == "cat")


def _built_in(argv: Sequence[str], line: str) -> Command | None:
    match _name(argv), list(argv[1:]):
        case "true", _:
            return Command(line=line)
        case "false", _:
            return Command(line=line, code=1)
        case "echo", ["-n", *words]:
            return Command(line=line, stdout=" ".join(words))
        case "echo", words:
            return Command(line=line, stdout=" ".join(words) + "\n")
        case "cat", [] | ["-"]:
            return Command(line=line)
        case "sleep", [seconds] if _SECONDS.fullmatch(seconds):
            return Command(line=line, takes_s=float(seconds))
        case "sh", ["-c", text] if (told := _EXIT.fullmatch(text)) and int(told[1]) < 256:
            return Command(line=line, code=int(told[1]))
    return None


def _name(argv: Sequence[str]) -> str:
    return argv[0].removeprefix("/usr").removeprefix("/bin/")


def web_server(body: str) -> Callable[[bytes], tuple[bytes, bool]]:
    """Return what answers HTTP/1.1 on one connection: 200 and `body` to every request.

    It takes the next bytes, b"" at their end, and returns the answer and whether it goes on.
    """
    content = body.encode()
    came, left = bytearray(), 0

    def take(data: bytes) -> tuple[bytes, bool]:
        nonlocal left
        came.extend(data)
        answer = bytearray()
        while True:
            skipped = min(left, len(came))
            del came[:skipped]
            left -= skipped
            end = came.find(b"\r\n\r\n")
            if left or end < 0:
                return bytes(answer), bool(data) and len(came) <= HEAD_MAX
            head = bytes(came[: end + 4])
            del came[: end + 4]
            length = _LENGTH.search(head)
            left = int(length[1]) if length else 0
            closes = b"\r\nconnection: close\r\n" in head.lower()
            answer += _answer(head, content, closes=closes)
            if closes:
                return bytes(answer), False

    return take


def _answer(head: bytes, content: bytes, *, closes: bool) -> bytes:
    lines = ["HTTP/1.1 200 OK", "Content-Type: text/plain; charset=utf-8"]
    lines += [f"Content-Length: {len(content)}", *(["Connection: close"] if closes else [])]
    text = "\r\n".join([*lines, "", ""]).encode()
    return text if head.startswith(b"HEAD ") else text + content
