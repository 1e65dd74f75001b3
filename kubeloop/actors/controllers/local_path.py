"""The provisioner every cluster has: volumes that are directories of the node where the pod is.

It makes a volume for a claim of a class whose provisioner is `kubeloop.dev/local-path`, as soon as
the scheduler has said on which node (`volume.kubernetes.io/selected-node`); for a class that binds
at once it chooses the node itself. The volume belongs to that node (`nodeAffinity`).

A volume that is to be deleted with its claim is deleted when that has gone. A finalizer holds it
until the node's kubelet has wiped the directory; where there is no such node any more, nothing is
left to be wiped, and the finalizer is taken away here.

Source: Kubernetes, "Dynamic Volume Provisioning", "Persistent Volumes: Reclaiming"; what the
provisioners of kind and k3s do, in behaviour.
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
    condition,
    split,
    unix_s,
)
from kubeloop.actors.controllers.volume_matching import is_in_topology
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.admission.volumes import CLAIMS, CLASSES, VOLUMES, class_of
from kubeloop.api.pod_claims import (
    LOCAL_PATH,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    WAITS,
    WIPED,
    hosts_of,
    is_bound,
    notes_of,
)
from kubeloop.store.facts import key_of

NODES: Final = "nodes"
HOSTNAME: Final = "kubernetes.io/hostname"
ROOT: Final = "/var/lib/kubeloop/volumes"
NEWS_S: Final = 15.0  # Why a volume cannot be made is told while the claim is new.
_MODES: Final = {"ReadWriteOnce", "ReadWriteOncePod"}


def _class(claim: Object) -> list[str]:
    """Index: the class of a claim that looks for a volume."""
    return [] if is_bound(claim) else [class_of(dict(claim))]


def _selected(claim: Object) -> list[str]:
    """Index: the node a claim that looks for a volume is needed on."""
    node = notes_of(claim).get(SELECTED_NODE)
    return [node] if node and not is_bound(claim) else []


def _hosts(volume: Object) -> list[str]:
    """Index: the nodes of a volume made here."""
    return list(hosts_of(volume)) if notes_of(volume).get(PROVISIONED_BY) == LOCAL_PATH else []


def host_of(node: Object) -> str:
    """Return the host name of a node."""
    metadata = node["metadata"]
    return str((metadata.get("labels") or {}).get(HOSTNAME) or metadata["name"])


def host_index(node: Object) -> Iterator[str]:
    """Index: the host name of a node."""
    yield host_of(node)


class LocalPathProvisioner:
    """Work items are claims and volumes."""

    name = LOCAL_PATH
    resources = (CLAIMS, VOLUMES, CLASSES, NODES)
    indexes: Mapping[tuple[str, str], Index] = {
        (CLAIMS, "looking for class"): _class,
        (CLAIMS, "selected node"): _selected,
        (VOLUMES, "local host"): _hosts,
        (NODES, "hostname"): host_index,
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, _, name = split(key)
        if resource in (CLAIMS, VOLUMES):
            yield key
        elif resource == CLASSES:
            yield from map(_key, view.by(CLAIMS, "looking for class", name))
        elif before is None or after is None or _takes(before) != _takes(after):
            yield from map(_key, view.by(CLAIMS, "selected node", name))
            yield from (_key(volume) for volume in view.by(VOLUMES, "local host", name))
            for found in view.list(CLASSES) if after is not None else ():
                if found["provisioner"] == LOCAL_PATH:
                    waiting = view.by(CLAIMS, "looking for class", found["metadata"]["name"])
                    yield from map(_key, waiting)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        resource, namespace, name = split(key)
        obj = view.get(resource, namespace, name)
        if obj is None:
            return NOTHING
        if resource == VOLUMES:
            return self._volume(obj, view)
        result = self._claim(obj, view)
        age_s = now_s - unix_s(obj["metadata"].get("creationTimestamp"))
        news = result.actions or age_s < NEWS_S
        return result if news else replace(result, events=())

    # Claims.

    def _claim(self, claim: Object, view: View) -> Result:
        notes, metadata = notes_of(claim), claim["metadata"]
        told = view.get(CLASSES, "", class_of(dict(claim)))
        ours = told is not None and told["provisioner"] == LOCAL_PATH == notes.get(PROVISIONER)
        if told is None or not ours or claim["spec"].get("volumeName") or is_bound(claim):
            return NOTHING
        if metadata.get("deletionTimestamp") or view.get(VOLUMES, "", volume_name(claim)):
            return NOTHING
        if why := _unfit(claim):
            text = f'failed to provision volume with StorageClass "{told["metadata"]["name"]}": '
            return Result(events=[Event(claim, "Warning", "ProvisioningFailed", text + why)])
        selected = notes.get(SELECTED_NODE)
        if selected is None:
            if told.get("volumeBindingMode") == WAITS:
                return NOTHING
            node = self._choose(told, view)
            return NOTHING if node is None else self._provision(claim, told, node)
        found = view.get(NODES, "", selected)
        return self._reschedule(claim, selected) if found is None else (
            self._provision(claim, told, found))  # fmt: skip

    def _choose(self, told: Object, view: View) -> Object | None:
        """Return the node of a volume nobody has a place for: the one with the fewest volumes."""
        nodes = [n for n in view.list(NODES) if _takes(n) and is_in_topology(told, n)]
        return min(
            nodes,
            key=lambda n: (view.count(VOLUMES, "local host", host_of(n)), n["metadata"]["name"]),
            default=None,
        )

    def _provision(self, claim: Object, told: Object, node: Object) -> Result:
        volume, metadata = new_volume(claim, told, node), claim["metadata"]
        name, of_class = volume["metadata"]["name"], told["metadata"]["name"]
        begins = (
            "External provisioner is provisioning volume for claim"
            f' "{metadata["namespace"]}/{metadata["name"]}"'
        )
        failed = f'failed to provision volume with StorageClass "{of_class}": {{error}}'
        action = Action(
            self._write.create(volume),
            success=Event(
                claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}"
            ),
            failure=Event(claim, "Warning", "ProvisioningFailed", failed),
        )
        return Result([action], [Event(claim, "Normal", "Provisioning", begins)])

    def _reschedule(self, claim: Object, node: str) -> Result:
        """Have the scheduler choose anew: the node it chose is gone."""
        metadata = claim["metadata"]
        notes = {k: v for k, v in notes_of(claim).items() if k != SELECTED_NODE}
        changed = {**claim, "metadata": {**metadata, "annotations": notes}}
        text = f'failed to get target node: node "{node}" not found'
        news = Event(claim, "Warning", "ProvisioningFailed", text)
        return Result([Action(self._write.update(changed), success=news, gone_is_fine=True)])

    # Volumes.

    def _volume(self, volume: Object, view: View) -> Result:
        metadata, spec = volume["metadata"], volume["spec"]
        if notes_of(volume).get(PROVISIONED_BY) != LOCAL_PATH:
            return NOTHING
        finalizers = list(metadata.get("finalizers") or ())
        deleted = spec.get("persistentVolumeReclaimPolicy") == "Delete"
        if metadata.get("deletionTimestamp"):
            gone = not any(view.count(NODES, "hostname", host) for host in hosts_of(volume))
            if finalizers == [WIPED] and gone:
                return self._finalized(volume, [])
        elif deleted and (volume.get("status") or {}).get("phase") == "Released":
            return Result([Action(self._write.delete(volume), gone_is_fine=True)])
        elif deleted != (WIPED in finalizers):
            kept = [one for one in finalizers if one != WIPED]
            return self._finalized(volume, [*kept, *([WIPED] if deleted else ())])
        return NOTHING

    def _finalized(self, volume: Object, finalizers: list[str]) -> Result:
        changed = {**volume, "metadata": {**volume["metadata"], "finalizers": finalizers}}
        return Result([Action(self._write.update(changed), gone_is_fine=True)])


def volume_name(claim: Object) -> str:
    """Return the name of the volume that is made for a claim."""
    return f"pvc-{claim['metadata']['uid']}"


def new_volume(claim: Object, told: Object, node: Object) -> dict[str, Any]:
    """Return the volume of a claim. told: its class."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = volume_name(claim)
    policy = told.get("reclaimPolicy") or "Delete"
    expression = {"key": HOSTNAME, "operator": "In", "values": [host_of(node)]}
    path = f"{ROOT}/{name}_{metadata['namespace']}_{metadata['name']}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: LOCAL_PATH},
            **({"finalizers": [WIPED]} if policy == "Delete" else {}),
        },
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "hostPath": {"path": path, "type": "DirectoryOrCreate"},
            "nodeAffinity": {
                "required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
            },
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": told["metadata"]["name"],
            "volumeMode": "Filesystem",
            **({"mountOptions": told["mountOptions"]} if told.get("mountOptions") else {}),
        },
    }


def _unfit(claim: Object) -> str:
    """Return why no volume can be made for a claim, "" if one can."""
    spec = claim["spec"]
    if not {*spec["accessModes"]} <= _MODES:
        return "NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes"
    if spec.get("selector") is not None:
        return "claim.Spec.Selector is not supported"
    if spec.get("volumeMode") == "Block":
        return "volumes of mode Block are not supported: use Filesystem"
    if spec.get("dataSource") is not None:
        return "claims with a dataSource are not supported"
    return ""


def _takes(node: Object) -> bool:
    ready = condition(node, "Ready")
    unwilling = (node.get("spec") or {}).get("unschedulable")
    return ready is not None and ready["status"] == "True" and not unwilling


def _key(obj: Object) -> str:
    metadata, resource = obj["metadata"], CLAIMS if "namespace" in obj["metadata"] else VOLUMES
    return key_of(resource, metadata.get("namespace", ""), metadata["name"])
