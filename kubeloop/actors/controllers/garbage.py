"""The garbage collector: what belongs to something that is gone goes too.

Background: dependents whose owners are all gone are deleted. Foreground: an owner that waits with
`foregroundDeletion` goes after the dependents that block it. Orphan: the dependents of an owner
that waits with `orphan` lose their reference to it first. Source: Kubernetes, "Garbage Collection".
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, own_uid, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.resources import BY_KIND, RESOURCES

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
_WATCHED: Final = tuple(RESOURCES)


def _owner_uids(obj: Object) -> list[str]:
    return [r["uid"] for r in obj["metadata"].get("ownerReferences") or ()]


class GarbageCollector:
    """Work items are objects: those that have owners, and those that wait for dependents."""

    name = "generic-garbage-collector"
    resources = _WATCHED
    indexes: Mapping[tuple[str, str], Index] = {
        **{(resource, "uid"): own_uid for resource in _WATCHED},
        **{(resource, "owner"): _owner_uids for resource in _WATCHED},
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        if after is not None and (_owner_uids(after) or _waits(after)):
            yield key
        # An owner that is gone, or that has begun to wait, is the business of its dependents.
        if before is not None and (after is None or _waits(after)):
            for dependent in _dependents(before["metadata"]["uid"], view):
                yield _key(dependent)
        for obj in (before, after):
            for uid in _owner_uids(obj) if obj is not None else ():
                for owner in _by_uid(uid, view):
                    if _waits(owner):
                        yield _key(owner)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        obj = view.get(*split(key))
        if obj is None:
            return NOTHING
        if _waits(obj):
            return self._wait(obj, view)
        if obj["metadata"].get("deletionTimestamp"):
            return NOTHING
        return self._attend(obj, view)

    def _wait(self, owner: Object, view: View) -> Result:
        """Take the next step of an owner that is being deleted."""
        finalizers = owner["metadata"]["finalizers"]
        dependents = list(_dependents(owner["metadata"]["uid"], view))
        if ORPHAN in finalizers:
            if dependents:
                return Result([self._release(d, owner) for d in dependents])
            return Result([self._let_go(owner, ORPHAN)])
        blocking = [d for d in dependents if _blocks(d, owner)]
        doomed = [d for d in dependents if not d["metadata"].get("deletionTimestamp")]
        actions = [self._delete(d, "Foreground") for d in doomed if _has_only(d, owner, view)]
        if not blocking:
            actions.append(self._let_go(owner, FOREGROUND))
        return Result(actions)

    def _attend(self, obj: Object, view: View) -> Result:
        """Delete an object whose owners are gone; forget those that are if others live."""
        references = obj["metadata"].get("ownerReferences") or ()
        gone = [r for r in references if _is_gone(r, obj, view)]
        if not gone:
            return NOTHING
        living = [r for r in references if r not in gone]
        if living:
            patch = {"metadata": {"ownerReferences": living}}
            return Result([Action(self._write.patch(obj, patch), gone_is_fine=True)])
        return Result([self._delete(obj, "Background")])

    def _delete(self, obj: Object, policy: str) -> Action:
        # An object that is to be orphaned or waited for says so itself, and keeps its way.
        finalizers = obj["metadata"].get("finalizers") or ()
        if ORPHAN in finalizers:
            policy = "Orphan"
        elif FOREGROUND in finalizers:
            policy = "Foreground"
        return Action(self._write.delete(obj, propagationPolicy=policy), gone_is_fine=True)

    def _release(self, dependent: Object, owner: Object) -> Action:
        uid = owner["metadata"]["uid"]
        kept = [r for r in dependent["metadata"]["ownerReferences"] if r["uid"] != uid]
        patch = {"metadata": {"ownerReferences": kept or None}}
        return Action(self._write.patch(dependent, patch), gone_is_fine=True)

    def _let_go(self, owner: Object, finalizer: str) -> Action:
        kept = [f for f in owner["metadata"]["finalizers"] if f != finalizer]
        version = owner["metadata"]["resourceVersion"]
        patch: dict[str, Any] = {
            "metadata": {"finalizers": kept or None, "resourceVersion": version}
        }
        return Action(self._write.patch(owner, patch), gone_is_fine=True)


def _waits(obj: Object) -> bool:
    """Tell whether an object is being deleted and waits for its dependents."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp"):
        return False
    return any(f in (FOREGROUND, ORPHAN) for f in metadata.get("finalizers") or ())


def _dependents(uid: str, view: View) -> Iterable[Object]:
    for resource in _WATCHED:
        yield from view.by(resource, "owner", uid)


def _by_uid(uid: str, view: View) -> Iterable[Object]:
    for resource in _WATCHED:
        yield from view.by(resource, "uid", uid)


def _blocks(dependent: Object, owner: Object) -> bool:
    uid = owner["metadata"]["uid"]
    references = dependent["metadata"].get("ownerReferences") or ()
    return any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in references)


def _has_only(dependent: Object, owner: Object, view: View) -> bool:
    """Tell whether nobody else keeps a dependent alive."""
    uid = owner["metadata"]["uid"]
    others = [r for r in dependent["metadata"].get("ownerReferences") or () if r["uid"] != uid]
    return all(_is_gone(r, dependent, view) for r in others)


def _is_gone(reference: Mapping[str, Any], dependent: Object, view: View) -> bool:
    """Tell whether an owner does not exist; one of a kind nobody watches is taken to exist.

    An owner of the same name and another uid is another object.
    """
    resource = BY_KIND.get((reference["apiVersion"], reference["kind"]))
    if resource is None:
        return False
    namespace = dependent["metadata"].get("namespace", "") if resource.namespaced else ""
    owner = view.get(resource.id, namespace, reference["name"])
    return owner is None or owner["metadata"]["uid"] != reference["uid"]


def _key(obj: Object) -> str:
    resource = BY_KIND[obj["apiVersion"], obj["kind"]].id
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "")
    middle = f"{namespace}/" if namespace else ""
    return f"/registry/{resource}/{middle}{metadata['name']}"
