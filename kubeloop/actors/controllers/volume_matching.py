"""Which volume a claim gets: the smallest of those that fit. Pure.

Source: k8s.io/component-helpers/storage/volume, FindMatchingVolume.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from kubeloop.actors.scheduling.demand import demand_of
from kubeloop.actors.scheduling.filters import node_affinity
from kubeloop.actors.scheduling.nodeinfo import NodeInfo
from kubeloop.actors.view import Object
from kubeloop.api.admission.volumes import class_of
from kubeloop.api.quantities import parse
from kubeloop.api.selectors import label_selector


def best_volume(
    volumes: Iterable[Object], claim: Object, *, node: Object | None, reserved_only: bool
) -> Object | None:
    """Return the volume a claim gets, None if none fits.

    node:          where it is needed, None if anywhere will do.
    reserved_only: the claim waits for a pod: it gets only what somebody reserved for it.
    """
    fitting = _fitting(volumes, claim)
    reserved = [volume for volume in fitting if volume["spec"].get("claimRef")]
    if reserved or reserved_only:
        return min(reserved, key=_name, default=None)
    free = (v for v in _free(fitting, claim) if node is None or is_reachable(v, node))
    return min(free, key=_worth, default=None)


def fitting_volumes(volumes: Iterable[Object], claim: Object) -> list[Object]:
    """Return the volumes a claim may get, wherever they are: what is reserved, or the best first.

    Several are reserved if somebody has reserved them all.
    """
    fitting = _fitting(volumes, claim)
    reserved = [volume for volume in fitting if volume["spec"].get("claimRef")]
    return sorted(reserved, key=_name) or sorted(_free(fitting, claim), key=_worth)


def _fitting(volumes: Iterable[Object], claim: Object) -> list[Object]:
    return [
        volume
        for volume in volumes
        if may_have(volume, claim)
        and not why_not(volume, claim)
        and not volume["metadata"].get("deletionTimestamp")
    ]


def _free(fitting: Iterable[Object], claim: Object) -> Iterator[Object]:
    """Yield those of the fitting volumes that nobody has reserved and the claim may choose."""
    selector = label_selector(claim["spec"].get("selector"))
    for volume in fitting:
        free = (volume.get("status") or {}).get("phase") == "Available"
        labels = volume["metadata"].get("labels") or {}
        chosen = "selector" not in claim["spec"] or selector.matches(labels)
        if free and chosen and class_of(dict(volume)) == class_of(dict(claim)):
            yield volume


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Tell whether a volume is for this very claim."""
    reference, metadata = volume["spec"].get("claimRef") or {}, claim["metadata"]
    return bool(_is_for(reference, metadata) and reference.get("uid") == metadata["uid"])


def why_not(volume: Object, claim: Object) -> str:
    """Return why a volume does not do for a claim, whatever else is claimed; "" if it does."""
    spec, wanted = volume["spec"], claim["spec"]
    if _size(spec.get("capacity")) < _size((wanted.get("resources") or {}).get("requests")):
        return "requested PV is too small"
    if (spec.get("volumeMode") or "Filesystem") != (wanted.get("volumeMode") or "Filesystem"):
        return "incompatible volumeMode"
    if not {*(wanted.get("accessModes") or ())} <= {*(spec.get("accessModes") or ())}:
        return "incompatible accessMode"
    reserved = bool(spec.get("claimRef") or wanted.get("volumeName"))
    if not reserved and class_of(dict(volume)) != class_of(dict(claim)):
        return "storageClassName does not match"
    return ""


def is_reachable(volume: Object, node: Object) -> bool:
    """Tell whether a volume can be used on a node."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return not required or _is_chosen(required, node)


def is_in_topology(told: Object, node: Object) -> bool:
    """Tell whether a class may have volumes on a node. told: the class."""
    labels = node["metadata"].get("labels") or {}
    terms = told.get("allowedTopologies") or ()
    return not terms or any(
        all(labels.get(e["key"]) in e["values"] for e in t.get("matchLabelExpressions") or ())
        for t in terms
    )


def _is_chosen(required: Any, node: Object) -> bool:
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": required}
    spec = {"containers": [], "affinity": {"nodeAffinity": affinity}}
    work = demand_of({"metadata": {"namespace": ""}, "spec": spec})
    metadata = node["metadata"]
    info = NodeInfo(metadata["name"], labels=metadata.get("labels") or {})
    return node_affinity(work, info) is None


def may_have(volume: Object, claim: Object) -> bool:
    """Tell whether nobody else has a volume, or has had it."""
    reference, metadata = volume["spec"].get("claimRef"), claim["metadata"]
    if not reference:
        return True
    return bool(
        _is_for(reference, metadata) and reference.get("uid") in (None, "", metadata["uid"])
    )


def _is_for(reference: Any, metadata: Any) -> bool:
    told = reference.get("namespace"), reference.get("name")
    return told == (metadata["namespace"], metadata["name"])


def _size(amounts: Any) -> Fraction:
    return parse((amounts or {}).get("storage") or "0")


def _worth(volume: Object) -> tuple[int, Fraction, str]:
    """Sort what can do least first, then the smallest."""
    spec = volume["spec"]
    return len(spec.get("accessModes") or ()), _size(spec.get("capacity")), _name(volume)


def _name(volume: Object) -> str:
    return str(volume["metadata"]["name"])
