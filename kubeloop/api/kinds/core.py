"""The kinds of the core group."""

from typing import Final

from kubeloop.api.kinds.row import GET_AND_CHANGE, QUESTION, STATUS, WORKLOAD, Resource, Subresource

_PROXIED: Final = ("create", "delete", "get", "patch", "update")


def _stream(name: str, kind: str) -> Subresource:
    return Subresource(name, ("create", "get"), kind=kind, connects=True)


def _proxy(kind: str) -> Subresource:
    return Subresource("proxy", _PROXIED, kind=kind, connects=True)


_POD_SUBRESOURCES: Final = (
    STATUS,
    Subresource("binding", ("create",), kind="Binding"),
    Subresource("eviction", ("create",), "policy", "v1", "Eviction"),
    Subresource("ephemeralcontainers", GET_AND_CHANGE),
    Subresource("log", ("get",)),
    Subresource("resize", GET_AND_CHANGE),
    _stream("exec", "PodExecOptions"),
    _stream("attach", "PodAttachOptions"),
    _stream("portforward", "PodPortForwardOptions"),
    _proxy("PodProxyOptions"),
)

ROWS: Final = (
    Resource("", "v1", "Binding", "bindings", "binding", verbs=QUESTION),
    Resource("", "v1", "ConfigMap", "configmaps", "configmap", short_names=("cm",)),
    Resource(
        "",
        "v1",
        "ComponentStatus",
        "componentstatuses",
        "componentstatus",
        namespaced=False,
        short_names=("cs",),
        verbs=("get", "list"),
        computed=True,
    ),
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
    Resource("", "v1", "LimitRange", "limitranges", "limitrange", short_names=("limits",)),
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
        subresources=(STATUS, _proxy("NodeProxyOptions")),
        fields=("spec.unschedulable",),
    ),
    Resource(
        "",
        "v1",
        "PersistentVolume",
        "persistentvolumes",
        "persistentvolume",
        namespaced=False,
        short_names=("pv",),
        subresources=(STATUS,),
    ),
    Resource(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
        short_names=("pvc",),
        subresources=(STATUS,),
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
    Resource("", "v1", "PodTemplate", "podtemplates", "podtemplate"),
    Resource(
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        "replicationcontroller",
        short_names=("rc",),
        categories=("all",),
        subresources=WORKLOAD,
        fields=("status.replicas",),
    ),
    Resource(
        "",
        "v1",
        "ResourceQuota",
        "resourcequotas",
        "resourcequota",
        short_names=("quota",),
        subresources=(STATUS,),
    ),
    Resource("", "v1", "Secret", "secrets", "secret", fields=("type",)),
    Resource(
        "",
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        "serviceaccount",
        short_names=("sa",),
        subresources=(
            Subresource("token", ("create",), "authentication.k8s.io", "v1", "TokenRequest"),
        ),
    ),
    Resource(
        "",
        "v1",
        "Service",
        "services",
        "service",
        short_names=("svc",),
        categories=("all",),
        subresources=(STATUS, _proxy("ServiceProxyOptions")),
        fields=("spec.clusterIP", "spec.type"),
    ),
)
