"""A pod stays on a tainted node as long as it tolerates that.

Source: Kubernetes, "Taints and Tolerations: Concepts, Taint based Evictions".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from kubeloop.chaos.invariants.tale import (
    DONE,
    NODES,
    PODS,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    full_name,
    is_ending,
    uid_of,
    writer,
)
from kubeloop.chaos.watching import Broken

CONTROLLER: Final = "node-controller"
_ROUNDED_S: Final = 1.0  # Times are told in whole seconds.
_NEVER: Final = float("inf")
_PAST_MAX: Final = 100  # Taints of a node that were lifted and are remembered.


class _Taint(NamedTuple):
    """A taint that makes pods go."""

    key: str
    value: str


@dataclass(slots=True)
class _Held:
    """A node's taint. since: when it came [s];  lifted: the revision that took it away, or inf."""

    taint: _Taint
    since: float
    lifted: float = _NEVER


class Tolerations(Watcher):
    """A pod that tolerates a taint for some seconds is not taken from its node before.

    - Whenever the node controller ends a pod, its node has a NoExecute taint, or had one after the
      fact because of which it acts, that the pod does not tolerate, or has tolerated as long as it
      says: since the taint came, or since the pod did if that was later.
    - At rest no pod is on a node that is up with a NoExecute taint that it does not tolerate.
    """

    name = "tolerations"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._held: dict[str, list[_Held]] = {}  # By node: what was lifted, too.
        self._bound: dict[str, float] = {}  # Uid of a pod → since when it is on its node.

    def see(self, change: Change) -> None:
        if change.resource == NODES:
            self._see_node(change)
        elif change.resource == PODS:
            self._see_pod(change)

    def rest(self) -> None:
        for pod in self.tale.view.list(PODS):
            node = _node(pod)
            if is_ending(pod) or (pod.get("status") or {}).get("phase") in DONE:
                continue
            for held in self._now(node) if self.tale.is_up(node) else ():
                if _stays_s(pod, held.taint) == 0:
                    raise Broken(
                        f"pod {full_name(pod)} is on {node} at rest, and does not tolerate its "
                        f"taint {held.taint.key}"
                    )

    def _now(self, node: str) -> Iterator[_Held]:
        return (held for held in self._held.get(node, ()) if held.lifted == _NEVER)

    def _see_node(self, change: Change) -> None:
        name, fact = str(change.either["metadata"]["name"]), change.fact
        told = ((change.after or {}).get("spec") or {}).get("taints") or ()
        taints = {
            _Taint(t["key"], t.get("value") or "") for t in told if t["effect"] == "NoExecute"
        }
        known = self._held.get(name)
        if known is None and not taints:
            return
        known = self._held.setdefault(name, [])
        for held in self._now(name):
            if held.taint not in taints:
                held.lifted = fact.revision
        new = taints - {held.taint for held in self._now(name)}
        known += [_Held(taint, fact.at) for taint in sorted(new)]
        gone = [held for held in known if held.lifted != _NEVER]
        for held in gone[:-_PAST_MAX]:
            known.remove(held)

    def _see_pod(self, change: Change) -> None:
        pod, uid, before = change.either, uid_of(change.either), change.before
        if _node(pod) and (before is None or not _node(before)):
            self._bound[uid] = change.fact.at
        begins = before is not None and not is_ending(before)
        begins = begins and (change.after is None or is_ending(pod))
        if begins and writer(change.fact) == CONTROLLER:
            self._check(change, pod)
        if change.after is None:
            self._bound.pop(uid, None)

    def _check(self, change: Change, pod: Object) -> None:
        """See that a pod has stayed long enough for one of the taints it may go for."""
        fact, node, told = change.fact, _node(pod), []
        for held in self._held.get(node, ()):
            if held.lifted <= fact.cause.revision:
                continue
            since = max(held.since, self._bound.get(uid_of(pod), 0.0))
            stays_s = _stays_s(pod, held.taint)
            if fact.at - since + _ROUNDED_S >= stays_s:
                return
            over_s = fact.at - since
            told.append(f"{held.taint.key} for {stays_s:g} s, of which {over_s:.3f} s are over")
        raise Broken(
            f"revision {fact.revision}: {CONTROLLER} ends {called(fact.key)} on {node}, which "
            f"tolerates {'; '.join(told) or 'all that there is'}"
        )


def _node(pod: Object) -> str:
    return str(pod["spec"].get("nodeName") or "")


def _stays_s(pod: Object, taint: _Taint) -> float:
    """Return how long a pod tolerates a taint [s]: 0 if it does not, inf if for ever."""
    matching = [
        one
        for one in pod["spec"].get("tolerations") or ()
        if one.get("effect") in (None, "", "NoExecute") and _matches(one, taint)
    ]
    limits = [one.get("tolerationSeconds") for one in matching]
    if not matching:
        return 0.0
    return min((max(0.0, float(s)) for s in limits if s is not None), default=_NEVER)


def _matches(toleration: Object, taint: _Taint) -> bool:
    key, exists = toleration.get("key") or "", toleration.get("operator") == "Exists"
    if not key:
        return exists
    return bool(key == taint.key and (exists or (toleration.get("value") or "") == taint.value))
