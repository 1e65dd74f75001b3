"""The PersistentVolumeClaims a pod names, by itself or as ephemeral volumes. Pure.

Source: Kubernetes, "Volumes: persistentVolumeClaim", "Ephemeral Volumes: Generic".
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

Object = Mapping[str, Any]

SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
COMPLETED: Final = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER: Final = "pv.kubernetes.io/bound-by-controller"
PROVISIONER: Final = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER: Final = "volume.beta.kubernetes.io/storage-provisioner"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
LOCAL_PATH: Final = "kubeloop.dev/local-path"
"""The provisioner every cluster has: a directory of the node where the pod is."""

WIPED: Final = "external-provisioner.volume.kubernetes.io/finalizer"
"""A volume stays until its node has wiped what was on it, if it is to be deleted with its claim."""

WAITS: Final = "WaitForFirstConsumer"


class Wanted(NamedTuple):
    """A claim that a volume of a pod names. ephemeral: it is made for the pod, and goes with it."""

    volume: str
    claim: str
    read_only: bool
    ephemeral: bool


def wanted_by(pod: Object) -> Iterator[Wanted]:
    """Yield the claims of a pod's volumes; of ephemeral ones the name follows from the pod's."""
    for volume in pod["spec"].get("volumes") or ():
        source = volume.get("persistentVolumeClaim")
        if source:
            yield Wanted(volume["name"], source["claimName"], bool(source.get("readOnly")), False)
        elif volume.get("ephemeral") is not None:
            name = f"{pod['metadata'].get('name', '')}-{volume['name']}"
            yield Wanted(volume["name"], name, False, True)


def keys_of(pod: Object) -> list[str]:
    """Index: the claims a pod names, as "namespace/name"."""
    namespace = pod["metadata"].get("namespace", "")
    return [f"{namespace}/{wanted.claim}" for wanted in wanted_by(pod)]


def why_not_of(pod: Object, claim: Object) -> str:
    """Return why a claim cannot be an ephemeral volume of a pod, "" if it was made for it."""
    uid = pod["metadata"].get("uid")
    references = claim["metadata"].get("ownerReferences") or ()
    if any(r.get("controller") and r["uid"] == uid for r in references):
        return ""
    theirs, ours = (f"{o['metadata']['namespace']}/{o['metadata']['name']}" for o in (claim, pod))
    return f"PVC {theirs} was not created for pod {ours} (pod is not owner)"


def notes_of(obj: Object) -> Mapping[str, str]:
    """Return the annotations of an object."""
    return obj["metadata"].get("annotations") or {}


def is_bound(claim: Object) -> bool:
    """Tell whether a claim and its volume have found each other."""
    return bool(claim["spec"].get("volumeName")) and COMPLETED in notes_of(claim)


def hosts_of(volume: Object) -> frozenset[str]:
    """Return the host names a volume may be used on, as far as it names them."""
    found: set[str] = set()
    required = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchExpressions") or ():
            if one["key"] == "kubernetes.io/hostname" and one["operator"] == "In":
                found |= {*(one.get("values") or ())}
    return frozenset(found)
