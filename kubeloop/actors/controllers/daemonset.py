"""DaemonSet: one pod on each node that it may run on.

A pod is bound to its node by an affinity to the node's name, and the scheduler places it. What has
failed is deleted after a pause, so that a node which refuses it is not asked without end.

Source: Kubernetes, "DaemonSet"; kube-controller-manager's daemonset controller in behaviour.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    adopters,
    controller_uids,
    is_active,
    orphan_namespace,
    own_namespace,
    own_uid,
    owners,
    reference_to,
    split,
    unix_s,
)
from kubeloop.actors.controllers.daemon_nodes import (
    Fit,
    fit,
    matters,
    node_of,
    with_tolerations,
    work_of,
)
from kubeloop.actors.controllers.daemon_rollout import (
    Plan,
    replaced,
    status_of,
    surged,
    surplus_of,
)
from kubeloop.actors.controllers.job_census import finished_s
from kubeloop.actors.controllers.revisions import (
    POD_HASH,
    REVISIONS,
    available_in_s,
    lineage,
    outdated,
)
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.partial import TEMPLATE_GENERATION
from kubeloop.api.selectors import label_selector
from kubeloop.store.facts import key_of

SETS: Final = "daemonsets.apps"
BURST_MAX: Final = 250
FAILED_PAUSE_S: Final = 1.0  # A failed pod stays this long.
_PODS: Final = "pods"
_NODES: Final = "nodes"
_PODTEMPLATE_GENERATION: Final = "pod-template-generation"


class DaemonSetController:
    """Work items are DaemonSets."""

    name = "daemonset-controller"
    resources = (SETS, _PODS, _NODES, REVISIONS)
    indexes: Mapping[tuple[str, str], Index] = {
        (SETS, "uid"): own_uid,
        (SETS, "namespace"): own_namespace,
        (_PODS, "controller"): controller_uids,
        (_PODS, "orphan"): orphan_namespace,
        (REVISIONS, "controller"): controller_uids,
        (REVISIONS, "orphan"): orphan_namespace,
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, _ = split(key)
        if resource == SETS:
            yield key
        elif resource == _NODES:
            if matters(before, after):
                for set_ in view.list(SETS):
                    yield _key(set_)
        else:
            yield from owners(SETS, "DaemonSet", namespace, before, after)
            yield from adopters(SETS, after, view)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        set_ = view.get(*split(key))
        if set_ is None or set_["metadata"].get("deletionTimestamp"):
            return NOTHING
        mine = list(view.by(_PODS, "controller", set_["metadata"]["uid"]))
        claims = self._claim(set_, mine, view)
        if claims:
            return Result(claims)
        line = lineage(self._write, set_, view, POD_HASH)
        if line.update is None or line.actions:
            return Result(line.actions)
        update = line.update["metadata"]["labels"][POD_HASH]
        work = work_of(set_)
        fits = {n["metadata"]["name"]: fit(work, n) for n in view.list(_NODES)}
        plan = Plan(set_, fits, _by_node(fits, mine), update, now_s)
        actions, events, again = self._manage(plan, trouble)
        strategy = set_["spec"].get("updateStrategy") or {}
        if not actions and strategy.get("type") != "OnDelete":
            rolling = strategy.get("rollingUpdate") or {}
            doomed, missing = (surged if _surge(rolling) else replaced)(plan, rolling)
            actions += [self._delete(set_, pod) for pod in doomed]
            actions += [self._create(set_, node, update) for node in missing]
        status = status_of(plan)
        if status != (set_.get("status") or {}):
            request = self._write.update({**set_, "status": status}, subresource="status")
            actions.append(Action(request))
        hashes = {(p["metadata"].get("labels") or {}).get(POD_HASH) for p in mine} | {update}
        live = {
            r["metadata"]["name"]
            for r in line.past
            if (r["metadata"].get("labels") or {}).get(POD_HASH) in hashes
        }
        actions += outdated(self._write, set_, line, live)
        least_s = set_["spec"].get("minReadySeconds") or 0
        waits = [available_in_s(pod, least_s, now_s) for pod in mine]
        again += [wait for wait in waits if 0 < wait < float("inf")]
        return Result(actions, events, again_s=min(again, default=None), owes=bool(again))

    def _claim(self, set_: Object, mine: Sequence[Object], view: View) -> list[Action]:
        """Return the writes that adopt and release pods."""
        selector = label_selector(set_["spec"].get("selector"))
        claims = [
            self._write.release(pod, [set_["metadata"]["uid"]])
            for pod in mine
            if not selector.matches(pod["metadata"].get("labels") or {})
        ]
        claims += [
            self._write.adopt(pod, set_)
            for pod in view.by(_PODS, "orphan", set_["metadata"]["namespace"])
            if is_active(pod) and selector.matches(pod["metadata"].get("labels") or {})
        ]
        return claims

    def _manage(self, plan: Plan, trouble: str) -> tuple[list[Action], list[Event], list[float]]:
        """Return the writes that leave each node with the pods it should have.

        Also what to tell, and the pauses until what has failed may go [s].
        """
        actions: list[Action] = []
        events: list[Event] = []
        again: list[float] = []
        missing: list[str] = []
        for node, pods in plan.pods.items():
            fit_ = plan.fits.get(node, Fit.NEVER)
            staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
            if fit_ is Fit.RUNS and not pods:
                missing.append(node)
            elif fit_ is Fit.NEVER:
                gone = node not in plan.fits
                doomed = [p for p in staying if not gone or not p["spec"].get("nodeName")]
                actions += [self._delete(plan.set_, pod) for pod in doomed]
            else:
                running = []
                for pod in staying:
                    phase = (pod.get("status") or {}).get("phase")
                    left_s = _ended_s(pod) + FAILED_PAUSE_S - plan.now_s
                    if phase == "Failed" and left_s > 0:
                        again.append(left_s)
                    elif phase in ("Failed", "Succeeded"):
                        actions.append(self._delete(plan.set_, pod))
                        events.append(_ended(plan.set_, pod, node, phase))
                    else:
                        running.append(pod)
                actions += [self._delete(plan.set_, p) for p in surplus_of(plan, running)]
        count = 1 if trouble else BURST_MAX
        made = [self._create(plan.set_, node, plan.update) for node in missing[:count]]
        return [*actions, *made], events, again

    def _create(self, set_: Object, node: str, update: str) -> Action:
        template, metadata = set_["spec"]["template"], set_["metadata"]
        told = template.get("metadata") or {}
        generation = (metadata.get("annotations") or {}).get(TEMPLATE_GENERATION, "1")
        own = {POD_HASH: update, _PODTEMPLATE_GENERATION: generation}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **{k: told[k] for k in ("annotations", "finalizers") if told.get(k)},
                "labels": {**(told.get("labels") or {}), **own},
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
                "ownerReferences": [reference_to(set_)],
            },
            "spec": _bound(with_tolerations(template["spec"]), node),
        }
        return Action(
            self._write.create(pod),
            success=Event(set_, "Normal", "SuccessfulCreate", "Created pod: {name}"),
            failure=Event(set_, "Warning", "FailedCreate", "Error creating: {error}"),
        )

    def _delete(self, set_: Object, pod: Object) -> Action:
        name = pod["metadata"]["name"]
        return Action(
            self._write.delete(pod),
            success=Event(set_, "Normal", "SuccessfulDelete", f"Deleted pod: {name}"),
            failure=Event(set_, "Warning", "FailedDelete", "Error deleting: {error}"),
            gone_is_fine=True,
        )


def _key(set_: Object) -> str:
    return key_of(SETS, set_["metadata"]["namespace"], set_["metadata"]["name"])


def _by_node(fits: Mapping[str, Fit], pods: Iterable[Object]) -> dict[str, list[Object]]:
    """Return the pods of each node, oldest first; nodes that should have one are there anyway."""
    found: dict[str, list[Object]] = {n: [] for n, fit_ in fits.items() if fit_ is Fit.RUNS}
    ages = sorted(pods, key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]))
    for pod in ages:
        found.setdefault(node_of(pod), []).append(pod)
    return found


def _bound(spec: Mapping[str, Any], node: str) -> dict[str, Any]:
    """Return a pod's spec whose affinity names its node."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = dict(spec.get("affinity") or {})
    nodes = dict(affinity.get("nodeAffinity") or {})
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or [{}]
    bound = [{**term, "matchFields": [field]} for term in terms]
    nodes["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": bound}
    return {**spec, "affinity": {**affinity, "nodeAffinity": nodes}}


def _surge(rolling: Mapping[str, Any]) -> bool:
    return rolling.get("maxSurge") not in (None, 0, "0%")


def _ended_s(pod: Object) -> float:
    """Return when a pod ended, seconds since 1970: when it was made, if that is not known."""
    return finished_s(pod) or unix_s(pod["metadata"]["creationTimestamp"])


def _ended(set_: Object, pod: Object, node: str, phase: str) -> Event:
    metadata = pod["metadata"]
    what = f"{phase.lower()} daemon pod {metadata['namespace']}/{metadata['name']} on node {node}"
    if phase == "Failed":
        text = f"Found {what}, will try to kill it"
        return Event(set_, "Warning", "FailedDaemonPod", text)
    return Event(set_, "Normal", "SucceededDaemonPod", f"Found {what}, will try to delete it")
