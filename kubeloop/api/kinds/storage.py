"""The kinds of storage.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import STATUS, Resource

ROWS: Final = (
    Resource(
        "storage.k8s.io",
        "v1",
        "CSIDriver",
        "csidrivers",
        "csidriver",
        namespaced=False,
    ),
    Resource(
        "storage.k8s.io",
        "v1",
        "CSINode",
        "csinodes",
        "csinode",
        namespaced=False,
    ),
    Resource(
        "storage.k8s.io",
        "v1",
        "CSIStorageCapacity",
        "csistoragecapacities",
        "csistoragecapacity",
    ),
    Resource(
        "storage.k8s.io",
        "v1",
        "StorageClass",
        "storageclasses",
        "storageclass",
        namespaced=False,
        short_names=("sc",),
    ),
    Resource(
        "storage.k8s.io",
        "v1",
        "VolumeAttachment",
        "volumeattachments",
        "volumeattachment",
        namespaced=False,
        subresources=(STATUS,),
    ),
    Resource(
        "storage.k8s.io",
        "v1",
        "VolumeAttributesClass",
        "volumeattributesclasses",
        "volumeattributesclass",
        namespaced=False,
        short_names=("vac",),
    ),
)
