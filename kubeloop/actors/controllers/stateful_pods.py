"""The pods of a StatefulSet: who is which, what they look like, how they are. Pure.

Source: Kubernetes, "StatefulSets: Pod Identity".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.controllers.base import is_ready, reference_to
from kubeloop.actors.controllers.revisions import POD_HASH, available_in_s, template_of
from kubeloop.actors.view import Object

POD_NAME: Final = "statefulset.kubernetes.io/pod-name"
POD_INDEX: Final = "apps.kubernetes.io/pod-index"
_NAME: Final = re.compile(r"(.*)-([0-9]+)", re.DOTALL)


def start_of(set_: Object) -> int:
    """Return the first ordinal."""
    return int((set_["spec"].get("ordinals") or {}).get("start") or 0)


def replicas_of(set_: Object) -> int:
    """Return how many pods are wanted."""
    replicas = set_["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def ordinal_of(set_: Object, pod: Object) -> int | None:
    """Return a pod's ordinal, None if its name is none of the set's."""
    found = _NAME.fullmatch(pod["metadata"]["name"])
    if found is None or found[1] != set_["metadata"]["name"]:
        return None
    return int(found[2])


def parent_of(pod: Object) -> str:
    """Return the name of the set that a pod's name speaks of, "" if it is of none."""
    found = _NAME.fullmatch(pod["metadata"]["name"])
    return "" if found is None else found[1]


def new_pod(set_: Object, ordinal: int, revision: Object) -> dict[str, Any]:
    """Return the pod of an ordinal, of a revision's template."""
    metadata, template = set_["metadata"], template_of(revision)
    told = template.get("metadata") or {}
    name = f"{metadata['name']}-{ordinal}"
    meta = {k: told[k] for k in ("annotations", "finalizers") if told.get(k)}
    labels = {
        **(told.get("labels") or {}),
        POD_INDEX: str(ordinal),
        POD_HASH: revision["metadata"]["name"],
        POD_NAME: name,
    }
    spec = dict(template["spec"])
    spec["hostname"] = name
    if set_["spec"].get("serviceName"):
        spec["subdomain"] = set_["spec"]["serviceName"]
    if volumes := _volumes(set_, ordinal, spec.get("volumes") or ()):
        spec["volumes"] = volumes
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **meta,
            "labels": labels,
            "name": name,
            "namespace": metadata["namespace"],
            "ownerReferences": [reference_to(set_)],
        },
        "spec": spec,
    }


def _volumes(set_: Object, ordinal: int, given: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the volumes: the pod's own claim for each template, then all others."""
    claims = [claim["metadata"]["name"] for claim in set_["spec"].get("volumeClaimTemplates") or ()]
    own = [
        {
            "name": claim,
            "persistentVolumeClaim": {"claimName": f"{claim}-{set_['metadata']['name']}-{ordinal}"},
        }
        for claim in claims
    ]
    return [*own, *(volume for volume in given if volume["name"] not in claims)]


def revision_of_pod(pod: Object) -> str:
    """Return the name of the revision a pod is of."""
    return str((pod["metadata"].get("labels") or {}).get(POD_HASH) or "")


def is_ending(pod: Object) -> bool:
    """Tell whether a pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_well(pod: Object) -> bool:
    """Tell whether a pod runs, is ready, and stays."""
    return _runs(pod) and is_ready(pod) and not is_ending(pod)


def well_in_s(pod: Object, min_ready_s: int, now_s: float) -> float:
    """Return how long until a pod is available [s]: 0 or less: it is; infinite: it is not well."""
    return available_in_s(pod, min_ready_s, now_s) if is_well(pod) else float("inf")


def counts(
    set_: Object, pods: Sequence[Object], current: str, update: str, now_s: float
) -> dict[str, int]:
    """Return how many pods of each sort there are. current, update: names of revisions."""
    min_ready_s = set_["spec"].get("minReadySeconds") or 0
    staying = [revision_of_pod(pod) for pod in pods if not is_ending(pod)]
    ready = [pod for pod in pods if _runs(pod) and is_ready(pod)]
    return {
        "replicas": len(pods),
        "readyReplicas": len(ready),
        "currentReplicas": staying.count(current),
        "updatedReplicas": staying.count(update),
        "availableReplicas": sum(available_in_s(p, min_ready_s, now_s) <= 0 for p in ready),
    }


def _runs(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running"
