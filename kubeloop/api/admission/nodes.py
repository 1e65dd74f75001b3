"""Admission of nodes: a new node is not ready until its kubelet says so.

Source: Kubernetes, "Admission Control in Kubernetes": TaintNodesByCondition.
"""

from typing import Any, Final

NOT_READY: Final = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


def admit(node: dict[str, Any]) -> None:
    """Taint a new node in place."""
    taints = node.setdefault("spec", {}).setdefault("taints", [])
    if not any(t.get("key") == NOT_READY["key"] for t in taints):
        taints.append(dict(NOT_READY))
