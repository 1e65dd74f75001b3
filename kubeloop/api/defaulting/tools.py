"""Small tools of the defaulting functions: they fill gaps in place and overwrite nothing."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def fill(obj: Json, defaults: Mapping[str, Any]) -> None:
    """Set every key of `defaults` that `obj` lacks, or has as null or ""."""
    for key, value in defaults.items():
        if obj.get(key) in (None, ""):
            obj[key] = value


def child(obj: Json, key: str) -> Json:
    """Return the mapping at `key`; make it if it is not there."""
    found = obj.get(key)
    if not isinstance(found, dict):
        found = obj[key] = {}
    return found


def maybe(obj: Json | None, key: str) -> Json | None:
    """Return the mapping at `key`, None if there is none."""
    if obj is None:
        return None
    found = obj.get(key)
    return found if isinstance(found, dict) else None


def items(obj: Json | None, key: str) -> list[Json]:
    """Return the mappings in the list at `key`; [] if there is no list."""
    found = obj.get(key) if obj else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
