"""What every controller is made of: the protocol, the actions, and small helpers. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgpack

from kubeloop.actors.view import Index, Object, View
from kubeloop.api.calls import Request
from kubeloop.api.resources import RESOURCES
from kubeloop.api.selectors import label_selector
from kubeloop.api.times import parse, rfc3339
from kubeloop.store.facts import key_of

DONE_PHASES: Final = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell the user. message may name the outcome: "{name}", "{error}"."""

    regarding: Object
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Action:
    """A write, and what to tell when it worked or failed.

    failure:      also makes the refusal the `trouble` of the next look at this work item.
    gone_is_fine: 404 counts as done.
    """

    request: Request
    success: Event | None = None
    failure: Event | None = None
    gone_is_fine: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What one look at a key led to: writes, events, and when to look again [s from now].

    since: the revision of the fact that set that clock going; 0: of the one that made us look now.
    owes: something is left to be done then, whatever else happens; else it is only looked whether
          all is still well.
    """

    actions: Sequence[Action] = ()
    events: Sequence[Event] = ()
    again_s: float | None = None
    since: int = 0
    owes: bool = False


NOTHING: Final = Result()


class Controller(Protocol):
    """A controller: pure, stateless, level-triggered. It reads what is, never what happened."""

    @property
    def name(self) -> str:
        """Its name in events: "deployment-controller"."""

    @property
    def resources(self) -> Sequence[str]:
        """The resources it watches."""

    @property
    def indexes(self) -> Mapping[tuple[str, str], Index]:
        """The indexes it needs of the view."""

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        """Yield the work items that the change of `key` touches."""

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        """Return the writes that bring one work item closer to what is wanted.

        now_s:   seconds since 1970.
        trouble: why a write of the last look at this item was refused; "" if none was.
        """


def split(key: str) -> tuple[str, str, str]:
    """Return (resource, namespace, name) of a store key."""
    _, _, resource, *rest = key.split("/")
    return resource, rest[0] if len(rest) == 2 else "", rest[-1]


def controller_of(obj: Object) -> Mapping[str, Any] | None:
    """Return the ownerReference of the controller of an object, None if it has none."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((r for r in references if r.get("controller")), None)


def controller_uids(obj: Object) -> list[str]:
    """Index: the uid of the controller."""
    owner = controller_of(obj)
    return [owner["uid"]] if owner is not None else []


def own_uid(obj: Object) -> list[str]:
    """Index: the object's own uid."""
    return [obj["metadata"]["uid"]]


def own_namespace(obj: Object) -> list[str]:
    """Index: the namespace."""
    return [obj["metadata"].get("namespace", "")]


def orphan_namespace(obj: Object) -> list[str]:
    """Index: the namespace of an object that nobody controls."""
    return own_namespace(obj) if controller_of(obj) is None else []


def owners(resource: str, kind: str, namespace: str, *dependents: Object | None) -> Iterator[str]:
    """Yield the keys of those of a kind that control a dependent, before its change or after."""
    for obj in dependents:
        owner = None if obj is None else controller_of(obj)
        if owner is not None and owner.get("kind") == kind:
            yield key_of(resource, namespace, owner["name"])


def adopters(resource: str, obj: Object | None, view: View) -> Iterator[str]:
    """Yield the keys of those whose selector chooses an object that nobody controls."""
    if obj is None or controller_of(obj) is not None:
        return
    labels = obj["metadata"].get("labels") or {}
    for found in view.by(resource, "namespace", obj["metadata"]["namespace"]):
        if label_selector(found["spec"].get("selector")).matches(labels):
            yield key_of(resource, found["metadata"]["namespace"], found["metadata"]["name"])


def reference_to(owner: Object) -> dict[str, Any]:
    """Return the ownerReference by which `owner` controls an object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_active(pod: Object) -> bool:
    """Tell whether a pod counts: it has not finished and is not being deleted."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in DONE_PHASES and not pod["metadata"].get("deletionTimestamp")


def condition(obj: Object, type_: str) -> Mapping[str, Any] | None:
    """Return a condition of an object's status, None if it has not been set."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == type_), None)


def is_ready(pod: Object) -> bool:
    """Tell whether a pod's Ready condition is True."""
    ready = condition(pod, "Ready")
    return ready is not None and ready["status"] == "True"


def revision_of(obj: Object) -> int:
    """Return the revision of an object's last change."""
    return int(obj["metadata"]["resourceVersion"])


def unix_s(text: Any) -> float:
    """Return seconds since 1970; 0 for what is no time: users may write into statuses."""
    try:
        return parse(text)
    except (TypeError, ValueError):
        return 0.0


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes the requests of one controller."""

    controller: str
    user: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "user", f"system:serviceaccount:kube-system:{self.controller}")

    def create(self, obj: Mapping[str, Any]) -> Request:
        """Return the request that creates an object."""
        resource = _resource_id(obj)
        namespace = obj["metadata"].get("namespace", "")
        return Request("create", resource, namespace, body=msgpack.packb(obj), user=self.user)

    def update(self, obj: Mapping[str, Any], *, subresource: str = "") -> Request:
        """Return the request that replaces an object if it has not changed since."""
        return self._about(obj, "update", subresource, msgpack.packb(obj), {})

    def patch(
        self,
        obj: Object,
        patch: Any,
        *,
        type_: str = "merge",
        subresource: str = "",
        resource: str = "",
    ) -> Request:
        """Return the request that patches this very object (its uid is checked).

        resource: its id, which of a custom kind only its key tells.
        """
        if isinstance(patch, dict):
            metadata = {**patch.get("metadata", {}), "uid": obj["metadata"]["uid"]}
            patch = {**patch, "metadata": metadata}
        options = {"patchType": type_}
        return self._about(obj, "patch", subresource, msgpack.packb(patch), options, resource)

    def adopt(self, obj: Object, owner: Object) -> Action:
        """Return the write that makes `owner` the controller of `obj`, unless it has one by now."""
        patch = {"metadata": {"ownerReferences": [reference_to(owner)]}}
        return Action(self.patch(obj, patch, type_="strategic"), gone_is_fine=True)

    def release(self, obj: Object, uids: Iterable[str], *, resource: str = "") -> Action:
        """Return the write that takes these owners from `obj`, and leaves all others."""
        metadata = obj["metadata"]
        if (obj["apiVersion"], obj["kind"]) in _IDS:
            gone = [{"$patch": "delete", "uid": uid} for uid in uids]
            patch: Any = {"metadata": {"ownerReferences": gone}}
            return Action(self.patch(obj, patch, type_="strategic"), gone_is_fine=True)
        # A custom kind knows no merging of lists: the list is written whole, or not at all.
        doomed, version = set(uids), metadata["resourceVersion"]
        kept = [r for r in metadata.get("ownerReferences") or () if r["uid"] not in doomed]
        patch = {"metadata": {"ownerReferences": kept or None, "resourceVersion": version}}
        return Action(self.patch(obj, patch, resource=resource), gone_is_fine=True)

    def disrupt(
        self, pod: Object, reason: str, message: str, now_s: float, *, failed: bool = False
    ) -> list[Action]:
        """Return the write that says why a pod will be ended, none if that is known.

        failed: nobody will ever report the pod's end, so its phase is told to be Failed.
        """
        phase = (pod.get("status") or {}).get("phase")
        known = condition(pod, "DisruptionTarget")
        if phase in DONE_PHASES or (known is not None and known.get("reason") == reason):
            return []
        target = {
            "type": "DisruptionTarget",
            "status": "True",
            "lastTransitionTime": rfc3339(now_s),
            "reason": reason,
            "message": message,
        }
        status: dict[str, Any] = {"conditions": [target], **({"phase": "Failed"} if failed else {})}
        request = self.patch(pod, {"status": status}, type_="strategic", subresource="status")
        return [Action(request, gone_is_fine=True)]

    def delete(self, obj: Object, *, resource: str = "", **options: Any) -> Request:
        """Return the request that deletes this very object (its uid is checked)."""
        preconditions = {"uid": obj["metadata"]["uid"], **options.pop("preconditions", {})}
        options["preconditions"] = preconditions
        return self._about(obj, "delete", "", b"", options, resource)

    def _about(
        self,
        obj: Object,
        verb: str,
        subresource: str,
        body: bytes,
        options: dict[str, Any],
        resource: str = "",
    ) -> Request:
        metadata = obj["metadata"]
        return Request(
            verb,
            resource or _resource_id(obj),
            metadata.get("namespace", ""),
            metadata["name"],
            subresource,
            body,
            options,
            self.user,
        )


_IDS: Final = {(r.api_version, r.kind): r.id for r in RESOURCES.values()}


def _resource_id(obj: Mapping[str, Any]) -> str:
    return _IDS[obj["apiVersion"], obj["kind"]]
