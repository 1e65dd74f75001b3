"""Manifests of the built-in kinds: the schema's fields, with values that make sense in each.

A row of `FIELDS` is a type and, of its fields, the values. A field of an object type that has rows
of its own needs none, nor does one that is true or false. What must agree with something else in
the object (a selector with the template's labels) is brought into step by `_FITTED`, type by type.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from kubeloop.api.resources import Resource
from kubeloop.api.typetable import Spec, schema
from kubeloop.chaos.manifests import access, control, networking
from kubeloop.chaos.manifests.tables import FIELDS, LEFT_OUT, NAMES_OF, WHOLE
from kubeloop.chaos.manifests.tools import NAMES, metadata, object_of

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Json = dict[str, Any]


def built_in(resource: Resource, *, name: str, namespace: str) -> "SearchStrategy[Json]":
    """Return manifests of a built-in kind."""
    from hypothesis import strategies as st

    type_ = schema().kinds[resource.api_version, resource.kind]
    told = {
        field: one
        for field, one in _fields(type_).items()
        if field not in ("apiVersion", "kind", "metadata", "status")
    }
    names = NAMES_OF.get(resource.id, NAMES)
    space = namespace if resource.namespaced else ""
    meta = metadata(name=name, namespace=space, names=names)
    short = _short(type_)
    body = object_of(told, _required(short, type_))

    def joined(meta: Json, body: Json) -> Json:
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, **body}
        fit = _FITTED.get(short)
        return obj if fit is None else fit(obj)

    return st.builds(joined, meta, body)


@cache
def _of(type_: str) -> "SearchStrategy[Any]":
    """Return values of a type."""
    from hypothesis import strategies as st

    short = _short(type_)
    if short in WHOLE:
        return WHOLE[short]()
    made = object_of(_fields(type_), _required(short, type_))
    fit = _FITTED.get(short)
    return st.deferred(lambda: made if fit is None else made.map(fit))


def _fields(type_: str) -> dict[str, "SearchStrategy[Any]"]:
    """Return the fields of a type that are drawn, and their values."""
    short = _short(type_)
    rows, found = FIELDS.get(short, {}), {}
    for name, spec in schema().type(type_).fields.items():
        path = f"{short}.{name}"
        if name in rows:
            found[name] = rows[name]()
        elif path not in LEFT_OUT and (made := _by_type(spec)) is not None:
            found[name] = made
    return found


def _by_type(spec: Spec) -> "SearchStrategy[Any] | None":
    """Return the values of a field that its type tells; None if that is not enough."""
    from hypothesis import strategies as st

    if spec.form == "boolean":
        return st.booleans()
    inner = spec.element if spec.form == "list" else spec
    if inner is None or inner.form != "object":
        return None
    short = _short(inner.type)
    if short not in FIELDS and short not in WHOLE:
        return None
    late = st.deferred(lambda: _of(inner.type))
    return st.lists(late, max_size=2) if spec.form == "list" else late


def _short(type_: str) -> str:
    """Return what the tables call a type: "Subject", or "rbac.v1.Subject" if others are so too."""
    *_, package, version, name = type_.split(".")
    whole = f"{package}.{version}.{name}"
    return whole if whole in FIELDS else name


def _required(short: str, type_: str) -> tuple[str, ...]:
    return (*schema().type(type_).required, *_NEEDED.get(short, ()))


_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "CSIDriver": ("spec",),
    "CSINode": ("spec",),
    **access.NEEDED,
    **control.NEEDED,
    **networking.NEEDED,
    "ConfigMap": (),
    "Container": ("image",),
    "ControllerRevision": ("revision",),
    "CronJob": ("spec",),
    "CustomResourceDefinition": ("spec",),
    "DaemonSet": ("spec",),
    "Deployment": ("spec",),
    "Event": ("involvedObject",),
    "events.v1.Event": (
        "regarding",
        "reason",
        "type",
        "action",
        "reportingController",
        "reportingInstance",
    ),
    "EndpointSlice": ("endpoints",),
    "Job": ("spec",),
    "JobTemplateSpec": ("spec",),
    "LimitRange": ("spec",),
    "PersistentVolume": ("spec",),
    "PersistentVolumeClaim": ("spec",),
    "PersistentVolumeClaimSpec": ("accessModes", "resources"),
    "PersistentVolumeSpec": ("accessModes", "capacity", "hostPath"),
    "Pod": ("spec",),
    "PodDisruptionBudget": ("spec",),
    "PodTemplateSpec": ("metadata", "spec"),
    "PodTemplate": ("template",),
    "ReplicaSet": ("spec",),
    "ReplicaSetSpec": ("template",),
    "ReplicationController": ("spec",),
    "ReplicationControllerSpec": ("selector", "template"),
    "Service": ("spec",),
    "ServiceSpec": ("ports",),
    "StatefulSet": ("spec",),
    "VolumeAttributesClass": ("parameters",),
}


# What must agree.


def _selected(spec: Json) -> Json:
    """Have a selector choose the pods of the template."""
    labels = spec["template"]["metadata"].setdefault("labels", {})
    labels.setdefault("app", "web")
    return {**spec, "selector": {"matchLabels": {"app": labels["app"]}}}


def _selected_by_set(spec: Json) -> Json:
    made = _selected(spec)
    return {**made, "selector": made["selector"]["matchLabels"]}


def _once(spec: Json) -> Json:
    """Have the pods of a Job end."""
    pod = spec["template"]["spec"]
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        pod["restartPolicy"] = "Never"
    pod.pop("activeDeadlineSeconds", None)
    if spec.get("completionMode") == "Indexed":
        spec.setdefault("completions", 2)
    else:
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            spec.pop(field, None)
    if "backoffLimitPerIndex" in spec:
        pod["restartPolicy"] = "Never"
    else:
        spec.pop("maxFailedIndexes", None)
    return spec


def _for_ever(spec: Json) -> Json:
    """Have the pods of a workload run for ever, as their controllers ask for."""
    pod = spec["template"]["spec"]
    pod["restartPolicy"] = "Always"
    pod.pop("activeDeadlineSeconds", None)
    return _selected(spec)


def _pod(spec: Json) -> Json:
    """Have containers mount what there is, by names that no other has."""
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        kept = []
        for one in spec.get(field) or ():
            if one["name"] in seen:
                continue
            seen.add(one["name"])
            kept.append(_mounted(one, volumes, init=field == "initContainers"))
        if field in spec:
            spec[field] = kept
    if not spec.get("containers"):
        spec["containers"] = [{"name": "only", "image": "i"}]
    return spec


def _mounted(container: Json, volumes: set[str], *, init: bool) -> Json:
    mounts = [one for one in container.get("volumeMounts") or () if one["name"] in volumes]
    if "volumeMounts" in container:
        container["volumeMounts"] = mounts
    if init:
        for field in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
            container.pop(field, None)
    return container


def _probe_once(container: Json) -> Json:
    """A probe that ends its container succeeds once."""
    for field in ("livenessProbe", "startupProbe"):
        container.get(field, {}).pop("successThreshold", None)
    container.get("readinessProbe", {}).pop("terminationGracePeriodSeconds", None)
    if not container.get("stdin"):
        container.pop("stdinOnce", None)
    return container


def _rolling(strategy: Json) -> Json:
    if strategy.get("type") in ("Recreate", "OnDelete"):
        strategy.pop("rollingUpdate", None)
    return strategy


def _budget(spec: Json) -> Json:
    if "minAvailable" in spec:
        spec.pop("maxUnavailable", None)
    return spec


def _service(spec: Json) -> Json:
    """Have ports differ, and be named where there are several."""
    ports: dict[tuple[Any, Any], Json] = {}
    for port in spec.get("ports") or ():
        ports.setdefault((port["port"], port.get("protocol", "TCP")), port)
    made = [{**port, "name": f"p{n}"} for n, port in enumerate(ports.values())]
    if spec.get("clusterIP") == "None":
        spec["type"] = "ClusterIP"
    if spec.get("type") == "ExternalName":
        return {"type": "ExternalName", "externalName": "a.example"}
    if spec.get("type") in (None, "ClusterIP"):
        spec.pop("externalTrafficPolicy", None)
    if spec.get("type") != "LoadBalancer":
        spec.pop("allocateLoadBalancerNodePorts", None)
    return {**spec, "ports": made}


def _stateful(spec: Json) -> Json:
    spec = _for_ever(spec)
    pod = spec["template"]["spec"]
    pod.pop("hostname", None)
    for claim in spec.get("volumeClaimTemplates") or ():
        name = claim["metadata"]["name"]
        mounts = pod["containers"][0].setdefault("volumeMounts", [])
        mounts.append({"name": name, "mountPath": f"/claimed/{name}"})
    return spec


def _persistent(spec: Json) -> Json:
    """Have a volume be in one place; a local one tells on which node."""
    place = spec.pop("hostPath")
    if "local" in place:
        expression = {"key": "kubernetes.io/hostname", "operator": "Exists"}
        terms = [{"matchExpressions": [expression]}]
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
    return {**spec, **place}


def _toleration(one: Json) -> Json:
    if one.get("operator") == "Exists":
        one.pop("value", None)
    else:
        one.setdefault("key", "example.com/taint")
    if one.get("effect") != "NoExecute":
        one.pop("tolerationSeconds", None)
    return one


def _event(obj: Json) -> Json:
    space = obj["metadata"].get("namespace", "default")
    return {**obj, "involvedObject": {**obj["involvedObject"], "namespace": space}}


def _modern_event(obj: Json) -> Json:
    space = obj["metadata"].get("namespace", "default")
    return {**obj, "regarding": {**obj["regarding"], "namespace": space}}


def _definition(obj: Json) -> Json:
    spec = obj["spec"]
    return {**obj, "metadata": {**obj["metadata"],
                                "name": f"{spec['names']['plural']}.{spec['group']}"}}  # fmt: skip


_FITTED: Final[Mapping[str, Callable[[Json], Json]]] = {
    **access.FITTED,
    **control.FITTED,
    **networking.FITTED,
    "Container": _probe_once,
    "CustomResourceDefinition": _definition,
    "DaemonSetSpec": _for_ever,
    "DaemonSetUpdateStrategy": _rolling,
    "DeploymentSpec": _for_ever,
    "DeploymentStrategy": _rolling,
    "Event": _event,
    "events.v1.Event": _modern_event,
    "JobSpec": _once,
    "PodDisruptionBudgetSpec": _budget,
    "PersistentVolumeSpec": _persistent,
    "PodSpec": _pod,
    "ReplicaSetSpec": _for_ever,
    "ReplicationControllerSpec": lambda spec: {
        **_for_ever(spec),
        "selector": _selected_by_set(spec)["selector"],
    },
    "ServiceSpec": _service,
    "StatefulSetSpec": _stateful,
    "StatefulSetUpdateStrategy": _rolling,
    "Toleration": _toleration,
}
