"""Ingresses that name no class get the default one, if there is any.

Source: the DefaultIngressClass admission plugin of Kubernetes.
"""

from collections.abc import Iterable
from typing import Any, Final

IS_DEFAULT: Final = "ingressclass.kubernetes.io/is-default-class"
_OLD_WAY: Final = "kubernetes.io/ingress.class"


def names_no_class(ingress: dict[str, Any]) -> bool:
    """Tell whether a new Ingress says nothing of a class, in neither way."""
    if (ingress.get("spec") or {}).get("ingressClassName") is not None:
        return False
    return _OLD_WAY not in ((ingress.get("metadata") or {}).get("annotations") or {})


def admit(ingress: dict[str, Any], classes: Iterable[dict[str, Any]]) -> None:
    """Name the default class, in place: of several the newest, then the first by name."""
    found = [one["metadata"] for one in classes if _is_default(one)]
    found.sort(key=lambda meta: str(meta["name"]))
    found.sort(key=lambda meta: str(meta["creationTimestamp"]), reverse=True)
    if found:
        ingress.setdefault("spec", {})["ingressClassName"] = found[0]["name"]


def _is_default(one: dict[str, Any]) -> bool:
    return (one["metadata"].get("annotations") or {}).get(IS_DEFAULT) == "true"
