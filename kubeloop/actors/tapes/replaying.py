"""Replay: an actor lives through its tape again, in any process, and is compared with itself.

    for step in replay(path.read_bytes()):
        print(step.number, step.moment.kind, step.difference)

The code that runs is that of today. So a failure that was recorded can be had again in a debugger,
and a change can be tried on what a real cluster went through: the first thing that the actor asks
or says otherwise is told. What an API server tells those who watch is cut into messages as time
allows, so of all it says its answers and its writes are compared.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Inbox
from kubeloop.actors.api_server import ApiServer
from kubeloop.actors.messages import Outcome, decode
from kubeloop.actors.tapes.recording import STORE, written
from kubeloop.actors.tapes.seams import ToldWorld
from kubeloop.actors.tapes.setup import make
from kubeloop.actors.tapes.tape import Life, Moment, TapeDamaged, read
from kubeloop.actors.tapes.words import words
from kubeloop.actors.world import World

_Hear = Callable[[str, bytes], None]
_Crashed = Callable[[Exception], None]


class Diverged(Exception):
    """The actor asked for something else than on the tape: from there on they are not the same."""


@dataclass(frozen=True, slots=True)
class Step:
    """A moment that was lived again.

    number:     from 1.
    life:       which it belongs to.
    moment:     as it was recorded.
    said:       what was said now.
    error:      what it failed with now, if it did.
    difference: the first thing that is not as it was, in words; "" if all is. After the first that
                is not, what follows means little.
    """

    number: int
    life: Life
    moment: Moment
    said: Sequence[tuple[str, bytes]]
    error: Exception | None
    difference: str


def replay(data: bytes) -> Iterator[Step]:
    """Yield every moment on a tape, lived again.

    Raises: TapeDamaged.
    """
    life: Life | None = None
    player: _Player | None = None
    for number, found in enumerate(_moments(data), 1):
        moment, began = found
        if began is not None:
            life, player = began, _Player(began)
        if life is None or player is None:
            raise TapeDamaged(f"moment {number} comes before any life has begun")
        said, error, difference = player.play(moment)
        yield Step(number, life, moment, said, error, difference)


def _moments(data: bytes) -> Iterator[tuple[Moment, Life | None]]:
    """Yield each moment, and with its first the life."""
    began: Life | None = None
    for part in read(data):
        if isinstance(part, Life):
            began = part
        else:
            yield part, began
            began = None


class _Player:
    """Plays one life."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._world = ToldWorld(self._tell)
        self._told: deque[tuple[str, Any]] = deque()
        self._said: list[tuple[str, bytes]] = []
        self._actor: AsyncActor | None = None
        self._answers = 0
        # What a server has said and is not known to have said, by whom it was said to.
        self._ahead: dict[str, deque[bytes]] = defaultdict(deque)
        self._failed: Exception | None = None

    def play(self, moment: Moment) -> tuple[list[tuple[str, bytes]], Exception | None, str]:
        """Return what is said now, what it fails with, and what is not as it was."""
        self._told, self._said = deque(moment.asked), []
        error: Exception | None = None
        try:
            if moment.kind == "begin":
                self._begin()
            elif moment.kind == "turn":
                self._turn(moment.heard)
        except Diverged as diverged:
            return self._said, None, str(diverged)
        except Exception as failure:  # noqa: BLE001 - whoever steps through it has to know.
            error = failure
        return self._said, error, self._difference(moment, error)

    def _begin(self) -> None:
        life = self._life
        scene = _Scene(self._world, self._hear, self._crashed)
        self._actor = make(life.kind, life.setup, scene, life.actor, self._tell, self._hear)
        self._actor._start_actor_loop()

    def _turn(self, heard: Sequence[tuple[bytes, bool]]) -> None:
        actor = self._actor
        assert actor is not None
        store = actor.store if isinstance(actor, ApiServer) else None
        before = 0 if store is None else store.revision
        actor.on_batch([self._envelope(message, asked) for message, asked in heard])
        if self._failed is not None:
            raise self._failed
        if store is not None and store.revision > before:
            self._hear(STORE, written(store.history.since(before)))

    def _envelope(self, message: bytes, asked: bool) -> Envelope[Any]:
        if not asked:
            return Envelope(message)
        self._answers += 1
        answer = _Answer(f"answer {self._answers}", self._hear)
        return Envelope(message, reply_to=cast("Any", answer))

    def _hear(self, to: str, message: bytes) -> None:
        self._said.append((to, message))

    def _tell(self, what: str) -> Any:
        if not self._told:
            raise Diverged(f"it asks for {what}, where it asked for nothing more")
        asked, told = self._told.popleft()
        if asked != what:
            raise Diverged(f"it asks for {what}, where it asked for {asked}")
        return told

    def _crashed(self, error: Exception) -> None:
        self._failed = error

    def _difference(self, moment: Moment, error: Exception | None) -> str:
        if moment.error and error is None:
            return f"it does not fail, where it failed with {moment.error}"
        if error is not None and repr(error) != moment.error:
            before = f"failed with {moment.error}" if moment.error else "did not fail"
            return f"it fails with {error!r}, where it {before}"
        if isinstance(self._actor, ApiServer):
            return self._lagging(moment)
        if moment.kind == "beside":
            return ""
        return _first(moment.said, self._said)

    def _lagging(self, moment: Moment) -> str:
        """Compare what a server said: a disk may have had its answers come later than here."""
        for to, message in self._said:
            if _compared(to, message):
                self._ahead[to].append(message)
        for to, message in moment.said:
            if not _compared(to, message):
                continue
            now = [(to, self._ahead[to].popleft())] if self._ahead[to] else []
            if difference := _first([(to, message)], now):
                return difference
        return ""


class _Scene:
    def __init__(self, world: World, hear: _Hear, crashed: _Crashed) -> None:
        self.world = world
        self._hear, self._crashed = hear, crashed

    def crashed(self, actor: AsyncActor, error: Exception) -> None:
        self._crashed(error)

    def inbox(self, name: str) -> Inbox:
        return _Ear(name, self._hear)


class _Ear(Inbox):
    """A mailbox that always has room."""

    def __init__(self, name: str, hear: _Hear) -> None:
        super().__init__()
        self._name, self._hear = name, hear

    def put(self, envelope: Envelope[Any], /) -> None:
        self._hear(self._name, envelope.message)

    def put_answer(self, message: bytes) -> None:
        self._hear(self._name, message)


class _Answer:
    """A future nobody awaits."""

    def __init__(self, name: str, hear: _Hear) -> None:
        self._name, self._hear = name, hear

    def set(self, value: Any = None) -> None:
        self._hear(self._name, value)

    def set_exception(self, exc_info: Any = None) -> None:
        """Do nothing: that the turn failed is known."""


def _compared(to: str, message: bytes) -> bool:
    """Tell whether it is an answer or a write, of all that an API server says."""
    return to == STORE or to.startswith("answer ") or isinstance(decode(message), Outcome)


def _first(was: Sequence[tuple[str, bytes]], is_: Sequence[tuple[str, bytes]]) -> str:
    """Return the first difference between what was said and what is, "" if there is none."""
    for before, now in zip(was, is_, strict=False):
        if before != now:
            return f"it says {words(*now)}, where it said {words(*before)}"
    if len(was) > len(is_):
        return f"it says nothing, where it said {words(*was[len(is_)])}"
    if len(was) < len(is_):
        return f"it says {words(*is_[len(was)])}, where it said nothing"
    return ""
