"""Evictions take no more than disruption budgets allow.

Source: Kubernetes, "Disruptions", "Specifying a Disruption Budget for your Application",
"API-initiated Eviction".
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kubeloop.api.selectors import LabelSelector, label_selector
from kubeloop.chaos.invariants.tale import (
    BUDGETS,
    CONTROLLERS,
    DEPLOYMENTS,
    DONE,
    PODS,
    SETS,
    STATEFUL,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    full_name,
    is_ending,
    is_true,
    owner_of,
    replicas_of,
    uid_of,
    writer,
)
from kubeloop.chaos.watching import Broken

CONTROLLER: Final = "disruption-controller"
_SCALED: Final = (SETS, CONTROLLERS, STATEFUL, DEPLOYMENTS)
_EVICTED: Final = "EvictionByEvictionAPI"


class _State(NamedTuple):
    """What a budget covers as of a revision.

    healthy: pods;  demanded: how many of them there must be, None if nobody can tell.
    evicted: healthy pods that were ever evicted.
    """

    revision: int
    healthy: int
    demanded: int | None
    evicted: int


@dataclass(slots=True)
class _Budget:
    """A budget. known, told: the revisions its status is as of, and was written at."""

    key: str
    namespace: str
    generation: int
    spec: Mapping[str, Any]
    selector: LabelSelector
    known: int = 0
    told: int = 0
    evicted: int = 0
    past: "deque[_State]" = field(default_factory=deque)

    def renew(self, known: int, told: int) -> None:
        """Hear as of when its status was written anew, and forget what came before."""
        self.known, self.told = known, told
        while len(self.past) > 1 and self.past[1].revision <= known:
            self.past.popleft()


class Budgets(Watcher):
    """An eviction never leaves fewer healthy pods than a budget demands.

    Whenever a healthy pod is evicted that a PodDisruptionBudget covers, there is a moment, as of
    which the budget's status may have been written, such that the healthy pods of then, less all
    that were evicted since, are as many as the budget demands. Healthy is a pod that is ready, has
    not finished and is not being deleted. Pods that are lost to anything else do not count against
    it: of them the status cannot yet have known. And never does a status allow more than there was
    to take at such a moment.
    """

    name = "budgets"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._budgets: dict[str, _Budget] = {}  # By uid.
        self._pods: dict[str, dict[str, Object]] = {}  # Namespace → key → pod.
        self._scaled: dict[str, Object] = {}  # By uid.

    def see(self, change: Change) -> None:
        if change.resource == PODS:
            self._see_pod(change)
        elif change.resource in _SCALED:
            self._see_scaled(change)
        elif change.resource == BUDGETS:
            self._see_budget(change)

    def _see_pod(self, change: Change) -> None:
        namespace, revision = change.either["metadata"]["namespace"], change.fact.revision
        evicts, before = _is_evicted(change), change.before
        pods = self._pods.setdefault(namespace, {})
        if change.after is None:
            pods.pop(change.fact.key, None)
        else:
            pods[change.fact.key] = change.after
        for budget in self._of(namespace):
            covered = any(
                pod is not None and budget.selector.matches(pod["metadata"].get("labels") or {})
                for pod in (change.before, change.after)
            )
            if not covered:
                continue
            if evicts and before is not None and _is_healthy(before):
                budget.evicted += 1
                self._check(budget, change)
            self._note(budget, revision)

    def _see_scaled(self, change: Change) -> None:
        uid, obj = uid_of(change.either), change.after
        was = self._scaled.get(uid)
        if obj is None:
            self._scaled.pop(uid, None)
        else:
            self._scaled[uid] = obj
        if was is None or obj is None or replicas_of(was) != replicas_of(obj):
            for budget in self._of(change.either["metadata"]["namespace"]):
                self._note(budget, change.fact.revision)

    def _see_budget(self, change: Change) -> None:
        uid, obj, fact = uid_of(change.either), change.after, change.fact
        if obj is None:
            self._budgets.pop(uid, None)
            return
        budget, generation = self._budgets.get(uid), int(obj["metadata"].get("generation", 0))
        if budget is None or budget.generation != generation:
            evicted = 0 if budget is None else budget.evicted
            selector = label_selector(obj["spec"].get("selector"))
            namespace = obj["metadata"]["namespace"]
            budget = _Budget(fact.key, namespace, generation, obj["spec"], selector)
            budget.evicted = evicted
            self._budgets[uid] = budget
            self._note(budget, fact.revision)
        if writer(fact) == CONTROLLER:
            self._check_status(budget, obj, change)
            budget.renew(fact.cause.revision, fact.revision)

    def _of(self, namespace: str) -> list[_Budget]:
        return [one for one in self._budgets.values() if one.namespace == namespace]

    def _note(self, budget: _Budget, revision: int) -> None:
        """Remember how things are for a budget."""
        pods = [
            pod
            for pod in self._pods.get(budget.namespace, {}).values()
            if budget.selector.matches(pod["metadata"].get("labels") or {})
            and (pod.get("status") or {}).get("phase") not in DONE
        ]
        healthy = sum(map(_is_healthy, pods))
        demanded = self._demanded(budget, pods)
        budget.past.append(_State(revision, healthy, demanded, budget.evicted))

    def _demanded(self, budget: _Budget, pods: list[Object]) -> int | None:
        """Return how many healthy pods a budget demands, None if nobody can tell."""
        most, least = budget.spec.get("maxUnavailable"), budget.spec.get("minAvailable")
        if most is None and isinstance(least, int):
            return least
        wanted: Counter[str] = Counter()
        for pod in pods:
            owner = self._top(pod)
            if owner is None:
                return None
            wanted[uid_of(owner)] = replicas_of(owner)
        expected = wanted.total()
        if most is not None:
            return max(0, expected - _part(most, expected))
        return _part(least or 0, expected)

    def _top(self, obj: Object) -> Object | None:
        """Return the highest controller of an object that has a number of replicas."""
        owner = self._scaled.get(owner_of(obj))
        return None if owner is None else self._top(owner) or owner

    def _known(self, budget: _Budget, known: int, told: int) -> list[_State]:
        """Return the states that a status may be as of, newest first."""
        states = []
        for state in reversed(budget.past):
            if state.revision <= told:
                states.append(state)
                if state.revision <= known:
                    break
        return states

    def _check(self, budget: _Budget, change: Change) -> None:
        states = self._known(budget, budget.known, budget.told)
        if any(
            state.demanded is not None
            and state.healthy - (budget.evicted - state.evicted) >= state.demanded
            for state in states
        ):
            return
        raise Broken(
            f"revision {change.fact.revision}: pod {full_name(change.either)} is evicted, which "
            f"{called(budget.key)} did not allow: {_told(budget, states)}"
        )

    def _check_status(self, budget: _Budget, obj: Object, change: Change) -> None:
        status = obj.get("status") or {}
        allowed = int(status.get("disruptionsAllowed", 0))
        if not allowed or status.get("observedGeneration", 0) != budget.generation:
            return
        states = self._known(budget, change.fact.cause.revision, change.fact.revision)
        if any(s.demanded is not None and s.healthy - s.demanded >= allowed for s in states):
            return
        raise Broken(
            f"revision {change.fact.revision}: {CONTROLLER} says that {called(budget.key)} allows "
            f"{allowed} disruptions: {_told(budget, states)}"
        )


def _is_evicted(change: Change) -> bool:
    """Tell whether a fact is that somebody has asked for a pod's eviction, and got it."""
    before, after = change.before, change.after
    return bool(before and after and _is_target(after) and not _is_target(before))


def _is_target(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "DisruptionTarget" and c.get("reason") == _EVICTED for c in conditions)


def _is_healthy(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    going = phase in DONE or is_ending(pod) or _is_target(pod)
    return is_true(pod, "Ready") and not going


def _part(value: int | str, total: int) -> int:
    """Return a count; of a percentage as many of `total`, rounded up."""
    if isinstance(value, int):
        return value
    return -(-int(value.removesuffix("%")) * total // 100)


def _told(budget: _Budget, states: list[_State]) -> str:
    told = [
        f"at {s.revision} {s.healthy} were healthy of {s.demanded} demanded, "
        f"{budget.evicted - s.evicted} were evicted since"
        for s in states[:5]
    ]
    return f"what its status may be as of: {'; '.join(told)}"
