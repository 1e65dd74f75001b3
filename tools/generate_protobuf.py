"""Make kubeloop/net/rest/protobuf.msgpack: the wire format of the messages our kinds are made of.

    python tools/generate_protobuf.py FIELDS.json

FIELDS.json: message → {field number: [JSON name, type, "repeated"?, "inline"?]}, as the .proto
files of Kubernetes' API define them. Run it again when the table of resources gets a new kind.

The numbers do not tell one thing: what a zero on the wire means. Go writes every field that is no
pointer, set or not, and leaves it out of JSON if it is zero and marked `omitempty`. So a zero is
kept only for what is a pointer, or always shown: these are listed here, from Kubernetes'
types.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any, Final

import msgpack

from kubeloop.api.resources import ROWS

TARGET: Final = Path(__file__).parents[1] / "kubeloop" / "net" / "rest" / "protobuf.msgpack"
EXTRA: Final = {
    "authentication.k8s.io/v1 TokenRequest": "authentication.v1.TokenRequest",
    "autoscaling/v1 Scale": "autoscaling.v1.Scale",
    "policy/v1 Eviction": "policy.v1.Eviction",
    "v1 Binding": "core.v1.Binding",
    "v1 DeleteOptions": "apis.meta.v1.DeleteOptions",
    "v1 Status": "apis.meta.v1.Status",
}
CAPITALISED: Final = "admissionregistration.v1."
"""Messages some of whose fields the .proto files spell otherwise than JSON does."""
SCALARS: Final = ("string", "bytes", "bool", "int32", "int64")
SINGLE, REPEATED, MAP, INLINE, KEEP = 0, 1, 2, 3, 4

# Numbers and booleans whose zero says something, by the name of the field if that is enough.
KEPT_NUMBERS: Final = """
    automountServiceAccountToken blockOwnerDeletion collisionCount controller
    deletionGracePeriodSeconds defaultMode defaultUser gracePeriodSeconds immutable mode optional
    orphanDependents ignoreStoreReadErrorWithClusterBreakingPotential progressDeadlineSeconds
    revisionHistoryLimit terminationGracePeriodSeconds activeDeadlineSeconds tolerationSeconds
    terminatingReplicas leaseDurationSeconds leaseTransitions maxExpirationSeconds
    expirationSeconds minDomains maxSkew weight exitCode restartCount started containerPort
    enableServiceLinks setHostnameAsFQDN hostUsers shareProcessNamespace hostProcess privileged
    runAsUser runAsGroup runAsNonRoot fsGroup readOnlyRootFilesystem allowPrivilegeEscalation
    supplementalGroupsPolicy recursiveReadOnlyMounts userNamespaces capacity serving terminating
    allocateLoadBalancerNodePorts ready uid gid user Port
    ControllerRevision.revision RollingUpdateStatefulSetStrategy.partition StatefulSetOrdinals.start
    StatefulSetSpec.replicas StatefulSetStatus.replicas StatefulSetStatus.availableReplicas
    DaemonSetStatus.currentNumberScheduled DaemonSetStatus.numberMisscheduled
    DaemonSetStatus.desiredNumberScheduled DaemonSetStatus.numberReady
    DeploymentSpec.replicas ReplicaSetSpec.replicas ReplicationControllerSpec.replicas
    ReplicaSetStatus.replicas ReplicationControllerStatus.replicas ScaleStatus.replicas
    PodSpec.priority EvictionResponder.priority ClientIPConfig.timeoutSeconds
    AzureDiskVolumeSource.readOnly FCVolumeSource.lun ISCSIVolumeSource.lun
    JobSpec.parallelism JobSpec.completions JobSpec.backoffLimit JobSpec.manualSelector
    JobSpec.ttlSecondsAfterFinished JobSpec.suspend JobSpec.backoffLimitPerIndex
    JobSpec.maxFailedIndexes SuccessPolicyRule.succeededCount
    CronJobSpec.startingDeadlineSeconds CronJobSpec.suspend CronJobSpec.successfulJobsHistoryLimit
    CronJobSpec.failedJobsHistoryLimit
    PodDisruptionBudgetStatus.disruptionsAllowed PodDisruptionBudgetStatus.currentHealthy
    PodDisruptionBudgetStatus.desiredHealthy PodDisruptionBudgetStatus.expectedPods
    PriorityClass.value StorageClass.allowVolumeExpansion VolumeAttachmentStatus.attached
    CSIDriverSpec.attachRequired CSIDriverSpec.podInfoOnMount CSIDriverSpec.storageCapacity
    CSIDriverSpec.requiresRepublish CSIDriverSpec.seLinuxMount VolumeNodeResources.count
    CSIDriverSpec.nodeAllocatableUpdatePeriodSeconds CSIDriverSpec.serviceAccountTokenInSecrets
    TokenRequest.expirationSeconds VolumeError.errorCode
    minReplicas maxReplicas desiredReplicas targetCPUUtilizationPercentage endPort
    currentCPUUtilizationPercentage averageUtilization stabilizationWindowSeconds
    HPAScalingPolicy.value HPAScalingPolicy.periodSeconds
    HorizontalPodAutoscalerStatus.observedGeneration
    autoscaling.v1.HorizontalPodAutoscalerStatus.currentReplicas
    events.v1.EventSeries.count
    allowed incomplete matchingPrecedence nominalConcurrencyShares lendablePercent
    queueLengthLimit queues handSize
    ServicePort.port EndpointPort.port PortStatus.port GRPCAction.port SleepAction.seconds
"""
KEPT_STRINGS: Final = """
    PersistentVolumeSpec.volumeMode PersistentVolumeSpec.volumeAttributesClassName
    VolumeAttachmentSource.persistentVolumeName PriorityClass.preemptionPolicy
    StorageClass.reclaimPolicy StorageClass.volumeBindingMode StorageClass.provisioner
    CSIDriverSpec.fsGroupPolicy TypedObjectReference.apiGroup TypedObjectReference.namespace
    LeaseSpec.holderIdentity LeaseSpec.preferredHolder LeaseSpec.strategy
    PersistentVolumeClaimSpec.storageClassName PersistentVolumeClaimSpec.volumeAttributesClassName
    PersistentVolumeClaimSpec.volumeMode
    PersistentVolumeClaimStatus.currentVolumeAttributesClassName StatefulSetSpec.serviceName
    JobSpec.completionMode JobSpec.podReplacementPolicy JobSpec.managedBy JobStatus.failedIndexes
    PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy CronJobSpec.timeZone
    SuccessPolicyRule.succeededIndexes
    PodFailurePolicyOnExitCodesRequirement.containerName
    IngressSpec.ingressClassName HTTPIngressPath.pathType HPAScalingRules.selectPolicy
    NetworkPolicyPort.protocol IngressClassParametersReference.scope
    IngressClassParametersReference.namespace
    Event.reportingComponent Event.reportingInstance
    discovery.v1.EndpointPort.name discovery.v1.EndpointPort.appProtocol
"""


def main() -> None:
    """Read the field numbers, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("fields", type=Path)
    fields: dict[str, dict[str, list[str]]] = json.loads(parser.parse_args().fields.read_text())
    kinds = kinds_of(fields)
    names = reachable(fields, kinds.values())
    index = {name: number for number, name in enumerate(names)}
    table = {
        "kinds": {kind: index[name] for kind, name in kinds.items()},
        "messages": [[name, rows(name, fields[name], index)] for name in names],
    }
    TARGET.write_bytes(msgpack.packb(table))


def kinds_of(fields: dict[str, Any]) -> dict[str, str]:
    """Return "apps/v1 Deployment" → "apps.v1.Deployment", for all that may be a body."""
    kinds = dict(EXTRA)
    for resource in ROWS:
        package = (resource.group or "core").partition(".")[0]
        message = f"{package}.{resource.version}.{resource.kind}"
        for suffix in ("", "List"):
            if message + suffix in fields:
                kinds[f"{resource.api_version} {resource.kind}{suffix}"] = message + suffix
    return dict(sorted(kinds.items()))


def reachable(fields: dict[str, Any], roots: Any) -> list[str]:
    """Return the messages that the roots are made of, sorted."""
    found: set[str] = set()
    todo = [*roots, "runtime.Unknown"]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [t for row in fields[name].values() for t in messages_in(row[1])]
    return sorted(found)


def messages_in(type_: str) -> list[str]:
    """Return the messages a type names: itself, or the values of a map."""
    inner = re.fullmatch(r"map<string,(.*)>", type_)
    name = inner[1] if inner else type_
    return [] if name in SCALARS else [name]


def rows(message: str, fields: dict[str, list[str]], index: dict[str, int]) -> list[list[Any]]:
    """Return [number, JSON name, form, type]: type -1 and below are SCALARS, others messages."""
    out: list[list[Any]] = []
    for number, (name, type_, *flags) in sorted(fields.items(), key=lambda item: int(item[0])):
        if message.startswith(CAPITALISED):
            name = name[:1].lower() + name[1:]
        inner = re.fullmatch(r"map<string,(.*)>", type_)
        form = MAP if inner else REPEATED if "repeated" in flags else SINGLE
        form = INLINE if "inline" in flags else form
        type_ = inner[1] if inner else type_
        if form == SINGLE and is_kept(message, name, type_):
            form = KEEP
        code = -1 - SCALARS.index(type_) if type_ in SCALARS else index[type_]
        out.append([int(number), name, form, code])
    return out


def is_kept(message: str, name: str, type_: str) -> bool:
    """Tell whether a zero of this field is shown."""
    if type_ not in SCALARS:
        return False
    kept = set((KEPT_STRINGS if type_ == "string" else KEPT_NUMBERS).split())
    short = message.rsplit(".", 1)[-1]
    return bool({name, f"{short}.{name}", f"{message}.{name}"} & kept)


if __name__ == "__main__":
    main()
