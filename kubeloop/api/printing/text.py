"""Pieces of text that several kinds of rows share."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubeloop.api.defaulting.tools import Json, items
from kubeloop.api.errors import BadRequest
from kubeloop.api.selectors import label_selector

NONE: Final = "<none>"
_SHOWN_MAX: Final = 3


def name_of(obj: Json) -> str:
    """Return the object's name."""
    return str((obj.get("metadata") or {}).get("name") or "")


def created(obj: Json) -> Any:
    """Return the object's creationTimestamp."""
    return (obj.get("metadata") or {}).get("creationTimestamp")


def labels(values: Mapping[str, str] | None) -> str:
    """Return "a=b,c=d", "<none>" if there are none."""
    return ",".join(f"{key}={value}" for key, value in sorted((values or {}).items())) or NONE


def selector(obj: Mapping[str, Any] | None, *, empty: str = NONE) -> str:
    """Return a metav1.LabelSelector as text."""
    try:
        return str(label_selector(obj)) or empty
    except BadRequest:
        return "<error>"


def first_of(texts: Sequence[str], *, count: int | None = None, empty: str) -> str:
    """Return the first three of `texts` and how many more there are (of `count` in all)."""
    total = len(texts) if count is None else count
    shown = ",".join(texts[:_SHOWN_MAX])
    if len(texts) > _SHOWN_MAX:
        return f"{shown} + {total - _SHOWN_MAX} more..."
    return shown or empty


def containers(template: Json | None) -> list[Any]:
    """Return two cells: the names and the images of the containers of a pod template."""
    found = items((template or {}).get("spec"), "containers")
    return [",".join(str(c.get(key) or "") for c in found) for key in ("name", "image")]
