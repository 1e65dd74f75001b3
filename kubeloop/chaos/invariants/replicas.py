"""ReplicaSets and ReplicationControllers keep their number, and never make or end one too many.

Source: Kubernetes, "ReplicaSet", "ReplicationController".
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kubeloop.api.selectors import LabelSelector, label_selector, set_selector
from kubeloop.chaos.invariants.tale import (
    CONTROLLERS,
    PODS,
    SETS,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    is_active,
    is_ending,
    is_true,
    owner_of,
    replicas_of,
    uid_of,
    writer,
)
from kubeloop.chaos.watching import Broken

MAKERS: Final = {SETS: "replicaset-controller", CONTROLLERS: "replication-controller"}
_PAST_MAX: Final = 1000  # States of a set that are remembered.


class _State(NamedTuple):
    """A set as of a revision. made, ended: pods that its controller ever made and ended."""

    revision: int
    wanted: int
    active: int
    made: int
    ended: int


@dataclass(slots=True)
class _Set:
    """A set, its active pods, and how it was."""

    key: str
    resource: str
    wanted: int
    selector: LabelSelector
    active: set[str] = field(default_factory=set)
    made: int = 0
    ended: int = 0
    past: "deque[_State]" = field(default_factory=lambda: deque(maxlen=_PAST_MAX))

    def note(self, revision: int) -> None:
        """Remember how it is."""
        self.past.append(_State(revision, self.wanted, len(self.active), self.made, self.ended))

    def since(self, revision: int) -> Iterator[_State]:
        """Yield the states that somebody who knows a revision may have acted on, newest first."""
        for state in reversed(self.past):
            yield state
            if state.revision <= revision:
                return


class Replicas(Watcher):
    """A set's controller never makes or ends more pods than it must.

    Whenever it makes one there is a moment, not before the fact because of which it acts, as of
    which the active pods, and all it has made since, are no more than are wanted; whenever it ends
    one, as of which the active ones less all it has ended since are no fewer. So it waits for its
    own writes, and a crash makes nothing twice, however many pods faults and users take meanwhile.
    Active is a pod that the set controls and selects, that has not finished and is not being
    deleted. At rest there are as many as are wanted, and the status counts them right.
    """

    name = "replicas"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._sets: dict[str, _Set] = {}  # By uid.

    def see(self, change: Change) -> None:
        if change.resource in MAKERS:
            self._see_set(change)
        elif change.resource == PODS:
            self._see_pod(change)

    def rest(self) -> None:
        for resource in MAKERS:
            for obj in self.tale.view.list(resource):
                self._check_rest(resource, obj)

    def _see_set(self, change: Change) -> None:
        uid = uid_of(change.either)
        if change.after is None:
            self._sets.pop(uid, None)
            return
        set_, wanted = self._sets.get(uid), replicas_of(change.after)
        if set_ is None:
            selector = _selector(change.resource, change.after)
            set_ = self._sets[uid] = _Set(change.fact.key, change.resource, wanted, selector)
        elif set_.wanted == wanted and change.resource == SETS:
            return
        elif change.resource == CONTROLLERS:
            set_.selector = _selector(change.resource, change.after)
        set_.wanted = wanted
        set_.note(change.fact.revision)

    def _see_pod(self, change: Change) -> None:
        fact, uid = change.fact, uid_of(change.either)
        owners = {owner_of(pod) for pod in (change.before, change.after) if pod is not None}
        for owner in owners:
            set_ = self._sets.get(owner)
            if set_ is None:
                continue
            was = uid in set_.active
            pod = change.after
            is_ = pod is not None and owner_of(pod) == owner and _counts(pod, set_)
            if was == is_:
                continue
            own = writer(fact) == MAKERS[set_.resource]
            (set_.active.add if is_ else set_.active.discard)(uid)
            if own and change.before is None:
                set_.made += 1
                self._check_made(set_, change)
            elif own and was and (pod is None or is_ending(pod)):
                set_.ended += 1
                self._check_ended(set_, change)
            set_.note(fact.revision)

    def _check_made(self, set_: _Set, change: Change) -> None:
        states = list(set_.since(change.fact.cause.revision))
        if all(state.active + set_.made - state.made > state.wanted for state in states):
            raise Broken(
                f"{_did(change)}: {called(set_.key)} wants {set_.wanted}, and has "
                f"{len(set_.active)} active pods now. {_known(states)}"
            )

    def _check_ended(self, set_: _Set, change: Change) -> None:
        states = list(set_.since(change.fact.cause.revision))
        if all(state.active - set_.ended + state.ended < state.wanted for state in states):
            raise Broken(
                f"{_did(change)}: {called(set_.key)} wants {set_.wanted}, and has "
                f"{len(set_.active)} active pods left. {_known(states)}"
            )

    def _check_rest(self, resource: str, obj: Object) -> None:
        uid, status = uid_of(obj), obj.get("status") or {}
        set_ = self._sets[uid]
        pods = list(self.tale.view.by(PODS, "controller", uid))
        active = [pod for pod in pods if _counts(pod, set_)]
        if is_ending(obj) or is_true(obj, "ReplicaFailure"):
            return
        if len(active) != set_.wanted:
            raise Broken(
                f"{called(set_.key)} wants {set_.wanted} pods, and has {len(active)} at rest"
            )
        wanted = {
            "replicas": len(active),
            "readyReplicas": sum(is_true(pod, "Ready") for pod in active),
            "observedGeneration": obj["metadata"].get("generation", 0),
        }
        if not obj["spec"].get("minReadySeconds"):
            wanted["availableReplicas"] = wanted["readyReplicas"]
        for name, count in wanted.items():
            if status.get(name, 0) != count:
                raise Broken(
                    f"{called(set_.key)}: status.{name} is {status.get(name, 0)} at rest, and "
                    f"should be {count}"
                )


def _counts(pod: Object, set_: _Set) -> bool:
    return is_active(pod) and set_.selector.matches(pod["metadata"].get("labels") or {})


def _selector(resource: str, obj: Object) -> LabelSelector:
    selector = obj["spec"].get("selector")
    return label_selector(selector) if resource == SETS else set_selector(selector or {})


def _did(change: Change) -> str:
    did = "made" if change.before is None else "ended"
    fact = change.fact
    return f"revision {fact.revision}: {writer(fact)} has {did} {called(fact.key)} too many"


def _known(states: list[_State]) -> str:
    told = [f"at {s.revision} {s.active} of {s.wanted}" for s in states[:5]]
    return f"What it may have known: {', '.join(told)}"
