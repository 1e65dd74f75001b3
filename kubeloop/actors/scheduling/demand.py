"""What a pod asks of a node. Equal pods (those of one template) share one value.

A `Demand` is compiled once per distinct pod template: quantities become integers, selectors become
closures' data. Everything after works on it alone, so the pod objects need not be kept.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import msgpack

from kubeloop.actors.scheduling.constraints import PodTerm, Spread, spreads_of, terms_of
from kubeloop.api import quantities
from kubeloop.api.pod_claims import keys_of
from kubeloop.api.selectors import Requirement

# A container without requests still counts in scores, else pods would pile up on one node.
DEFAULT_MILLI_CPU: Final = 100
DEFAULT_MEMORY: Final = 200 * 1024 * 1024

# Labels that tell the pods of one controller apart; without them its pods are equal.
IDENTITY_LABELS: Final = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
        "statefulset.kubernetes.io/pod-name",
    }
)
KNOWN_MAX: Final = 1024  # Distinct templates whose demands are remembered.
_OPERATORS: Final = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
    "Gt": ">",
    "Lt": "<",
}

Resources = Mapping[str, int]
Port = tuple[str, str, int]  # Host IP ("" is every address), protocol, port.


@dataclass(frozen=True, slots=True)
class Toleration:
    """Which taints a pod puts up with; "" is any."""

    key: str
    operator: str
    value: str
    effect: str

    def tolerates(self, taint: "Taint") -> bool:
        """Tell whether `taint` is put up with."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        return self.operator == "Exists" or self.value == taint.value


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods off a node. effect: NoSchedule, PreferNoSchedule, NoExecute."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Term:
    """One nodeSelectorTerm: everything in it must hold; one without requirements never does."""

    labels: tuple[Requirement, ...]
    fields: tuple[Requirement, ...]

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a node is meant."""
        if not self.labels and not self.fields:
            return False
        by_field = {"metadata.name": name}
        return all(r.matches(labels) for r in self.labels) and all(
            r.matches(by_field) for r in self.fields
        )


@dataclass(frozen=True, slots=True)
class Unbound:
    """A claim that is bound where its pod goes.

    claim: "namespace/name";  bytes: how much it asks for.
    node:        the only one it may be bound on, "" if none has been chosen.
    volumes:     those that fit, the best first, and where each can be used; None: everywhere.
    provisioned: where a volume can be made for it: on nodes of one of these terms, () everywhere;
                 None: nowhere.
    """

    claim: str
    bytes: int
    node: str
    volumes: tuple[tuple[str, tuple[Term, ...] | None], ...]
    provisioned: tuple[Term, ...] | None


@dataclass(frozen=True, slots=True)
class Needs:
    """What the claims of a pod ask of a node.

    trouble: why no node will do;  crowded: another pod has what only one pod may have.
    lost:    a claim's volume is gone;  places: where its volumes can be used, each in one of these.
    """

    trouble: str = ""
    crowded: bool = False
    lost: bool = False
    places: tuple[tuple[Term, ...], ...] = ()
    unbound: tuple[Unbound, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What a pod asks of a node.

    requests:    resource → thousandths for cpu, whole units for everything else.
    scored:      (cpu, memory) as scores count them, with a default for containers without.
    best_effort: it asks for neither cpu nor memory.
    selector:    spec.nodeSelector;  required: one of these terms must match, None: no such rule.
    names:       the only nodes the required terms allow by name, None if they allow others.
    owner:       uid of the controller it belongs to, "" for none.
    labels:      the pod's, without those that tell the pods of one controller apart.
    terms, spreads: what it asks about other pods.
    claims:      the PersistentVolumeClaims its volumes name, as "namespace/name".
    signature:   equal for equal demands.
    needs:       what the claims ask of a node, as far as that was looked up.
    """

    signature: bytes
    namespace: str
    labels: Mapping[str, str]
    requests: Resources
    scored: tuple[int, int]
    best_effort: bool
    node_name: str
    selector: tuple[Requirement, ...]
    required: tuple[Term, ...] | None
    names: frozenset[str] | None
    preferred: tuple[tuple[int, Term], ...]
    tolerations: tuple[Toleration, ...]
    ports: tuple[Port, ...]
    images: tuple[str, ...]
    owner: str
    terms: tuple[PodTerm, ...]
    spreads: tuple[Spread, ...]
    claims: tuple[str, ...]
    needs: Needs | None = None

    def with_needs(self, needs: Needs) -> "Demand":
        """Return what a pod asks whose claims ask this."""
        return replace(self, needs=needs, signature=self.signature + repr(needs).encode())


class Demands:
    """Remembers the demands of the templates seen lately."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Demand] = OrderedDict()

    def of(self, pod: Mapping[str, Any]) -> Demand:
        """Return what `pod` asks, the same value for equal pods; where it is bound is no part."""
        spec = pod["spec"]
        if spec.get("nodeName"):
            pod = {**pod, "spec": {**spec, "nodeName": None}}
        signature = signature_of(pod)
        known = self._known.get(signature)
        if known is None:
            known = self._known[signature] = demand_of(pod, signature)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return known


def signature_of(pod: Mapping[str, Any]) -> bytes:
    """Return bytes that are equal for pods which ask the same."""
    spec = pod["spec"]
    containers = [
        [[c.get("image"), c.get("resources"), c.get("ports"), c.get("restartPolicy")] for c in kind]
        for kind in (spec.get("initContainers") or (), spec.get("containers") or ())
    ]
    rest = [
        spec.get(field)
        for field in (
            *("nodeName", "nodeSelector", "affinity", "tolerations", "overhead", "resources"),
            *("hostNetwork", "topologySpreadConstraints"),
        )
    ]
    namespace = pod["metadata"].get("namespace", "")
    labels = sorted(labels_of(pod).items())
    signature: bytes = msgpack.packb(
        [namespace, labels, owner_of(pod), containers, rest, keys_of(pod)]
    )
    return signature


def demand_of(pod: Mapping[str, Any], signature: bytes = b"") -> Demand:
    """Compile what `pod` asks. Raises: ValueError for a quantity that is none."""
    spec = pod["spec"]
    requests = requests_of(spec)
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = None if required is None else terms_of_selector(required)
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return Demand(
        signature=signature or signature_of(pod),
        namespace=pod["metadata"].get("namespace", ""),
        labels=labels_of(pod),
        requests=requests,
        scored=_scored(spec),
        best_effort=not (requests.get("cpu") or requests.get("memory")),
        node_name=spec.get("nodeName") or "",
        selector=tuple(
            Requirement(key, "=", (value,))
            for key, value in sorted((spec.get("nodeSelector") or {}).items())
        ),
        required=terms,
        names=_names(terms),
        preferred=tuple(
            (int(p["weight"]), _term(p["preference"]))
            for p in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ),
        tolerations=tuple(map(_toleration, spec.get("tolerations") or ())),
        ports=_ports(spec),
        images=tuple(normal_image(c.get("image") or "") for c in containers),
        owner=owner_of(pod),
        terms=terms_of(pod),
        spreads=spreads_of(pod),
        claims=tuple(keys_of(pod)),
    )


def labels_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a pod that its siblings share."""
    labels = pod["metadata"].get("labels") or {}
    return {key: value for key, value in labels.items() if key not in IDENTITY_LABELS}


def owner_of(pod: Mapping[str, Any]) -> str:
    """Return the uid of the controller that owns `pod`, "" if it has none."""
    for reference in pod["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference.get("uid", ""))
    return ""


def requests_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """Return what a pod needs at once: of its containers, its init containers one by one.

    Init containers that restart always (sidecars) run beside all that comes after them. Requests of
    the pod as a whole replace those of its containers; the overhead comes on top.
    """
    total = _sum_of(spec.get("containers") or ())
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        own = container_requests(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, own)
            own = {}
        _raise_to(peak, _sum([sidecars, own]))
    _add(total, sidecars)
    _raise_to(total, peak)
    total.update(amounts((spec.get("resources") or {}).get("requests")))
    _add(total, amounts(spec.get("overhead")))
    return {name: amount for name, amount in total.items() if amount}


def container_requests(container: Mapping[str, Any]) -> dict[str, int]:
    """Return what one container asks for."""
    return amounts((container.get("resources") or {}).get("requests"))


def amounts(quantities_: Mapping[str, Any] | None) -> dict[str, int]:
    """Return a resource list in integers: thousandths for cpu, whole units for the rest."""
    return {name: _amount(name, text) for name, text in (quantities_ or {}).items()}


@lru_cache(maxsize=4096)
def _amount(name: str, text: str | int | float) -> int:
    return quantities.milli(text) if name == "cpu" else quantities.value(text)


def _scored(spec: Mapping[str, Any]) -> tuple[int, int]:
    """Return (cpu, memory) as the scores of allocation count them."""

    def filled(container: Mapping[str, Any]) -> dict[str, Any]:
        asked = (container.get("resources") or {}).get("requests") or {}
        requests = {"cpu": "100m", "memory": DEFAULT_MEMORY, **asked}
        return {**container, "resources": {"requests": requests}}

    kinds = {k: [filled(c) for c in spec.get(k) or ()] for k in ("containers", "initContainers")}
    total = requests_of({**spec, **kinds})
    return total.get("cpu", 0), total.get("memory", 0)


def _sum_of(containers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return _sum(map(container_requests, containers))


def _sum(parts: Iterable[Resources]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        _add(total, part)
    return total


def _add(total: dict[str, int], part: Resources) -> None:
    for name, amount in part.items():
        total[name] = total.get(name, 0) + amount


def _raise_to(total: dict[str, int], least: Resources) -> None:
    for name, amount in least.items():
        total[name] = max(total.get(name, 0), amount)


def terms_of_selector(selector: Mapping[str, Any]) -> tuple[Term, ...]:
    """Compile a NodeSelector."""
    return tuple(map(_term, selector.get("nodeSelectorTerms") or ()))


def _term(term: Mapping[str, Any]) -> Term:
    return Term(_requirements(term.get("matchExpressions")), _requirements(term.get("matchFields")))


def _requirements(expressions: Sequence[Mapping[str, Any]] | None) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(e["key"], _OPERATORS[e["operator"]], tuple(e.get("values") or ()))
        for e in expressions or ()
    )


def _names(terms: tuple[Term, ...] | None) -> frozenset[str] | None:
    """Return the nodes `terms` allow if each of them names its nodes, else None."""
    allowed: set[str] = set()
    for term in terms or (Term((), ()),):
        named = [set(r.values) for r in term.fields if r.operator == "in"]
        if not named:
            return None
        allowed |= set.intersection(*named)
    return frozenset(allowed)


def _toleration(toleration: Mapping[str, Any]) -> Toleration:
    return Toleration(
        toleration.get("key") or "",
        toleration.get("operator") or "Equal",
        toleration.get("value") or "",
        toleration.get("effect") or "",
    )


def _ports(spec: Mapping[str, Any]) -> tuple[Port, ...]:
    """Return the host ports of containers and sidecars; other init containers do not count."""
    return tuple(
        (_every(port.get("hostIP") or ""), port.get("protocol") or "TCP", int(port["hostPort"]))
        for container in [
            *(c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"),
            *(spec.get("containers") or ()),
        ]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def _every(ip: str) -> str:
    return "" if ip == "0.0.0.0" else ip


def normal_image(name: str) -> str:
    """Return the image's name with its tag: "nginx" is "nginx:latest"."""
    return name if name.rfind(":") > name.rfind("/") else f"{name}:latest"
