"""Events have two forms: that of the core group, in which they are stored, and events.k8s.io's.

Both tell the same in other words. What only the first has (a count, two times, a source) is called
deprecated in the second, whose own are the time of the event and a series. Pure.

Source: Kubernetes' API reference, "Event v1 core" and "Event v1 events.k8s.io".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

STORED: Final = "events"
_SERVED_VERSION: Final = "events.k8s.io/v1"

# Core → events.k8s.io, in the order of the latter.
_NAMES: Final[Mapping[str, str]] = {
    "eventTime": "eventTime",
    "series": "series",
    "reportingComponent": "reportingController",
    "reportingInstance": "reportingInstance",
    "action": "action",
    "reason": "reason",
    "involvedObject": "regarding",
    "related": "related",
    "message": "note",
    "type": "type",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_BACK: Final[Mapping[str, str]] = {new: old for old, new in _NAMES.items()}
_SHOWN: Final = ("eventTime", "firstTimestamp", "lastTimestamp")  # Also if there is none.
FIELDS: Final[Mapping[str, str]] = {
    **{
        f"regarding.{field}": f"involvedObject.{field}"
        for field in (
            "apiVersion",
            "fieldPath",
            "kind",
            "name",
            "namespace",
            "resourceVersion",
            "uid",
        )
    },
    "reason": "reason",
    "reportingController": "reportingComponent",
    "type": "type",
}
"""What events.k8s.io's events can be selected by → where that is stored."""


@dataclass(frozen=True, slots=True)
class Events:
    """The version of events.k8s.io, of what is stored as the core group has it."""

    api_version: str = _SERVED_VERSION
    storage: str = "v1"
    revision: int = 0

    def served(self, stored: Json, revision: int = 0) -> Json:
        """Return what is stored as events.k8s.io has it."""
        return served(stored)

    def stored(self, obj: Json) -> Json:
        """Return an event of events.k8s.io as it is stored."""
        return stored(obj)


def served(obj: Mapping[str, Any]) -> Json:
    """Return a stored event as events.k8s.io has it."""
    told: Json = {"kind": "Event", "apiVersion": _SERVED_VERSION, "metadata": obj["metadata"]}
    for old, new in _NAMES.items():
        value = obj.get(old)
        if value not in (None, "", 0) or old in _SHOWN:
            told[new] = value
    told.setdefault("regarding", {})
    told.setdefault("deprecatedSource", {})
    return told


def stored(obj: Mapping[str, Any]) -> Json:
    """Return an event of events.k8s.io as it is stored."""
    told: Json = {"kind": "Event", "apiVersion": "v1", "metadata": obj.get("metadata") or {}}
    for new, old in _BACK.items():
        if obj.get(new) is not None:
            told[old] = obj[new]
    for field in ("involvedObject", "source"):
        told.setdefault(field, {})
    for field in _SHOWN:
        told.setdefault(field, None)
    for field in ("reportingComponent", "reportingInstance"):
        told.setdefault(field, "")
    return told
