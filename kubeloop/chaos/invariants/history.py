"""Revisions go on one by one, and what must never change of an object does not.

Source: Kubernetes API Concepts, "Resource versions", "Efficient detection of changes"; "Object
Names and IDs: UIDs"; "Pod Lifecycle: Pod phase"; "Service: Choosing your own IP address".
"""

from collections.abc import Iterator, Sequence
from typing import Any

from kubeloop.chaos.invariants.tale import (
    DEPLOYMENTS,
    DONE,
    PODS,
    SERVICES,
    SETS,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    uid_of,
    writer,
)
from kubeloop.chaos.watching import Broken
from kubeloop.store.facts import Fact, is_object


class Revisions(Watcher):
    """Facts come in the order of their revisions, none twice, none left out.

    Each tells which one of its object came before it, and its object has its revision as its
    resourceVersion; so that of an object never goes back.
    """

    name = "revisions"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._last, self._keys = 0, set[str]()  # The newest revision, and what it changes.
        self._compared = -1  # Up to here what was told is what the store keeps; -1: not begun.

    def heard(self, facts: Sequence[Fact]) -> None:
        super().heard(facts)
        if self._compared < 0:
            self._compared = self.tale.cluster.store.history.floor
        kept = self.tale.since(self._compared)
        if kept is not None:
            _compare(facts, list(filter(is_object, kept)), self._compared)
        self._compared = self.tale.revision

    def see(self, change: Change) -> None:
        fact = change.fact
        if fact.revision < self._last or (fact.revision == self._last and fact.key in self._keys):
            raise Broken(f"{called(fact.key)}: revision {fact.revision} after {self._last}")
        if fact.revision > self._last:
            self._last, self._keys = fact.revision, set()
        self._keys.add(fact.key)
        known = 0 if change.before is None else int(change.before["metadata"]["resourceVersion"])
        if fact.prev_revision != known:
            raise Broken(
                f"{called(fact.key)}: revision {fact.revision} says it comes after "
                f"{fact.prev_revision}, but the last that was told is {known}"
            )
        if change.after is not None:
            version = change.after["metadata"].get("resourceVersion")
            if version != str(fact.revision):
                raise Broken(
                    f"{called(fact.key)}: revision {fact.revision} has resourceVersion {version!r}"
                )


def _compare(told: Sequence[Fact], kept: Sequence[Fact], since: int) -> None:
    """See that what was told after a revision is what the store keeps."""
    for fact, other in zip(told, kept, strict=False):
        if fact is not other and (fact.revision, fact.key, fact.value) != (
            other.revision,
            other.key,
            other.value,
        ):
            raise Broken(
                f"after revision {since}: told of {called(fact.key)} at {fact.revision} where the "
                f"store has {called(other.key)} at {other.revision}"
            )
    if len(told) != len(kept):
        more, how = (kept, "nobody was told of") if len(kept) > len(told) else (told, "forgets")
        fact = more[min(len(told), len(kept))]
        raise Broken(f"{called(fact.key)}: revision {fact.revision}: {how} it")


class Identities(Watcher):
    """A uid is of one object for ever, and what is said to be immutable stays.

    Of every object: uid and creationTimestamp; that it is being deleted; its generation never
    falls, and of Deployments and ReplicaSets it rises with every change of the spec. Of a Pod:
    spec.nodeName once set, and the phases Succeeded and Failed; its grace only becomes shorter.
    Of a Service: clusterIP, unless its type is or was ExternalName. Of Deployments and
    ReplicaSets: the selector.
    """

    name = "identities"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._uids: set[str] = set()  # Of all objects there ever were.

    def see(self, change: Change) -> None:
        fact, before, after = change.fact, change.before, change.after
        if after is None:
            return
        if before is None:
            uid = uid_of(after)
            if uid in self._uids:
                raise Broken(f"{called(fact.key)}: uid {uid} has been another object's before")
            self._uids.add(uid)
            return
        for field, was, is_ in _broken(change.resource, before, after):
            raise Broken(
                f"{called(fact.key)}: {writer(fact)} changed {field} from {was!r} to {is_!r} at "
                f"revision {fact.revision}"
            )


def _broken(resource: str, before: Object, after: Object) -> Iterator[tuple[str, Any, Any]]:
    """Yield (field, before, after) of what must not have changed so."""
    was, is_ = before["metadata"], after["metadata"]
    for field in ("uid", "creationTimestamp", "name", "namespace"):
        if was.get(field) != is_.get(field):
            yield f"metadata.{field}", was.get(field), is_.get(field)
    if is_.get("generation", 0) < was.get("generation", 0):
        yield "metadata.generation", was["generation"], is_.get("generation")
    if was.get("deletionTimestamp"):
        if not is_.get("deletionTimestamp"):
            yield "metadata.deletionTimestamp", was["deletionTimestamp"], None
        grace, left = (m.get("deletionGracePeriodSeconds") or 0 for m in (was, is_))
        if left > grace:
            yield "metadata.deletionGracePeriodSeconds", grace, left
    if resource == PODS:
        yield from _broken_pod(before, after)
    elif resource == SERVICES:
        types = [obj["spec"].get("type") for obj in (before, after)]
        address, now = (obj["spec"].get("clusterIP") for obj in (before, after))
        if address and address != now and "ExternalName" not in types:
            yield "spec.clusterIP", address, now
    elif resource in (DEPLOYMENTS, SETS):
        selector, now = (obj["spec"].get("selector") for obj in (before, after))
        if selector != now:
            yield "spec.selector", selector, now
        if before["spec"] != after["spec"] and was.get("generation") == is_.get("generation"):
            yield "spec, but not its generation,", before["spec"], after["spec"]


def _broken_pod(before: Object, after: Object) -> Iterator[tuple[str, Any, Any]]:
    node, now = (pod["spec"].get("nodeName") for pod in (before, after))
    if node and node != now:
        yield "spec.nodeName", node, now
    phase, now = ((pod.get("status") or {}).get("phase") for pod in (before, after))
    if phase in DONE and phase != now:
        yield "status.phase", phase, now
