"""Ephemeral volumes: a claim of its own for each `ephemeral` volume of a pod, gone with the pod.

The pod is its owner, so the garbage collector deletes it. A claim of that name which somebody else
has made is not touched: the pod waits, and is told why.

Source: Kubernetes, "Ephemeral Volumes: Generic ephemeral volumes"; kube-controller-manager's
ephemeral volume controller in behaviour.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    reference_to,
    split,
    unix_s,
)
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.admission.volumes import CLAIMS
from kubeloop.api.pod_claims import keys_of, wanted_by, why_not_of
from kubeloop.store.facts import key_of

_PODS: Final = "pods"
NEWS_S: Final = 15.0  # Why a pod waits for its claim is told while it is new.


class EphemeralVolumeController:
    """Work items are pods."""

    name = "ephemeral-volume-controller"
    resources = (_PODS, CLAIMS)
    indexes: Mapping[tuple[str, str], Index] = {(_PODS, "claim"): keys_of}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, name = split(key)
        if resource == _PODS:
            yield key
            return
        for pod in view.by(_PODS, "claim", f"{namespace}/{name}"):
            yield key_of(_PODS, namespace, pod["metadata"]["name"])

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        pod = view.get(*split(key))
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return NOTHING
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        namespace, actions, events = pod["metadata"]["namespace"], [], []
        for wanted in wanted_by(pod):
            if not wanted.ephemeral:
                continue
            claim = view.get(CLAIMS, namespace, wanted.claim)
            if claim is None:
                template = volumes[wanted.volume]["ephemeral"].get("volumeClaimTemplate") or {}
                actions.append(self._create(pod, wanted.volume, wanted.claim, template))
            elif why := why_not_of(pod, claim):
                events.append(_failed(pod, wanted.volume, why))
        age_s = now_s - unix_s(pod["metadata"].get("creationTimestamp"))
        return Result(actions, events if age_s < NEWS_S else ())

    def _create(self, pod: Object, volume: str, name: str, template: Mapping[str, Any]) -> Action:
        told = template.get("metadata") or {}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                **{k: told[k] for k in ("annotations", "labels") if told.get(k)},
                "name": name,
                "namespace": pod["metadata"]["namespace"],
                "ownerReferences": [reference_to(pod)],
            },
            "spec": template.get("spec") or {},
        }
        why = _failed(pod, volume, f"create PVC {name}: {{error}}")
        return Action(self._write.create(claim), failure=why)


def _failed(pod: Object, volume: str, why: str) -> Event:
    return Event(pod, "Warning", "FailedBinding", f"ephemeral volume {volume}: {why}")
