"""Tables: what `kubectl get` prints, computed on the server."""

from collections.abc import Sequence
from typing import Any

from kubeloop.api.resources import Resource


def table(
    resource: Resource,
    objects: Sequence[dict[str, Any]],
    *,
    now_unix: float,
    revision: str,
    include_object: str = "Metadata",
    list_meta: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the meta.k8s.io/v1 Table of `objects`."""
    raise NotImplementedError
