"""What really runs, beside what the API says: the ledger of a simulated cluster's nodes.

Source: Kubernetes, "Pod Lifecycle: Pod lifetime" (a pod is scheduled once, and its uid is never
moved), "Termination of Pods", "Garbage collection of Pods".
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from kubeloop.actors.runtimes.simulated import Ledger
from kubeloop.chaos.invariants.tale import (
    DONE,
    PODS,
    Change,
    Object,
    Tale,
    Watcher,
    full_name,
    is_ending,
    uid_of,
    writer,
)
from kubeloop.chaos.watching import Broken
from kubeloop.nodes import SimulatedNodes
from kubeloop.store.facts import Fact

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Stage

HEARS_S: Final = 60.0  # A kubelet hears within that, restarted or not, and does what it heard of.
_NEVER: Final = float("inf")


class _Pod(NamedTuple):
    """What was told of a bound pod.

    grace_s: how long it may go on when it must end;  since: when it was told to; inf: not yet.
    """

    name: str
    node: str
    grace_s: float = 0.0
    since: float = _NEVER


class Running(Watcher):
    """A pod runs on its own node only, and not longer than it may.

    - The uid of a pod never runs on two nodes, at once or one after the other.
    - A container starts only on the node its pod is bound to.
    - Nothing runs of a pod whose object is gone by its kubelet's word: else another of its name
      could come to life beside it.
    - Nothing runs of a pod whose grace is over, whether the API still has it or not, HEARS_S after
      its kubelet could know. Only while nothing is broken: a node that is cut off hears nothing.
    - At rest nothing runs of pods the API has not, or says have finished; and what the API says
      runs on a node that is up does run.
    """

    name = "running"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._pods: dict[str, _Pod] = {}  # By uid.
        self._ending: dict[str, None] = {}  # Those of them that must end.
        self._strays: list[str] = []
        self._ledger: Ledger | None = None

    def begin(self, stage: "Stage") -> None:
        super().begin(stage)
        self._listen()

    def see(self, change: Change) -> None:
        if change.resource != PODS:
            return
        pod, uid = change.either, uid_of(change.either)
        if not pod["spec"].get("nodeName"):
            return
        known = self._pods.get(uid)
        if known is None:
            known = self._pods[uid] = _Pod(full_name(pod), pod["spec"]["nodeName"])
        if change.after is None:
            self._check_gone(known, uid, change.fact)
        if change.after is None or is_ending(pod):
            grace_s, since = _grace_s(pod), min(known.since, self.tale.now_s)
            self._pods[uid] = known._replace(grace_s=grace_s, since=since)
            self._ending[uid] = None

    def _check_gone(self, pod: _Pod, uid: str, fact: Fact) -> None:
        """See that a pod does not go before its containers."""
        if writer(fact) == f"kubelet/{pod.node}" and self._ledger and uid in self._ledger.running:
            raise Broken(
                f"revision {fact.revision}: kubelet/{pod.node} says that pod {pod.name} (uid {uid})"
                " is gone, and it still runs"
            )

    def look(self) -> None:
        ledger = self._listen()
        if ledger is None:
            return
        for trouble in (*self._strays, *ledger.violations):
            raise Broken(trouble)
        now_s, calm_since = self.tale.now_s, self.tale.calm_since
        for uid in tuple(self._ending):
            pod = self._pods[uid]
            over_at = max(pod.since, calm_since) + pod.grace_s + HEARS_S
            if now_s <= over_at:
                continue
            if uid in ledger.running:
                raise Broken(
                    f"pod {pod.name} (uid {uid}) still runs on {pod.node} "
                    f"{now_s - pod.since:.0f} s after it was told to end in {pod.grace_s:g} s"
                )
            del self._ending[uid], self._pods[uid]

    def rest(self) -> None:
        ledger = self._listen()
        if ledger is None:
            return
        pods = {uid_of(pod): pod for pod in self.tale.view.list(PODS)}
        for uid, nodes in ledger.running.items():
            pod = pods.get(uid)
            if pod is None or _phase(pod) in DONE:
                says = "has no such pod" if pod is None else f"says that it has {_phase(pod)}"
                raise Broken(f"pod {self._name(uid)} runs on {', '.join(nodes)}; the API {says}")
        for uid, pod in pods.items():
            if _runs(pod) and uid not in ledger.running and self.tale.is_up(_node(pod)):
                raise Broken(
                    f"pod {full_name(pod)} (uid {uid}) runs on {_node(pod)}, says the API at "
                    f"revision {pod['metadata']['resourceVersion']}; but it does not"
                )

    def _listen(self) -> Ledger | None:
        """Return the ledger of the cluster, which tells us; None if its pods are real."""
        nodes = self.tale.cluster.nodes
        if not isinstance(nodes, SimulatedNodes):
            return None
        if nodes.ledger is not self._ledger:
            self._ledger = nodes.ledger
            nodes.ledger.listen(self._began)
        return nodes.ledger

    def _began(self, node: str, uid: str) -> None:
        """Hear that a container begins; what is wrong is told with the next facts."""
        pod = self._pods.get(uid)
        if pod is None:
            self._strays.append(f"pod {uid} begins to run on {node}: no such pod is bound there")
        elif pod.node != node:
            told = f"pod {pod.name} (uid {uid}) is bound to {pod.node}, and begins to run on {node}"
            self._strays.append(told)

    def _name(self, uid: str) -> str:
        pod = self._pods.get(uid)
        return uid if pod is None else f"{pod.name} (uid {uid})"


def _grace_s(pod: Object) -> float:
    seconds = pod["metadata"].get("deletionGracePeriodSeconds")
    if seconds is None:
        seconds = pod["spec"].get("terminationGracePeriodSeconds")
    return 30.0 if seconds is None else float(seconds)


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _node(pod: Object) -> str:
    return str(pod["spec"].get("nodeName", ""))


def _runs(pod: Object) -> bool:
    """Tell whether the API says that a container of a pod runs."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any("running" in (status.get("state") or {}) for status in statuses)
