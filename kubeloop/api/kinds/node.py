"""The kinds of node.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import Resource

ROWS: Final = (
    Resource(
        "node.k8s.io",
        "v1",
        "RuntimeClass",
        "runtimeclasses",
        "runtimeclass",
        namespaced=False,
    ),
)
