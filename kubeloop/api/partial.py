"""Objects of which only the metadata is told: PartialObjectMetadata."""

from collections.abc import Mapping
from typing import Any, Final

TEMPLATE_GENERATION: Final = "deprecated.daemonset.template.generation"
_HIDDEN: Final = {"DaemonSet": TEMPLATE_GENERATION}
"""Kind → an annotation that is a field of the spec to Kubernetes, and so is not told."""


def partial(obj: Mapping[str, Any], version: str = "v1") -> dict[str, Any]:
    """Return the PartialObjectMetadata of an object, in a version of meta.k8s.io."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": _metadata(obj),
    }


def _metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = obj.get("metadata") or {}
    hidden = _HIDDEN.get(obj.get("kind", ""))
    annotations = metadata.get("annotations") or {}
    if hidden not in annotations:
        return metadata
    left = {name: value for name, value in annotations.items() if name != hidden}
    rest = {name: value for name, value in metadata.items() if name != "annotations"}
    return {**rest, "annotations": left} if left else rest
