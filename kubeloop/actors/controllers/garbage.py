"""The garbage collector: what belongs to something that is gone goes too.

Background: dependents whose owners are all gone are deleted. Foreground: an owner that waits with
`foregroundDeletion` goes after the dependents that block it. Orphan: the dependents of an owner
that waits with `orphan` lose their reference to it first. Source: Kubernetes, "Garbage Collection".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, split
from kubeloop.actors.view import CUSTOM, Index, Object, View
from kubeloop.api.resources import RESOURCES
from kubeloop.store.facts import key_of

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
BATCH_MAX: Final = 500  # Dependents of one owner attended to in one pass.
_WATCHED: Final = tuple(RESOURCES)


def _owner_uids(obj: Object) -> list[str]:
    return [r["uid"] for r in obj["metadata"].get("ownerReferences") or ()]


class GarbageCollector:
    """Work items are objects: those that have owners, and those that wait for dependents."""

    name = "generic-garbage-collector"
    resources = (*_WATCHED, CUSTOM)
    indexes: Mapping[tuple[str, str], Index] = {
        (resource, "owner"): _owner_uids for resource in (*_WATCHED, CUSTOM)
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        if before is not None and after is not None and _ties(before) == _ties(after):
            return
        if after is not None and (_owner_uids(after) or _waits(after)):
            yield key
        # An owner that is gone, or that has begun to wait, is the business of its dependents.
        if before is not None and (after is None or _waits(after)):
            for dependent in _dependents(before["metadata"]["uid"], view):
                yield _key(dependent, view)
        for obj in (before, after):
            if obj is None:
                continue
            for reference in _references(obj):
                owner = _owner(reference, obj, view)
                if owner is not None and _waits(owner):
                    yield _key(owner, view)

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
        uid = owner["metadata"]["uid"]
        dependents = list(_dependents(uid, view))
        if ORPHAN in owner["metadata"]["finalizers"]:
            if dependents:
                doomed = dependents[:BATCH_MAX]
                return Result(
                    [self._write.release(d, [uid], resource=_id(d, view)) for d in doomed]
                )
            return Result([self._let_go(owner, ORPHAN, view)])
        actions = []
        for dependent in dependents:
            others = [r for r in _references(dependent) if r["uid"] != uid]
            if any(_holds(r, dependent, view) for r in others):
                # Another owner keeps it, so this one need not wait for it.
                actions.append(self._write.release(dependent, [uid], resource=_id(dependent, view)))
            elif not dependent["metadata"].get("deletionTimestamp"):
                actions.append(self._delete(dependent, view, waiting=True))
        if not any(_blocks(d, uid) and not _circular(d, uid, view) for d in dependents):
            return Result([*actions[:BATCH_MAX], self._let_go(owner, FOREGROUND, view)])
        return Result(actions[:BATCH_MAX])

    def _attend(self, obj: Object, view: View) -> Result:
        """Delete an object whose owners are gone; forget those that are if others live."""
        references = _references(obj)
        gone = [r["uid"] for r in references if _is_gone(r, obj, view)]
        if not gone:
            return NOTHING
        if len(gone) < len(references):
            return Result([self._write.release(obj, gone, resource=_id(obj, view))])
        return Result([self._delete(obj, view, waiting=False)])

    def _delete(self, obj: Object, view: View, *, waiting: bool) -> Action:
        """Return the deletion of a dependent. waiting: its owner waits until it is gone."""
        finalizers = obj["metadata"].get("finalizers") or ()
        policy = "Background"
        if ORPHAN in finalizers:
            policy = "Orphan"  # It says itself what should become of its own dependents.
        elif FOREGROUND in finalizers or (
            waiting and any(True for _ in _dependents(obj["metadata"]["uid"], view))
        ):
            policy = "Foreground"
        # Should it get another owner in the meantime, it is to stay.
        version = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        request = self._write.delete(
            obj, resource=_id(obj, view), propagationPolicy=policy, preconditions=version
        )
        return Action(request, gone_is_fine=True)

    def _let_go(self, owner: Object, finalizer: str, view: View) -> Action:
        kept = [f for f in owner["metadata"]["finalizers"] if f != finalizer]
        version = owner["metadata"]["resourceVersion"]
        patch: dict[str, Any] = {
            "metadata": {"finalizers": kept or None, "resourceVersion": version}
        }
        request = self._write.patch(owner, patch, resource=_id(owner, view))
        return Action(request, gone_is_fine=True)


def _waits(obj: Object) -> bool:
    """Tell whether an object is being deleted and waits for its dependents."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp"):
        return False
    return any(f in (FOREGROUND, ORPHAN) for f in metadata.get("finalizers") or ())


def _dependents(uid: str, view: View) -> Iterable[Object]:
    for resource in view.catalogue.by_id:
        yield from view.by(resource, "owner", uid)


def _references(obj: Object) -> Sequence[Mapping[str, Any]]:
    return obj["metadata"].get("ownerReferences") or ()


def _ties(obj: Object) -> tuple[Any, ...]:
    """Return what of an object is our business; when it stays, nothing is to be done."""
    metadata = obj["metadata"]
    references, finalizers = metadata.get("ownerReferences"), metadata.get("finalizers")
    return references or [], finalizers or [], "deletionTimestamp" in metadata


def _blocks(dependent: Object, uid: str) -> bool:
    return any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in _references(dependent))


def _circular(dependent: Object, uid: str, view: View) -> bool:
    """Tell whether a dependent waits, itself or by way of its own, for the very owner `uid`."""
    seen: set[str] = set()
    stack = [dependent]
    while stack:
        obj = stack.pop()
        own = obj["metadata"]["uid"]
        if own == uid:
            return True
        if own not in seen and _waits(obj):
            seen.add(own)
            stack += [d for d in _dependents(own, view) if _blocks(d, own)]
    return False


def _holds(reference: Mapping[str, Any], dependent: Object, view: View) -> bool:
    """Tell whether an owner keeps a dependent alive: it exists and does not wait to go first."""
    owner = _owner(reference, dependent, view)
    if owner is None:
        return not _is_gone(reference, dependent, view)
    metadata = owner["metadata"]
    waits = metadata.get("deletionTimestamp") and FOREGROUND in (metadata.get("finalizers") or ())
    return not waits


def _owner(reference: Mapping[str, Any], dependent: Object, view: View) -> Object | None:
    """Return the owner; an object of the same name and another uid is another object."""
    resource = view.catalogue.by_kind.get((reference["apiVersion"], reference["kind"]))
    if resource is None:
        return None
    namespace = dependent["metadata"].get("namespace", "") if resource.namespaced else ""
    owner = view.get(resource.id, namespace, reference["name"])
    return owner if owner is not None and owner["metadata"]["uid"] == reference["uid"] else None


def _is_gone(reference: Mapping[str, Any], dependent: Object, view: View) -> bool:
    """Tell whether an owner does not exist, as far as one can know.

    One of a kind nobody watches is taken to exist; so is one with a namespace that a dependent
    without one refers to, for nobody can tell which is meant.
    """
    resource = view.catalogue.by_kind.get((reference["apiVersion"], reference["kind"]))
    if resource is None or (resource.namespaced and not dependent["metadata"].get("namespace")):
        return False
    return _owner(reference, dependent, view) is None


def _id(obj: Object, view: View) -> str:
    """Return the id of an object's resource: in whatever version it is stored, the kind tells."""
    found = view.catalogue.by_kind.get((obj["apiVersion"], obj["kind"]))
    return view.catalogue.stored_as(obj) if found is None else found.id


def _key(obj: Object, view: View) -> str:
    metadata = obj["metadata"]
    return key_of(_id(obj, view), metadata.get("namespace", ""), metadata["name"])
