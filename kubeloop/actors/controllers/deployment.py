"""Deployments: roll from one template to the next, by way of ReplicaSets.

One look takes one step; the facts it causes lead to the next. Source: Kubernetes, "Deployments".
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from kubeloop.actors.controllers.base import (
    DONE_PHASES,
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    controller_of,
    controller_uids,
    own_namespace,
    own_uid,
    reference_to,
    split,
)
from kubeloop.actors.controllers.deployment_status import is_complete, status_of, wanted_by
from kubeloop.actors.controllers.rollout import (
    Bounds,
    Set,
    bounds,
    new_size,
    old_sizes,
    proportional_sizes,
)
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.selectors import label_selector
from kubeloop.store.facts import key_of

DEPLOYMENTS: Final = "deployments.apps"
SETS: Final = "replicasets.apps"
HASH: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
HISTORY: Final = "deployment.kubernetes.io/revision-history"
HISTORY_LENGTH_MAX: Final = 2000  # Characters.
DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
LIMIT: Final = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED: Final = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        HISTORY,
        DESIRED,
        LIMIT,
    }
)
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"


class DeploymentController:
    """Work items are Deployments."""

    name = "deployment-controller"
    resources = (DEPLOYMENTS, SETS, "pods")
    indexes: Mapping[tuple[str, str], Index] = {
        (DEPLOYMENTS, "uid"): own_uid,
        (DEPLOYMENTS, "namespace"): own_namespace,
        (SETS, "uid"): own_uid,
        (SETS, "controller"): controller_uids,
        (SETS, "namespace"): own_namespace,
        ("pods", "controller"): controller_uids,
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, _ = split(key)
        if resource == DEPLOYMENTS:
            yield key
        elif resource == SETS:
            for set_ in (before, after):
                if set_ is not None:
                    yield from self._owners(set_, namespace, view)
        elif before is not None and _runs(before) and (after is None or not _runs(after)):
            # Recreate waits for the last old pod to end.
            owner = controller_of(before)
            for set_ in view.by(SETS, "uid", owner["uid"]) if owner else ():
                yield from self._owners(set_, namespace, view)

    def _owners(self, set_: Object, namespace: str, view: View) -> Iterable[str]:
        owner = controller_of(set_)
        if owner is not None:
            found = view.by(DEPLOYMENTS, "uid", owner["uid"])
        else:
            labels = set_["metadata"].get("labels") or {}
            found = (
                d
                for d in view.by(DEPLOYMENTS, "namespace", namespace)
                if label_selector(d["spec"].get("selector")).matches(labels)
            )
        for deployment in found:
            yield key_of(DEPLOYMENTS, namespace, deployment["metadata"]["name"])

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        deployment = view.get(*split(key))
        if deployment is None:
            return NOTHING
        sets = sorted(view.by(SETS, "controller", deployment["metadata"]["uid"]), key=_age)
        new = next((s for s in sets if same_template(s, deployment)), None)
        old = [s for s in sets if s is not new]
        limits = bounds_of(deployment)
        actions: list[Action] = []
        if not deployment["metadata"].get("deletionTimestamp"):
            actions = self._claim(deployment, sets, view) or self._step(
                deployment, new, old, limits, view
            )
        if _touches(actions, deployment):
            return Result(actions)  # What is written of it now, its status would not see.
        fresh = new is not None and _is_fresh(new, old)
        status, again_s = status_of(
            deployment, new, sets, limits, now_s, fresh=fresh, trouble=trouble
        )
        if status != (deployment.get("status") or {}):
            changed = {**deployment, "status": status}
            actions = [*actions, Action(self._write.update(changed, subresource="status"))]
        return Result(actions, again_s=again_s)

    def _claim(self, deployment: Object, sets: Sequence[Object], view: View) -> list[Action]:
        """Return the writes that adopt sets the selector matches and release others."""
        selector = label_selector(deployment["spec"].get("selector"))
        uid = deployment["metadata"]["uid"]
        claims = [
            self._write.release(set_, [uid])
            for set_ in sets
            if not selector.matches(set_["metadata"].get("labels") or {})
        ]
        claims += [
            self._write.adopt(set_, deployment)
            for set_ in view.by(SETS, "namespace", deployment["metadata"]["namespace"])
            if controller_of(set_) is None
            and not set_["metadata"].get("deletionTimestamp")
            and selector.matches(set_["metadata"].get("labels") or {})
        ]
        return claims

    def _step(
        self,
        deployment: Object,
        new: Object | None,
        old: list[Object],
        limits: Bounds,
        view: View,
    ) -> list[Action]:
        """Return the writes of the next step of the rollout."""
        sets = [*old, *([new] if new is not None else [])]
        noted = self._note_revision(deployment, new, old) if new is not None else []
        if noted:
            return noted
        recreate = (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"
        if deployment["spec"].get("paused"):
            resized = self._scale_all(deployment, new, old, limits, recreate)
            return resized or self._clean_up(deployment, old)
        # With Recreate the old sets have no share in what is scaled: they only go.
        several = sum(bool(wanted_by(s)) for s in sets) > 1
        if _was_scaled(deployment, sets) and not (recreate and several):
            return self._scale_all(deployment, new, old, limits, recreate)
        if recreate:
            steps = self._recreate(deployment, new, old, limits, view)
        else:
            steps = self._roll(deployment, new, old, limits, view)
        return steps or self._clean_up(deployment, old)

    def _roll(
        self,
        deployment: Object,
        new: Object | None,
        old: list[Object],
        limits: Bounds,
        view: View,
    ) -> list[Action]:
        size = _grown(limits, new, old)
        if new is None:
            return self._create(deployment, old, size, limits, view)
        if size != wanted_by(new):
            return self._resize(deployment, {_name(new): size}, [new], limits)
        sizes = old_sizes(limits, _set(new), [_set(s) for s in old])
        return self._resize(deployment, sizes, old, limits)

    def _recreate(
        self,
        deployment: Object,
        new: Object | None,
        old: list[Object],
        limits: Bounds,
        view: View,
    ) -> list[Action]:
        """End all old pods, and only then begin with the new ones."""
        busy = [s for s in old if wanted_by(s)]
        if busy:
            return self._resize(deployment, {_name(s): 0 for s in busy}, busy, limits)
        uids = [s["metadata"]["uid"] for s in old]
        if any(_runs(p) for uid in uids for p in view.by("pods", "controller", uid)):
            return []
        if new is None:
            return self._create(deployment, old, limits.replicas, limits, view)
        return self._resize(deployment, {_name(new): limits.replicas}, [new], limits)

    def _scale_all(
        self,
        deployment: Object,
        new: Object | None,
        old: list[Object],
        limits: Bounds,
        recreate: bool,
    ) -> list[Action]:
        """Follow a change of replicas: one set alone takes all of it, several share it."""
        sets = [*old, *([new] if new is not None else [])]
        active = [s for s in sets if wanted_by(s)]
        if len(active) <= 1:
            only = active[0] if active else new or (sets[-1] if sets else None)
            if only is None:
                return []
            return self._resize(deployment, {_name(only): limits.replicas}, [only], limits)
        saturated = new is not None and _set(new).available == limits.replicas == wanted_by(new)
        if saturated:
            busy = [s for s in old if wanted_by(s)]
            return self._resize(deployment, {_name(s): 0 for s in busy}, busy, limits)
        if recreate:
            return []
        had = (deployment.get("status") or {}).get("replicas", 0)
        sizes = proportional_sizes(limits, [_set(s) for s in active], had)
        return self._resize(deployment, sizes, active, limits)

    def _resize(
        self, deployment: Object, sizes: Mapping[str, int], sets: Sequence[Object], limits: Bounds
    ) -> list[Action]:
        """Return the writes that give these sets these sizes, and note what that was part of."""
        actions = []
        for set_ in sets:
            before, after = wanted_by(set_), sizes.get(_name(set_), wanted_by(set_))
            told = {DESIRED: str(limits.replicas), LIMIT: str(limits.replicas + limits.surge)}
            known = set_["metadata"].get("annotations") or {}
            noted = all(known.get(k) == v for k, v in told.items())
            if before == after and (noted or not after):
                continue
            metadata = {**set_["metadata"], "annotations": {**known, **told}}
            changed = {**set_, "metadata": metadata, "spec": {**set_["spec"], "replicas": after}}
            success = _scaled(deployment, _name(set_), before, after) if before != after else None
            actions.append(Action(self._write.update(changed), success=success))
        return actions

    def _create(
        self,
        deployment: Object,
        old: Sequence[Object],
        size: int,
        limits: Bounds,
        view: View,
    ) -> list[Action]:
        metadata, spec = deployment["metadata"], deployment["spec"]
        told = deployment.get("status") or {}
        count = told.get("collisionCount", 0)
        digest = template_hash(spec["template"], count)
        if view.get(SETS, metadata["namespace"], f"{metadata['name']}-{digest}") is not None:
            # The name is taken by a set that is none of ours: the next hash will be another.
            changed = {**deployment, "status": {**told, "collisionCount": count + 1}}
            return [Action(self._write.update(changed, subresource="status"))]
        template = spec["template"]
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH: digest}
        selector = spec["selector"]
        revision = str(_newest_revision(old) + 1)
        name = f"{metadata['name']}-{digest}"
        set_ = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": labels,
                "annotations": {
                    **_copied(deployment),
                    REVISION: revision,
                    DESIRED: str(limits.replicas),
                    LIMIT: str(limits.replicas + limits.surge),
                },
                "ownerReferences": [reference_to(deployment)],
            },
            "spec": {
                "replicas": size,
                "minReadySeconds": spec.get("minReadySeconds") or 0,
                "selector": {
                    **selector,
                    "matchLabels": {**(selector.get("matchLabels") or {}), HASH: digest},
                },
                "template": {
                    **template,
                    "metadata": {**(template.get("metadata") or {}), "labels": labels},
                },
            },
        }
        success = _scaled(deployment, name, 0, size) if size else None
        error = f'Failed to create new replica set "{name}": {{error}}'
        failure = Event(deployment, "Warning", "ReplicaSetCreateError", error)
        return [Action(self._write.create(set_), success=success, failure=failure)]

    def _note_revision(
        self, deployment: Object, new: Object, old: Sequence[Object]
    ) -> list[Action]:
        """Return the writes that number the new set, and the Deployment after it."""
        wanted = _newest_revision(old) + 1
        known = new["metadata"].get("annotations") or {}
        current = _revision(new)
        told = {**_copied(deployment)}
        if current < wanted:
            told[REVISION] = str(wanted)
            if current:
                told[HISTORY] = _history(known.get(HISTORY, ""), current)
        settle_s = deployment["spec"].get("minReadySeconds") or 0
        late = settle_s != (new["spec"].get("minReadySeconds") or 0)
        if late or any(known.get(k) != v for k, v in told.items()):
            metadata = {**new["metadata"], "annotations": {**known, **told}}
            spec = {**new["spec"], "minReadySeconds": settle_s} if late else new["spec"]
            return [Action(self._write.update({**new, "metadata": metadata, "spec": spec}))]
        own = deployment["metadata"].get("annotations") or {}
        if own.get(REVISION) != known.get(REVISION):
            patch = {"metadata": {"annotations": {REVISION: known.get(REVISION)}}}
            return [Action(self._write.patch(deployment, patch, subresource="status"))]
        return []

    def _clean_up(self, deployment: Object, old: Sequence[Object]) -> list[Action]:
        """Return the deletions of old, empty sets beyond the history that is kept."""
        limit = deployment["spec"].get("revisionHistoryLimit")
        told = deployment.get("status") or {}
        observed = told.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        if limit is None or not observed or not is_complete(deployment, told):
            return []
        empty = [
            s
            for s in sorted(old, key=_revision)
            if not wanted_by(s)
            and not (s.get("status") or {}).get("replicas")
            and _observed(s)
            and not s["metadata"].get("deletionTimestamp")
        ]
        doomed = empty[: max(0, len(empty) - limit)]
        return [Action(self._write.delete(s), gone_is_fine=True) for s in doomed]


def bounds_of(deployment: Object) -> Bounds:
    """Return what a rollout of a Deployment must keep."""
    spec = deployment["spec"]
    replicas = spec.get("replicas")
    rolling = (spec.get("strategy") or {}).get("rollingUpdate")
    if rolling is None:
        return Bounds(1 if replicas is None else replicas, 0, 0)
    return bounds(
        1 if replicas is None else replicas,
        rolling.get("maxSurge", "25%"),
        rolling.get("maxUnavailable", "25%"),
    )


def same_template(set_: Object, deployment: Object) -> bool:
    """Tell whether a set is of the Deployment's template, the hash label aside."""
    template = set_["spec"]["template"]
    metadata = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != HASH}
    if labels:
        metadata["labels"] = labels
    metadata = {k: v for k, v in metadata.items() if v}
    wanted = deployment["spec"]["template"]
    told = {k: v for k, v in (wanted.get("metadata") or {}).items() if v}
    return bool(metadata == told and template.get("spec") == wanted.get("spec"))


def template_hash(template: Object, collisions: int) -> str:
    """Return the hash of a pod template: FNV-1a, 32 bits, in letters that make no words."""
    text = json.dumps(template, sort_keys=True) + (str(collisions) if collisions else "")
    digest = 0x811C9DC5
    for byte in text.encode():
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(_ALPHABET[ord(c) % len(_ALPHABET)] for c in str(digest))


def _scaled(deployment: Object, name: str, before: int, after: int) -> Event:
    direction = "up" if after > before else "down"
    message = f"Scaled {direction} replica set {name} from {before} to {after}"
    return Event(deployment, "Normal", "ScalingReplicaSet", message)


def _was_scaled(deployment: Object, sets: Sequence[Object]) -> bool:
    """Tell whether replicas has changed since the active sets were last sized."""
    replicas = str(deployment["spec"].get("replicas", 1))
    return any(
        (s["metadata"].get("annotations") or {}).get(DESIRED, replicas) != replicas
        for s in sets
        if wanted_by(s)
    )


def _runs(pod: Object) -> bool:
    """Tell whether a pod may still be doing something, be it ending."""
    return (pod.get("status") or {}).get("phase") not in DONE_PHASES


def _is_fresh(new: Object, old: Sequence[Object]) -> bool:
    """Tell whether a set was made for this template, not found again by a rollback."""
    annotations = new["metadata"].get("annotations") or {}
    return HISTORY not in annotations and _revision(new) > _newest_revision(old)


def _grown(limits: Bounds, new: Object | None, old: Sequence[Object]) -> int:
    """Return the size the new set may have now.

    A set whose controller has not yet seen its last change may have more pods than it says; and
    one that has seen it, may still have those it is about to end. So both wait here, and there are
    never more pods than the surge allows, however late the other controller is.
    """
    sets = [*old, *([new] if new is not None else [])]
    wanted = wanted_by(new) if new is not None else 0
    if wanted < limits.replicas and not all(_observed(s) for s in sets):
        return wanted
    held = (max(wanted_by(s), (s.get("status") or {}).get("replicas", 0)) for s in sets)
    return new_size(limits, wanted, sum(held))


def _observed(set_: Object) -> bool:
    """Tell whether the set's status is of its present spec."""
    generation = set_["metadata"].get("generation", 0)
    return bool((set_.get("status") or {}).get("observedGeneration", 0) >= generation)


def _touches(actions: Sequence[Action], deployment: Object) -> bool:
    name = deployment["metadata"]["name"]
    return any(a.request.resource == DEPLOYMENTS and a.request.name == name for a in actions)


def _copied(deployment: Object) -> dict[str, str]:
    annotations = deployment["metadata"].get("annotations") or {}
    return {k: v for k, v in annotations.items() if k not in _NOT_COPIED}


def _set(set_: Object) -> Set:
    limit = (set_["metadata"].get("annotations") or {}).get(LIMIT, "")
    return Set(
        name=_name(set_),
        wanted=wanted_by(set_),
        # Of those it is about to end none counts.
        available=min(wanted_by(set_), (set_.get("status") or {}).get("availableReplicas", 0)),
        limit=int(limit) if limit.isascii() and limit.isdecimal() else 0,
    )


def _revision(set_: Object) -> int:
    text = (set_["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isascii() and text.isdecimal() else 0


def _history(known: str, revision: int) -> str:
    """Return a set's revision history with one more; what does not fit is cut off its old end."""
    past = [p for p in known.split(",") if p]
    while past and len(",".join(past)) + len(f",{revision}") > HISTORY_LENGTH_MAX:
        del past[0]
    return ",".join([*past, str(revision)])


def _newest_revision(sets: Sequence[Object]) -> int:
    return max((_revision(s) for s in sets), default=0)


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _age(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["creationTimestamp"], obj["metadata"]["name"]
