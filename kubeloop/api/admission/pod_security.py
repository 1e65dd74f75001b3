"""Pod security: which pods a namespace takes, by the labels it has. Pure.

    policy = policy_of(namespace["metadata"]["labels"])
    violations(policy.enforce, pod["metadata"], pod["spec"])    # [] if the pod may come

The checks are in `pod_checks`; here is what labels say, and when which level counts.

Source: Kubernetes, "Pod Security Admission"; k8s.io/pod-security-admission in behaviour.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.api.admission.pod_checks import BASELINE, PRIVILEGED, RESTRICTED, violations
from kubeloop.api.errors import Cause
from kubeloop.api.problems import Problems

PREFIX: Final = "pod-security.kubernetes.io/"
LATEST: Final = 36  # Of Kubernetes 1.36.
PODS_MAX: Final = 3000  # Pods looked at when the labels of a namespace change.
LEVELS: Final = (PRIVILEGED, BASELINE, RESTRICTED)
TEMPLATES: Final[Mapping[str, Sequence[str]]] = {
    "podtemplates": ("template",),
    "replicationcontrollers": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
"""The kinds that make pods, and where these are described."""
_VERSION: Final = re.compile(r"v1\.(0|[1-9]\d*)")
_SECCOMP: Final = "container.seccomp.security.alpha.kubernetes.io/"
_ONLY_SOME: Final = "new PodSecurity enforce level only checked against the first"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Standard:
    """A level in a version. minor: of Kubernetes 1.x; None: the latest."""

    level: str = PRIVILEGED
    minor: int | None = None

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor is None else f'v1.{self.minor}'}"

    def broken_by(self, template: Json) -> list[tuple[str, str]]:
        """Return what a pod, or the template of one, violates: reason and detail."""
        minor = LATEST if self.minor is None else min(self.minor, LATEST)
        return violations(
            self.level, minor, template.get("metadata") or {}, template.get("spec") or {}
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What a namespace asks of pods. problems: with its labels."""

    enforce: Standard
    warn: Standard
    problems: list[Cause]


def policy_of(labels: Mapping[str, str]) -> Policy:
    """Return what labels say. What nobody understands is enforced as strictly as can be."""
    problems = Problems()
    found = {}
    for mode in ("enforce", "audit", "warn"):
        level, minor = PRIVILEGED, None
        if (told := labels.get(f"{PREFIX}{mode}")) is not None:
            level = told
            if told not in LEVELS:
                detail = f"must be one of {', '.join(LEVELS)}"
                problems.invalid(f"metadata.labels[{PREFIX}{mode}]", told, detail)
                level = RESTRICTED if mode == "enforce" else PRIVILEGED
        if (told := labels.get(f"{PREFIX}{mode}-version")) not in (None, "latest"):
            known = _VERSION.fullmatch(str(told))
            if known is None:
                detail = 'must be "latest" or "v1.x"'
                problems.invalid(f"metadata.labels[{PREFIX}{mode}-version]", told, detail)
            else:
                minor = int(known[1])
        found[mode] = Standard(level, minor)
    return Policy(found["enforce"], found["warn"], problems)


def speaks(labels: Mapping[str, str] | None) -> bool:
    """Tell whether labels say anything about the security of pods."""
    return any(key.startswith(PREFIX) for key in labels or ())


def told(found: Iterable[tuple[str, str]]) -> str:
    """Return violations as errors tell them."""
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


def refusal(policy: Policy, pod: Json) -> str:
    """Return why a pod may not come, "" if it may."""
    found = policy.enforce.broken_by(pod)
    return f'violates PodSecurity "{policy.enforce}": {told(found)}' if found else ""


def warning(policy: Policy, template: Json) -> str:
    """Return what to warn of about a pod, or a template of pods, "" if nothing."""
    found = policy.warn.broken_by(template)
    return f'would violate PodSecurity "{policy.warn}": {told(found)}' if found else ""


def template_of(resource: str, obj: Json) -> Json | None:
    """Return the template of the pods that an object makes, None if it has none."""
    found: Any = obj
    for name in TEMPLATES[resource]:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def matters(pod: Json, old: Json) -> bool:
    """Tell whether a change of a pod is one that is checked again."""
    notes, were = ((one["metadata"].get("annotations") or {}) for one in (pod, old))
    for field in ("containers", "initContainers", "ephemeralContainers"):
        now, before = pod["spec"].get(field) or (), old["spec"].get(field) or ()
        known = {one["name"]: one for one in before}
        if field != "ephemeralContainers" and len(now) != len(before):
            return True
        for one in now:
            was, key = known.get(one["name"]), f"{_SECCOMP}{one['name']}"
            if was is None or was.get("image") != one.get("image"):
                return True
            if notes.get(key) != were.get(key):
                return True
    return False


def tightens(new: Standard, old: Standard) -> bool:
    """Tell whether the pods there are have to be looked at, now that this is enforced."""
    if new == old or new.level == PRIVILEGED:
        return False
    return new.minor != old.minor or LEVELS.index(new.level) > LEVELS.index(old.level)


def told_of_pods(namespace: str, standard: Standard, pods: Sequence[Json]) -> list[str]:
    """Return what to warn of about the pods of a namespace that enforces a standard from now on."""
    checked = _first_of_each_controller(pods)[:PODS_MAX]
    names: dict[str, list[str]] = {}
    for pod in checked:
        found = standard.broken_by(pod)
        if found:
            reasons = ", ".join(reason for reason, _ in found)
            names.setdefault(reasons, []).append(pod["metadata"]["name"])
    lines = []
    if len(checked) < len(pods):
        lines.append(f"{_ONLY_SOME} {len(checked)} of {len(pods)} existing pods")
    if names:
        lines.append(
            f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level '
            f'"{standard}"'
        )
    return lines + sorted(f"{_some(who)}: {reasons}" for reasons, who in names.items())


def _some(names: Sequence[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other pod{'s' if others > 1 else ''})"


def _first_of_each_controller(pods: Sequence[Json]) -> list[Json]:
    """Return pods, those first that no controller has, and the first one of each that has."""
    first, others, seen = [], [], set[str]()
    for pod in pods:
        owners = pod["metadata"].get("ownerReferences") or ()
        owner = next((one["uid"] for one in owners if one.get("controller")), None)
        if owner in seen:
            others.append(pod)
        else:
            first.append(pod)
        if owner is not None:
            seen.add(owner)
    return first + others
