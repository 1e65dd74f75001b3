"""Binding: a claim and a volume find each other, for each other alone.

The volume is written first (`claimRef`, at the version that was free), then the claim; so a crash
in between leaves a volume that is reserved, and whoever comes next goes on from there. Who makes
volumes for claims is told by an annotation that it is his turn. A volume whose claim is gone is
Released; if it is to be kept, until somebody takes the `claimRef` away.

A claim of a class that waits for its first consumer is bound when a pod that names it has a node,
or when the scheduler says which (`volume.kubernetes.io/selected-node`).

Source: Kubernetes, "Persistent Volumes: Binding", "Storage Classes: Volume Binding Mode";
k8s.io/kubernetes/pkg/controller/volume/persistentvolume in behaviour.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    split,
    unix_s,
)
from kubeloop.actors.controllers.volume_matching import (
    best_volume,
    is_bound_to,
    may_have,
    why_not,
)
from kubeloop.actors.controllers.volume_protection import PODS
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.admission.volumes import CLAIMS, CLASSES, VOLUMES, class_of
from kubeloop.api.pod_claims import (
    BETA_PROVISIONER,
    BOUND_BY_CONTROLLER,
    COMPLETED,
    NO_PROVISIONER,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    WAITS,
    keys_of,
    notes_of,
)
from kubeloop.store.facts import key_of

_MISBOUND: Final = "Two claims are bound to the same volume, this one is bound incorrectly"
_NODES: Final = "nodes"
NEWS_S: Final = 15.0  # Why a claim waits is told while it, or who waits for it, is new.


def _name_of_claim(volume: Object) -> list[str]:
    """Index: the claim a volume is for, as "namespace/name"."""
    reference = volume["spec"].get("claimRef")
    if not reference:
        return []
    return [f"{reference.get('namespace', '')}/{reference.get('name', '')}"]


def _unbound(claim: Object) -> list[str]:
    """Index: the claims that look for a volume."""
    return [] if _is_complete(claim) else ["yes"]


def _volume_of(claim: Object) -> list[str]:
    """Index: the volume a claim names."""
    name = claim["spec"].get("volumeName")
    return [name] if name else []


class VolumeBindingController:
    """Work items are claims and volumes."""

    name = "persistentvolume-controller"
    resources = (CLAIMS, VOLUMES, CLASSES, PODS, _NODES)
    indexes: Mapping[tuple[str, str], Index] = {
        (VOLUMES, "claimed"): _name_of_claim,
        (CLAIMS, "unbound"): _unbound,
        (CLAIMS, "volume"): _volume_of,
        (PODS, "claim"): keys_of,
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, _, name = split(key)
        if resource == PODS:
            for pod in (before, after):
                for claim in keys_of(pod) if pod is not None else ():
                    yield key_of(CLAIMS, *claim.split("/"))
        elif resource == CLAIMS:
            yield key
            for one in (before, after):
                yield from _volumes_for(one, view)
        elif resource != _NODES:
            if resource == VOLUMES:
                yield key
                for found in view.by(CLAIMS, "volume", name):
                    yield _key(CLAIMS, found)
            for found in view.by(CLAIMS, "unbound", "yes"):
                yield _key(CLAIMS, found)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        result = self._reconcile(key, view)
        if not result.events:
            return result
        claim = result.events[0].regarding["metadata"]
        pods = view.by(PODS, "claim", f"{claim.get('namespace', '')}/{claim['name']}")
        began = [claim, *(pod["metadata"] for pod in pods)]
        newest_s = max(unix_s(one.get("creationTimestamp")) for one in began)
        return result if now_s - newest_s < NEWS_S else replace(result, events=())

    def _reconcile(self, key: str, view: View) -> Result:
        resource, namespace, name = split(key)
        obj = view.get(resource, namespace, name)
        if obj is None:
            return NOTHING
        if resource == VOLUMES:
            return self._volume(obj, view)
        if _is_complete(obj):
            return self._completed(obj, view)
        return NOTHING if obj["metadata"].get("deletionTimestamp") else self._look(obj, view)

    # Claims.

    def _look(self, claim: Object, view: View) -> Result:
        """Find a volume for a claim, and reserve it; or bind the one that is reserved."""
        wanted = claim["spec"].get("volumeName")
        if wanted:
            volume = view.get(VOLUMES, "", wanted)
            if volume is None or not may_have(volume, claim):
                return NOTHING
            if not is_bound_to(volume, claim) and (why := why_not(volume, claim)):
                text = f'Cannot bind to requested volume "{wanted}": {why}'
                return Result(events=[Event(claim, "Warning", "VolumeMismatch", text)])
            return self._bind(volume, claim)
        told = view.get(CLASSES, "", class_of(dict(claim)))
        node = self._node(claim, view)
        waits = told is not None and told.get("volumeBindingMode") == WAITS and node is None
        volume = best_volume(view.list(VOLUMES), claim, node=node, reserved_only=waits)
        if volume is not None:
            return self._bind(volume, claim)
        return self._waiting(claim, view) if waits else self._unfound(claim, told)

    def _node(self, claim: Object, view: View) -> Object | None:
        """Return the node a claim is needed on, None if no pod that names it has one."""
        metadata = claim["metadata"]
        selected = (metadata.get("annotations") or {}).get(SELECTED_NODE)
        pods = view.by(PODS, "claim", f"{metadata['namespace']}/{metadata['name']}")
        names = [selected] if selected else [pod["spec"].get("nodeName") for pod in pods]
        nodes = [view.get(_NODES, "", name) for name in sorted(filter(None, names))]
        return next((node for node in nodes if node is not None), None)

    def _waiting(self, claim: Object, view: View) -> Result:
        """Tell whom a claim waits for that is to be bound where it is needed."""
        metadata = claim["metadata"]
        pods = view.by(PODS, "claim", f"{metadata['namespace']}/{metadata['name']}")
        names = sorted(p["metadata"]["name"] for p in pods if not p["spec"].get("nodeName"))
        if names:
            text = f"waiting for pod{'s'[: len(names) > 1]} {','.join(names)} to be scheduled"
            return Result(events=[Event(claim, "Normal", "WaitForPodScheduled", text)])
        text = "waiting for first consumer to be created before binding"
        return Result(events=[Event(claim, "Normal", "WaitForFirstConsumer", text)])

    def _unfound(self, claim: Object, told: Object | None) -> Result:
        """Tell why a claim has no volume yet."""
        if told is not None and told["provisioner"] != NO_PROVISIONER:
            who = told["provisioner"]
            text = (
                f"Waiting for a volume to be created either by the external provisioner '{who}' or"
                " manually by the system administrator. If volume creation is delayed, please"
                " verify that the provisioner is running and correctly registered."
            )
            news = Event(claim, "Normal", "ExternalProvisioning", text)
            notes = claim["metadata"].get("annotations") or {}
            if notes.get(PROVISIONER) == who:
                return Result(events=[news])
            changed = self._annotated(claim, {PROVISIONER: who, BETA_PROVISIONER: who})
            return Result([Action(self._write.update(changed), success=news)])
        name = class_of(dict(claim))
        if name and told is None:
            text = f'storageclass.storage.k8s.io "{name}" not found'
            return Result(events=[Event(claim, "Warning", "ProvisioningFailed", text)])
        text = "no persistent volumes available for this claim and no storage class is set"
        return Result(events=[Event(claim, "Normal", "FailedBinding", text)])

    def _bind(self, volume: Object, claim: Object) -> Result:
        """Write the next of what makes a volume and a claim one."""
        metadata = claim["metadata"]
        if not is_bound_to(volume, claim):
            reference = {
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "apiVersion": "v1",
                "resourceVersion": metadata["resourceVersion"],
            }
            taken = {**volume, "spec": {**volume["spec"], "claimRef": reference}}
            if not volume["spec"].get("claimRef"):
                taken = self._annotated(taken, {BOUND_BY_CONTROLLER: "yes"})
            return Result([Action(self._write.update(taken), gone_is_fine=True)])
        name = volume["metadata"]["name"]
        notes = {COMPLETED: "yes"}
        if not claim["spec"].get("volumeName"):
            notes[BOUND_BY_CONTROLLER] = "yes"
        bound = {**claim, "spec": {**claim["spec"], "volumeName": name}}
        request = self._write.update(self._annotated(bound, notes))
        return Result([Action(request, gone_is_fine=True)])

    def _completed(self, claim: Object, view: View) -> Result:
        """Keep the status of a claim true that has, or had, a volume."""
        name = claim["spec"].get("volumeName")
        volume = view.get(VOLUMES, "", name) if name else None
        if name and volume is not None and not volume["spec"].get("claimRef"):
            return self._bind(volume, claim)
        status = dict(claim.get("status") or {})
        if volume is not None and is_bound_to(volume, claim):
            if status.get("phase") == "Bound":
                return NOTHING  # What it holds may grow: `volume_expansion`.
            status |= {
                "phase": "Bound",
                "accessModes": volume["spec"].get("accessModes") or [],
                "capacity": volume["spec"].get("capacity") or {},
            }
            return self._told(claim, status)
        reason, text = "ClaimMisbound", _MISBOUND
        if volume is None:
            what = "its PersistentVolume" if name else "reference to PersistentVolume"
            reason, text = "ClaimLost", f"Bound claim has lost {what}. Data on the volume is lost!"
        return self._told(claim, {**status, "phase": "Lost"}, Event(claim, "Warning", reason, text))

    # Volumes.

    def _volume(self, volume: Object, view: View) -> Result:
        """Keep the phase of a volume true; free it if the claim it was meant for took another."""
        reference, status = volume["spec"].get("claimRef"), dict(volume.get("status") or {})
        if not reference or not reference.get("uid"):
            return self._told(volume, {**status, "phase": "Available"})
        claim = view.get(CLAIMS, reference.get("namespace") or "", reference.get("name") or "")
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            return self._released(volume, status)
        name = claim["spec"].get("volumeName")
        if name == volume["metadata"]["name"]:
            return self._told(volume, {**status, "phase": "Bound"})
        if not name:
            return NOTHING  # The claim is next.
        notes = dict(volume["metadata"].get("annotations") or {})
        spec = {k: v for k, v in volume["spec"].items() if k != "claimRef"}
        if notes.pop(BOUND_BY_CONTROLLER, None) is None:
            kept = {k: v for k, v in reference.items() if k not in ("uid", "resourceVersion")}
            spec["claimRef"] = kept
        freed = {**volume, "spec": spec, "metadata": {**volume["metadata"], "annotations": notes}}
        return Result([Action(self._write.update(freed), gone_is_fine=True)])

    def _released(self, volume: Object, status: Mapping[str, Any]) -> Result:
        """Tell that a volume's claim is gone, and if nobody can delete it, as it says, that too."""
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        if policy != "Delete" or PROVISIONED_BY in notes_of(volume):
            return self._told(volume, {**status, "phase": "Released"})
        name = volume["metadata"]["name"]
        why = (
            f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin'
            " matched"
        )
        news = Event(volume, "Warning", "VolumeFailedDelete", why)
        return self._told(volume, {**status, "phase": "Failed", "message": why}, news)

    def _told(self, obj: Object, status: Mapping[str, Any], news: Event | None = None) -> Result:
        """Return the write of a status, nothing if it is there."""
        if status == obj.get("status"):
            return NOTHING
        request = self._write.update({**obj, "status": status}, subresource="status")
        return Result([Action(request, success=news, gone_is_fine=True)])

    @staticmethod
    def _annotated(obj: Mapping[str, Any], notes: Mapping[str, str]) -> dict[str, Any]:
        metadata = obj["metadata"]
        told = {**(metadata.get("annotations") or {}), **notes}
        return {**obj, "metadata": {**metadata, "annotations": told}}


def _is_complete(claim: Object) -> bool:
    return COMPLETED in (claim["metadata"].get("annotations") or {})


def _key(resource: str, obj: Object) -> str:
    metadata = obj["metadata"]
    return key_of(resource, metadata.get("namespace", ""), metadata["name"])


def _volumes_for(claim: Object | None, view: View) -> Iterator[str]:
    """Yield the volumes that are for a claim, and the one it names."""
    if claim is None:
        return
    metadata = claim["metadata"]
    for volume in view.by(VOLUMES, "claimed", f"{metadata['namespace']}/{metadata['name']}"):
        yield _key(VOLUMES, volume)
    if name := claim["spec"].get("volumeName"):
        yield key_of(VOLUMES, "", name)
