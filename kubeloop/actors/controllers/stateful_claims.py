"""The claims of a StatefulSet's pods: made before the pod, kept or not kept after it. Pure.

A claim `<template>-<set>-<ordinal>` outlives its pod, and is there for the next one of that
ordinal. By `persistentVolumeClaimRetentionPolicy` it goes with the set (`whenDeleted`), or with the
pod of an ordinal that is wanted no more (`whenScaled`): then it gets an owner, and the garbage
collector does the rest.

Source: Kubernetes, "StatefulSets: PersistentVolumeClaim retention"; kube-controller-manager's
statefulset controller in behaviour.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kubeloop.actors.controllers.base import Action, Event, Writer, controller_of, reference_to
from kubeloop.actors.view import Object, View
from kubeloop.api.admission.volumes import CLAIMS


def claim_name(template: str, set_name: str, ordinal: int) -> str:
    """Return the name of the claim of an ordinal."""
    return f"{template}-{set_name}-{ordinal}"


def templates_of(set_: Object) -> Sequence[Object]:
    """Return what a set's claims are made from."""
    return set_["spec"].get("volumeClaimTemplates") or ()


def is_claim_of(set_: Object, name: str) -> bool:
    """Tell whether a claim of that name may be one of the set's."""
    starts = (claim_name(t["metadata"]["name"], set_["metadata"]["name"], 0) for t in
              templates_of(set_))  # fmt: skip
    return any(name.startswith(start[:-1]) and name[len(start) - 1 :].isdigit() for start in starts)


def new_claims(set_: Object, ordinal: int) -> Iterator[dict[str, Any]]:
    """Yield the claims of an ordinal as they begin; who must own them is known by then."""
    metadata = set_["metadata"]
    labels = (set_["spec"].get("selector") or {}).get("matchLabels") or {}
    for template in templates_of(set_):
        told = template.get("metadata") or {}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                **({"annotations": told["annotations"]} if told.get("annotations") else {}),
                "labels": {**(told.get("labels") or {}), **labels},
                "name": claim_name(template["metadata"]["name"], metadata["name"], ordinal),
                "namespace": metadata["namespace"],
            },
            "spec": template["spec"],
        }
        owners = owners_of(claim, set_, None, wanted=True)
        if owners:
            claim["metadata"]["ownerReferences"] = owners
        yield claim


def owners_of(
    claim: Mapping[str, Any], set_: Object, pod: Object | None, *, wanted: bool
) -> list[dict[str, Any]]:
    """Return the ownerReferences a claim should have.

    pod: of its ordinal, None if there is none;  wanted: whether the set still wants that ordinal.
    """
    metadata = claim["metadata"]
    given = list(metadata.get("ownerReferences") or ())
    owner = controller_of(claim)
    if owner is not None and not _is_ours(owner, set_, claim):
        return given  # Somebody else sees to it.
    policy = set_["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    kept = [r for r in given if not _is_ours(r, set_, claim)]
    if policy.get("whenScaled") == "Delete" and not wanted:
        return [*kept, *([reference_to(pod)] if pod is not None else ())]
    return [*kept, *([reference_to(set_)] if policy.get("whenDeleted") == "Delete" else ())]


def _is_ours(reference: Mapping[str, Any], set_: Object, claim: Mapping[str, Any]) -> bool:
    """Tell whether an owner of a claim is the set, or the pod of its ordinal, whichever it was."""
    if reference.get("uid") == set_["metadata"]["uid"]:
        return True
    ordinal = claim["metadata"]["name"].rpartition("-")[2]
    name = f"{set_['metadata']['name']}-{ordinal}"
    return (reference.get("kind"), reference.get("name")) == ("Pod", name)


class Claims:
    """The writes about the claims of sets."""

    def __init__(self, write: Writer) -> None:
        self._write = write

    def missing(self, set_: Object, ordinal: int, view: View) -> list[Action]:
        """Return the writes that make the claims of an ordinal that are not there."""
        pod = f"{set_['metadata']['name']}-{ordinal}"
        return [
            self._create(set_, claim, pod)
            for claim in new_claims(set_, ordinal)
            if view.get(CLAIMS, claim["metadata"]["namespace"], claim["metadata"]["name"]) is None
        ]

    def hinder(self, set_: Object, ordinal: int, view: View) -> bool:
        """Tell whether a claim of an ordinal is about to go: a new pod must not get it."""
        for claim in self._there(set_, ordinal, view):
            references = claim["metadata"].get("ownerReferences") or ()
            stale = any(r["kind"] == "Pod" and _is_ours(r, set_, claim) for r in references)
            if stale or claim["metadata"].get("deletionTimestamp"):
                return True
        return False

    def owned(
        self, set_: Object, pods: Mapping[int, Object], wanted: Iterable[int], view: View
    ) -> list[Action]:
        """Return the writes that give the claims of these pods the owners they should have."""
        actions, ordinals = [], set(wanted)
        for ordinal, pod in pods.items() if templates_of(set_) else ():
            for claim in self._there(set_, ordinal, view):
                owners = owners_of(claim, set_, pod, wanted=ordinal in ordinals)
                given = list(claim["metadata"].get("ownerReferences") or ())
                if owners != given:
                    told = {**claim, "metadata": {**claim["metadata"], "ownerReferences": owners}}
                    actions.append(Action(self._write.update(told), gone_is_fine=True))
        return actions

    def _there(self, set_: Object, ordinal: int, view: View) -> Iterator[Object]:
        metadata = set_["metadata"]
        for template in templates_of(set_):
            name = claim_name(template["metadata"]["name"], metadata["name"], ordinal)
            claim = view.get(CLAIMS, metadata["namespace"], name)
            if claim is not None:
                yield claim

    def _create(self, set_: Object, claim: Mapping[str, Any], pod: str) -> Action:
        name, owner = claim["metadata"]["name"], set_["metadata"]["name"]
        done = f"create Claim {name} Pod {pod} in StatefulSet {owner} success"
        failed = f"create Claim {name} for Pod {pod} in StatefulSet {owner} failed error: {{error}}"
        return Action(
            self._write.create(claim),
            success=Event(set_, "Normal", "SuccessfulCreate", done),
            failure=Event(set_, "Warning", "FailedCreate", failed),
        )
