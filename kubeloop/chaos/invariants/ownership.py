"""What belongs to something lives as long as that does; what is being deleted goes.

Source: Kubernetes, "Garbage Collection: Owners and dependents, Cascading deletion", "Finalizers",
"Namespaces".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubeloop.api.resources import Resource
from kubeloop.chaos.invariants.tale import (
    NODES,
    PODS,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    is_ending,
    uid_of,
    writer,
)
from kubeloop.chaos.watching import Broken
from kubeloop.store.facts import key_of

COLLECTOR: Final = "generic-garbage-collector"
ORPHAN: Final = "orphan"
_HEARTBEATS: Final = ("leases.coordination.k8s.io", "events", NODES)
_OWN: Final = ("foregroundDeletion", ORPHAN, "kubernetes")


class Ownership(Watcher):
    """The garbage collector takes all that it must, and nothing else.

    - It deletes nothing of which an owner lives, unless that owner is being deleted itself.
    - When an object has gone that was deleted with propagationPolicy Orphan, nothing that was there
      before its deletion names it as an owner any more; and the collector has not taken any of it.
    - At rest every owner that is named exists; so whatever was not orphaned on purpose, which
      takes the name away, has gone with its owner.
    - At rest nothing is being deleted, and no finalizer of Kubernetes' own is left. What a user's
      own finalizer holds may stay, and a pod of a node that is not up.
    """

    name = "ownership"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._orphaning: dict[str, int] = {}  # Uid of an owner → the revision that deletes it.
        self._made: dict[str, int] = {}  # Uid of a dependent → the revision that made it.
        self._named: dict[str, dict[str, str]] = {}  # Uid of an owner → uid → key of dependents.

    def see(self, change: Change) -> None:
        self._follow(change)
        if change.resource not in _HEARTBEATS:
            self._see_orphaning(change)
        begun = change.after is None or (
            is_ending(change.after) and not (change.before and is_ending(change.before))
        )
        if not begun or writer(change.fact) != COLLECTOR or change.before is None:
            return
        for reference in _references(change.before):
            owner, uid = self._owner(reference, change.before), str(reference["uid"])
            if self._made.get(uid_of(change.before), 0) < self._orphaning.get(uid, 0):
                raise Broken(
                    f"revision {change.fact.revision}: {COLLECTOR} deletes "
                    f"{called(change.fact.key)}, and {_named(reference)} was deleted with Orphan"
                )
            if owner is not None and not is_ending(owner):
                raise Broken(
                    f"revision {change.fact.revision}: {COLLECTOR} deletes "
                    f"{called(change.fact.key)}, whose owner {_named(reference)} lives"
                )

    def _follow(self, change: Change) -> None:
        """Remember who names whom as an owner."""
        before, after, uid = change.before, change.after, uid_of(change.either)
        was = _references(before) if before is not None else ()
        is_ = _references(after) if after is not None else ()
        if was == is_:
            return
        for reference in was:
            self._named.get(str(reference["uid"]), {}).pop(uid, None)
        for reference in is_:
            self._named.setdefault(str(reference["uid"]), {})[uid] = change.fact.key
        if before is None:
            self._made[uid] = change.fact.revision

    def _see_orphaning(self, change: Change) -> None:
        """Follow those who are deleted so that their dependents stay, and see that they do."""
        uid, obj, fact = uid_of(change.either), change.after, change.fact
        if obj is not None:
            if not is_ending(obj):
                return
            if ORPHAN in (obj["metadata"].get("finalizers") or ()):
                self._orphaning.setdefault(uid, fact.revision)
            elif writer(fact) != COLLECTOR:
                self._orphaning.pop(uid, None)  # Somebody wants them gone after all.
            return
        if uid in self._orphaning and writer(fact) != COLLECTOR:
            del self._orphaning[uid]  # Somebody did not wait.
        if uid not in self._orphaning:
            return
        for dependent, key in self._named.get(uid, {}).items():
            if self._made.get(dependent, fact.revision) < self._orphaning[uid]:
                raise Broken(
                    f"revision {fact.revision}: {called(fact.key)} is gone, which was deleted "
                    f"with Orphan, and {called(key)} still names it as its owner"
                )

    def rest(self) -> None:
        for resource in self.tale.view.catalogue.by_id:
            for obj in self.tale.view.list(resource):
                key = key_of(resource, obj["metadata"].get("namespace", ""), _name(obj))
                self._check_owners(key, obj)
                if is_ending(obj):
                    self._check_ending(key, obj)

    def _check_owners(self, key: str, obj: Object) -> None:
        for reference in _references(obj):
            known = self._kind(reference)
            if known is None or (known.namespaced and not obj["metadata"].get("namespace")):
                continue  # Nobody can tell.
            if self._owner(reference, obj) is None:
                raise Broken(f"{called(key)} is there at rest, its owner {_named(reference)} gone")

    def _check_ending(self, key: str, obj: Object) -> None:
        finalizers = [*(obj["metadata"].get("finalizers") or ())]
        finalizers += (obj.get("spec") or {}).get("finalizers") or ()
        if any(finalizer not in _OWN for finalizer in finalizers):
            return
        if key.startswith(f"/registry/{PODS}/"):
            node = str(obj["spec"].get("nodeName") or "")
            if self.tale.view.get(NODES, "", node) is not None and not self.tale.is_up(node):
                return
        why = f"its finalizers are {finalizers}" if finalizers else "nothing holds it"
        raise Broken(
            f"{called(key)} is still being deleted at rest, since "
            f"{obj['metadata']['deletionTimestamp']}: {why}"
        )

    def _kind(self, reference: Mapping[str, Any]) -> Resource | None:
        wanted = reference["apiVersion"], reference["kind"]
        return self.tale.view.catalogue.by_kind.get(wanted)

    def _owner(self, reference: Mapping[str, Any], dependent: Object) -> Object | None:
        """Return the object a reference names, None if there is none of that uid."""
        resource = self._kind(reference)
        if resource is None:
            return None
        namespace = dependent["metadata"].get("namespace", "") if resource.namespaced else ""
        owner = self.tale.view.get(resource.id, namespace, reference["name"])
        return owner if owner is not None and uid_of(owner) == reference["uid"] else None


def _references(obj: Object) -> Sequence[Mapping[str, Any]]:
    return obj["metadata"].get("ownerReferences") or ()


def _named(reference: Mapping[str, Any]) -> str:
    return f"{reference['kind']} {reference['name']} (uid {reference['uid']})"


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])
