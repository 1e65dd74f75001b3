"""The kinds of coordination.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import Resource

ROWS: Final = (Resource("coordination.k8s.io", "v1", "Lease", "leases", "lease"),)
