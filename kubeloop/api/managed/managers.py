"""The managers of an object's fields: read, written, and what a write does to them. Pure.

    managers = read(obj["metadata"].get("managedFields"))
    managers = updated(managers, shape, old, new, Manager("kubectl-edit", "Update", "v1"), now)
    obj["metadata"]["managedFields"] = write(managers)

Source: Kubernetes, "Server-Side Apply"; apimachinery's util/managedfields, in behaviour.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kubeloop.api.managed.comparing import compare
from kubeloop.api.managed.sets import (
    EMPTY,
    FieldSet,
    check,
    difference,
    intersection,
    ordered,
    paths,
    union,
    without,
)
from kubeloop.api.managed.shapes import Shape

UPDATERS_MAX: Final = 10
ANCIENT: Final = "ancient-changes"
BEFORE_APPLY: Final = "before-first-apply"
_SYSTEM: Final = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
)
SYSTEM: Final[FieldSet] = {
    "f:apiVersion": EMPTY,
    "f:kind": EMPTY,
    "f:metadata": {".": EMPTY, **{f"f:{name}": EMPTY for name in _SYSTEM}},
}
"""What nobody manages: it is the system's."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Somebody who writes. operation: "Apply" or "Update"; an applier is one in all versions."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    @property
    def key(self) -> "Manager":
        """What tells managers apart."""
        return replace(self, api_version="") if self.operation == "Apply" else self

    def __str__(self) -> str:
        """As conflicts tell of it: `"kubectl-edit" using apps/v1`."""
        told = f'"{self.name}"'
        if self.subresource:
            told += f' with subresource "{self.subresource}"'
        return f"{told} using {self.api_version}" if self.operation == "Update" else told


@dataclass(frozen=True, slots=True)
class Managed:
    """What one manager manages, in which version he says so, and since when; time "" if unknown.

    entry: how it is written, if it has not changed since.
    """

    fields: FieldSet
    api_version: str
    time: str = ""
    entry: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


Managers = Mapping[Manager, Managed]


class Unreadable(ValueError):
    """managedFields which say nothing."""


def read(told: Any, *, trusted: bool = False) -> Managers:
    """Return the managers of metadata.managedFields.

    trusted: they were checked before.
    Raises:  Unreadable.
    """
    found: dict[Manager, Managed] = {}
    for entry in told or ():
        operation = entry.get("operation")
        if operation not in ("Apply", "Update"):
            raise Unreadable(f"operation is `{operation}` but must be `Update` or `Apply`")
        version = entry.get("apiVersion") or ""
        subresource = entry.get("subresource") or ""
        manager = Manager(entry.get("manager") or "", operation, version, subresource).key
        fields = entry.get("fieldsV1") or EMPTY
        if not trusted:
            try:
                check(fields)
            except ValueError as error:
                raise Unreadable(str(error)) from None
        kept = entry if trusted else None
        found[manager] = Managed(fields, version, entry.get("time") or "", kept)
    return found


def write(managers: Managers) -> list[Mapping[str, Any]]:
    """Return metadata.managedFields: appliers first, then by time."""

    def place(one: tuple[Manager, Managed]) -> tuple[str, ...]:
        manager, managed = one
        return (
            manager.operation,
            managed.time,
            manager.name,
            managed.api_version,
            manager.subresource,
        )

    return [_entry(manager, managed) for manager, managed in sorted(managers.items(), key=place)]


def _entry(manager: Manager, managed: Managed) -> Mapping[str, Any]:
    if managed.entry is not None:
        return managed.entry
    entry: dict[str, Any] = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": managed.api_version,
    }
    if managed.time:
        entry["time"] = managed.time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = ordered(managed.fields)
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry


def updated(
    managers: Managers,
    shape: Shape,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    manager: Manager,
    now: str,
    ignored: FieldSet = EMPTY,
) -> Managers:
    """Return the managers after `manager` made `new` of `old`: what he touched is his alone.

    ignored: what he cannot change at all: his status when he writes a spec.
    """
    touched, removed = (
        without(difference(fields, SYSTEM), ignored) for fields in compare(shape, old, new)
    )
    if not touched and not removed:
        return managers
    moved = union(touched, removed)
    after = dict(_less(managers, moved))
    if touched:
        mine = managers.get(manager)
        fields = touched if mine is None else union(difference(mine.fields, removed), touched)
        same = mine if mine is not None and fields is mine.fields else None
        after[manager] = _since(now, same) or Managed(fields, manager.api_version, now)
    return _capped(after)


def _since(now: str, managed: Managed | None) -> Managed | None:
    """Return who manages what he did before, from now on."""
    if managed is None or managed.entry is None or managed.entry.get("time") is None:
        return None
    entry = managed.entry if managed.time == now else {**managed.entry, "time": now}
    return Managed(managed.fields, managed.api_version, now, entry)


def _less(managers: Managers, gone: FieldSet) -> Iterable[tuple[Manager, Managed]]:
    for manager, managed in managers.items():
        fields = difference(managed.fields, gone)
        if fields is managed.fields:
            yield manager, managed
        elif fields:
            yield manager, Managed(fields, managed.api_version, managed.time)


def _capped(managers: dict[Manager, Managed]) -> Managers:
    """Return the managers with the oldest updates put together, if there are too many."""
    updaters = [manager for manager in managers if manager.operation == "Update"]
    if len(updaters) <= UPDATERS_MAX:
        return managers
    updaters.sort(key=lambda m: (managers[m].time, m.name, m.api_version, m.subresource))
    count, first = len(updaters), dict[str, Manager]()
    for manager in updaters:
        if count <= UPDATERS_MAX:
            break
        managed = managers[manager]
        version = managed.api_version
        bucket = Manager(ANCIENT, "Update", version)
        if version not in first:
            first[version] = manager
            continue
        if bucket not in managers:
            managers[bucket] = managers.pop(first[version])
        together = union(managed.fields, managers[bucket].fields)
        managers[bucket] = Managed(together, version, managed.time)
        if manager != bucket:
            del managers[manager]
        count -= 1
    return managers


@dataclass(frozen=True, slots=True)
class Clash:
    """A field that an applier wants to set, and somebody else manages."""

    manager: Manager
    path: str


class Clashes(Exception):
    """Others manage what an applier wants to set otherwise."""

    def __init__(self, clashes: Sequence[Clash]) -> None:
        super().__init__(f"{len(clashes)} conflicts")
        self.clashes = clashes

    def message(self) -> str:
        """Return what Kubernetes says."""
        if len(self.clashes) == 1:
            only = self.clashes[0]
            return f"Apply failed with 1 conflict: conflict with {only.manager}: {only.path}"
        lines = []
        for manager in sorted({clash.manager for clash in self.clashes}, key=str):
            lines.append(f"conflicts with {manager}:")
            lines += [f"- {clash.path}" for clash in self.clashes if clash.manager == manager]
        return f"Apply failed with {len(self.clashes)} conflicts: " + "\n".join(lines)


def clashes(
    managers: Managers, touched: FieldSet, applier: Manager
) -> list[tuple[Manager, FieldSet]]:
    """Return who else manages what is touched, and which of it."""
    found = []
    for manager, managed in sorted(managers.items(), key=lambda one: str(one[0])):
        if manager != applier and (both := intersection(managed.fields, touched)):
            found.append((manager, both))
    return found


def refuse(found: Sequence[tuple[Manager, FieldSet]]) -> None:
    """Refuse an apply if it clashes. Raises: Clashes."""
    told = [Clash(manager, path) for manager, fields in found for path in paths(fields)]
    if told:
        raise Clashes(told)
