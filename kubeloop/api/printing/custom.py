"""Custom resources: a column for each that the definition asks for.

Source: k8s.io/apiextensions-apiserver, pkg/registry/customresource/tableconvertor, in behaviour.
"""

import json
from collections.abc import Sequence
from typing import Any

from kubeloop.api import humanize
from kubeloop.api.custom import Column
from kubeloop.api.defaulting.tools import Json


def row(columns: Sequence[Column], obj: Json) -> list[Any]:
    """NAME and one cell for each column; None where there is nothing."""
    return [obj["metadata"]["name"], *(_cell(column, obj) for column in columns)]


def told(column: Column) -> dict[str, Any]:
    """Return the definition of a column."""
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _cell(column: Column, obj: Json) -> Any:
    found = column.path.find(obj)
    if not found:
        return None
    if column.type == "string":
        return " ".join(map(_text, found))
    value = found[0]
    match column.type:
        case "integer" if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "date" if isinstance(value, str):
            return humanize.since(value)
    return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
