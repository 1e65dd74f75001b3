"""Recording: from now on an actor's life is taken down.

    recording = record(supervisor, "scheduler", write)     # it begins anew, as after a crash
    recording.stop()

An actor that begins anew learns by list + watch all there is to know, so its tape needs no more.
The others do not notice: its mailbox stays as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgpack
from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Handle, Inbox, Scene
from kubeloop.actors.api_server import ApiServer
from kubeloop.actors.elector import Elector
from kubeloop.actors.interception import Deliver, Interceptor
from kubeloop.actors.kube_proxy import KubeProxy
from kubeloop.actors.kubelet import Kubelet
from kubeloop.actors.runtimes.protocol import Runtime
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.tapes.seams import TapedDataPath, TapedRuntime, TapedWorld
from kubeloop.actors.tapes.setup import setup_of
from kubeloop.actors.tapes.tape import Tape, Write
from kubeloop.actors.world import World
from kubeloop.store.store import Store

STORE: Final = "store"


class Recording(Interceptor):
    """Takes one actor's life down, and those of its successors. It is the actor's attendant."""

    def __init__(self, supervisor: Supervisor, name: str, write: Write) -> None:
        self.name, self.tape = name, Tape(name, write)
        self._supervisor = supervisor
        self._actor: AsyncActor | None = None
        self._answers = 0  # How many asks were heard in this life.
        self._ends = [supervisor.intercept(name, self), supervisor.attend(name, self)]

    def stop(self) -> None:
        """Take down no more; the actor goes on. Harmless if it is stopped."""
        self.tape.stop()
        for end in self._ends:
            end()

    # What the supervisor does.

    def scene(self, real: Scene) -> Scene:
        """Return the scene an actor is to be made in."""
        self.tape.open("begin")
        self._actor, self._answers = None, 0
        return _TapedScene(real, self.tape)

    def made(self, actor: AsyncActor) -> None:
        """Hear that it was made, and begins next."""
        self._actor, tape = actor, self.tape
        kind, setup = setup_of(actor)
        tape.live(kind, setup)
        match actor:
            case Kubelet():
                actor.runtime = cast("Runtime", TapedRuntime(actor.runtime, tape.asked))
            case KubeProxy():
                actor.data_path = TapedDataPath(tape.said, actor.data_path)

    def began(self) -> None:
        """Hear that it has begun."""
        self.tape.close()

    # What comes by.

    def said(self, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        self.tape.said(to, envelope.message)
        deliver(envelope)

    def turn(self, envelopes: Sequence[Envelope[Any]], handle: Handle) -> None:
        tape, actor = self.tape, self._actor
        tape.open("turn", [(e.message, e.reply_to is not None) for e in envelopes])
        store = actor.store if isinstance(actor, ApiServer) else None
        before = 0 if store is None else store.revision
        error = "it was told to stop"
        try:
            handle([self._overheard(envelope) for envelope in envelopes])
            error = ""
        except Exception as failure:
            error = repr(failure)
            raise
        finally:
            if store is not None and store.revision > before:
                tape.said(STORE, written(store.history.since(before)))
            tape.close(error)

    def _overheard(self, envelope: Envelope[Any]) -> Envelope[Any]:
        """Return an envelope whose answer is taken down on its way."""
        if envelope.reply_to is None:
            return envelope
        self._answers += 1
        answer = _TapedAnswer(envelope.reply_to, f"answer {self._answers}", self.tape.said)
        return Envelope(envelope.message, reply_to=cast("Any", answer))


class _TapedScene:
    """A scene whose world is taken down."""

    def __init__(self, real: Scene, tape: Tape) -> None:
        self.world: World = TapedWorld(real.world, tape.asked)
        self._real = real

    def inbox(self, name: str) -> Inbox | None:
        return self._real.inbox(name)

    def crashed(self, actor: AsyncActor, error: Exception) -> None:
        self._real.crashed(actor, error)


class _TapedAnswer:
    """A future whose value is taken down when it is set."""

    def __init__(self, future: Any, name: str, said: Callable[[str, bytes], None]) -> None:
        self._future, self._name, self._said = future, name, said

    def set(self, value: Any = None) -> None:
        self._said(self._name, value)
        self._future.set(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)


def written(facts: Sequence[Any]) -> bytes:
    """Return what was written, packed: the facts, encoded."""
    frame: bytes = msgpack.packb([fact.encoded for fact in facts])
    return frame


def record(supervisor: Supervisor, name: str, write: Write) -> Recording:
    """Have the actor called `name` begin anew, and take its life down with `write`.

    Raises: ValueError if there is no such actor, or it is of a kind that has no tape.
    """
    actor = supervisor.actor(name)
    if name not in supervisor.names():
        raise ValueError(f"no actor is called {name!r}; there are {supervisor.names()}")
    if isinstance(actor, Elector):
        raise ValueError(f"{name} is no actor that can be recorded: it only stands for election")
    if isinstance(actor, ApiServer) and type(actor.store) is not Store:
        raise ValueError(f"{name} shares its store: others write, too. Name those you want")
    recording = Recording(supervisor, name, write)
    supervisor.renew(name)
    return recording
