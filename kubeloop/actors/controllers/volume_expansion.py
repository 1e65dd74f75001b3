"""Expansion: a claim that asks for more gets it, if its class lets it grow and its volume can.

Volumes of `kubeloop.dev/local-path` are directories, which need nothing done to them to hold more:
first the claim tells that it is being resized, then the volume's capacity grows, then the claim's.
Volumes of others are resized by others.

Source: Kubernetes, "Persistent Volumes: Expanding Persistent Volumes Claims".
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    condition,
    split,
)
from kubeloop.actors.controllers.volume_matching import is_bound_to
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.admission.volumes import CLAIMS, CLASSES, VOLUMES, class_of
from kubeloop.api.pod_claims import LOCAL_PATH, PROVISIONED_BY, is_bound, notes_of
from kubeloop.api.quantities import parse
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import key_of

RESIZING: Final = "Resizing"


class VolumeExpansionController:
    """Work items are claims."""

    name = "expand-controller"
    resources = (CLAIMS, VOLUMES, CLASSES)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource = split(key)[0]
        if resource == CLAIMS:
            yield key
        elif resource == VOLUMES and after is not None:
            reference = after["spec"].get("claimRef") or {}
            if reference.get("name"):
                yield key_of(CLAIMS, reference.get("namespace") or "", reference["name"])

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        claim = view.get(*split(key))
        if claim is None or not is_bound(claim):
            return NOTHING
        volume = view.get(VOLUMES, "", claim["spec"]["volumeName"])
        status = claim.get("status") or {}
        if volume is None or not is_bound_to(volume, claim) or status.get("phase") != "Bound":
            return NOTHING
        asked = (claim["spec"].get("resources") or {}).get("requests", {}).get("storage", "0")
        had = (status.get("capacity") or {}).get("storage", "0")
        if notes_of(volume).get(PROVISIONED_BY) != LOCAL_PATH or parse(asked) <= parse(had):
            return NOTHING
        if parse(volume["spec"]["capacity"]["storage"]) >= parse(asked):
            return self._done(claim, volume["spec"]["capacity"])
        told = view.get(CLASSES, "", class_of(dict(claim)))
        if told is None or not told.get("allowVolumeExpansion"):
            return NOTHING
        if condition(claim, RESIZING) is None:
            return self._begin(claim, volume, asked, now_s)
        spec = {**volume["spec"], "capacity": {**volume["spec"]["capacity"], "storage": asked}}
        return Result([Action(self._write.update({**volume, "spec": spec}), gone_is_fine=True)])

    def _begin(self, claim: Object, volume: Object, asked: str, now_s: float) -> Result:
        text = f"External resizer is resizing volume {volume['metadata']['name']}"
        told = {
            "type": RESIZING,
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": rfc3339(now_s),
        }
        status = dict(claim["status"])
        status["conditions"] = [*(status.get("conditions") or ()), told]
        status["allocatedResources"] = {"storage": asked}
        status["allocatedResourceStatuses"] = {"storage": "ControllerResizeInProgress"}
        return self._told(claim, status, Event(claim, "Normal", RESIZING, text))

    def _done(self, claim: Object, capacity: Mapping[str, Any]) -> Result:
        status = {k: v for k, v in claim["status"].items() if k != "allocatedResourceStatuses"}
        others = [c for c in status.pop("conditions", None) or () if c["type"] != RESIZING]
        if others:
            status["conditions"] = others
        status["capacity"] = dict(capacity)
        text = "Resize volume succeeded"
        return self._told(claim, status, Event(claim, "Normal", "VolumeResizeSuccessful", text))

    def _told(self, claim: Object, status: Mapping[str, Any], news: Event) -> Result:
        request = self._write.update({**claim, "status": status}, subresource="status")
        return Result([Action(request, success=news, gone_is_fine=True)])
