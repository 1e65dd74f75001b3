"""ControllerRevisions: the templates that a StatefulSet or DaemonSet has had, numbered. Pure.

A revision holds a strategic merge patch that brings its template back. There is one for each
template; one that is wanted again gets the next number. Whoever makes pods makes them of a
revision, so each pod can tell which template it has.

Source: Kubernetes, "DaemonSets: rollback", "StatefulSet: revision history".
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    Action,
    Writer,
    condition,
    is_ready,
    reference_to,
    unix_s,
)
from kubeloop.actors.controllers.deployment import template_hash
from kubeloop.actors.view import Object, View
from kubeloop.api.selectors import label_selector

REVISIONS: Final = "controllerrevisions.apps"
POD_HASH: Final = "controller-revision-hash"  # The label by which a pod tells its revision.
_LIMIT: Final = 10
_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Lineage:
    """The revisions of an object.

    past:    all of them, oldest first;  update: that of its template, None until there is one.
    actions: what is to be done first.
    """

    past: Sequence[Object]
    update: Object | None
    actions: Sequence[Action] = ()

    def named(self, name: str | None) -> Object | None:
        """Return the revision called `name`, None if it is not there."""
        return next((r for r in self.past if r["metadata"]["name"] == name), None)


def lineage(write: Writer, owner: Object, view: View, label: str) -> Lineage:
    """Return the revisions of `owner`. label: what the hash is called on a revision."""
    metadata = owner["metadata"]
    past = sorted(view.by(REVISIONS, "controller", metadata["uid"]), key=_age)
    selector = label_selector(owner["spec"].get("selector"))
    adopted = [
        write.adopt(orphan, owner)
        for orphan in view.by(REVISIONS, "orphan", metadata["namespace"])
        if selector.matches(orphan["metadata"].get("labels") or {})
        and not orphan["metadata"].get("deletionTimestamp")
    ]
    if adopted:
        return Lineage(past, None, adopted)
    data = {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}
    newest = past[-1]["revision"] if past else 0
    same = [r for r in past if r["data"] == data]
    if not same:
        return Lineage(past, None, [_new(write, owner, view, data, newest + 1, label)])
    update = same[-1]
    if update["revision"] == newest:
        return Lineage(past, update)
    return Lineage(past, update, [Action(write.update({**update, "revision": newest + 1}))])


def template_of(revision: Object) -> Mapping[str, Any]:
    """Return the pod template a revision holds."""
    return {k: v for k, v in revision["data"]["spec"]["template"].items() if k != "$patch"}


def outdated(write: Writer, owner: Object, line: Lineage, live: Container[str]) -> list[Action]:
    """Return the writes that delete the oldest revisions no one needs. live: those of use."""
    limit = owner["spec"].get("revisionHistoryLimit")
    idle = [r for r in line.past if r["metadata"]["name"] not in live]
    surplus = len(idle) - (_LIMIT if limit is None else limit)
    return [Action(write.delete(r), gone_is_fine=True) for r in idle[: max(0, surplus)]]


def available_in_s(pod: Object, min_ready_s: int, now_s: float) -> float:
    """Return how long until a pod is available [s]: 0 or less if it is; infinite: not ready."""
    if not is_ready(pod):
        return _NEVER
    ready = condition(pod, "Ready") or {}
    return unix_s(ready.get("lastTransitionTime")) + min_ready_s - now_s if min_ready_s else 0.0


def number(value: int | str, total: int, *, up: bool) -> int:
    """Return a count, or what a percentage is of `total`, rounded up or down."""
    if isinstance(value, int):
        return value
    percent = int(value.removesuffix("%"))
    return -(-total * percent // 100) if up else total * percent // 100


def _new(
    write: Writer, owner: Object, view: View, data: Mapping[str, Any], revision: int, label: str
) -> Action:
    """Return the write that makes a revision; if its name is taken, that makes the next other."""
    metadata, status = owner["metadata"], owner.get("status") or {}
    template, collisions = owner["spec"]["template"], status.get("collisionCount") or 0
    digest = template_hash(template, collisions)
    name = f"{metadata['name']}-{digest}"
    if view.get(REVISIONS, metadata["namespace"], name) is not None:
        changed = {**owner, "status": {**status, "collisionCount": collisions + 1}}
        return Action(write.update(changed, subresource="status"))
    labels = (template.get("metadata") or {}).get("labels") or {}
    told: dict[str, Any] = {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": {**labels, label: digest},
        "ownerReferences": [reference_to(owner)],
    }
    if metadata.get("annotations"):
        told["annotations"] = dict(metadata["annotations"])
    made = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": told,
        "data": data,
        "revision": revision,
    }
    return Action(write.create(made))


def _age(revision: Object) -> tuple[int, str, str]:
    metadata = revision["metadata"]
    return revision["revision"], metadata["creationTimestamp"], metadata["name"]
