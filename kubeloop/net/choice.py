"""What a fact is to a watcher with a selector: pure.

Such a watcher sees a part of the world whose border objects cross: one that begins to match is
ADDED, one that no longer does is DELETED, as it was when it still matched. Either way the event
carries the revision of the change, so that the watcher can resume from it.
"""

from dataclasses import dataclass
from typing import Any

import msgpack

from kubeloop.api.resources import Resource
from kubeloop.api.selectors import FieldSelector, LabelSelector, parse_fields, parse_labels
from kubeloop.store.facts import Fact

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """The part of a resource a watcher wants to see."""

    labels: LabelSelector | None = None
    fields: FieldSelector | None = None

    @classmethod
    def parse(cls, resource: Resource, labels: str, fields: str) -> "Choice":
        """Return the choice two selectors make. Raises: BadRequest."""
        return cls(
            parse_labels(labels) if labels else None,
            parse_fields(fields, resource) if fields else None,
        )

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self.labels is None and self.fields is None

    def matches(self, obj: Object) -> bool:
        """Tell whether an object is in it."""
        if self.labels is not None and not self.labels.matches(obj["metadata"].get("labels") or {}):
            return False
        return self.fields is None or self.fields.matches(obj)

    @property
    def label(self) -> tuple[str, tuple[str, ...]] | None:
        """A label every chosen object has, as `LabelSelector.label`."""
        return None if self.labels is None else self.labels.label()

    def requires(self, field: str) -> str:
        """Return the value every chosen object has in `field`; "" if that is not known."""
        return (self.fields.requires(field) or "") if self.fields is not None else ""


def transition(fact: Fact, choice: Choice) -> tuple[str, Object] | None:
    """Return (ADDED, MODIFIED or DELETED, the object) for a watcher; None if it sees nothing."""
    value = None if fact.value is None else msgpack.unpackb(fact.value)
    if choice.everything:
        was, is_ = fact.prev is not None, value is not None
        prev = msgpack.unpackb(fact.prev) if value is None and fact.prev is not None else None
    else:
        prev = None if fact.prev is None else msgpack.unpackb(fact.prev)
        was = prev is not None and choice.matches(prev)
        is_ = value is not None and choice.matches(value)
    if is_ and value is not None:
        return "MODIFIED" if was else "ADDED", value
    if not was or prev is None:
        return None
    prev["metadata"]["resourceVersion"] = str(fact.revision)
    return "DELETED", prev
