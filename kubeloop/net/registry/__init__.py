"""Images: built, kept on disk, served and pulled by the OCI distribution protocol.

`ImageStore` keeps images and builds them, `RegistryServer` serves a store, `RegistryClient` pulls
from any registry. The last two load an HTTP library, so they are loaded when first named (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from kubeloop.net.registry.containerfile import DefinitionError
from kubeloop.net.registry.reference import Reference
from kubeloop.net.registry.store import ImageStore, StoredImage, StoreError

if TYPE_CHECKING:
    from kubeloop.net.registry.client import PullError, RegistryClient
    from kubeloop.net.registry.server import RegistryServer

__all__ = [
    "DefinitionError",
    "ImageStore",
    "PullError",
    "Reference",
    "RegistryClient",
    "RegistryServer",
    "StoreError",
    "StoredImage",
]

_HOMES = {
    "PullError": "kubeloop.net.registry.client",
    "RegistryClient": "kubeloop.net.registry.client",
    "RegistryServer": "kubeloop.net.registry.server",
}


def __getattr__(name: str) -> object:
    """Load the module that defines `name` on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
