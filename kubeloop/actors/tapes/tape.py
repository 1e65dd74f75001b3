"""A tape: all that came to one actor from outside, and all that it said.

An actor is a function of the messages it hears and of what it asks: the time, chance, its runtime.
With these it can be had again, turn by turn, in another process and without the others.

The file is a row of msgpack arrays. The first is ["kubeloop tape", version, actor]. Then
["life", kind, setup] for every time the actor began, and after it, for every moment of that life,
["moment", kind, heard, asked, said, error].
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

MAGIC: Final = "kubeloop tape"
VERSION: Final = 1
_WRAPPING: Final = "it is not a tape of this version of kubeloop, or it is damaged"
_LIFE, _MOMENT = "life", "moment"
_LARGEST: Final = 2**31 - 1

Write = Callable[[bytes], object]


class TapeDamaged(Exception):
    """A file is not a tape, or not all of it can be read; the message says where."""


@dataclass(slots=True)
class Moment:
    """A part of an actor's life that nothing interrupts.

    kind:  "begin", its making and its `on_start`; "turn"; or "beside", what it said otherwise.
    heard: the messages, and whether each was an ask, whose answer is awaited.
    asked: what it asked of the world or its runtime, and what it was told: ("wall", 1.8e9).
    said:  to whom, and what: an actor by its name, or "answer 3", "store", "data path".
    error: what it failed with, "" if it did not.
    """

    kind: str
    heard: list[tuple[bytes, bool]] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    said: list[tuple[str, bytes]] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Life:
    """An actor began. kind: "kubelet", "apiserver";  setup: what it was made with."""

    actor: str
    kind: str
    setup: dict[str, Any]


class Tape:
    """Takes down what is told, until it is stopped. write: appends to the file."""

    def __init__(self, actor: str, write: Write) -> None:
        self.actor = actor
        self._write: Write | None = write
        self._moment: Moment | None = None
        self._pack([MAGIC, VERSION, actor])

    def stop(self) -> None:
        """Take down no more; harmless if it is stopped."""
        self.close()
        self._write = None

    def live(self, kind: str, setup: dict[str, Any]) -> None:
        """Take down that the actor began; its first moment, which is open, follows."""
        self._pack([_LIFE, kind, setup])

    def open(self, kind: str, heard: list[tuple[bytes, bool]] | None = None) -> None:
        """Begin a moment."""
        self.close()
        self._moment = Moment(kind, heard or [])

    def close(self, error: str = "") -> None:
        """End the moment; harmless if none is open."""
        moment, self._moment = self._moment, None
        if moment is not None:
            moment.error = error
            self._put(moment)

    def asked(self, what: str, told: Any) -> None:
        """Take down what the actor was told when it asked; outside of a moment that is lost."""
        if self._moment is not None:
            self._moment.asked.append((what, told))

    def said(self, to: str, message: bytes) -> None:
        """Take down what it said."""
        if self._moment is not None:
            self._moment.said.append((to, message))
        else:
            self._put(Moment("beside", said=[(to, message)]))

    def _put(self, moment: Moment) -> None:
        told = [moment.kind, moment.heard, moment.asked, moment.said, moment.error]
        self._pack([_MOMENT, *told])

    def _pack(self, content: list[Any]) -> None:
        if self._write is not None:
            self._write(msgpack.packb(content))


def read(data: bytes) -> Iterator[Life | Moment]:
    """Yield what is on a tape, in order. One that ends in the middle of a moment ends before it.

    Raises: TapeDamaged.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=_LARGEST)
    unpacker.feed(data)
    rows = _rows(unpacker)
    match next(rows, None):
        case [magic, version, str() as actor] if (magic, version) == (MAGIC, VERSION):
            pass
        case first:
            raise TapeDamaged(f"it begins with {first!r:.60}: {_WRAPPING}")
    for row in rows:
        match row:
            case ["life", str() as kind, dict() as setup]:
                yield Life(actor, kind, setup)
            case ["moment", str() as kind, list() as heard, list() as asked, list() as said, error]:
                yield Moment(kind, _pairs(heard), _pairs(asked), _pairs(said), str(error))
            case _:
                raise TapeDamaged(f"before byte {unpacker.tell()}: {_WRAPPING}")


def cut_at(data: bytes) -> int | None:
    """Return the byte at which the last, unfinished moment of a tape begins; None: it is whole.

    So ends the tape of a process that was killed. Raises: TapeDamaged.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=_LARGEST)
    unpacker.feed(data)
    end = 0
    for _ in _rows(unpacker):
        end = unpacker.tell()  # Of a row that is not whole it counts what there is.
    return end if end < len(data) else None


def _rows(unpacker: msgpack.Unpacker) -> Iterator[Any]:
    while True:
        try:
            row = unpacker.unpack()
        except msgpack.OutOfData:
            return
        except (ValueError, msgpack.UnpackException) as error:
            raise TapeDamaged(f"at byte {unpacker.tell()}: {error}; {_WRAPPING}") from error
        yield row


def _pairs(rows: list[Any]) -> list[tuple[Any, Any]]:
    try:
        return [(first, second) for first, second in rows]
    except (TypeError, ValueError) as error:
        raise TapeDamaged(f"{rows!r:.60} are no pairs: {_WRAPPING}") from error
