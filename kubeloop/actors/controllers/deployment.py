"""Deployments: roll from one template to the next, by way of ReplicaSets.

One look takes one step; the facts it causes lead to the next. Source: Kubernetes, "Deployments".
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    controller_of,
    controller_uids,
    is_active,
    own_namespace,
    own_uid,
    reference_to,
    split,
)
from kubeloop.actors.controllers.deployment_status import is_complete, status_of
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
        elif after is None and before is not None:
            # Recreate waits for the last old pod to go.
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
        limits = bounds_of(deployment)
        actions: list[Action] = []
        if not deployment["metadata"].get("deletionTimestamp"):
            actions = self._claim(deployment, sets, view) or self._step(
                deployment, new, [s for s in sets if s is not new], limits, view
            )
        status, again_s = status_of(deployment, new, sets, limits, now_s)
        status |= self._collision(deployment, new, view)
        # The revision is written first: a write of the status would not see it.
        if status != (deployment.get("status") or {}) and not _touches(actions, deployment):
            changed = {**deployment, "status": status}
            actions = [*actions, Action(self._write.update(changed, subresource="status"))]
        return Result(actions, again_s=again_s)

    def _claim(self, deployment: Object, sets: Sequence[Object], view: View) -> list[Action]:
        """Return the writes that adopt sets the selector matches and release others."""
        selector = label_selector(deployment["spec"].get("selector"))
        uid, claims = deployment["metadata"]["uid"], []
        for set_ in sets:
            if not selector.matches(set_["metadata"].get("labels") or {}):
                kept = [r for r in set_["metadata"]["ownerReferences"] if r["uid"] != uid]
                claims.append(self._refer(set_, kept))
        for set_ in view.by(SETS, "namespace", deployment["metadata"]["namespace"]):
            labels = set_["metadata"].get("labels") or {}
            free = controller_of(set_) is None and not set_["metadata"].get("deletionTimestamp")
            if free and selector.matches(labels):
                kept = list(set_["metadata"].get("ownerReferences") or ())
                claims.append(self._refer(set_, [*kept, reference_to(deployment)]))
        return claims

    def _refer(self, set_: Object, references: list[dict[str, Any]]) -> Action:
        patch = {"metadata": {"ownerReferences": references or None}}
        return Action(self._write.patch(set_, patch), gone_is_fine=True)

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
        paused = bool(deployment["spec"].get("paused"))
        if paused or _was_scaled(deployment, sets):
            return self._scale_all(deployment, new, old, limits)
        if new is not None:
            noted = self._note_revision(deployment, new, old)
            if noted:
                return noted
        if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            steps = self._recreate(deployment, new, old, limits, view)
        else:
            steps = self._roll(deployment, new, old, limits)
        return steps or self._clean_up(deployment, old)

    def _roll(
        self, deployment: Object, new: Object | None, old: list[Object], limits: Bounds
    ) -> list[Action]:
        total = sum(_wanted(s) for s in old)
        if new is None:
            size = new_size(limits, 0, total)
            return self._create(deployment, old, size, limits)
        size = new_size(limits, _wanted(new), total + _wanted(new))
        if size != _wanted(new):
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
        busy = [s for s in old if _wanted(s)]
        if busy:
            return self._resize(deployment, {_name(s): 0 for s in busy}, busy, limits)
        uids = [s["metadata"]["uid"] for s in old]
        left = [p for uid in uids for p in view.by("pods", "controller", uid)]
        if any(is_active(p) or p["metadata"].get("deletionTimestamp") for p in left):
            return []
        if new is None:
            return self._create(deployment, old, limits.replicas, limits)
        return self._resize(deployment, {_name(new): limits.replicas}, [new], limits)

    def _scale_all(
        self, deployment: Object, new: Object | None, old: list[Object], limits: Bounds
    ) -> list[Action]:
        """Follow a change of replicas: one set alone takes all of it, several share it."""
        sets = [*old, *([new] if new is not None else [])]
        active = [s for s in sets if _wanted(s)]
        if len(active) <= 1:
            only = active[0] if active else new or (sets[-1] if sets else None)
            if only is None:
                return []
            return self._resize(deployment, {_name(only): limits.replicas}, [only], limits)
        saturated = new is not None and _set(new).available == limits.replicas == _wanted(new)
        if saturated:
            busy = [s for s in old if _wanted(s)]
            return self._resize(deployment, {_name(s): 0 for s in busy}, busy, limits)
        if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            return []
        sizes = proportional_sizes(limits, [_set(s) for s in active])
        return self._resize(deployment, sizes, active, limits)

    def _resize(
        self, deployment: Object, sizes: Mapping[str, int], sets: Sequence[Object], limits: Bounds
    ) -> list[Action]:
        """Return the writes that give these sets these sizes, and note what that was part of."""
        actions = []
        for set_ in sets:
            before, after = _wanted(set_), sizes.get(_name(set_), _wanted(set_))
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
        self, deployment: Object, old: Sequence[Object], size: int, limits: Bounds
    ) -> list[Action]:
        metadata, spec = deployment["metadata"], deployment["spec"]
        count = (deployment.get("status") or {}).get("collisionCount", 0)
        digest = template_hash(spec["template"], count)
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
                past = [p for p in known.get(HISTORY, "").split(",") if p]
                told[HISTORY] = ",".join([*past, str(current)])
        if any(known.get(k) != v for k, v in told.items()):
            metadata = {**new["metadata"], "annotations": {**known, **told}}
            return [Action(self._write.update({**new, "metadata": metadata}))]
        own = deployment["metadata"].get("annotations") or {}
        if own.get(REVISION) != known.get(REVISION):
            patch = {"metadata": {"annotations": {REVISION: known.get(REVISION)}}}
            return [Action(self._write.patch(deployment, patch))]
        return []

    def _clean_up(self, deployment: Object, old: Sequence[Object]) -> list[Action]:
        """Return the deletions of old, empty sets beyond the history that is kept."""
        limit = deployment["spec"].get("revisionHistoryLimit")
        if limit is None or not is_complete(deployment, deployment.get("status") or {}):
            return []
        empty = [
            s
            for s in sorted(old, key=_revision)
            if not _wanted(s)
            and not (s.get("status") or {}).get("replicas")
            and (s.get("status") or {}).get("observedGeneration") == s["metadata"].get("generation")
            and not s["metadata"].get("deletionTimestamp")
        ]
        doomed = empty[: max(0, len(empty) - limit)]
        return [Action(self._write.delete(s), gone_is_fine=True) for s in doomed]

    def _collision(self, deployment: Object, new: Object | None, view: View) -> dict[str, Any]:
        """Return a raised collisionCount if another set has the name ours would have."""
        if new is not None:
            return {}
        count = (deployment.get("status") or {}).get("collisionCount", 0)
        digest = template_hash(deployment["spec"]["template"], count)
        metadata = deployment["metadata"]
        holder = view.get(SETS, metadata["namespace"], f"{metadata['name']}-{digest}")
        return {"collisionCount": count + 1} if holder is not None else {}


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
        if _wanted(s)
    )


def _touches(actions: Sequence[Action], deployment: Object) -> bool:
    name = deployment["metadata"]["name"]
    return any(a.request.resource == DEPLOYMENTS and a.request.name == name for a in actions)


def _copied(deployment: Object) -> dict[str, str]:
    annotations = deployment["metadata"].get("annotations") or {}
    return {k: v for k, v in annotations.items() if k not in _NOT_COPIED}


def _set(set_: Object) -> Set:
    annotations = set_["metadata"].get("annotations") or {}
    return Set(
        name=_name(set_),
        wanted=_wanted(set_),
        available=(set_.get("status") or {}).get("availableReplicas", 0),
        limit=int(annotations.get(LIMIT, 0)),
    )


def _revision(set_: Object) -> int:
    text = (set_["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _newest_revision(sets: Sequence[Object]) -> int:
    return max((_revision(s) for s in sets), default=0)


def _wanted(set_: Object) -> int:
    replicas = set_["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _age(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["creationTimestamp"], obj["metadata"]["name"]
