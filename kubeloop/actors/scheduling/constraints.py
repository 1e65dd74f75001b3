"""What a pod asks about other pods: near them, away from them, evenly spread among domains.

A domain is all nodes with one value of a label, the topology key: a host, a zone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kubeloop.api.selectors import LabelSelector, Requirement, label_selector

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"  # The label every namespace has.

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Some pods: those of one namespace that a selector means.

    namespaces: by name;  among: by the label that holds a namespace's name, None: by name only.
    """

    namespaces: frozenset[str]
    among: LabelSelector | None
    selector: LabelSelector

    def has(self, namespace: str, labels: Labels) -> bool:
        """Tell whether a pod with `labels` is one of them."""
        inside = namespace in self.namespaces or (
            self.among is not None and self.among.matches({NAMESPACE_NAME: namespace})
        )
        return inside and self.selector.matches(labels)


@dataclass(frozen=True, slots=True)
class PodTerm:
    """A rule about the pods of `crowd` in the same domain of `key`.

    kind:   near or away: must; likes: `weight` for each such pod, less than 0 to stay away.
    """

    kind: Literal["near", "away", "likes"]
    key: str
    crowd: Crowd
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """Keep the numbers of `crowd` in the domains of `key` within `skew_max` of each other.

    hard:           a node that breaks it will not do; otherwise it is only worse.
    domains_min:    fewer domains than this count as if one more were empty.
    honor_affinity, honor_taints: whether nodes the pod may not go to count at all.
    """

    key: str
    crowd: Crowd
    skew_max: int
    hard: bool
    domains_min: int
    honor_affinity: bool
    honor_taints: bool


def spreads_of(pod: Mapping[str, Any]) -> tuple[Spread, ...]:
    """Return the topology spread constraints of a pod."""
    metadata = pod["metadata"]
    namespace, labels = metadata.get("namespace", ""), metadata.get("labels") or {}
    return tuple(
        Spread(
            key=c["topologyKey"],
            crowd=Crowd(frozenset([namespace]), None, _selector(c, labels)),
            skew_max=int(c["maxSkew"]),
            hard=c.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
            domains_min=int(c.get("minDomains") or 1),
            honor_affinity=(c.get("nodeAffinityPolicy") or "Honor") == "Honor",
            honor_taints=(c.get("nodeTaintsPolicy") or "Ignore") == "Honor",
        )
        for c in pod["spec"].get("topologySpreadConstraints") or ()
    )


def terms_of(pod: Mapping[str, Any]) -> tuple[PodTerm, ...]:
    """Return the rules about other pods in spec.affinity, in the order they stand."""
    affinity = pod["spec"].get("affinity") or {}
    near = affinity.get("podAffinity") or {}
    away = affinity.get("podAntiAffinity") or {}
    return (
        *(_term("near", t, pod) for t in near.get(_REQUIRED) or ()),
        *(_term("away", t, pod) for t in away.get(_REQUIRED) or ()),
        *_preferred(near.get(_PREFERRED) or (), pod, 1),
        *_preferred(away.get(_PREFERRED) or (), pod, -1),
    )


def _preferred(
    terms: Iterable[Mapping[str, Any]], pod: Mapping[str, Any], sign: int
) -> Iterable[PodTerm]:
    for term in terms:
        yield _term("likes", term["podAffinityTerm"], pod, sign * int(term["weight"]))


def _term(
    kind: Literal["near", "away", "likes"],
    term: Mapping[str, Any],
    pod: Mapping[str, Any],
    weight: int = 0,
) -> PodTerm:
    metadata = pod["metadata"]
    among = term.get("namespaceSelector")
    names = term.get("namespaces") or ([] if among is not None else [metadata.get("namespace", "")])
    crowd = Crowd(
        frozenset(names),
        None if among is None else label_selector(among),
        _selector(term, metadata.get("labels") or {}),
    )
    return PodTerm(kind, term["topologyKey"], crowd, weight)


def _selector(term: Mapping[str, Any], labels: Labels) -> LabelSelector:
    """Return the selector of a term, narrowed to pods whose labels agree with the pod's own."""
    selector = label_selector(term.get("labelSelector"))
    own = [
        Requirement(key, operator, (labels[key],))
        for field, operator in (("matchLabelKeys", "in"), ("mismatchLabelKeys", "notin"))
        for key in term.get(field) or ()
        if key in labels
    ]
    return LabelSelector((*selector.requirements, *own), selector.nothing)
