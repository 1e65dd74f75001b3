"""Defaults: what an object says once Kubernetes has filled in what its author left out.

`apply_defaults` changes the object in place. Twice is the same as once, and what the author gave
stays as it is, except that quantities are put into their canonical form and that two spellings of
one thing (`clusterIP` and `clusterIPs`, `stringData` and `data`) are brought into step.

Source: the SetDefaults_* functions and conversions of Kubernetes 1.36, and recorded answers.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from kubeloop.api.defaulting import (
    autoscaling,
    control,
    jobs,
    networking,
    pods,
    quotas,
    rbac,
    services,
    sets,
    storage,
    webhooks,
    workloads,
)
from kubeloop.api.defaulting.tools import Json, child, fill, items, maybe
from kubeloop.api.resources import Resource

_NODE_INFO: Final = (
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
)
_EVENT: Final[Mapping[str, Any]] = {
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}


def apply_defaults(resource: Resource, obj: Json) -> None:
    """Fill in `obj` in place, as SetDefaults_* and the conversions of its kind do."""
    if resource.custom is not None:
        resource.custom.default(obj)
        return
    default = _DEFAULTS.get((resource.api_version, resource.kind))
    if default is not None:
        default(obj)


def _namespace(obj: Json) -> None:
    metadata = child(obj, "metadata")
    if metadata.get("name"):
        child(metadata, "labels")["kubernetes.io/metadata.name"] = metadata["name"]
    spec = child(obj, "spec")
    # A namespace on its way out has given up its finalizers: they must not come back.
    given = spec.get("finalizers") or []
    if "deletionTimestamp" not in metadata and "kubernetes" not in given:
        spec["finalizers"] = [*given, "kubernetes"]
    fill(child(obj, "status"), {"phase": "Active"})


def _node(obj: Json) -> None:
    spec, status = child(obj, "spec"), child(obj, "status")
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    capacity = maybe(status, "capacity")
    pods.resource_list(capacity)
    pods.resource_list(maybe(status, "allocatable"))
    if capacity and status.get("allocatable") is None:
        status["allocatable"] = dict(capacity)
    child(child(status, "daemonEndpoints"), "kubeletEndpoint").setdefault("Port", 0)
    info = child(status, "nodeInfo")
    for key in _NODE_INFO:
        info.setdefault(key, "")
    for condition in items(status, "conditions"):
        condition.setdefault("lastHeartbeatTime", None)
        condition.setdefault("lastTransitionTime", None)


def _secret(obj: Json) -> None:
    fill(obj, {"type": "Opaque"})
    texts = obj.pop("stringData", None)
    for key, text in (texts or {}).items():
        child(obj, "data")[key] = base64.b64encode(str(text).encode()).decode("ascii")


def _event(obj: Json) -> None:
    child(obj, "source")
    for key, zero in _EVENT.items():
        obj.setdefault(key, zero)


def _modern_event(obj: Json) -> None:
    for key in [key for key, value in obj.items() if value in ("", 0)]:
        del obj[key]  # Nothing tells it from what is not told, as it is stored.
    for key in ("regarding", "deprecatedSource"):
        child(obj, key)
    for key in ("eventTime", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"):
        obj.setdefault(key, None)


def _definition(obj: Json) -> None:
    spec = child(obj, "spec")
    names = child(spec, "names")
    if kind := names.get("kind"):
        fill(names, {"singular": kind.lower(), "listKind": f"{kind}List"})
    fill(child(spec, "conversion"), {"strategy": "None"})


def _budget(obj: Json) -> None:
    child(obj, "spec")
    for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        child(obj, "status").setdefault(key, 0)


_DEFAULTS: Final[Mapping[tuple[str, str], Callable[[Json], None]]] = {
    ("v1", "Endpoints"): services.endpoints,
    ("v1", "Event"): _event,
    ("v1", "LimitRange"): quotas.limit_range,
    ("v1", "Namespace"): _namespace,
    ("v1", "Node"): _node,
    ("v1", "PersistentVolume"): storage.persistent_volume,
    ("v1", "PersistentVolumeClaim"): storage.persistent_volume_claim,
    ("v1", "Pod"): pods.pod,
    ("v1", "PodTemplate"): quotas.pod_template,
    ("v1", "ReplicationController"): workloads.replication_controller,
    ("v1", "ResourceQuota"): quotas.resource_quota,
    ("v1", "Secret"): _secret,
    ("v1", "Service"): services.service,
    ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy"): control.policy,
    ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding"): control.policy_binding,
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"): control.policy,
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"): control.policy_binding,
    ("apiregistration.k8s.io/v1", "APIService"): control.api_service,
    ("certificates.k8s.io/v1", "CertificateSigningRequest"): control.signing_request,
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"): control.flow_schema,
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"): control.priority_level,
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"): webhooks.mutating,
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"): webhooks.validating,
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): _definition,
    ("apps/v1", "ControllerRevision"): sets.controller_revision,
    ("apps/v1", "DaemonSet"): sets.daemon_set,
    ("apps/v1", "Deployment"): workloads.deployment,
    ("apps/v1", "ReplicaSet"): workloads.replica_set,
    ("apps/v1", "StatefulSet"): sets.stateful_set,
    ("autoscaling/v1", "HorizontalPodAutoscaler"): autoscaling.autoscaler_v1,
    ("autoscaling/v2", "HorizontalPodAutoscaler"): autoscaling.autoscaler,
    ("batch/v1", "CronJob"): jobs.cron_job,
    ("batch/v1", "Job"): jobs.job,
    ("discovery.k8s.io/v1", "EndpointSlice"): services.endpoint_slice,
    ("events.k8s.io/v1", "Event"): _modern_event,
    ("node.k8s.io/v1", "RuntimeClass"): quotas.runtime_class,
    ("networking.k8s.io/v1", "IPAddress"): networking.ip_address,
    ("networking.k8s.io/v1", "Ingress"): networking.ingress,
    ("networking.k8s.io/v1", "IngressClass"): networking.ingress_class,
    ("networking.k8s.io/v1", "NetworkPolicy"): networking.network_policy,
    ("networking.k8s.io/v1", "ServiceCIDR"): networking.service_cidr,
    ("policy/v1", "PodDisruptionBudget"): _budget,
    ("scheduling.k8s.io/v1", "PriorityClass"): quotas.priority_class,
    ("storage.k8s.io/v1", "CSIDriver"): storage.csi_driver,
    ("storage.k8s.io/v1", "CSINode"): storage.csi_node,
    ("storage.k8s.io/v1", "CSIStorageCapacity"): storage.capacity,
    ("storage.k8s.io/v1", "StorageClass"): storage.storage_class,
    ("storage.k8s.io/v1", "VolumeAttachment"): storage.attachment,
    ("storage.k8s.io/v1", "VolumeAttributesClass"): storage.attributes_class,
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): rbac.role,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): rbac.binding,
    ("rbac.authorization.k8s.io/v1", "Role"): rbac.role,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): rbac.binding,
}
