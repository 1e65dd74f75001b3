"""Validation: which objects make sense, and what to say of those that do not.

Rules are functions that append to a list of problems, in Kubernetes' order and words. They see
objects whose defaults are filled in and whose types are right: decoding has refused the rest.

A change is judged as Kubernetes does it: first the metadata, then all that is asked of a new
object, then what may not differ from the old one. Some rules therefore speak twice; the causes
keep both, the message of the Status says each text once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from kubeloop.api.defaulting.tools import Json, child
from kubeloop.api.errors import Cause
from kubeloop.api.problems import Problems
from kubeloop.api.resources import Resource
from kubeloop.api.validation import (
    admission_policies,
    autoscaling,
    control,
    definitions,
    ingresses,
    jobs,
    metadata,
    networking,
    others,
    persistence,
    pod_parts,
    pods,
    policy,
    quotas,
    rbac,
    services,
    sets,
    storage,
    webhooks,
    workloads,
)

__all__ = ["validate_create", "validate_status_update", "validate_update"]

Rule = Callable[[Problems, Json], None]
Comparison = Callable[[Problems, Json, Json], None]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is asked of one kind.

    whole:  holds of any object, new or changed.
    change: what a change may not do, told before `whole`;  last: told after it.
    new:    holds of a new object only.
    status: holds of any status;  status_change: what a change of status may not do.
    fixed:  no change without a resourceVersion.
    """

    whole: Rule | None = None
    change: Comparison | None = None
    last: Comparison | None = None
    new: Rule | None = None
    status: Rule | None = None
    status_change: Comparison | None = None
    fixed: bool = False


_RULES: Final[Mapping[str, _Rules]] = {
    "apiservices.apiregistration.k8s.io": _Rules(control.api_service),
    "certificatesigningrequests.certificates.k8s.io": _Rules(
        control.signing_request,
        status=control.signing_status,
        status_change=control.signing_change,
    ),
    "clusterrolebindings.rbac.authorization.k8s.io": _Rules(
        rbac.cluster_role_binding, last=rbac.same_role
    ),
    "clusterroles.rbac.authorization.k8s.io": _Rules(rbac.cluster_role),
    "configmaps": _Rules(others.config_map, others.config_map_update),
    "controllerrevisions.apps": _Rules(
        sets.controller_revision, last=sets.controller_revision_update
    ),
    "cronjobs.batch": _Rules(jobs.cron_job),
    "csidrivers.storage.k8s.io": _Rules(storage.driver, last=storage.driver_update),
    "csinodes.storage.k8s.io": _Rules(storage.node, last=storage.node_update),
    "csistoragecapacities.storage.k8s.io": _Rules(storage.capacity, last=storage.capacity_update),
    "customresourcedefinitions.apiextensions.k8s.io": _Rules(
        definitions.definition, last=definitions.definition_update
    ),
    "daemonsets.apps": _Rules(
        sets.daemon_set, last=workloads.same_selector, status=sets.daemon_set_status
    ),
    "deployments.apps": _Rules(
        workloads.deployment, last=workloads.same_selector, status=workloads.status
    ),
    "endpoints": _Rules(services.endpoints),
    "endpointslices.discovery.k8s.io": _Rules(
        services.endpoint_slice, last=services.endpoint_slice_update
    ),
    "events": _Rules(others.event),
    "events.events.k8s.io": _Rules(
        others.modern_event, last=others.modern_event_update, new=others.modern_event_new
    ),
    "flowschemas.flowcontrol.apiserver.k8s.io": _Rules(control.flow_schema),
    "horizontalpodautoscalers.autoscaling": _Rules(
        autoscaling.autoscaler, status=autoscaling.autoscaler_status
    ),
    "ingressclasses.networking.k8s.io": _Rules(
        ingresses.ingress_class, last=ingresses.ingress_class_update
    ),
    "ingresses.networking.k8s.io": _Rules(
        ingresses.ingress, new=ingresses.new_ingress, status=ingresses.ingress_status
    ),
    "ipaddresses.networking.k8s.io": _Rules(
        networking.ip_address, last=networking.ip_address_update
    ),
    "jobs.batch": _Rules(jobs.job, last=jobs.job_update, status=jobs.job_status),
    "leases.coordination.k8s.io": _Rules(others.lease, fixed=True),
    "limitranges": _Rules(quotas.limit_range),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": _Rules(admission_policies.mutating),
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": _Rules(
        admission_policies.mutating_binding
    ),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _Rules(webhooks.mutating),
    "namespaces": _Rules(others.namespace, status=others.namespace_status),
    "networkpolicies.networking.k8s.io": _Rules(networking.network_policy),
    "nodes": _Rules(others.node, others.node_update),
    "persistentvolumeclaims": _Rules(
        persistence.claim, last=persistence.claim_update, status=persistence.claim_status
    ),
    "persistentvolumes": _Rules(persistence.volume, last=persistence.volume_update),
    "pods": _Rules(
        pods.pod, last=pods.on_update, new=pods.on_create, status_change=pods.on_status_update
    ),
    "poddisruptionbudgets.policy": _Rules(policy.budget, status=policy.budget_status),
    "podtemplates": _Rules(quotas.pod_template),
    "priorityclasses.scheduling.k8s.io": _Rules(
        quotas.priority_class, last=quotas.priority_class_update
    ),
    "replicasets.apps": _Rules(
        workloads.replica_set, last=workloads.same_selector, status=workloads.status
    ),
    "replicationcontrollers": _Rules(workloads.replication_controller, status=workloads.status),
    "resourcequotas": _Rules(
        quotas.resource_quota,
        last=quotas.resource_quota_update,
        status=quotas.resource_quota_status,
    ),
    "runtimeclasses.node.k8s.io": _Rules(quotas.runtime_class, last=quotas.runtime_class_update),
    "rolebindings.rbac.authorization.k8s.io": _Rules(rbac.role_binding, last=rbac.same_role),
    "roles.rbac.authorization.k8s.io": _Rules(rbac.role),
    "secrets": _Rules(others.secret, others.secret_update),
    "serviceaccounts": _Rules(),
    "servicecidrs.networking.k8s.io": _Rules(
        networking.service_cidr, last=networking.service_cidr_update
    ),
    "services": _Rules(services.service, services.service_update, status=services.service_status),
    "statefulsets.apps": _Rules(
        sets.stateful_set, last=sets.stateful_set_update, status=sets.stateful_set_status
    ),
    "storageclasses.storage.k8s.io": _Rules(
        storage.storage_class, last=storage.storage_class_update
    ),
    "volumeattachments.storage.k8s.io": _Rules(storage.attachment, last=storage.attachment_update),
    "volumeattributesclasses.storage.k8s.io": _Rules(
        storage.attributes_class, last=storage.attributes_class_update
    ),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": _Rules(control.priority_level),
    "validatingadmissionpolicies.admissionregistration.k8s.io": _Rules(
        admission_policies.validating
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": _Rules(
        admission_policies.validating_binding
    ),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _Rules(webhooks.validating),
}


def validate_create(resource: Resource, obj: Json) -> list[Cause]:
    """Return what is wrong with a new object; [] if nothing is."""
    problems, rules = Problems(), _RULES.get(resource.id, _Rules())
    metadata.on_create(problems, resource, child(obj, "metadata"))
    if rules.whole:
        rules.whole(problems, obj)
    if rules.new:
        rules.new(problems, obj)
    if resource.custom is not None:
        problems += resource.custom.problems(obj)
    return problems


def validate_update(resource: Resource, obj: Json, old: Json, part: str = "") -> list[Cause]:
    """Return what is wrong with turning `old` into `obj`; [] if nothing is.

    part: a subresource of pods that changes one thing only, "" if all may change.
    """
    problems, rules = Problems(), _RULES.get(resource.id, _Rules())
    if rules.fixed and not child(obj, "metadata").get("resourceVersion"):
        problems.invalid("metadata.resourceVersion", 0, "must be specified for an update")
        return problems
    _metadata_change(problems, resource, obj, old)
    if rules.change:
        rules.change(problems, obj, old)
    if rules.whole:
        rules.whole(problems, obj)
    last = pod_parts.RULES[part] if part else rules.last
    if last:
        last(problems, obj, old)
    if resource.custom is not None:
        problems += resource.custom.problems(obj, old)
    return problems


def validate_status_update(resource: Resource, obj: Json, old: Json) -> list[Cause]:
    """Return what is wrong with a new status; [] if nothing is."""
    problems, rules = Problems(), _RULES.get(resource.id, _Rules())
    _metadata_change(problems, resource, obj, old)
    if rules.status:
        rules.status(problems, obj)
    if rules.status_change:
        rules.status_change(problems, obj, old)
    if resource.custom is not None:
        problems += resource.custom.problems(obj, old)
    return problems


def _metadata_change(problems: Problems, resource: Resource, obj: Json, old: Json) -> None:
    """Check the metadata twice, as the registry and then the kind itself do."""
    new, was = child(obj, "metadata"), child(old, "metadata")
    metadata.on_update(problems, resource, new, was)
    metadata.on_update(problems, resource, new, was)
