"""The kinds of apiextensions.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import STATUS, Resource

ROWS: Final = (
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "customresourcedefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources=(STATUS,),
    ),
)
