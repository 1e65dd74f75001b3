"""Deployments roll within their surge, and take away no more than may be unavailable.

Source: Kubernetes, "Deployments: Rolling Update Deployment, Max Unavailable, Max Surge,
Proportional scaling, Deployment status".
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kubeloop.api.errors import Expired
from kubeloop.chaos.invariants.tale import (
    DEPLOYMENTS,
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
from kubeloop.store.facts import Fact

MANAGER: Final = "deployment-controller"
MAKER: Final = "replicaset-controller"
_DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
_HASH: Final = "pod-template-hash"
_PAST_MAX: Final = 1000


class Limits(NamedTuple):
    """What a rollout must keep. most: active pods;  least: available ones."""

    most: int
    least: int


_NOTHING: Final = Limits(0, 0)


@dataclass(slots=True)
class _Part:
    """One ReplicaSet of a Deployment. observed: whether its status is of its present spec."""

    key: str
    wanted: int = 0
    observed: bool = False
    active: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Rollout:
    """A Deployment, and what there is of it.

    limits:   of its present spec;  observed: whether its status is of that.
    ceiling:  the most active pods there may be, as `Rollouts` has it.
    parts:    its sets by uid.
    past:     the revisions at which it or one of its sets changed.
    """

    key: str
    limits: Limits = _NOTHING
    observed: bool = False
    ceiling: int = 0
    parts: dict[str, _Part] = field(default_factory=dict)
    past: "deque[int]" = field(default_factory=lambda: deque(maxlen=_PAST_MAX))

    @property
    def active(self) -> int:
        """How many active pods there are."""
        return sum(len(part.active) for part in self.parts.values())

    @property
    def wanted(self) -> int:
        """How many pods its sets want."""
        return sum(part.wanted for part in self.parts.values())

    def settle(self, *, outside: bool = False) -> None:
        """Set the ceiling anew. outside: somebody else has changed its sets or pods."""
        most = self.limits.most
        held = sum(max(part.wanted, len(part.active)) for part in self.parts.values())
        seen = self.observed and all(part.observed for part in self.parts.values())
        if seen and held <= most:
            self.ceiling = most
        else:
            self.ceiling = max(self.ceiling, most, held if outside else 0)


class Rollouts(Watcher):
    """A rollout stays within its bounds.

    - When the ReplicaSet controller makes a pod there are no more active pods of all sets than
      replicas + maxSurge, and when the Deployment controller lets a set grow, no more are wanted.
      If the spec has just changed, or somebody else has changed sets or pods, as many may be as
      before, until all is within bounds and has been observed by both controllers.
    - When the Deployment controller makes a set smaller, then as of what it may have known so many
      available pods are left as may not be missing: replicas - maxUnavailable, or as there were if
      there were fewer. Not if it was scaled, or if its strategy is Recreate. Pods that are lost to
      anything else do not count against it.
    - At rest its status counts right; and if all its pods are ready they are of its template, and
      as many as are wanted.
    """

    name = "rollouts"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._rollouts: dict[str, _Rollout] = {}  # By the uid of the Deployment.
        self._of: dict[str, str] = {}  # Uid of a set → of its Deployment.

    def see(self, change: Change) -> None:
        if change.resource == DEPLOYMENTS:
            self._see_deployment(change)
        elif change.resource == SETS:
            self._see_set(change)
        elif change.resource == PODS:
            self._see_pod(change)

    def rest(self) -> None:
        for deployment in self.tale.view.list(DEPLOYMENTS):
            if not is_ending(deployment):
                self._check_rest(deployment)

    # Folding.

    def _see_deployment(self, change: Change) -> None:
        uid, obj = uid_of(change.either), change.after
        if obj is None:
            self._rollouts.pop(uid, None)
            return
        rollout = self._rollouts.setdefault(uid, _Rollout(change.fact.key))
        rollout.limits, rollout.observed = limits_of(obj), _is_observed(obj)
        rollout.past.append(change.fact.revision)
        rollout.settle()

    def _see_set(self, change: Change) -> None:
        uid = uid_of(change.either)
        obj = None if change.after is None or is_ending(change.after) else change.after
        owner, before = "" if obj is None else owner_of(obj), self._of.get(uid, "")
        if before != owner:
            self._of.pop(uid, None)
            if before in self._rollouts:
                self._leave(self._rollouts[before], uid, change)
        rollout = self._rollouts.get(owner)
        if obj is None or rollout is None:
            return
        self._of[uid] = owner
        if uid not in rollout.parts:
            pods = self.tale.view.by(PODS, "controller", uid)
            active = {uid_of(pod) for pod in pods if is_active(pod)}
            rollout.parts[uid] = _Part(change.fact.key, active=active)
            if change.before is not None:  # It has joined, with what it has.
                rollout.parts[uid].wanted = replicas_of(obj)
                rollout.settle(outside=True)
        self._resize(rollout, rollout.parts[uid], obj, change.fact)

    def _leave(self, rollout: _Rollout, uid: str, change: Change) -> None:
        part = rollout.parts[uid]
        if writer(change.fact) == MANAGER and part.wanted:
            self._check_shrunk(rollout, part, 0, change.fact)
        del rollout.parts[uid]
        rollout.past.append(change.fact.revision)
        rollout.settle()

    def _resize(self, rollout: _Rollout, part: _Part, obj: Object, fact: Fact) -> None:
        own, was, wanted = writer(fact) == MANAGER, part.wanted, replicas_of(obj)
        if own and wanted < was:
            self._check_shrunk(rollout, part, wanted, fact)
        part.wanted, part.observed = wanted, _is_observed(obj)
        if own and wanted > was and rollout.wanted > rollout.ceiling:
            raise Broken(
                f"revision {fact.revision}: {MANAGER} lets {called(part.key)} grow from {was} to "
                f"{wanted}: of {called(rollout.key)} {rollout.wanted} pods are wanted now, at most "
                f"{rollout.ceiling} may be"
            )
        rollout.past.append(fact.revision)
        rollout.settle(outside=not own and wanted != was)

    def _see_pod(self, change: Change) -> None:
        fact, uid = change.fact, uid_of(change.either)
        owners = {owner_of(pod) for pod in (change.before, change.after) if pod is not None}
        for owner in owners:
            rollout = self._rollouts.get(self._of.get(owner, ""))
            if rollout is None:
                continue
            active, pod = rollout.parts[owner].active, change.after
            was = uid in active
            is_ = pod is not None and owner_of(pod) == owner and is_active(pod)
            if was == is_:
                continue
            (active.add if is_ else active.discard)(uid)
            made = is_ and change.before is None and writer(fact) == MAKER
            if made and rollout.active > rollout.ceiling:
                raise Broken(
                    f"revision {fact.revision}: {MAKER} makes {called(fact.key)}: of "
                    f"{called(rollout.key)} there are {rollout.active} active pods now, at most "
                    f"{rollout.ceiling} may be"
                )
            rollout.settle(outside=is_ and not made)

    # Availability.

    def _check_shrunk(self, rollout: _Rollout, part: _Part, wanted: int, fact: Fact) -> None:
        """See that the Deployment controller may let a set become smaller."""
        told = ""
        try:
            for revision in _moments(rollout, fact):
                told = self._why_not(rollout, part, wanted, revision)
                if not told:
                    return
        except Expired:
            return  # What it knew is forgotten.
        if told:
            raise Broken(
                f"revision {fact.revision}: {MANAGER} lets {called(part.key)} shrink from "
                f"{part.wanted} to {wanted}: {told}"
            )

    def _why_not(self, rollout: _Rollout, part: _Part, wanted: int, revision: int) -> str:
        """Return why a set may not become smaller as of a revision, "" if it may."""
        deployment = self.tale.at(rollout.key, revision)
        if deployment is None:
            return f"at revision {revision} there is no {called(rollout.key)}"
        replicas = replicas_of(deployment)
        if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            return ""
        had = left = 0
        for one in rollout.parts.values():
            set_ = self.tale.at(one.key, revision)
            if set_ is None:
                continue
            desired = (set_["metadata"].get("annotations") or {}).get(_DESIRED, str(replicas))
            if replicas_of(set_) and desired != str(replicas):
                return ""  # It is being scaled.
            able = (set_.get("status") or {}).get("availableReplicas", 0)
            had += min(able, replicas_of(set_))
            left += min(able, wanted if one is part else one.wanted)
        least = limits_of(deployment).least
        if left >= min(least, had):
            return ""
        return (
            f"as of revision {revision} {had} pods of {called(rollout.key)} are available, {left} "
            f"would be left, and there must be {least}"
        )

    # At rest.

    def _check_rest(self, deployment: Object) -> None:
        rollout = self._rollouts[uid_of(deployment)]
        status = deployment.get("status") or {}
        sets = list(self.tale.view.by(SETS, "controller", uid_of(deployment)))
        new = [s for s in sets if template_of(s) == template_of(deployment)]
        pods = [p for s in sets for p in self._pods(s)]
        ready = sum(is_true(pod, "Ready") for pod in pods)
        counts = {
            "replicas": len(pods),
            "updatedReplicas": sum(len(self._pods(s)) for s in new[:1]),
            "readyReplicas": ready,
            "observedGeneration": deployment["metadata"].get("generation", 0),
        }
        for name, count in counts.items():
            if status.get(name, 0) != count:
                raise Broken(
                    f"{called(rollout.key)}: status.{name} is {status.get(name, 0)} at rest, and "
                    f"should be {count}"
                )
        spec = deployment["spec"]
        if spec.get("paused") or spec.get("minReadySeconds") or ready < len(pods):
            return
        if (counts["updatedReplicas"], len(pods)) != (replicas_of(deployment),) * 2:
            raise Broken(
                f"{called(rollout.key)} wants {replicas_of(deployment)} pods; at rest it has "
                f"{len(pods)}, all of them ready, and {counts['updatedReplicas']} of its template"
            )

    def _pods(self, set_: Object) -> list[Object]:
        return [p for p in self.tale.view.by(PODS, "controller", uid_of(set_)) if is_active(p)]


def _moments(rollout: _Rollout, fact: Fact) -> Iterator[int]:
    """Yield the revisions as of which a fact's writer may have acted, the newest first."""
    for revision in reversed(rollout.past):
        if revision < fact.revision:
            yield revision
            if revision <= fact.cause.revision:
                return


def limits_of(deployment: Object) -> Limits:
    """Return what a rollout must keep; percentages of surge are rounded up, the others down."""
    replicas = replicas_of(deployment)
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Limits(replicas, 0)
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), replicas, up=True)
    missing = _share(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if not surge and not missing:
        missing = 1
    return Limits(replicas + surge if replicas else 0, max(0, replicas - missing))


def template_of(obj: Object) -> Mapping[str, Any]:
    """Return a pod template without the label that tells templates apart."""
    template = obj["spec"]["template"]
    metadata = template.get("metadata") or {}
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != _HASH}
    annotations = metadata.get("annotations") or {}
    return {"labels": labels, "annotations": annotations, "spec": template["spec"]}


def _share(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    hundredths = int(value.removesuffix("%")) * replicas
    return -(-hundredths // 100) if up else hundredths // 100


def _is_observed(obj: Object) -> bool:
    generation = obj["metadata"].get("generation", 0)
    return bool((obj.get("status") or {}).get("observedGeneration", 0) >= generation)
