"""Definitions of custom kinds: names are accepted, and at the end all objects go.

Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions"; the naming,
establishing and finalizing controllers of k8s.io/apiextensions-apiserver in behaviour.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Result,
    Writer,
    condition,
    split,
)
from kubeloop.actors.requests.deletion import CLEANUP
from kubeloop.actors.view import CUSTOM, Index, Object, View
from kubeloop.api.calls import Request
from kubeloop.api.catalogue import DEFINITIONS
from kubeloop.api.times import rfc3339

_BATCH_MAX: Final = 500  # Objects deleted in one pass.
_GROUP: Final = "group"
_Condition = tuple[str, str, str, str]  # Type, status, reason, message.


def _group_of(definition: Object) -> list[str]:
    return [definition["spec"]["group"]]


class DefinitionController:
    """Work items are CustomResourceDefinitions."""

    name = "customresourcedefinition-controller"
    resources = (DEFINITIONS, CUSTOM)
    indexes: Mapping[tuple[str, str], Index] = {(DEFINITIONS, _GROUP): _group_of}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        if split(key)[0] != DEFINITIONS:
            definition = _definition_of(key, view)
            if definition is not None and definition["metadata"].get("deletionTimestamp"):
                yield f"/registry/{DEFINITIONS}/{definition['metadata']['name']}"
            return
        yield key
        if after is None and before is not None:  # Its names are free for another.
            for other in view.by(DEFINITIONS, _GROUP, before["spec"]["group"]):
                yield f"/registry/{DEFINITIONS}/{other['metadata']['name']}"

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        definition = view.get(*split(key))
        if definition is None:
            return NOTHING
        if definition["metadata"].get("deletionTimestamp"):
            return self._clear(definition, view, now_s)
        accepted, conditions = _judged(definition, view)
        return self._tell(definition, accepted, conditions, now_s)

    def _clear(self, definition: Object, view: View, now_s: float) -> Result:
        """Delete all objects of a definition that is being deleted; then let it go."""
        metadata = definition["metadata"]
        if CLEANUP not in (metadata.get("finalizers") or ()):
            return NOTHING
        resource = metadata["name"]
        left = list(view.list(resource))
        doomed = [one for one in left if not one["metadata"].get("deletionTimestamp")]
        served = {one["name"] for one in definition["spec"]["versions"] if one.get("served")}
        actions = [
            Action(self._deletion(one, resource, served), gone_is_fine=True)
            for one in doomed[:_BATCH_MAX]
        ]
        accepted = definition["status"]["acceptedNames"]
        if left:
            text = "CustomResource deletion is in progress"
            told = ("Terminating", "True", "InstanceDeletionInProgress", text)
            return Result([*actions, *self._tell(definition, accepted, [told], now_s).actions])
        kept = [one for one in metadata["finalizers"] if one != CLEANUP]
        patch: dict[str, Any] = {
            "metadata": {"finalizers": kept or None, "resourceVersion": metadata["resourceVersion"]}
        }
        return Result([Action(self._write.patch(definition, patch), gone_is_fine=True)])

    def _deletion(self, obj: Object, resource: str, served: Container[str]) -> Request:
        """Return the request that deletes an object: as it is stored, so that none converts it."""
        version = obj["apiVersion"].rpartition("/")[2]
        request = self._write.delete(obj, resource=resource)
        return replace(request, version=version) if version in served else request

    def _tell(
        self, definition: Object, accepted: Object, rows: Iterable[_Condition], now_s: float
    ) -> Result:
        """Write the status of a definition, if that is news."""
        status = definition.get("status") or {}
        conditions = list(status.get("conditions") or ())
        for type_, value, reason, message in rows:
            known = condition(definition, type_)
            since = rfc3339(now_s)
            if known is not None and known["status"] == value:
                since = known["lastTransitionTime"]
            made = {
                "type": type_,
                "status": value,
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
            if known in conditions:
                conditions[conditions.index(known)] = made
            else:
                conditions.append(made)
        changed = {**status, "conditions": conditions, "acceptedNames": accepted}
        if changed == status:
            return NOTHING
        request = self._write.update({**definition, "status": changed}, subresource="status")
        return Result([Action(request, gone_is_fine=True)])


def _definition_of(key: str, view: View) -> Object | None:
    """Return the definition that an object is of, None if it is of a built-in kind."""
    return view.get(DEFINITIONS, "", split(key)[0])


def _judged(definition: Object, view: View) -> tuple[Object, list[_Condition]]:
    """Return the names a definition gets, and what is to be said about it."""
    wanted = definition["spec"]["names"]
    had = (definition.get("status") or {}).get("acceptedNames") or {}
    taken = _taken(definition, view)
    conflicts: list[tuple[str, str]] = []
    accepted: dict[str, Any] = {}
    for field in ("plural", "singular", "shortNames", "kind", "listKind", "categories"):
        value = wanted.get(field)
        if value in (None, "", []):
            continue
        pool = taken["kinds" if field in ("kind", "listKind") else "names"]
        names = value if isinstance(value, list) else [value]
        clash = [one for one in names if one in pool] if field != "categories" else []
        if clash:
            reason = f"{field[0].upper()}{field[1:]}Conflict"
            conflicts.append((reason, f'"{clash[0]}" is already in use'))
            if had.get(field):
                accepted[field] = had[field]
        else:
            accepted[field] = value
    accepted = {"plural": "", "kind": "", **accepted}
    ordered: Object = {field: accepted[field] for field in _ORDER if field in accepted}
    if conflicts:
        reason, message = conflicts[0] if len(conflicts) == 1 else (
            "MultipleNamesNotAllowed", ", ".join(text for _, text in conflicts))  # fmt: skip
        told: list[_Condition] = [("NamesAccepted", "False", reason, message)]
        if not _is_established(definition):
            text = "not all names are accepted"
            told.append(("Established", "False", "NotAccepted", text))
        return ordered, told
    return ordered, [
        ("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
        (
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        ),
    ]


_ORDER: Final[Sequence[str]] = (
    "plural",
    "singular",
    "shortNames",
    "kind",
    "listKind",
    "categories",
)


def _is_established(definition: Object) -> bool:
    known = condition(definition, "Established")
    return known is not None and known["status"] == "True"


def _taken(definition: Object, view: View) -> Mapping[str, set[str]]:
    """Return the names and kinds that others of the same group have."""
    names, kinds = set[str](), set[str]()
    for other in view.by(DEFINITIONS, _GROUP, definition["spec"]["group"]):
        if other["metadata"]["name"] == definition["metadata"]["name"]:
            continue
        has = (other.get("status") or {}).get("acceptedNames") or {}
        names |= {has.get("plural", ""), has.get("singular", ""), *(has.get("shortNames") or ())}
        kinds |= {has.get("kind", ""), has.get("listKind", "")}
    return {"names": names - {""}, "kinds": kinds - {""}}
