"""The WebSocket protocols of `exec` and `attach`: one byte says which channel it is. Pure.

    channel   0 stdin   1 stdout   2 stderr   3 error, a v1.Status   4 resize   255 close (v5)

In the base64 variants messages are text: the channel's digit, and the bytes in base64.

Source: KEP-4006; k8s.io/apimachinery/pkg/util/httpstream/wsstream.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS: Final = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
"""What is spoken over WebSockets; a client that names none speaks the unnumbered one."""
SPDY_PROTOCOLS: Final = (
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
)
_SIZE_MAX: Final = 0xFFFF


class ChannelError(Exception):
    """A client's message that means nothing."""


@dataclass(frozen=True, slots=True)
class Input:
    """Bytes for standard input."""

    data: bytes


@dataclass(frozen=True, slots=True)
class InputEnded:
    """Standard input is at its end."""


@dataclass(frozen=True, slots=True)
class Resize:
    """The client's terminal has another size [characters]."""

    width: int
    height: int


Told = Input | InputEnded | Resize


@dataclass(frozen=True, slots=True)
class Protocol:
    """One of the protocols by its name."""

    name: str

    @property
    def number(self) -> int:
        """The version: 1 for what has no number."""
        return int(self.name[1]) if self.name[:1] == "v" else 1

    @property
    def text(self) -> bool:
        """Whether messages are text."""
        return "base64" in self.name

    def encode(self, channel: int, data: bytes) -> bytes | str:
        """Return the message that carries data on a channel."""
        if self.text:
            return f"{channel}{base64.b64encode(data).decode()}"
        return bytes((channel,)) + data

    def decode(self, message: bytes | str) -> Told | None:
        """Return what a message tells; None if that is nothing. Raises: ChannelError."""
        channel, data = self._split(message)
        match channel:
            case 0:
                return Input(data) if data else None
            case 4:
                return read_size(data)
            case 255 if self.number >= 5:
                if data == b"\0":
                    return InputEnded()
                raise ChannelError("only channel 0, standard input, can be closed")
            case 1 | 2 | 3 if not data:  # Some clients greet every channel.
                return None
            case _:
                raise ChannelError(f"channel {channel} takes nothing from a client")

    def _split(self, message: bytes | str) -> tuple[int, bytes]:
        if not message:
            raise ChannelError("a message has no channel")
        if isinstance(message, bytes) and not self.text:
            return message[0], message[1:]
        raw = message.encode() if isinstance(message, str) else message
        if not self.text:
            return raw[0], raw[1:]
        if not 0x30 <= raw[0] <= 0x39:
            raise ChannelError("a message begins with the digit of its channel")
        try:
            return raw[0] - 0x30, base64.b64decode(raw[1:], validate=True)
        except binascii.Error as error:
            raise ChannelError(f"a message is not base64: {error}") from None


def negotiate(offered: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first that is offered and known; None if there is none."""
    return next((name for name in offered if name in known), None)


def read_size(data: bytes) -> Resize:
    """Return what {"Width": 80, "Height": 24} tells. Raises: ChannelError."""
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ChannelError(f"the size of a terminal is no JSON: {error}") from None
    size = told if isinstance(told, dict) else {}
    found = [n for n in (size.get("Width"), size.get("Height")) if type(n) is int]
    if len(found) != 2 or not all(0 <= n <= _SIZE_MAX for n in found):
        raise ChannelError(f"the size of a terminal is Width and Height up to {_SIZE_MAX}")
    return Resize(*found)


def exit_status(code: int, command: Sequence[str]) -> dict[str, Any]:
    """Return the v1.Status of a command that has ended, in the words of kubelet and containerd."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    words = " ".join(command)
    return {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: "
        f"error executing command [{words}], exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def told_status(protocol: int, status: dict[str, Any]) -> bytes:
    """Return what goes over the error channel: before version 4 only the text of an error."""
    if protocol >= 4:
        return orjson.dumps(status)
    return str(status.get("message", "")).encode()
