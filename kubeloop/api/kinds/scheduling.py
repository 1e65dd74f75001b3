"""The kinds of scheduling.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import Resource

ROWS: Final = (
    Resource(
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
        "priorityclass",
        namespaced=False,
        short_names=("pc",),
    ),
)
