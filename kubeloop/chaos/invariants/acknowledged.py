"""What a user was told is done is done, and stays so.

Source: docs/store.md, "What is promised"; Kubernetes API Concepts, "Resource versions".
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgpack

from kubeloop.api.calls import Request
from kubeloop.api.errors import Expired
from kubeloop.api.resources import RESOURCES
from kubeloop.chaos.invariants.tale import Change, Object, Tale, Watcher, called
from kubeloop.chaos.watching import Broken
from kubeloop.store.facts import Fact, key_of, prefix_of

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Acknowledged

_MAPS = "configmaps"


class AcknowledgedWrites(Watcher):
    """No acknowledged write is lost.

    When a write is acknowledged its fact has been told: there is one of that object, at that
    revision. It is there at the end, too, whatever crashed; and what the API server has at the end
    is what was told, to the byte. What was written into a ConfigMap is what its fact says.
    """

    name = "acknowledged"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._newest: dict[str, int] = {}  # Key → revision of its newest fact, be it a deletion.
        self._checked = self._told = 0

    def heard(self, facts: Sequence[Fact]) -> None:
        self._check()
        super().heard(facts)
        self._told = facts[-1].revision

    def see(self, change: Change) -> None:
        self._newest[change.fact.key] = change.fact.revision

    def rest(self) -> None:
        self._check()
        for done in self.tale.stage.acknowledged:
            self._look_up(done)
        for resource in self.tale.view.catalogue.by_id:
            self._compare(resource)

    def _check(self) -> None:
        """Look at what was acknowledged between what was told last, and what comes now."""
        acknowledged = self.tale.stage.acknowledged
        for done in acknowledged[self._checked :]:
            if done.revision > self._told:
                raise Broken(
                    f"{_told(done.request)} was acknowledged at {done.at_s:.3f} s as of revision "
                    f"{done.revision}, but by then no more than revision {self._told} was true"
                )
            self._look_up(done)
        self._checked = len(acknowledged)

    def _look_up(self, done: "Acknowledged") -> None:
        """See that the fact of a write is where its answer says."""
        request = done.request
        if request.verb == "deletecollection" or request.options.get("dryRun"):
            return
        try:
            facts = self.tale.cluster.store.history.facts_at(done.revision)
        except Expired:
            return  # The past is forgotten.
        found = next((fact for fact in facts if _is_about(fact, request)), None)
        if found is None:
            raise Broken(
                f"{_told(request)} was acknowledged at {done.at_s:.3f} s as revision "
                f"{done.revision}, which has {[called(fact.key) for fact in facts]}"
            )
        if self._newest.get(found.key, 0) < done.revision:
            raise Broken(
                f"{_told(request)} was acknowledged as revision {done.revision}, but nobody was "
                "told of that"
            )
        if request.resource == _MAPS and request.verb != "delete":
            _compare_data(done, found.object())

    def _compare(self, resource: str) -> None:
        """See that what was told of a resource is what the store has."""
        stored = dict(self.tale.stored(resource))
        told = {_key(resource, obj): obj for obj in self.tale.view.list(resource)}
        for key in sorted(stored.keys() | told.keys()):
            if stored.get(key) != told.get(key):
                raise Broken(
                    f"{called(key)}: the last that was told of it is revision "
                    f"{self._newest.get(key)}: {_brief(told.get(key))}; "
                    f"the API server has {_brief(stored.get(key))}"
                )


def _is_about(fact: Fact, request: Request) -> bool:
    """Tell whether a fact may be of the object a request writes."""
    name = request.name
    if not name and request.body:
        name = (msgpack.unpackb(request.body).get("metadata") or {}).get("name", "")
    known = RESOURCES.get(request.resource)
    namespace = request.namespace if known is None or known.namespaced else ""
    if not name:  # The API server has chosen one.
        return fact.key.startswith(prefix_of(request.resource, namespace))
    return fact.key == key_of(request.resource, namespace, name)


def _compare_data(done: "Acknowledged", obj: Object | None) -> None:
    """See that a ConfigMap has the data that was asked for."""
    body = msgpack.unpackb(done.request.body)
    asked = (body.get("data") or {}) if isinstance(body, Mapping) else {}  # Else: a JSON patch.
    has: Mapping[str, Any] = (obj or {}).get("data") or {}
    for name, value in asked.items():
        if has.get(name) != value:
            raise Broken(
                f"{_told(done.request)} was acknowledged as revision {done.revision}: "
                f"data.{name} shall be {value!r} there, and is {has.get(name)!r}"
            )


def _key(resource: str, obj: Object) -> str:
    return key_of(resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _told(request: Request) -> str:
    sub = f"/{request.subresource}" if request.subresource else ""
    name = f" {request.name}" if request.name else ""
    return f"{request.verb} {request.resource}{sub}{name}"


def _brief(obj: Object | None) -> str:
    if obj is None:
        return "nothing"
    return f"revision {obj['metadata'].get('resourceVersion')}, uid {obj['metadata'].get('uid')}"
