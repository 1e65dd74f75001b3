"""The pods of a StatefulSet have names that stay, come one after the other, and go in turn.

Source: Kubernetes, "StatefulSets: Pod Identity", "Deployment and Scaling Guarantees", "Update
strategies"; "Force Delete StatefulSet Pods".
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kubeloop.chaos.invariants.tale import (
    DONE,
    PODS,
    STATEFUL,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    is_ending,
    is_true,
    owner_of,
    replicas_of,
    uid_of,
    writer,
)
from kubeloop.chaos.watching import Broken

CONTROLLER: Final = "statefulset-controller"
REVISIONS: Final = "controllerrevisions.apps"
_HASH: Final = "controller-revision-hash"
_PAST_MAX: Final = 1000  # States of a set that are remembered.


class _State(NamedTuple):
    """A set as of a revision.

    there: ordinals that have a pod;  ready: those that serve.
    updated: the name of the newest ControllerRevision, which is that of the template.
    """

    revision: int
    wanted: range
    there: frozenset[int]
    ready: frozenset[int]
    updated: str


@dataclass(slots=True)
class _Set:
    """A set, its pods by ordinal, and how it was."""

    key: str
    name: str
    wanted: range
    ordered: bool
    updated: str = ""
    newest: int = 0  # Its number.
    pods: dict[int, Object] = field(default_factory=dict)
    past: "deque[_State]" = field(default_factory=lambda: deque(maxlen=_PAST_MAX))

    def note(self, revision: int) -> None:
        """Remember how it is."""
        ready = frozenset(o for o, pod in self.pods.items() if _is_well(pod))
        state = _State(revision, self.wanted, frozenset(self.pods), ready, self.updated)
        self.past.append(state)

    def since(self, revision: int) -> Iterator[_State]:
        """Yield the states that somebody who knows a revision may have acted on, newest first."""
        for state in reversed(self.past):
            yield state
            if state.revision <= revision:
                return


class StatefulSets(Watcher):
    """A StatefulSet has one pod for each ordinal, and they come and go in order.

    - Its controller makes pods of wanted ordinals only; and unless they may come in parallel, of
      one only when all lower ones are ready.
    - It ends a pod that is wanted only if that has finished or is of another template; and one
      that is not, unless they may go in parallel, only when no higher one is there any more.
      Always as of a moment not before the fact because of which it acts.
    - A name is never alive twice; see "running". Who deletes by force takes that on himself.
    - At rest, if all that are there are ready, they are those that are wanted, and of the newest
      template; and the status counts them right.
    """

    name = "statefulsets"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._sets: dict[str, _Set] = {}  # By uid.

    def see(self, change: Change) -> None:
        if change.resource == STATEFUL:
            self._see_set(change)
        elif change.resource == PODS and self._sets:
            self._see_pod(change)
        elif change.resource == REVISIONS and change.after is not None:
            self._see_revision(change.after, change.fact.revision)

    def rest(self) -> None:
        for obj in self.tale.view.list(STATEFUL):
            if not is_ending(obj):
                self._check_rest(obj, self._sets[uid_of(obj)])

    def _see_set(self, change: Change) -> None:
        uid, obj = uid_of(change.either), change.after
        if obj is None:
            self._sets.pop(uid, None)
            return
        set_ = self._sets.get(uid)
        start = int((obj["spec"].get("ordinals") or {}).get("start") or 0)
        wanted = range(start, start + replicas_of(obj))
        if set_ is None:
            ordered = obj["spec"].get("podManagementPolicy") != "Parallel"
            name = str(obj["metadata"]["name"])
            set_ = self._sets[uid] = _Set(change.fact.key, name, wanted, ordered)
        if set_.past and set_.wanted == wanted:
            return
        set_.wanted = wanted
        set_.note(change.fact.revision)

    def _see_revision(self, obj: Object, revision: int) -> None:
        set_, number = self._sets.get(owner_of(obj)), int(obj.get("revision") or 0)
        if set_ is not None and number > set_.newest:
            set_.newest, set_.updated = number, str(obj["metadata"]["name"])
            set_.note(revision)

    def _see_pod(self, change: Change) -> None:
        for owner in {owner_of(pod) for pod in (change.before, change.after) if pod is not None}:
            set_ = self._sets.get(owner)
            ordinal = None if set_ is None else _ordinal(set_, change.either)
            if set_ is None or ordinal is None:
                continue
            pod, own = change.after, writer(change.fact) == CONTROLLER
            if own and change.before is None:
                self._check_made(set_, ordinal, change)
            elif own and _begins_to_end(change):
                self._check_ended(set_, ordinal, change)
            if pod is None or owner_of(pod) != owner:
                set_.pods.pop(ordinal, None)
            else:
                set_.pods[ordinal] = pod
            set_.note(change.fact.revision)

    def _check_made(self, set_: _Set, ordinal: int, change: Change) -> None:
        states = list(set_.since(change.fact.cause.revision))
        if any(_may_come(set_, ordinal, state) for state in states):
            return
        raise Broken(
            f"revision {change.fact.revision}: {CONTROLLER} has made {called(change.fact.key)} out "
            f"of turn: {_known(set_, states)}"
        )

    def _check_ended(self, set_: _Set, ordinal: int, change: Change) -> None:
        states = list(set_.since(change.fact.cause.revision))
        pod = change.before
        assert pod is not None
        if any(_may_go(set_, ordinal, pod, state) for state in states):
            return
        raise Broken(
            f"revision {change.fact.revision}: {CONTROLLER} has ended {called(change.fact.key)} "
            f"out of turn: {_known(set_, states)}"
        )

    def _check_rest(self, obj: Object, set_: _Set) -> None:
        status, pods = obj.get("status") or {}, set_.pods
        ready = sum(_is_well(pod) for pod in pods.values())
        counts = {
            "replicas": len(pods),
            "readyReplicas": ready,
            "observedGeneration": obj["metadata"].get("generation", 0),
        }
        for name, count in counts.items():
            if status.get(name, 0) != count:
                raise Broken(
                    f"{called(set_.key)}: status.{name} is {status.get(name, 0)} at rest, and "
                    f"should be {count}"
                )
        if ready < len(pods):
            return  # Whoever is not ready holds up the others.
        if sorted(pods) != list(set_.wanted):
            raise Broken(
                f"{called(set_.key)} wants the ordinals {list(set_.wanted)}, and has "
                f"{sorted(pods)} at rest, all of them ready"
            )
        for ordinal, pod in sorted(pods.items()):
            if _revision(pod) != set_.updated and not _keeps_old(obj, ordinal):
                raise Broken(
                    f"{called(set_.key)}: the pod of ordinal {ordinal} is of {_revision(pod)} at "
                    f"rest, all of them ready, and the template is of {set_.updated}"
                )


def _may_come(set_: _Set, ordinal: int, state: _State) -> bool:
    if ordinal not in state.wanted or ordinal in state.there:
        return False
    return not set_.ordered or all(o in state.ready for o in range(state.wanted.start, ordinal))


def _may_go(set_: _Set, ordinal: int, pod: Object, state: _State) -> bool:
    if ordinal in state.wanted:
        return _is_done(pod) or _revision(pod) != state.updated
    return not set_.ordered or all(o <= ordinal for o in state.there if o not in state.wanted)


def _ordinal(set_: _Set, pod: Object) -> int | None:
    """Return a pod's ordinal, None if its name is none of the set's."""
    parent, _, number = str(pod["metadata"]["name"]).rpartition("-")
    return int(number) if parent == set_.name and number.isdecimal() else None


def _keeps_old(obj: Object, ordinal: int) -> bool:
    """Tell whether a pod is not to follow the template by itself."""
    strategy = obj["spec"].get("updateStrategy") or {}
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    return strategy.get("type") == "OnDelete" or ordinal < partition


def _begins_to_end(change: Change) -> bool:
    before, after = change.before, change.after
    return before is not None and not is_ending(before) and (after is None or is_ending(after))


def _is_done(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in DONE


def _is_well(pod: Object) -> bool:
    return is_true(pod, "Ready") and not is_ending(pod) and not _is_done(pod)


def _revision(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(_HASH) or "")


def _known(set_: _Set, states: list[_State]) -> str:
    told = [
        f"at {s.revision} it wants {list(s.wanted)}, has {sorted(s.there)}, ready {sorted(s.ready)}"
        for s in states[:5]
    ]
    return f"what it may have known of {called(set_.key)}: {'; '.join(told)}"
