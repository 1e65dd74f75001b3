"""The kinds of apps."""

from typing import Final

from kubeloop.api.kinds.row import STATUS, WORKLOAD, Resource

ROWS: Final = (
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
        subresources=WORKLOAD,
    ),
    Resource(
        "apps",
        "v1",
        "ReplicaSet",
        "replicasets",
        "replicaset",
        short_names=("rs",),
        categories=("all",),
        subresources=WORKLOAD,
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
        subresources=WORKLOAD,
    ),
)
