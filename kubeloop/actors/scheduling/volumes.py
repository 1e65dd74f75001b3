"""What the claims of a pod ask of its node, and what must be written so that they get it. Pure.

Three kinds of claims: those that have a volume, which may be usable on some nodes only; those that
should have one and have none, for which no node will do; and those of a class that waits for its
first consumer, for which a node will do where a free volume fits, or where one can be made. Once a
node is chosen for these, a volume is reserved or a claim is told its node, and the pod is bound
when all its claims are.

What was written and has not been heard of yet counts as done (`reserve`, `select`): else two pods
placed in one turn would get the same volume.

Source: kube-scheduler's plugins VolumeBinding and VolumeRestrictions in behaviour.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgpack

from kubeloop.actors.controllers.volume_matching import fitting_volumes, is_bound_to, may_have
from kubeloop.actors.scheduling.demand import Needs, Term, Unbound, terms_of_selector
from kubeloop.actors.scheduling.filters import chosen_volumes, is_on
from kubeloop.actors.scheduling.nodeinfo import NodeInfo
from kubeloop.api.admission.volumes import CLAIMS, CLASSES, VOLUMES, class_of
from kubeloop.api.calls import Request
from kubeloop.api.pod_claims import (
    BOUND_BY_CONTROLLER,
    NO_PROVISIONER,
    SELECTED_NODE,
    WAITS,
    Wanted,
    is_bound,
    notes_of,
    wanted_by,
    why_not_of,
)
from kubeloop.api.quantities import parse
from kubeloop.api.selectors import Requirement

RESOURCES: Final = (CLAIMS, VOLUMES, CLASSES)
BIND_S: Final = 600.0  # For so long a pod waits on its node for its claims to be bound.

Object = Mapping[str, Any]
InUse = Callable[[str, str], bool]
"""(claim as "namespace/name", pod as "namespace/name") → whether another pod uses it."""


class Step(NamedTuple):
    """Something to be written for a claim. volume: to be reserved for it; None: it gets a node."""

    claim: Object
    volume: Object | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the claims of a pod are, for its node. failure: why they will not be bound there."""

    bound: bool
    failure: str = ""


class Volumes:
    """Claims, volumes and classes, folded from facts."""

    def __init__(self) -> None:
        self.claims: dict[str, Object] = {}  # By "namespace/name".
        self.volumes: dict[str, Object] = {}
        self.classes: dict[str, Object] = {}
        self._unbound: dict[str, dict[str, None]] = {}  # Class → claims without a volume.
        self._holders: dict[str, dict[str, None]] = {}  # Volume → claims that name it.
        self._reserved: dict[str, str] = {}  # Volume → the claim we have reserved it for.
        self._selected: dict[str, str] = {}  # Claim → the node we have told it.

    def fold(self, resource: str, name: str, obj: Object | None) -> list[str]:
        """Take a fact over; return the claims it may matter to. name: "namespace/name", "name"."""
        if resource == CLASSES:
            _put(self.classes, name, obj)
            return [*self._unbound.get(name, ())]
        if resource == VOLUMES:
            before = self.volumes.get(name)
            _put(self.volumes, name, obj)
            self._reserved.pop(name, None)
            touched = dict(self._holders.get(name, {}))
            for volume in (before, obj):
                if volume is not None:
                    touched |= self._unbound.get(class_of(dict(volume)), {})
                    reference = volume["spec"].get("claimRef") or {}
                    touched[f"{reference.get('namespace')}/{reference.get('name')}"] = None
            return list(touched)
        self._index(name, self.claims.get(name), obj)
        _put(self.claims, name, obj)
        self._selected.pop(name, None)
        return [name]

    def _index(self, name: str, before: Object | None, after: Object | None) -> None:
        for claim, there in ((before, False), (after, True)):
            if claim is None:
                continue
            volume = claim["spec"].get("volumeName")
            of = self._holders if volume else self._unbound
            key = volume or class_of(dict(claim))
            if there:
                of.setdefault(key, {})[name] = None
            else:
                of[key].pop(name, None)
                if not of[key]:
                    del of[key]

    # What a pod's claims ask of a node.

    def needs(self, pod: Object, in_use: InUse) -> Needs:
        """Return what the claims of a pod ask of a node."""
        metadata, places, unbound = pod["metadata"], [], []
        crowded = lost = waits = False
        for wanted in wanted_by(pod):
            key = f"{metadata['namespace']}/{wanted.claim}"
            claim = self.claims.get(key)
            if trouble := _trouble(pod, wanted, claim):
                return Needs(trouble=trouble)
            assert claim is not None
            if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
                crowded |= in_use(key, f"{metadata['namespace']}/{metadata['name']}")
            if is_bound(claim):
                volume = self.volumes.get(claim["spec"]["volumeName"])
                lost |= volume is None
                if volume is not None and (terms := _terms(volume)) is not None:
                    places.append(terms)
            elif claim["spec"].get("volumeName") or not self._delays(claim):
                waits = True
            else:
                unbound.append(self._of_unbound(key, claim))
        if waits:
            return Needs(trouble="pod has unbound immediate PersistentVolumeClaims")
        unbound.sort(key=lambda one: (one.bytes, one.claim))
        return Needs("", crowded, lost, tuple(places), tuple(unbound))

    def _delays(self, claim: Object) -> bool:
        told = self.classes.get(class_of(dict(claim)))
        return told is not None and told.get("volumeBindingMode") == WAITS

    def _of_unbound(self, key: str, claim: Object) -> Unbound:
        told = self.classes[class_of(dict(claim))]
        selected = self._selected.get(key) or notes_of(claim).get(SELECTED_NODE) or ""
        volumes: tuple[tuple[str, tuple[Term, ...] | None], ...] = ()
        if not selected:
            volumes = tuple(
                (volume["metadata"]["name"], _terms(volume))
                for volume in fitting_volumes(self.volumes.values(), claim)
                if self._reserved.get(volume["metadata"]["name"], key) == key
            )
        provisioned: tuple[Term, ...] | None = None
        if told["provisioner"] != NO_PROVISIONER:
            provisioned = _topologies(told)
        requests = (claim["spec"].get("resources") or {}).get("requests") or {}
        size = int(parse(requests.get("storage") or "0"))
        return Unbound(key, size, selected, volumes, provisioned)

    # What is written once a node is chosen.

    def plan(self, needs: Needs, node: NodeInfo) -> list[Step]:
        """Return what must be written so that the claims are bound on a node that will do."""
        chosen = chosen_volumes(needs, node)
        assert chosen is not None, "a node was chosen that will not do"
        steps = []
        for one in needs.unbound:
            claim, name = self.claims[one.claim], chosen[one.claim]
            told = notes_of(claim).get(SELECTED_NODE) == node.name or one.claim in self._selected
            if name is not None and not is_bound_to(self.volumes[name], claim):
                steps.append(Step(claim, self.volumes[name]))
            elif name is None and not told:
                steps.append(Step(claim, None))
        return steps

    def assume(self, step: Step, node: str) -> None:
        """Count a step as done, until a fact tells how it went."""
        metadata = step.claim["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        if step.volume is None:
            self._selected[key] = node
        else:
            self._reserved[step.volume["metadata"]["name"]] = key

    def doubt(self, pod: Object) -> list[str]:
        """Count nothing as done for the claims of a pod; return the claims that matters to."""
        namespace, touched = pod["metadata"]["namespace"], []
        for wanted in wanted_by(pod):
            key = f"{namespace}/{wanted.claim}"
            self._selected.pop(key, None)
            touched.append(key)
            for name in [name for name, claim in self._reserved.items() if claim == key]:
                del self._reserved[name]
                touched += self._unbound.get(class_of(dict(self.volumes.get(name, {}))), ())
        return touched

    def progress(self, pod: Object, node: NodeInfo) -> Progress:
        """Return how far the claims of a pod are that is to go to a node."""
        bound = True
        for wanted in wanted_by(pod):
            key = f"{pod['metadata']['namespace']}/{wanted.claim}"
            claim = self.claims.get(key)
            if trouble := _trouble(pod, wanted, claim):
                return Progress(bound=False, failure=trouble)
            assert claim is not None
            volume = self.volumes.get(claim["spec"].get("volumeName") or "")
            if is_bound(claim):
                if volume is None or not is_on(_terms(volume), node):
                    name = claim["spec"]["volumeName"]
                    why = f'pv "{name}" node affinity doesn\'t match node "{node.name}"'
                    return Progress(bound=False, failure=why)
                continue
            bound = False
            selected = self._selected.get(key) or notes_of(claim).get(SELECTED_NODE)
            if selected is not None and selected != node.name:
                why = f'selectedNode annotation value "{selected}" not set to scheduled node'
                return Progress(bound=False, failure=f'{why} "{node.name}"')
            if selected is None and not self._is_reserved(key, claim):
                why = f'selectedNode annotation reset for PVC "{wanted.claim}"'
                return Progress(bound=False, failure=why)
        return Progress(bound)

    def _is_reserved(self, key: str, claim: Object) -> bool:
        return key in self._reserved.values() or any(
            volume["spec"].get("claimRef") and may_have(volume, claim)
            for volume in self.volumes.values()
        )


def request_of(step: Step, node: str) -> Request:
    """Return the write of a step, which is refused if what it is about has changed."""
    claim, volume = step
    metadata = claim["metadata"]
    if volume is None:
        resource, namespace, name = CLAIMS, metadata["namespace"], metadata["name"]
        known, notes = metadata, {SELECTED_NODE: node}
        change: dict[str, Any] = {}
    else:
        known = volume["metadata"]
        resource, namespace, name = VOLUMES, "", known["name"]
        notes = {} if volume["spec"].get("claimRef") else {BOUND_BY_CONTROLLER: "yes"}
        kept = ("namespace", "name", "uid", "resourceVersion")
        reference = {k: metadata[k] for k in kept}
        kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        change = {"spec": {"claimRef": {**kind, **reference}}}
    told = {"uid": known["uid"], "resourceVersion": known["resourceVersion"]}
    change["metadata"] = {**told, **({"annotations": notes} if notes else {})}
    body, options = msgpack.packb(change), {"patchType": "merge"}
    return Request("patch", resource, namespace, name, body=body, options=options)


def _trouble(pod: Object, wanted: Wanted, claim: Object | None) -> str:
    """Return why a claim keeps a pod from every node, "" if it does not."""
    if claim is None:
        if wanted.ephemeral:
            return (
                "waiting for ephemeral volume controller to create the persistentvolumeclaim"
                f' "{wanted.claim}"'
            )
        return f'persistentvolumeclaim "{wanted.claim}" not found'
    if (claim.get("status") or {}).get("phase") == "Lost":
        name = claim["spec"].get("volumeName") or ""
        return (
            f'persistentvolumeclaim "{wanted.claim}" bound to non-existent persistentvolume'
            f' "{name}"'
        )
    if claim["metadata"].get("deletionTimestamp"):
        return f'persistentvolumeclaim "{wanted.claim}" is being deleted'
    return why_not_of(pod, claim) if wanted.ephemeral else ""


def _terms(volume: Object) -> tuple[Term, ...] | None:
    """Return where a volume can be used, None if everywhere."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return None if not required else terms_of_selector(required)


def _topologies(told: Object) -> tuple[Term, ...]:
    """Return where volumes of a class can be made: on nodes of one of these; none: everywhere."""
    return tuple(
        Term(
            tuple(
                Requirement(e["key"], "in", tuple(e["values"]))
                for e in term.get("matchLabelExpressions") or ()
            ),
            (),
        )
        for term in told.get("allowedTopologies") or ()
    )


def _put(objects: dict[str, Object], name: str, obj: Object | None) -> None:
    if obj is None:
        objects.pop(name, None)
    else:
        objects[name] = obj
