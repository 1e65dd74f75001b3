"""Rules of StatefulSets, DaemonSets and ControllerRevisions."""

from typing import Final

from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.errors import BadRequest
from kubeloop.api.problems import Problems
from kubeloop.api.selectors import label_selector
from kubeloop.api.validation import amounts, metadata, pods, selectors

_MISMATCH: Final = "`selector` does not match template `labels`"
_ROLLING: Final = "spec.updateStrategy.rollingUpdate"
_RETENTION: Final = ("Delete", "Retain")
_STATEFUL_CHANGES: Final = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def controller_revision(problems: Problems, obj: Json) -> None:
    """Check a ControllerRevision."""
    if obj.get("data") is None:
        problems.required("data", "data is mandatory")
    problems.not_negative("revision", obj.get("revision"))


def controller_revision_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a ControllerRevision holds what it did."""
    problems.immutable("data", obj.get("data"), old.get("data"))


def daemon_set(problems: Problems, obj: Json) -> None:
    """Check the spec of a DaemonSet."""
    spec = obj.get("spec") or {}
    _selector(problems, spec, "daemonset")
    _template(problems, spec, "DaemonSet")
    problems.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    strategy = maybe(spec, "updateStrategy") or {}
    kind, rolling = strategy.get("type") or "", maybe(strategy, "rollingUpdate")
    if kind == "RollingUpdate":
        if rolling is None:
            problems.required(_ROLLING)
        else:
            _rolling_daemons(problems, rolling)
    else:
        problems.one_of("spec.updateStrategy.type", kind, ("OnDelete", "RollingUpdate"))
    problems.not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def daemon_set_status(problems: Problems, obj: Json) -> None:
    """Check the counts of a DaemonSet's status."""
    counts = obj.get("status") or {}
    for key in (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ):
        problems.not_negative(f"status.{key}", counts.get(key))


def stateful_set(problems: Problems, obj: Json) -> None:
    """Check the spec of a StatefulSet."""
    spec = obj.get("spec") or {}
    policy = spec.get("podManagementPolicy") or ""
    if policy not in ("OrderedReady", "Parallel"):
        detail = "must be 'OrderedReady' or 'Parallel'"
        problems.invalid("spec.podManagementPolicy", policy, detail)
    _stateful_strategy(problems, maybe(spec, "updateStrategy") or {})
    retention = maybe(spec, "persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        at = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
        problems.one_of(at, retention.get(key) or "", _RETENTION)
    for key in ("replicas", "minReadySeconds"):
        problems.not_negative(f"spec.{key}", spec.get(key))
    problems.not_negative("spec.ordinals.start", (maybe(spec, "ordinals") or {}).get("start"))
    problems.not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    if maybe(spec, "selector") is None:
        problems.required("spec.selector")
    else:
        _selector(problems, spec, "statefulset")
    _template(problems, {**spec, "template": _with_claims(spec)}, "StatefulSet")


def stateful_set_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check what may not change in a StatefulSet."""
    new, was = (
        {k: v for k, v in (o.get("spec") or {}).items() if k not in _STATEFUL_CHANGES}
        for o in (obj, old)
    )
    if new != was:
        told = ", ".join(f"'{key}'" for key in _STATEFUL_CHANGES[:-1])
        detail = (
            f"updates to statefulset spec for fields other than {told} and "
            f"'{_STATEFUL_CHANGES[-1]}' are forbidden"
        )
        problems.forbidden("spec", detail)


def stateful_set_status(problems: Problems, obj: Json) -> None:
    """Check the counts of a StatefulSet's status: no part larger than its whole."""
    counts = obj.get("status") or {}
    total, ready = counts.get("replicas", 0), counts.get("readyReplicas", 0)
    parts = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    for key in ("replicas", *parts, "observedGeneration", "collisionCount"):
        problems.not_negative(f"status.{key}", counts.get(key))
    for key in parts:
        if counts.get(key, 0) > total:
            problems.invalid(f"status.{key}", counts[key], "cannot be greater than status.replicas")
    if counts.get("availableReplicas", 0) > ready:
        detail = "cannot be greater than status.readyReplicas"
        problems.invalid("status.availableReplicas", counts["availableReplicas"], detail)


def _stateful_strategy(problems: Problems, strategy: Json) -> None:
    kind, rolling = strategy.get("type") or "", maybe(strategy, "rollingUpdate")
    if not kind:
        problems.required("spec.updateStrategy")
    elif kind == "OnDelete":
        if rolling is not None:
            detail = "only allowed for updateStrategy 'RollingUpdate'"
            problems.invalid(_ROLLING, rolling, detail)
    elif kind != "RollingUpdate":
        detail = "must be 'RollingUpdate' or 'OnDelete'"
        problems.invalid("spec.updateStrategy", strategy, detail)
    elif rolling is not None:
        problems.not_negative(f"{_ROLLING}.partition", rolling.get("partition"))
        most = rolling.get("maxUnavailable")
        if most is not None:
            at = f"{_ROLLING}.maxUnavailable"
            amounts.check(problems, at, most)
            if amounts.number(most) == 0:
                problems.invalid(at, most, "cannot be 0")
            amounts.at_most_all(problems, at, most)


def _rolling_daemons(problems: Problems, rolling: Json) -> None:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    down, up = f"{_ROLLING}.maxUnavailable", f"{_ROLLING}.maxSurge"
    amounts.check(problems, down, unavailable)
    amounts.check(problems, up, surge)
    if amounts.number(unavailable) and amounts.number(surge):
        problems.invalid(up, surge, "may not be set when maxUnavailable is non-zero")
    elif not amounts.number(unavailable) and not amounts.number(surge):
        problems.required(down, "cannot be 0 when maxSurge is 0")
    amounts.at_most_all(problems, down, unavailable)
    amounts.at_most_all(problems, up, surge)


def _selector(problems: Problems, spec: Json, kind: str) -> None:
    selector = maybe(spec, "selector")
    selectors.label_selector(problems, "spec.selector", selector)
    if selector is not None and not any(selector.values()):
        detail = f"empty selector is invalid for {kind}"
        problems.invalid("spec.selector", selectors.shown(selector), detail)


def _with_claims(spec: Json) -> Json:
    """Return the template with a volume for each claim, as its pods will have them."""
    template = maybe(spec, "template") or {}
    told = maybe(template, "spec") or {}
    given = items(told, "volumes")
    known = {volume.get("name") for volume in given}
    names = [(claim.get("metadata") or {}).get("name") for claim in
             items(spec, "volumeClaimTemplates")]  # fmt: skip
    claims = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}}
        for name in names
        if name and name not in known
    ]
    return {**template, "spec": {**told, "volumes": [*given, *claims]}}


def _template(problems: Problems, spec: Json, kind: str) -> None:
    """Check the template: its pods must be found by the selector and live for ever."""
    template = maybe(spec, "template") or {}
    labels = (maybe(template, "metadata") or {}).get("labels")
    selector = maybe(spec, "selector")
    try:
        fits = label_selector(selector).matches(labels or {})
    except BadRequest:
        fits = True  # It has been told what is wrong with it.
    if not fits:
        problems.invalid("spec.template.metadata.labels", metadata.sorted_labels(labels), _MISMATCH)
    pods.template(problems, "spec.template", template)
    told = maybe(template, "spec") or {}
    policy = told.get("restartPolicy") or ""
    problems.one_of("spec.template.spec.restartPolicy", policy, ("Always",))
    if told.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        problems.forbidden("spec.template.spec.activeDeadlineSeconds", detail)
