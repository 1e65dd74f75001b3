"""Images: built, kept on disk, served and pulled by the OCI distribution protocol.

`ImageStore` keeps images and builds them, `server` serves a store, `client` pulls from anywhere.
Importing this package loads no HTTP library; `server` and `client` do.
"""

from kubeloop.net.registry.containerfile import DefinitionError
from kubeloop.net.registry.reference import Reference
from kubeloop.net.registry.store import ImageStore, StoredImage, StoreError

__all__ = ["DefinitionError", "ImageStore", "Reference", "StoreError", "StoredImage"]
