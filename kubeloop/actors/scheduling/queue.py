"""The pods that wait for a node, and what each of them waits for.

- active:  to be tried now, by priority, then by age;
- parked:  no node will do; woken when one may, tried again after five minutes in any case;
- resting: the API server refused; tried again after a pause that doubles from 1 s to 10 s.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.actors.scheduling.demand import Demand

BACKOFF_MIN_S: Final = 1.0
BACKOFF_MAX_S: Final = 10.0
PARKED_MAX_S: Final = 300.0


@dataclass(slots=True)
class Pending:
    """A pod without a node.

    pod:   the object as last seen, for events and conditions.
    age:   its place among pods of equal priority.
    because: the revision of the fact that had it tried last.
    turn:  another number whenever it moves: what was noted about an earlier state is void.
    """

    key: str
    pod: Mapping[str, Any]
    demand: Demand
    priority: int
    age: int
    because: int = 0
    failures: int = 0
    turn: int = 0


def backoff_s(failures: int) -> float:
    """Return the pause after failure number `failures` (from 1)."""
    assert failures >= 1
    return float(min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures - 1, 10)))


class Queue:
    """All pods that wait. Time is an argument."""

    def __init__(self) -> None:
        self._pods: dict[str, Pending] = {}
        self._active: list[tuple[int, int, str, int]] = []  # -priority, age, key, turn.
        self._due: list[tuple[float, int, str, int]] = []  # When, age, key, turn.
        self._parked: dict[bytes, dict[str, Pending]] = defaultdict(dict)  # By demand.
        self._ages = self._turns = 0

    def __len__(self) -> int:
        return len(self._pods)

    def get(self, key: str) -> Pending | None:
        """Return the pod that waits under `key`, None if none does."""
        return self._pods.get(key)

    def put(self, key: str, pod: Mapping[str, Any], demand: Demand, because: int = 0) -> None:
        """Add a pod, or take over what changed of it; it is tried if that may matter.

        because: the revision of the fact that tells it.
        """
        priority = int(pod["spec"].get("priority") or 0)
        known = self._pods.get(key)
        uid = pod["metadata"].get("uid")
        if known is not None and known.pod["metadata"].get("uid") == uid:
            same = (known.demand.signature, known.priority) == (demand.signature, priority)
            known.pod = pod
            if same:
                return
            self._unpark(known)
            known.demand, known.priority = demand, priority
        else:
            self.remove(key)
            self._ages += 1
            known = self._pods[key] = Pending(key, pod, demand, priority, self._ages)
        known.because = because
        self._activate(known)

    def remove(self, key: str) -> None:
        """Forget a pod; harmless if it does not wait."""
        pending = self._pods.pop(key, None)
        if pending is not None:
            self._unpark(pending)

    def pop(self, limit: int) -> list[Pending]:
        """Return the next pods to try, at most `limit`; each must then be parked, rest or go."""
        popped: list[Pending] = []
        while self._active and len(popped) < limit:
            _, _, key, turn = heapq.heappop(self._active)
            pending = self._pods.get(key)
            if pending is not None and pending.turn == turn:
                self._move(pending)
                popped.append(pending)
        return popped

    def active(self) -> bool:
        """Tell whether a pod is to be tried now."""
        while self._active:
            _, _, key, turn = self._active[0]
            if key in self._pods and self._pods[key].turn == turn:
                return True
            heapq.heappop(self._active)
        return False

    def busy(self) -> str | None:
        """Return which pod will be tried without anything having changed; None if none will."""
        parked = sum(map(len, self._parked.values()))
        if len(self._pods) == parked:
            return None
        waiting = {key for pods in self._parked.values() for key in pods}
        return f"tries {next(key for key in self._pods if key not in waiting)}"

    def park(self, pending: Pending, now: float) -> None:
        """No node will do: let the pod wait until one may."""
        self._later(pending, now + PARKED_MAX_S)
        self._parked[pending.demand.signature][pending.key] = pending

    def rest(self, pending: Pending, now: float) -> None:
        """The API server refused: try again after a pause."""
        pending.failures += 1
        self._later(pending, now + backoff_s(pending.failures))

    def parked(self) -> Iterable[Demand]:
        """Yield the distinct demands of parked pods."""
        for pods in self._parked.values():
            yield next(iter(pods.values())).demand

    def wake(self, demand: Demand, because: int = 0) -> None:
        """A node may do now, because of a fact: try the parked pods with this demand."""
        for pending in self._parked.pop(demand.signature, {}).values():
            pending.because = because
            self._activate(pending)

    def advance(self, now: float) -> float | None:
        """Activate what is due at `now`; return when to call again, None if nothing waits."""
        while self._due:
            when, _, key, turn = self._due[0]
            pending = self._pods.get(key)
            if pending is not None and pending.turn == turn:
                if when > now:
                    return when
                self._unpark(pending)
                self._activate(pending)
            heapq.heappop(self._due)
        return None

    def _move(self, pending: Pending) -> None:
        self._turns += 1  # Of the queue, not of the pod: a successor of the same name differs too.
        pending.turn = self._turns

    def _activate(self, pending: Pending) -> None:
        self._move(pending)
        entry = (-pending.priority, pending.age, pending.key, pending.turn)
        heapq.heappush(self._active, entry)

    def _later(self, pending: Pending, when: float) -> None:
        self._move(pending)
        heapq.heappush(self._due, (when, pending.age, pending.key, pending.turn))

    def _unpark(self, pending: Pending) -> None:
        parked = self._parked.get(pending.demand.signature)
        if parked is not None and parked.pop(pending.key, None) is not None and not parked:
            del self._parked[pending.demand.signature]
