"""Turn Kubernetes' published schemas into the small table kubeloop/api/schema.msgpack.

Input:  the definitions inside the `kubernetes-validate` package (the `explain` extra), and the
        kinds that kubeloop/api/resources.py tells of.
Output: every type those kinds can reach, without descriptions; see kubeloop/api/schema.py for the
        form. The same input gives the same bytes.
Usage:  python tools/generate_schema.py
"""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgpack

from kubeloop.api.resources import ROWS

VERSION: Final = "1.37.0"
TARGET: Final = Path(__file__).parent.parent / "kubeloop" / "api" / "schema.msgpack"

# Kinds that clients speak and that are no resources of their own: (group, version, kind).
EXTRA_KINDS: Final = (
    ("", "v1", "DeleteOptions"),
    ("", "v1", "Status"),
    ("authentication.k8s.io", "v1", "TokenRequest"),
    ("autoscaling", "v1", "Scale"),
    ("policy", "v1", "Eviction"),
)
SCALARS: Final = {
    ("string", None): "string",
    ("string", "byte"): "bytes",
    ("integer", "int32"): "int32",
    ("integer", "int64"): "int64",
    ("boolean", None): "boolean",
    ("number", "double"): "number",
}
SPECIALS: Final = {
    "api.resource.Quantity": "quantity",
    "util.intstr.IntOrString": "intOrString",
    "apis.meta.v1.Time": "time",
    "apis.meta.v1.MicroTime": "microTime",
}
PREFIXES: Final = ("io.k8s.api.", "io.k8s.apimachinery.pkg.")

# Names of Go's types where they are not plain strings and maps: the decoder's errors show them, and
# the schemas do not have them. Keys are TYPE.FIELD, or FIELD for all types.
GO_TYPES: Final = {
    "uid": "types.UID",
    "limits": "v1.ResourceList",
    "requests": "v1.ResourceList",
    "overhead": "v1.ResourceList",
    "capacity": "v1.ResourceList",
    "allocatable": "v1.ResourceList",
    "imagePullPolicy": "v1.PullPolicy",
    "terminationMessagePolicy": "v1.TerminationMessagePolicy",
    "apis.meta.v1.DeleteOptions.propagationPolicy": "v1.DeletionPropagation",
    "apis.meta.v1.LabelSelectorRequirement.operator": "v1.LabelSelectorOperator",
    "apis.meta.v1.ManagedFieldsEntry.operation": "v1.ManagedFieldsOperationType",
    "apis.meta.v1.Status.reason": "v1.StatusReason",
    "apis.meta.v1.StatusCause.reason": "v1.CauseType",
    "apps.v1.DaemonSetUpdateStrategy.type": "v1.DaemonSetUpdateStrategyType",
    "apps.v1.DeploymentStrategy.type": "v1.DeploymentStrategyType",
    "apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy.whenDeleted": (
        "v1.PersistentVolumeClaimRetentionPolicyType"
    ),
    "apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy.whenScaled": (
        "v1.PersistentVolumeClaimRetentionPolicyType"
    ),
    "apps.v1.StatefulSetSpec.podManagementPolicy": "v1.PodManagementPolicyType",
    "apps.v1.StatefulSetUpdateStrategy.type": "v1.StatefulSetUpdateStrategyType",
    "batch.v1.CronJobSpec.concurrencyPolicy": "v1.ConcurrencyPolicy",
    "batch.v1.JobSpec.completionMode": "v1.CompletionMode",
    "batch.v1.JobSpec.podReplacementPolicy": "v1.PodReplacementPolicy",
    "batch.v1.PodFailurePolicyOnExitCodesRequirement.operator": (
        "v1.PodFailurePolicyOnExitCodesOperator"
    ),
    "batch.v1.PodFailurePolicyOnPodConditionsPattern.status": "v1.ConditionStatus",
    "batch.v1.PodFailurePolicyOnPodConditionsPattern.type": "v1.PodConditionType",
    "batch.v1.PodFailurePolicyRule.action": "v1.PodFailurePolicyAction",
    "batch.v1.UncountedTerminatedPods.failed": "types.UID",
    "batch.v1.UncountedTerminatedPods.succeeded": "types.UID",
    "policy.v1.PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy": (
        "v1.UnhealthyPodEvictionPolicyType"
    ),
    "core.v1.AppArmorProfile.type": "v1.AppArmorProfileType",
    "core.v1.Container.restartPolicy": "v1.ContainerRestartPolicy",
    "core.v1.ContainerPort.protocol": "v1.Protocol",
    "core.v1.ContainerResizePolicy.restartPolicy": "v1.ResourceResizeRestartPolicy",
    "core.v1.EmptyDirVolumeSource.medium": "v1.StorageMedium",
    "core.v1.EndpointPort.protocol": "v1.Protocol",
    "core.v1.EphemeralContainer.restartPolicy": "v1.ContainerRestartPolicy",
    "core.v1.HTTPGetAction.scheme": "v1.URIScheme",
    "core.v1.HostPathVolumeSource.type": "v1.HostPathType",
    "core.v1.ImageVolumeSource.pullPolicy": "v1.PullPolicy",
    "core.v1.NamespaceSpec.finalizers": "v1.FinalizerName",
    "core.v1.NamespaceStatus.phase": "v1.NamespacePhase",
    "core.v1.NodeAddress.type": "v1.NodeAddressType",
    "core.v1.NodeSelectorRequirement.operator": "v1.NodeSelectorOperator",
    "core.v1.NodeStatus.phase": "v1.NodePhase",
    "core.v1.LimitRangeItem.default": "v1.ResourceList",
    "core.v1.LimitRangeItem.defaultRequest": "v1.ResourceList",
    "core.v1.LimitRangeItem.max": "v1.ResourceList",
    "core.v1.LimitRangeItem.maxLimitRequestRatio": "v1.ResourceList",
    "core.v1.LimitRangeItem.min": "v1.ResourceList",
    "core.v1.LimitRangeItem.type": "v1.LimitType",
    "core.v1.ModifyVolumeStatus.status": "v1.PersistentVolumeClaimModifyVolumeStatus",
    "core.v1.PersistentVolumeClaimSpec.accessModes": "v1.PersistentVolumeAccessMode",
    "core.v1.PersistentVolumeClaimSpec.volumeMode": "v1.PersistentVolumeMode",
    "core.v1.PersistentVolumeClaimStatus.accessModes": "v1.PersistentVolumeAccessMode",
    "core.v1.PersistentVolumeClaimStatus.allocatedResourceStatuses": "v1.ClaimResourceStatus",
    "core.v1.PersistentVolumeClaimStatus.allocatedResources": "v1.ResourceList",
    "core.v1.PersistentVolumeClaimStatus.phase": "v1.PersistentVolumeClaimPhase",
    "core.v1.PersistentVolumeSpec.accessModes": "v1.PersistentVolumeAccessMode",
    "core.v1.PersistentVolumeSpec.persistentVolumeReclaimPolicy": (
        "v1.PersistentVolumeReclaimPolicy"
    ),
    "core.v1.PersistentVolumeSpec.volumeMode": "v1.PersistentVolumeMode",
    "core.v1.PersistentVolumeStatus.phase": "v1.PersistentVolumePhase",
    "core.v1.PodReadinessGate.conditionType": "v1.PodConditionType",
    "core.v1.PodSecurityContext.fsGroupChangePolicy": "v1.PodFSGroupChangePolicy",
    "core.v1.PodSpec.dnsPolicy": "v1.DNSPolicy",
    "core.v1.PodSpec.preemptionPolicy": "v1.PreemptionPolicy",
    "core.v1.PodSpec.restartPolicy": "v1.RestartPolicy",
    "core.v1.PodStatus.phase": "v1.PodPhase",
    "core.v1.PodStatus.qosClass": "v1.PodQOSClass",
    "core.v1.ResourceQuotaSpec.hard": "v1.ResourceList",
    "core.v1.ResourceQuotaSpec.scopes": "v1.ResourceQuotaScope",
    "core.v1.ResourceQuotaStatus.hard": "v1.ResourceList",
    "core.v1.ResourceQuotaStatus.used": "v1.ResourceList",
    "core.v1.ScopedResourceSelectorRequirement.operator": "v1.ScopeSelectorOperator",
    "core.v1.ScopedResourceSelectorRequirement.scopeName": "v1.ResourceQuotaScope",
    "core.v1.SeccompProfile.type": "v1.SeccompProfileType",
    "core.v1.Secret.type": "v1.SecretType",
    "core.v1.ServicePort.protocol": "v1.Protocol",
    "core.v1.ServiceSpec.externalTrafficPolicy": "v1.ServiceExternalTrafficPolicy",
    "core.v1.ServiceSpec.internalTrafficPolicy": "v1.ServiceInternalTrafficPolicy",
    "core.v1.ServiceSpec.ipFamilies": "v1.IPFamily",
    "core.v1.ServiceSpec.ipFamilyPolicy": "v1.IPFamilyPolicy",
    "core.v1.ServiceSpec.sessionAffinity": "v1.ServiceAffinity",
    "core.v1.ServiceSpec.type": "v1.ServiceType",
    "core.v1.Taint.effect": "v1.TaintEffect",
    "core.v1.Toleration.effect": "v1.TaintEffect",
    "core.v1.Toleration.operator": "v1.TolerationOperator",
    "core.v1.TopologySpreadConstraint.nodeAffinityPolicy": "v1.NodeInclusionPolicy",
    "core.v1.TopologySpreadConstraint.nodeTaintsPolicy": "v1.NodeInclusionPolicy",
    "core.v1.TopologySpreadConstraint.whenUnsatisfiable": "v1.UnsatisfiableConstraintAction",
    "core.v1.VolumeMount.mountPropagation": "v1.MountPropagationMode",
    "discovery.v1.EndpointPort.protocol": "v1.Protocol",
    "discovery.v1.EndpointSlice.addressType": "v1.AddressType",
    "node.v1.Overhead.podFixed": "v1.ResourceList",
    "scheduling.v1.PriorityClass.preemptionPolicy": "v1.PreemptionPolicy",
    "storage.v1.CSIDriverSpec.fsGroupPolicy": "v1.FSGroupPolicy",
    "storage.v1.CSIDriverSpec.volumeLifecycleModes": "v1.VolumeLifecycleMode",
    "storage.v1.StorageClass.reclaimPolicy": "v1.PersistentVolumeReclaimPolicy",
    "storage.v1.StorageClass.volumeBindingMode": "v1.VolumeBindingMode",
} | {
    f"{owner}Condition.type": f"v1.{owner.rsplit('.', 1)[1]}ConditionType"
    for owner in (
        "apps.v1.DaemonSet",
        "apps.v1.Deployment",
        "apps.v1.ReplicaSet",
        "apps.v1.StatefulSet",
        "batch.v1.Job",
        "core.v1.Namespace",
        "core.v1.Node",
        "core.v1.PersistentVolumeClaim",
        "core.v1.Pod",
        "core.v1.ReplicationController",
    )
}
FACTS: Final = {
    "x-kubernetes-patch-merge-key": "mergeKey",
    "x-kubernetes-patch-strategy": "strategy",
    "x-kubernetes-list-type": "listType",
    "x-kubernetes-list-map-keys": "listKeys",
    "x-kubernetes-map-type": "mapType",
}

Schema = Mapping[str, Any]


def generate() -> bytes:
    """Return the table in msgpack."""
    return bytes(msgpack.packb(_table(_definitions())))


def _definitions() -> Mapping[str, Schema]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}-local"
    definitions: Mapping[str, Schema] = json.loads((folder / "_definitions.json").read_bytes())[
        "$defs"
    ]
    return definitions


def _table(definitions: Mapping[str, Schema]) -> dict[str, Any]:
    by_kind = {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name in sorted(definitions)
        for gvk in definitions[name].get("x-kubernetes-group-version-kind", ())
    }
    kinds = {kind: by_kind[kind] for kind in sorted(_served_kinds())}
    reached: set[str] = set()
    pending = list(kinds.values())
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += _references(definitions[name])
    names = sorted(reached)
    index = {name: i for i, name in enumerate(names)}
    return {
        "version": VERSION,
        "kinds": [[*kind, index[name]] for kind, name in kinds.items()],
        "types": [_type(name, definitions[name], index) for name in names],
    }


def _served_kinds() -> Iterator[tuple[str, str, str]]:
    yield from EXTRA_KINDS
    for resource in ROWS:
        yield resource.group, resource.version, resource.kind
        if resource.stored:
            yield resource.group, resource.version, f"{resource.kind}List"


def _references(schema: Schema) -> Iterator[str]:
    """Yield the names of the types that `schema` mentions."""
    if "$ref" in schema:
        yield schema["$ref"].rsplit("/", 1)[1]
    for part in (*schema.get("properties", {}).values(), *_element(schema)):
        yield from _references(part)


def _element(schema: Schema) -> list[Schema]:
    return [schema[k] for k in ("items", "additionalProperties") if isinstance(schema.get(k), dict)]


def _type(name: str, schema: Schema, index: Mapping[str, int]) -> list[Any]:
    """Return [name, form, required, properties]; form is "object", "any" or a special one."""
    short = _short(name)
    if short in SPECIALS:
        return [name, SPECIALS[short], [], {}]
    if "properties" not in schema:
        return [name, "any", [], {}]
    facts = {FACTS[k]: v for k, v in sorted(schema.items()) if k in FACTS}
    properties = {
        field: _spec(part, index, f"{short}.{field}")
        for field, part in sorted(schema.get("properties", {}).items())
    }
    return [
        name,
        "object",
        sorted(schema.get("required", ())),
        properties,
        *([facts] * bool(facts)),
    ]


def _spec(schema: Schema, index: Mapping[str, int], path: str) -> Any:
    """Return a type's index, the name of a scalar, or [form, element or None, facts]."""
    facts = {FACTS[k]: v for k, v in sorted(schema.items()) if k in FACTS}
    go_type = GO_TYPES.get(path) or GO_TYPES.get(path.rsplit(".", 1)[1])
    if "$ref" in schema:
        form: Any = index[schema["$ref"].rsplit("/", 1)[1]]
        return [form, None, facts] if facts else form
    told = schema["type"]
    told = told[0] if isinstance(told, list) else told
    element = next((_spec(e, index, "element.element") for e in _element(schema)), None)
    if told == "array":
        if go_type:
            element = [element, None, {"go": go_type}]
        return ["list", element, *([facts] * bool(facts))]
    if go_type:
        facts["go"] = go_type
    if told == "object":
        return ["map", element, *([facts] * bool(facts))]
    scalar = SCALARS[told, schema.get("format")]
    return [scalar, None, facts] if facts else scalar


def _short(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


if __name__ == "__main__":
    TARGET.write_bytes(generate())
