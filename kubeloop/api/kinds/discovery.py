"""The kinds of discovery.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import Resource

ROWS: Final = (
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice"),
)
