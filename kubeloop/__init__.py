"""kubeloop: a complete Kubernetes in one Python process.

    from kubeloop import Cluster

    async with Cluster(nodes=3) as c:
        await c.api.apply("deployment.yaml")

Importing this package loads nothing heavy: what it offers is loaded when first named (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubeloop import chaos
    from kubeloop.cluster import Cluster
    from kubeloop.sync import SyncCluster

__all__ = ["Cluster", "SyncCluster", "__version__", "chaos"]
__version__ = "0.1.0"

_HOMES = {"Cluster": "kubeloop.cluster", "SyncCluster": "kubeloop.sync"}


def __getattr__(name: str) -> object:
    """Load the module that defines `name` on first use."""
    if name == "chaos":
        return import_module("kubeloop.chaos")
    if name not in _HOMES:
        raise AttributeError(f"module 'kubeloop' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
