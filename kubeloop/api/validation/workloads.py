"""Rules of ReplicationControllers, ReplicaSets and Deployments."""

from typing import Final

from kubeloop.api.defaulting.tools import Json, maybe
from kubeloop.api.errors import BadRequest
from kubeloop.api.problems import Problems
from kubeloop.api.selectors import LabelSelector, label_selector, set_selector
from kubeloop.api.validation import amounts, metadata, pods, selectors

_MISMATCH: Final = "`selector` does not match template `labels`"


def replication_controller(problems: Problems, obj: Json) -> None:
    """Check the spec of a ReplicationController."""
    spec = obj.get("spec") or {}
    problems.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    selector = spec.get("selector") or {}
    if not selector:
        problems.required("spec.selector")
    _replicas(problems, spec)
    template = maybe(spec, "template")
    if template is None:
        problems.required("spec.template")
        return
    matcher = set_selector(selector) if selector else None
    _template(problems, template, matcher, "ReplicationController")


def replica_set(problems: Problems, obj: Json) -> None:
    """Check the spec of a ReplicaSet."""
    spec = obj.get("spec") or {}
    _replicas(problems, spec)
    problems.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    _selected_template(problems, spec)


def deployment(problems: Problems, obj: Json) -> None:
    """Check the spec of a Deployment."""
    spec = obj.get("spec") or {}
    _replicas(problems, spec)
    _selected_template(problems, spec)
    _strategy(problems, maybe(spec, "strategy") or {})
    for key in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        problems.not_negative(f"spec.{key}", spec.get(key))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        at = "spec.progressDeadlineSeconds"
        problems.invalid(at, deadline, "must be greater than minReadySeconds")


def same_selector(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a ReplicaSet or Deployment still selects what it did."""
    new, was = (selectors.shown((o.get("spec") or {}).get("selector")) for o in (obj, old))
    problems.immutable("spec.selector", new, was)


def status(problems: Problems, obj: Json) -> None:
    """Check the counts of a status: none below zero, no part larger than its whole."""
    counts = obj.get("status") or {}
    total, ready = counts.get("replicas", 0), counts.get("readyReplicas", 0)
    keys = (
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
    )
    for key in keys:
        problems.not_negative(f"status.{key}", counts.get(key))
    for key in ("updatedReplicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        if counts.get(key, 0) > total:
            problems.invalid(f"status.{key}", counts[key], "cannot be greater than status.replicas")
    if counts.get("availableReplicas", 0) > ready:
        detail = "cannot be greater than readyReplicas"
        problems.invalid("status.availableReplicas", counts["availableReplicas"], detail)


def _replicas(problems: Problems, spec: Json) -> None:
    if spec.get("replicas") is None:
        problems.required("spec.replicas")
    problems.not_negative("spec.replicas", spec.get("replicas"))


def _selected_template(problems: Problems, spec: Json) -> None:
    selector = maybe(spec, "selector")
    if selector is None:
        problems.required("spec.selector")
    else:
        selectors.label_selector(problems, "spec.selector", selector)
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            problems.invalid(
                "spec.selector",
                selectors.shown(selector),
                "empty selector is invalid for deployment",
            )
    try:
        matcher = label_selector(selector)
    except BadRequest:
        problems.invalid("spec.selector", selectors.shown(selector), "invalid label selector")
        return
    _template(problems, maybe(spec, "template") or {}, matcher, "ReplicaSet")


def _template(problems: Problems, obj: Json, matcher: LabelSelector | None, kind: str) -> None:
    """Check the template: its pods must be found by the selector and live for ever."""
    labels = (maybe(obj, "metadata") or {}).get("labels")
    everything = matcher is None or (not matcher.requirements and not matcher.nothing)
    if matcher is not None and not everything and not matcher.matches(labels):
        problems.invalid("spec.template.metadata.labels", metadata.sorted_labels(labels), _MISMATCH)
    pods.template(problems, "spec.template", obj)
    spec = maybe(obj, "spec") or {}
    policy = spec.get("restartPolicy") or ""
    problems.one_of("spec.template.spec.restartPolicy", policy, ("Always",))
    if spec.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        problems.forbidden("spec.template.spec.activeDeadlineSeconds", detail)


def _strategy(problems: Problems, strategy: Json) -> None:
    field, kind, rolling = "spec.strategy", strategy.get("type"), maybe(strategy, "rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            problems.forbidden(f"{field}.rollingUpdate", detail)
    elif kind != "RollingUpdate":
        shown = {"Type": kind or "", "RollingUpdate": rolling}
        problems.unsupported(field, shown, ("Recreate", "RollingUpdate"))
    elif rolling is None:
        detail = "this should be defaulted and never be nil"
        problems.required(f"{field}.rollingUpdate", detail)
    else:
        _rolling(problems, f"{field}.rollingUpdate", rolling)


def _rolling(problems: Problems, field: str, rolling: Json) -> None:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    at = f"{field}.maxUnavailable"
    amounts.check(problems, at, unavailable)
    amounts.check(problems, f"{field}.maxSurge", surge)
    if amounts.number(unavailable) == 0 and amounts.number(surge) == 0:
        problems.invalid(at, unavailable, "may not be 0 when `maxSurge` is 0")
    amounts.at_most_all(problems, at, unavailable)
