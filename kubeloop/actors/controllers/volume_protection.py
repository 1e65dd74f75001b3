"""Claims and volumes that are being deleted stay while they are in use.

A claim is in use while a pod that has a node names it, a volume while it is bound.

Source: Kubernetes, "Persistent Volumes: Storage Object in Use Protection".
"""

from collections.abc import Iterable, Mapping
from typing import Final

from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.admission.volumes import CLAIMS, PROTECTION, VOLUMES
from kubeloop.api.pod_claims import keys_of
from kubeloop.store.facts import key_of

PODS: Final = "pods"


class VolumeProtectionController:
    """Work items are claims and volumes."""

    name = "volume-protection-controller"
    resources = (PODS, CLAIMS, VOLUMES)
    indexes: Mapping[tuple[str, str], Index] = {(PODS, "claim"): keys_of}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        if split(key)[0] != PODS:
            yield key
            return
        for pod in (before, after):
            for claim in keys_of(pod) if pod is not None else ():
                yield key_of(CLAIMS, *claim.split("/"))

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        resource, namespace, name = split(key)
        obj = view.get(resource, namespace, name)
        if obj is None or not obj["metadata"].get("deletionTimestamp"):
            return NOTHING
        finalizers = obj["metadata"].get("finalizers") or ()
        if PROTECTION[resource] not in finalizers or self._is_used(resource, obj, view):
            return NOTHING
        kept = [one for one in finalizers if one != PROTECTION[resource]]
        request = self._write.update({**obj, "metadata": {**obj["metadata"], "finalizers": kept}})
        return Result([Action(request, gone_is_fine=True)])

    def _is_used(self, resource: str, obj: Object, view: View) -> bool:
        if resource == VOLUMES:
            return (obj.get("status") or {}).get("phase") == "Bound"
        metadata = obj["metadata"]
        pods = view.by(PODS, "claim", f"{metadata['namespace']}/{metadata['name']}")
        return any(pod["spec"].get("nodeName") for pod in pods)
