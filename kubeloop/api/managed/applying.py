"""Server-side apply: an applier says all that he wants of an object, and gives up the rest. Pure.

Source: Kubernetes, "Server-Side Apply", with "Conflicts", "Transferring ownership" and "Upgrading
from client-side apply"; structured-merge-diff's Updater and apimachinery's managers, in behaviour.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kubeloop.api.managed.comparing import compare, named
from kubeloop.api.managed.managers import (
    BEFORE_APPLY,
    SYSTEM,
    Clashes,
    Managed,
    Manager,
    Managers,
    clashes,
    refuse,
    updated,
)
from kubeloop.api.managed.merging import merge, prune
from kubeloop.api.managed.sets import FieldSet, contains, difference, paths, union, without
from kubeloop.api.managed.shapes import Shape, zero

KUBECTL: Final = "kubectl"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply makes of an object, and of its managers."""

    obj: dict[str, Any]
    managers: Managers


@dataclass(frozen=True, slots=True)
class Apply:
    """One apply.

    applier: whose it is;  config: what he wants;  now: metav1.Time.
    ignored: what he cannot set at all: the status where he sets the spec.
    force:   take what others manage.
    """

    shape: Shape
    applier: Manager
    config: Object
    now: str
    ignored: FieldSet
    force: bool = False

    def on(self, live: Object, managers: Managers) -> Applied:
        """Return the outcome for an object; `live` is {} if there is none yet.

        Raises: Clashes.
        """
        if not managers and live:
            before = Manager(BEFORE_APPLY, "Update", self.applier.api_version)
            managers = updated({}, self.shape, zero(self.shape), live, before, self.now)
        try:
            applied = self._on(live, managers, force=self.force)
        except Clashes as error:
            excused = self._was_client_side(live)
            if excused is None:
                raise
            touched = {c.path for c in error.clashes}
            if touched - set(excused):
                left = [c for c in error.clashes if c.path not in excused]
                raise Clashes(left) from None
            applied = self._on(live, managers, force=True)
        if self.applier.name == KUBECTL and LAST_APPLIED in _annotations(applied.obj):
            return Applied(self._with_last_applied(applied.obj), applied.managers)
        return applied

    def _on(self, live: Object, managers: Managers, *, force: bool) -> Applied:
        applier = self.applier.key
        merged = merge(self.shape, live, self.config)
        told = without(named(self.shape, self.config), self.ignored)
        wanted = difference(told, SYSTEM)
        last = managers.get(applier)
        after = dict(managers)
        since = last.time if last is not None else ""
        after[applier] = Managed(wanted, self.applier.api_version, since)
        if last is not None and not contains(wanted, last.fields):
            managed = told  # With the name, which nobody manages, but which has to stay.
            for one in after.values():
                managed = union(managed, one.fields)
            merged = prune(self.shape, merged, last.fields, managed)
            merged = merge(self.shape, merged, self.config)  # A list may have to stay, empty.
        touched, removed = (
            without(fields, self.ignored) for fields in compare(self.shape, live, merged)
        )
        found = clashes(after, touched, applier)
        if not force:
            refuse(found)
        gone = union(touched, removed)
        for manager, one in list(after.items()):
            fields = one.fields if manager == applier else difference(one.fields, gone)
            if not fields:
                del after[manager]
            elif fields is not one.fields:
                after[manager] = Managed(fields, one.api_version, one.time)
        if applier in after and merged != live:
            after[applier] = Managed(after[applier].fields, self.applier.api_version, self.now)
        return Applied(merged, after)

    def _was_client_side(self, live: Object) -> list[str] | None:
        """Return what kubectl's client-side apply set last and nobody changed since, as paths.

        None if that is no excuse: it is another's apply, or there was none.
        """
        text = _annotations(live).get(LAST_APPLIED)
        if self.applier.name != KUBECTL or not isinstance(text, str):
            return None
        try:
            last = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(last, dict) or last.get("apiVersion") != self.applier.api_version:
            return None
        touched, removed = compare(self.shape, last, live)
        same = difference(difference(named(self.shape, last), touched), removed)
        return [*paths(same)]

    def _with_last_applied(self, obj: Object) -> dict[str, Any]:
        """Return an object whose annotation tells of this apply, for client-side ones to come."""
        config = {key: value for key, value in self.config.items() if key != "metadata"}
        metadata = {**(self.config.get("metadata") or {})}
        metadata.pop("managedFields", None)
        told = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != LAST_APPLIED}
        metadata.pop("annotations", None)
        if told:
            metadata["annotations"] = told
        config["metadata"] = metadata
        text = orjson.dumps(config, option=orjson.OPT_SORT_KEYS).decode() + "\n"
        annotations = {**_annotations(obj), LAST_APPLIED: text}
        return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def _annotations(obj: Object) -> Mapping[str, Any]:
    return (obj.get("metadata") or {}).get("annotations") or {}
