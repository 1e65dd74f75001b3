"""Admission of what is created in a namespace: it must exist, and not be on its way out.

Source: Kubernetes, "Admission Control in Kubernetes": NamespaceLifecycle.
"""

from typing import Any, Final

from kubeloop.api.errors import Cause, Forbidden, NotFound

PROTECTED: Final = ("default", "kube-system", "kube-public")


def admit_create(resource_id: str, name: str, namespace: str, found: dict[str, Any] | None) -> None:
    """Refuse a creation in a namespace that is not there or ends. Raises: NotFound, Forbidden."""
    if found is None:
        raise NotFound("namespaces", namespace)
    if found["metadata"].get("deletionTimestamp"):
        ending = f"namespace {namespace} is being terminated"
        why = (
            f"unable to create new content in namespace {namespace} because it is being terminated"
        )
        cause = Cause("NamespaceTerminating", ending, "metadata.namespace")
        raise Forbidden(resource_id, name, why, causes=[cause])


def admit_delete(name: str) -> None:
    """Refuse to delete what the cluster cannot be without. Raises: Forbidden."""
    if name in PROTECTED:
        raise Forbidden("namespaces", name, "this namespace may not be deleted")
