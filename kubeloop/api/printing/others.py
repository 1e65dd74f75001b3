"""The rows of workloads, nodes, events and of the kinds that have little to show."""

from typing import Any, Final

from kubeloop.api import events, humanize
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.printing.text import NONE, containers, created, labels, name_of, selector

_ROLE_PREFIX: Final = "node-role.kubernetes.io/"
_ROLE: Final = "kubernetes.io/role"


def replication_controller(obj: Json) -> list[Any]:
    """Return the cells of a ReplicationController."""
    spec = obj.get("spec") or {}
    return [
        *_replicas(obj),
        *containers(spec.get("template")),
        labels(spec.get("selector")),
    ]


def replica_set(obj: Json) -> list[Any]:
    """Return the cells of a ReplicaSet."""
    spec = obj.get("spec") or {}
    told = selector(spec.get("selector"))
    return [*_replicas(obj), *containers(spec.get("template")), told]


def deployment(obj: Json) -> list[Any]:
    """Return the cells of a Deployment."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        humanize.since(created(obj)),
        *containers(spec.get("template")),
        selector(spec.get("selector"), empty=""),
    ]


def stateful_set(obj: Json) -> list[Any]:
    """Return the cells of a StatefulSet."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        humanize.since(created(obj)),
        *containers(spec.get("template")),
    ]


def daemon_set(obj: Json) -> list[Any]:
    """Return the cells of a DaemonSet."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    counts = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [
        name_of(obj),
        *(status.get(count, 0) for count in counts),
        labels((maybe(maybe(spec, "template"), "spec") or {}).get("nodeSelector")),
        humanize.since(created(obj)),
        *containers(spec.get("template")),
        selector(spec.get("selector")),
    ]


def controller_revision(obj: Json) -> list[Any]:
    """Return the cells of a ControllerRevision."""
    owners = items(obj.get("metadata"), "ownerReferences")
    owner = next((one for one in owners if one.get("controller")), None)
    told = NONE
    if owner is not None:
        group = str(owner.get("apiVersion") or "").rpartition("/")[0]
        kind = str(owner.get("kind") or "").lower()
        told = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    age = humanize.since(created(obj))
    return [name_of(obj), told, obj.get("revision") or 0, age]


def node(obj: Json) -> list[Any]:
    """Return the cells of a Node."""
    status = obj.get("status") or {}
    info = maybe(status, "nodeInfo") or {}
    return [
        name_of(obj),
        _node_status(obj.get("spec") or {}, status),
        _roles((obj.get("metadata") or {}).get("labels") or {}),
        humanize.since(created(obj)),
        info.get("kubeletVersion") or "",
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or humanize.UNKNOWN,
        info.get("kernelVersion") or humanize.UNKNOWN,
        info.get("containerRuntimeVersion") or humanize.UNKNOWN,
    ]


def namespace(obj: Json) -> list[Any]:
    """Return the cells of a Namespace."""
    phase = (obj.get("status") or {}).get("phase") or ""
    return [name_of(obj), phase, humanize.since(created(obj))]


def component_status(obj: Json) -> list[Any]:
    """Return the cells of a ComponentStatus."""
    conditions = obj.get("conditions") or ()
    healthy: Json = next((c for c in conditions if c.get("type") == "Healthy"), {})
    told = {"True": "Healthy", "False": "Unhealthy"}.get(healthy.get("status", ""), "Unknown")
    return [name_of(obj), told, healthy.get("message", ""), healthy.get("error", "")]


def config_map(obj: Json) -> list[Any]:
    """Return the cells of a ConfigMap."""
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [name_of(obj), count, humanize.since(created(obj))]


def secret(obj: Json) -> list[Any]:
    """Return the cells of a Secret."""
    count = len(obj.get("data") or ())
    return [name_of(obj), obj.get("type") or "", count, humanize.since(created(obj))]


def lease(obj: Json) -> list[Any]:
    """Return the cells of a Lease."""
    holder = (obj.get("spec") or {}).get("holderIdentity") or ""
    return [name_of(obj), holder, humanize.since(created(obj))]


def budget(obj: Json) -> list[Any]:
    """Return the cells of a PodDisruptionBudget."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        _amount(spec.get("minAvailable")),
        _amount(spec.get("maxUnavailable")),
        status.get("disruptionsAllowed", 0),
        humanize.since(created(obj)),
    ]


def definition(obj: Json) -> list[Any]:
    """NAME, CREATED AT."""
    return [obj["metadata"]["name"], obj["metadata"].get("creationTimestamp")]


def plain(obj: Json) -> list[Any]:
    """Return the cells of a kind that has only a name and an age."""
    return [name_of(obj), humanize.since(created(obj))]


def event(obj: Json) -> list[Any]:
    """Return the cells of an Event, of the old shape (counts) or the new (series)."""
    about, series = maybe(obj, "involvedObject") or {}, maybe(obj, "series")
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last, count = obj.get("lastTimestamp") or first, obj.get("count") or 1
    if series is not None:
        last, count = series.get("lastObservedTime"), series.get("count", 0)
    kind = str(about.get("kind") or "").lower()
    return [
        humanize.since(last),
        obj.get("type") or "",
        obj.get("reason") or "",
        f"{kind}/{about['name']}" if about.get("name") else kind,
        about.get("fieldPath") or "",
        _source(obj),
        str(obj.get("message") or "").strip(),
        humanize.since(first),
        count,
        name_of(obj),
    ]


def modern_event(obj: Json) -> list[Any]:
    """Return the cells of an Event of events.k8s.io: they are the same."""
    return event(events.stored(obj))


def _amount(value: Any) -> str:
    return "N/A" if value is None else str(value)


def _replicas(obj: Json) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        humanize.since(created(obj)),
    ]


def _node_status(spec: Json, status: Json) -> str:
    ready = [c.get("status") for c in items(status, "conditions") if c.get("type") == "Ready"]
    if not ready:
        word = "Unknown"
    else:
        word = "Ready" if ready[-1] == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if spec.get("unschedulable") else word


def webhooks(obj: Json) -> list[Any]:
    """Return the cells of a webhook configuration."""
    return [name_of(obj), len(items(obj, "webhooks")), humanize.since(created(obj))]


def _roles(node_labels: dict[str, str]) -> str:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in node_labels if key.startswith(_ROLE_PREFIX)}
    roles.add(node_labels.get(_ROLE, ""))
    return ",".join(sorted(roles - {""})) or NONE


def _address(status: Json, kind: str) -> str:
    found = (a.get("address") for a in items(status, "addresses") if a.get("type") == kind)
    return next(found, None) or NONE


def _source(obj: Json) -> str:
    source = maybe(obj, "source") or {}
    component = source.get("component") or obj.get("reportingComponent") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return f"{component}, {host}" if host else component
