"""Tables: what `kubectl get` prints, computed on the server.

The columns (names, types, descriptions, which are only for `-o wide`) are data: `columns.json`,
taken from Kubernetes 1.36. The cells are the business of `printing`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final

from kubeloop.api.defaulting.tools import Json
from kubeloop.api.humanize import Ago
from kubeloop.api.partial import partial as partial_of
from kubeloop.api.printing import (
    autoscaling,
    control,
    custom,
    jobs,
    networking,
    others,
    pods,
    quotas,
    rbac,
    services,
    storage,
)
from kubeloop.api.resources import Resource

Row = Callable[[Json], list[Any]]

_ROWS: Final[Mapping[str, Row]] = {
    "componentstatuses": others.component_status,
    "configmaps": others.config_map,
    "endpoints": services.endpoints,
    "events": others.event,
    "limitranges": others.definition,
    "namespaces": others.namespace,
    "nodes": others.node,
    "persistentvolumeclaims": storage.claim,
    "persistentvolumes": storage.volume,
    "pods": pods.row,
    "podtemplates": quotas.pod_template,
    "replicationcontrollers": others.replication_controller,
    "resourcequotas": quotas.resource_quota,
    "secrets": others.secret,
    "serviceaccounts": others.plain,
    "services": services.service,
    "mutatingadmissionpolicies.admissionregistration.k8s.io": control.mutating_policy,
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": control.policy_binding,
    "validatingadmissionpolicies.admissionregistration.k8s.io": control.validating_policy,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": control.policy_binding,
    "apiservices.apiregistration.k8s.io": control.api_service,
    "certificatesigningrequests.certificates.k8s.io": control.signing_request,
    "flowschemas.flowcontrol.apiserver.k8s.io": control.flow_schema,
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": control.priority_level,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": others.webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": others.webhooks,
    "customresourcedefinitions.apiextensions.k8s.io": others.definition,
    "events.events.k8s.io": others.modern_event,
    "cronjobs.batch": jobs.cron_job,
    "jobs.batch": jobs.job,
    "poddisruptionbudgets.policy": others.budget,
    "controllerrevisions.apps": others.controller_revision,
    "daemonsets.apps": others.daemon_set,
    "deployments.apps": others.deployment,
    "replicasets.apps": others.replica_set,
    "statefulsets.apps": others.stateful_set,
    "endpointslices.discovery.k8s.io": services.endpoint_slice,
    "leases.coordination.k8s.io": others.lease,
    "runtimeclasses.node.k8s.io": quotas.runtime_class,
    "priorityclasses.scheduling.k8s.io": quotas.priority_class,
    "csidrivers.storage.k8s.io": storage.driver,
    "csinodes.storage.k8s.io": storage.node,
    "csistoragecapacities.storage.k8s.io": storage.capacity,
    "storageclasses.storage.k8s.io": storage.storage_class,
    "volumeattachments.storage.k8s.io": storage.attachment,
    "volumeattributesclasses.storage.k8s.io": storage.attributes_class,
    "horizontalpodautoscalers.autoscaling": autoscaling.autoscaler,
    "ingressclasses.networking.k8s.io": networking.ingress_class,
    "ingresses.networking.k8s.io": networking.ingress,
    "ipaddresses.networking.k8s.io": networking.ip_address,
    "networkpolicies.networking.k8s.io": networking.network_policy,
    "servicecidrs.networking.k8s.io": networking.service_cidr,
    "clusterrolebindings.rbac.authorization.k8s.io": rbac.binding,
    "clusterroles.rbac.authorization.k8s.io": rbac.role,
    "rolebindings.rbac.authorization.k8s.io": rbac.binding,
    "roles.rbac.authorization.k8s.io": rbac.role,
}


def table(
    resource: Resource,
    objects: Sequence[Json],
    *,
    now_unix: float,
    revision: str,
    include_object: str = "Metadata",
    list_meta: Json | None = None,
) -> Json:
    """Return the meta.k8s.io/v1 Table of `objects`, wide columns included.

    revision:       the list's resourceVersion, or the object's if there is only one.
    include_object: what rides along in each row: "Metadata", "Object" or "None".
    list_meta:      more of the list's metadata: continue, remainingItemCount.
    """
    rows = [row(resource, obj, include_object) for obj in objects]
    for one in rows:
        one["cells"] = [c.text(now_unix) if isinstance(c, Ago) else c for c in one["cells"]]
    return {**table_head(resource, revision, list_meta), "rows": rows}


def table_head(resource: Resource, revision: str, list_meta: Json | None = None) -> Json:
    """Return a Table without its rows; as `table`."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision, **(list_meta or {})},
        "columnDefinitions": columns(resource),
    }


def row(resource: Resource, obj: Json, include_object: str = "Metadata") -> Json:
    """Return the row of an object: one of its `cells` is an `Ago` if it changes with time."""
    render = _ROWS.get(resource.id, others.plain)
    if resource.custom is not None:
        render = partial(custom.row, resource.custom.columns)
    made: Json = {"cells": render(obj)}
    if resource.id == "pods" and (conditions := pods.conditions(obj)):
        made["conditions"] = conditions
    made["object"] = _passenger(resource, obj, include_object)
    return made


def columns(resource: Resource) -> list[Json]:
    """Return the column definitions of a kind; not to be changed."""
    found, id_ = _columns(), resource.stored_id
    if resource.custom is not None:
        return [found["serviceaccounts"][0], *map(custom.told, resource.custom.columns)]
    return found.get(id_) or found["serviceaccounts"]


def _passenger(resource: Resource, obj: Json, include_object: str) -> Json | None:
    match include_object:
        case "None":
            return None
        case "Object":
            return {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
    return partial_of(obj)


@cache
def _columns() -> dict[str, list[Json]]:
    text = files("kubeloop.api").joinpath("columns.json").read_bytes()
    read: dict[str, list[Json]] = json.loads(text)
    return read
