"""The table of what this cluster serves: every kind is a row of data, none has code of its own.

Source: the API resource lists of Kubernetes 1.37 (`/api/v1`, `/apis/GROUP/VERSION`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kubeloop.api.custom import CustomKind

_ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource: the verbs it takes, and the kind it speaks if that is not its parent's."""

    name: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind, as discovery tells of it.

    fields:    the field selectors it supports beside metadata.name and metadata.namespace.
    list_kind: the kind of its lists, if that is not the kind with "List" behind.
    custom:    of a custom kind, what its definition says; None for what is built in.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _ALL
    subresources: tuple[Subresource, ...] = ()
    fields: tuple[str, ...] = ()
    list_kind: str = ""
    custom: "CustomKind | None" = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The name used in keys and errors: "pods", "deployments.apps"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def subresource(self, name: str) -> Subresource | None:
        """Return the subresource called `name`, None if there is none."""
        return next((s for s in self.subresources if s.name == name), None)


_GPU = ("get", "patch", "update")
STATUS = Subresource("status", _GPU)
SCALE = Subresource("scale", _GPU, "autoscaling", "v1", "Scale")
_WORKLOAD = (STATUS, SCALE)

_POD_SUBRESOURCES = (
    STATUS,
    Subresource("binding", ("create",), kind="Binding"),
    Subresource("eviction", ("create",), "policy", "v1", "Eviction"),
    Subresource("log", ("get",)),
)

_ROWS: Final = (
    Resource("", "v1", "ConfigMap", "configmaps", "configmap", short_names=("cm",)),
    Resource("", "v1", "Endpoints", "endpoints", "endpoints", short_names=("ep",)),
    Resource(
        "",
        "v1",
        "Event",
        "events",
        "event",
        short_names=("ev",),
        fields=(
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.resourceVersion",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ),
    ),
    Resource(
        "",
        "v1",
        "Namespace",
        "namespaces",
        "namespace",
        namespaced=False,
        short_names=("ns",),
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        subresources=(STATUS, Subresource("finalize", ("update",))),
        fields=("status.phase",),
    ),
    Resource(
        "",
        "v1",
        "Node",
        "nodes",
        "node",
        namespaced=False,
        short_names=("no",),
        subresources=(STATUS,),
        fields=("spec.unschedulable",),
    ),
    Resource(
        "",
        "v1",
        "Pod",
        "pods",
        "pod",
        short_names=("po",),
        categories=("all",),
        subresources=_POD_SUBRESOURCES,
        fields=(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ),
    ),
    Resource(
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        "replicationcontroller",
        short_names=("rc",),
        categories=("all",),
        subresources=_WORKLOAD,
        fields=("status.replicas",),
    ),
    Resource("", "v1", "Secret", "secrets", "secret", fields=("type",)),
    Resource("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", short_names=("sa",)),
    Resource(
        "",
        "v1",
        "Service",
        "services",
        "service",
        short_names=("svc",),
        categories=("all",),
        subresources=(STATUS,),
        fields=("spec.clusterIP", "spec.type"),
    ),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "customresourcedefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources=(STATUS,),
    ),
    Resource("apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision"),
    Resource(
        "apps",
        "v1",
        "DaemonSet",
        "daemonsets",
        "daemonset",
        short_names=("ds",),
        categories=("all",),
        subresources=(STATUS,),
    ),
    Resource(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        "deployment",
        short_names=("deploy",),
        categories=("all",),
        subresources=_WORKLOAD,
    ),
    Resource(
        "apps",
        "v1",
        "ReplicaSet",
        "replicasets",
        "replicaset",
        short_names=("rs",),
        categories=("all",),
        subresources=_WORKLOAD,
        fields=("status.replicas",),
    ),
    Resource(
        "apps",
        "v1",
        "StatefulSet",
        "statefulsets",
        "statefulset",
        short_names=("sts",),
        categories=("all",),
        subresources=_WORKLOAD,
    ),
    Resource(
        "batch",
        "v1",
        "CronJob",
        "cronjobs",
        "cronjob",
        short_names=("cj",),
        categories=("all",),
        subresources=(STATUS,),
    ),
    Resource(
        "batch",
        "v1",
        "Job",
        "jobs",
        "job",
        categories=("all",),
        subresources=(STATUS,),
        fields=("status.successful",),
    ),
    Resource("coordination.k8s.io", "v1", "Lease", "leases", "lease"),
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice"),
    Resource(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "poddisruptionbudget",
        short_names=("pdb",),
        subresources=(STATUS,),
    ),
)

RESOURCES: Final[Mapping[str, Resource]] = {row.id: row for row in _ROWS}
BY_PLURAL: Final[Mapping[tuple[str, str, str], Resource]] = {
    (row.group, row.version, row.plural): row for row in _ROWS
}
BY_KIND: Final[Mapping[tuple[str, str], Resource]] = {
    (row.api_version, row.kind): row for row in _ROWS
}
GROUP_VERSIONS: Final[tuple[tuple[str, str], ...]] = tuple(
    dict.fromkeys((row.group, row.version) for row in _ROWS)
)


def find(name: str) -> Resource:
    """Return the resource a user means by "pods", "pod", "po", "Pod" or "deployments.apps".

    Raises: LookupError, which says what there is.
    """
    wanted = name.lower()
    for row in _ROWS:
        if wanted in (row.id, row.plural, row.singular, row.kind.lower(), *row.short_names):
            return row
    known = ", ".join(sorted(RESOURCES))
    raise LookupError(f"the server doesn't have a resource type {name!r}; it has {known}")
