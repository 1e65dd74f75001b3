"""Pressure on a node: which resources are short, what the Node says of it, and which pod must go.

Pure. Amounts are bytes, of "pids" processes.

Source: Kubernetes, "Node-pressure Eviction"; the kubelet's eviction manager in behaviour.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kubeloop.actors.node_config import NodeConfig
from kubeloop.api import quantities
from kubeloop.api.qos import qos_class

EVERY_S: Final = 10.0  # The housekeeping interval, while something is short.
EVICTED: Final = "Evicted"
GRACE_S: Final = 1.0  # What an evicted pod's containers have to end.
_CRITICAL: Final = 2_000_000_000  # The priority from which on a pod is not evicted.
_MIRROR: Final = "kubernetes.io/config.mirror"
_TOLERANT: Final = "node.kubernetes.io/memory-pressure"


@dataclass(frozen=True, slots=True)
class Usage:
    """What is used of a node.

    others: by all that is no pod, by resource: "memory", "ephemeral-storage", "pids".
    pods:   pod uid → container → resource → amount.
    """

    others: Mapping[str, int] = field(default_factory=dict)
    pods: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)

    def total(self, resource: str) -> int:
        """Return how much of a resource is used."""
        of_pods = (
            amounts.get(resource, 0) for pod in self.pods.values() for amounts in pod.values()
        )
        return self.others.get(resource, 0) + sum(of_pods)


@dataclass(frozen=True, slots=True)
class _Signal:
    name: str
    resource: str
    condition: str
    words: tuple[str, str, str, str]


SIGNALS: Final = (
    _Signal(
        "memory.available",
        "memory",
        "MemoryPressure",
        (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
    ),
    _Signal(
        "nodefs.available",
        "ephemeral-storage",
        "DiskPressure",
        (
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
    ),
    _Signal(
        "pid.available",
        "pids",
        "PIDPressure",
        (
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
    ),
)
_EVENTS: Final = {
    "MemoryPressure": ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    "DiskPressure": ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    "PIDPressure": ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
}


def told(condition: str, *, holds: bool) -> tuple[str, str]:
    """Return the reason and the message of a condition of the Node."""
    words = next(signal.words for signal in SIGNALS if signal.condition == condition)
    return words[:2] if holds else words[2:]


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource of which too little is available. threshold: as it was configured."""

    signal: _Signal
    threshold: int
    available: int


@dataclass(frozen=True, slots=True)
class Relief:
    """What is to be done about pressure.

    events: of the node: reason, message and type.
    victim: the uid of the pod that is evicted, "" if none is;  why: the message.
    """

    conditions: frozenset[str]
    events: Sequence[tuple[str, str, str]] = ()
    victim: str = ""
    why: str = ""


class Pressure:
    """What is short on one node, and what was until lately."""

    def __init__(self, node: NodeConfig) -> None:
        self._name = node.name
        self._capacity = {name: quantities.value(amount) for name, amount in node.capacity.items()}
        self._thresholds, self._calm_s = node.eviction_hard, node.eviction_calm_s
        self._seen: dict[str, float] = {}  # Condition → when its resource was last short.
        self._told: frozenset[str] = frozenset()
        self._relieve_at = 0.0
        self.usage = Usage()

    @property
    def quiet(self) -> bool:
        """Whether nothing is used that could be short, nor was lately: the usual case."""
        return not (self.usage.others or self.usage.pods or self._seen or self._told)

    def turn(self, pods: Sequence[tuple[str, Mapping[str, Any]]], now: float) -> Relief:
        """Return what is to be done now. pods: those that live here, (uid, Pod)."""
        shortages, holding = self.shortages(now), self.conditions(now)
        events = []
        for condition in sorted(holding ^ self._told):
            reason = _EVENTS[condition][0 if condition in holding else 1]
            events.append((reason, f"Node {self._name} status is now: {reason}", "Normal"))
        self._told = holding
        if not shortages or now < self._relieve_at:
            return Relief(holding, events)
        self._relieve_at = now + EVERY_S
        short = shortages[0]
        text = f"Attempting to reclaim {short.signal.resource}"
        events.append(("EvictionThresholdMet", text, "Warning"))
        uid = victim(pods, short, self.usage)
        if uid is None:
            return Relief(holding, events)
        return Relief(holding, events, uid, message(dict(pods)[uid], uid, short, self.usage))

    def shortages(self, now: float) -> list[Shortage]:
        """Return what is short now, and take note of it."""
        found = []
        for signal in SIGNALS:
            capacity = self._capacity.get(signal.resource)
            threshold = _amount(self._thresholds.get(signal.name), capacity)
            if capacity is None or threshold is None:
                continue
            available = max(0, capacity - self.usage.total(signal.resource))
            if available < threshold:
                found.append(Shortage(signal, threshold, available))
                self._seen[signal.condition] = now
        return found

    def conditions(self, now: float) -> frozenset[str]:
        """Return the conditions that hold."""
        self._seen = {c: at for c, at in self._seen.items() if now - at < self._calm_s}
        return frozenset(self._seen)

    def next_at(self, now: float) -> float:
        """Return when to look again, though nobody tells of anything."""
        if self.quiet:
            return float("inf")
        if self.shortages(now):
            return now + EVERY_S
        ends = [at + self._calm_s for at in self._seen.values() if now - at < self._calm_s]
        return min(ends, default=float("inf"))

    def refuses(self, pod: Mapping[str, Any], now: float) -> str:
        """Return the message with which a new pod is not admitted, "" if it is."""
        holding = sorted(self.conditions(now))
        if not holding or is_critical(pod):
            return ""
        spared = qos_class(pod) != "BestEffort" or _tolerates(pod)
        if holding == ["MemoryPressure"] and spared:
            return ""
        return f"The node had condition: [{' '.join(holding)}]. "


def _amount(told: str | None, capacity: int | None) -> int | None:
    if told is None or capacity is None:
        return None
    if told.endswith("%"):
        return int(capacity * float(told[:-1]) / 100)
    return quantities.value(told)


def is_critical(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod is so important that its node does without others first."""
    mirrors = _MIRROR in (pod["metadata"].get("annotations") or {})
    return mirrors or (pod["spec"].get("priority") or 0) >= _CRITICAL


def _tolerates(pod: Mapping[str, Any]) -> bool:
    return any(
        (one.get("key") == _TOLERANT or (not one.get("key") and one.get("operator") == "Exists"))
        and one.get("effect") in (None, "", "NoSchedule")
        for one in pod["spec"].get("tolerations") or ()
    )


def victim(
    pods: Iterable[tuple[str, Mapping[str, Any]]], shortage: Shortage, usage: Usage
) -> str | None:
    """Return the uid of the pod that goes first, None if none may. pods: (uid, Pod)."""
    resource = shortage.signal.resource

    def rank(one: tuple[str, Mapping[str, Any]]) -> tuple[Any, ...]:
        uid, pod = one
        used = sum(a.get(resource, 0) for a in usage.pods.get(uid, {}).values())
        asked = sum(_request(c, resource) for c in pod["spec"]["containers"])
        over = used - asked
        return over <= 0, pod["spec"].get("priority") or 0, -over, uid

    return min(
        ((rank(one), one[0]) for one in pods if not is_critical(one[1])), default=(None, None)
    )[1]


def message(pod: Mapping[str, Any], uid: str, shortage: Shortage, usage: Usage) -> str:
    """Return why a pod was evicted, in Kubernetes' words."""
    resource = shortage.signal.resource
    text = (
        f"The node was low on resource: {resource}. Threshold quantity: "
        f"{_shown(shortage.threshold)}, available: {_shown(shortage.available)}. "
    )
    for container in pod["spec"]["containers"]:
        used = usage.pods.get(uid, {}).get(container["name"], {}).get(resource, 0)
        asked = _request(container, resource)
        if used > asked:
            text += (
                f"Container {container['name']} was using {_shown(used)}, request is "
                f"{_shown(asked)}, has larger consumption of {resource}. "
            )
    return text


def _request(container: Mapping[str, Any], resource: str) -> int:
    requests = (container.get("resources") or {}).get("requests") or {}
    return quantities.value(requests.get(resource, "0"))


def _shown(amount: int) -> str:
    """Return an amount as a quantity with a binary suffix, where one fits."""
    units: Sequence[str] = ("", "Ki", "Mi", "Gi", "Ti")
    at = 0
    while amount and amount % 1024 == 0 and at < len(units) - 1:
        amount, at = amount // 1024, at + 1
    return f"{amount}{units[at]}"
