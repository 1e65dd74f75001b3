"""Settling: waiting until nothing is left to be done in a cluster.

Nobody is asked by being waited for: each actor tells what it still has to do (`AsyncActor.busy`),
and the hub tells what is written. So a cluster that is at rest is known to be at once, in real time
as in a simulation; and of one that never will be it is told who keeps it going.

Settled means: no actor has failed and waits to be restarted; none has messages to read or to send,
a key to look at, a write on its way or to be tried again; no pod is about to start, to end or to be
judged by a probe; nothing is known that has to be done later (a pod that becomes available after
minReadySeconds, pods of a dead node that will be evicted); and for `quiet_s` nothing was written
but heartbeats. Also settled is what goes on for ever: a container that crashes again and again and
waits for its next try, an image that cannot be pulled, a pod that no node has room for.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import Final

import msgpack

from kubeloop.actors.livelock import cycles, is_heartbeat
from kubeloop.api.errors import Expired
from kubeloop.store.facts import Fact, prefix_of
from kubeloop.store.routes import EVERYTHING
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor, Hub

QUIET_S: Final = 0.5  # What a client does who hears of the last change begins within that.
WITHIN_S: Final = 60.0
FACTS_MAX: Final = 2000  # The newest, to tell from who goes on and on.
AT_ONCE_MAX: Final = 1000  # Writes of one key at one moment of virtual time.
_POLL_MIN_S: Final = 0.01
_POLL_MAX_S: Final = 1.0


class NotSettled(Exception):
    """The cluster goes on and on; the message says who has what to do, and who writes what."""


async def settled(
    hub: Hub,
    busy: Callable[[], str | None],
    *,
    within_s: float = WITHIN_S,
    quiet_s: float = QUIET_S,
) -> None:
    """Return when nothing is left to be done.

    busy:     tells what is, None if nothing.
    within_s: how long to wait for that;  quiet_s: how long nothing must have been written.
    Raises: NotSettled.
    """
    loop = asyncio.get_running_loop()
    watch = _Watch(hub)
    begun = quiet_since = loop.time()
    pause_s = _POLL_MIN_S
    try:
        while True:
            if watch.take():
                quiet_since, pause_s = loop.time(), _POLL_MIN_S
            why, now = busy(), loop.time()
            quiet_at = quiet_since + quiet_s
            if why is None and now >= quiet_at:
                return
            if now >= begun + within_s or watch.is_stuck(now):
                raise NotSettled(_report(watch.facts, why, now - begun, quiet_s))
            # Nobody tells when he has nothing to do any more, so he is asked again and again.
            wait_s = pause_s if why is not None else quiet_at - now
            pause_s = min(_POLL_MAX_S, 2 * pause_s)
            await watch.wait(min(wait_s, begun + within_s - now))
    finally:
        watch.close()


def unnoticed(store: Store, actors: Container[str]) -> str | None:
    """Return which node is gone though it is said to be ready; None if none is.

    actors: the names of all. The node controller will notice when the node's lease runs out.
    """
    for item in store.list(prefix_of("nodes")).items:
        node = msgpack.unpackb(item.value)
        name = node["metadata"]["name"]
        conditions = (node.get("status") or {}).get("conditions") or ()
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if ready and f"kubelet/{name}" not in actors:
            return f"node {name} is gone, and nobody has noticed yet"
    return None


class _Watch:
    """What is written, but heartbeats. facts: the newest."""

    def __init__(self, hub: Hub) -> None:
        self._moment = 0.0
        self._hub, self._bell = hub, asyncio.Event()
        self._cursor = self._open()
        self.facts: deque[Fact] = deque(maxlen=FACTS_MAX)
        self._now: Counter[str] = Counter()  # How often each key was written at this moment.

    def take(self) -> bool:
        """Tell whether anything was written since the last time."""
        self._bell.clear()
        try:
            facts = self._cursor.take(FACTS_MAX)
        except Expired:  # Much was, and is forgotten.
            self._cursor.close()
            self._cursor = self._open()
            return True
        written = [fact for fact in facts if not is_heartbeat(fact)]
        self.facts += written
        self._now.update(fact.key for fact in written)
        return bool(written)

    def is_stuck(self, now: float) -> bool:
        """Tell whether so much is written that time does not pass: virtual time need not."""
        if now != self._moment:
            self._moment, self._now = now, Counter()
        return bool(self._now) and max(self._now.values()) > AT_ONCE_MAX

    async def wait(self, most_s: float) -> None:
        """Wait until something is written, at most so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._bell.wait(), most_s)

    def close(self) -> None:
        self._cursor.close()

    def _open(self) -> Cursor:
        revision = self._hub.revision
        return self._hub.open(resources=[EVERYTHING], revision=revision, wake=self._bell.set)


def _report(facts: Sequence[Fact], why: str | None, passed_s: float, quiet_s: float) -> str:
    lines = [f"not settled after {passed_s:g} s"]
    if why is not None:
        lines.append(f"still at work: {why}")
    else:
        lines.append(f"nobody has anything to do, but it is never quiet for {quiet_s:g} s")
    return "\n  ".join([*lines, *cycles(facts)])
