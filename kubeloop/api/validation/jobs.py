"""Rules of Jobs and CronJobs."""

from typing import Any, Final
from zoneinfo import ZoneInfo

from kubeloop.api.cron import Schedule
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.errors import BadRequest
from kubeloop.api.problems import Problems
from kubeloop.api.selectors import label_selector
from kubeloop.api.validation import metadata, pods, selectors

CRON_NAME_MAX: Final = 52  # A Job's name adds eleven characters, and ends up in labels.
_MODES: Final = ("Indexed", "NonIndexed")
_CONCURRENCY: Final = ("Allow", "Forbid", "Replace")
_REPLACEMENT: Final = ("Failed", "TerminatingOrFailed")
_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS: Final = ("In", "NotIn")
_RESTART: Final = ("OnFailure", "Never")
_INDEXES_MAX: Final = 100_000  # Of Pods at once, in Indexed mode.
_FIXED: Final = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy")
_PLACEMENT: Final = ("nodeSelector", "tolerations", "affinity", "schedulingGates")


def job(problems: Problems, obj: Json) -> None:
    """Check the spec of a Job."""
    spec = obj.get("spec") or {}
    selector = maybe(spec, "selector")
    if selector is None:
        problems.required("spec.selector")
    else:
        selectors.label_selector(problems, "spec.selector", selector)
        told = (maybe(maybe(spec, "template"), "metadata") or {}).get("labels")
        try:
            fits = label_selector(selector).matches(told)
        except BadRequest:
            fits = False
        if not fits:
            detail = "`selector` does not match template `labels`"
            at = "spec.template.metadata.labels"
            problems.invalid(at, metadata.sorted_labels(told), detail)
    _spec(problems, "spec", spec)


def job_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check what may not change in a Job."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    elastic = spec.get("completionMode") == "Indexed" and (
        spec.get("completions") == spec.get("parallelism")
    )
    if not elastic:
        problems.immutable("spec.completions", spec.get("completions"), was.get("completions"))
    shown = (selectors.shown(told.get("selector")) for told in (spec, was))
    problems.immutable("spec.selector", *shown)
    new, before = (maybe(told, "template") or {} for told in (spec, was))
    if was.get("suspend") and not (old.get("status") or {}).get("startTime"):
        new, before = _unplaced(new), _unplaced(before)
    problems.immutable("spec.template", new, before)
    for field in _FIXED:
        problems.immutable(f"spec.{field}", spec.get(field), was.get(field))
    problems.immutable("spec.successPolicy", spec.get("successPolicy"), was.get("successPolicy"))


def job_status(problems: Problems, obj: Json) -> None:
    """Check the counts of a Job's status."""
    status = obj.get("status") or {}
    for field in ("active", "succeeded", "failed", "ready", "terminating"):
        problems.not_negative(f"status.{field}", status.get(field))


def cron_job(problems: Problems, obj: Json) -> None:
    """Check the spec of a CronJob."""
    spec = obj.get("spec") or {}
    name = (obj.get("metadata") or {}).get("name") or ""
    if len(name) > CRON_NAME_MAX:
        problems.invalid("metadata.name", name, f"must be no more than {CRON_NAME_MAX} characters")
    _schedule(problems, spec)
    problems.not_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    policy = spec.get("concurrencyPolicy") or ""
    if policy:
        problems.one_of("spec.concurrencyPolicy", policy, _CONCURRENCY)
    else:
        problems.required("spec.concurrencyPolicy")
    template = maybe(maybe(spec, "jobTemplate"), "spec") or {}
    if template.get("manualSelector"):
        problems.unsupported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false"))
    _spec(problems, "spec.jobTemplate.spec", template)
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        problems.not_negative(f"spec.{field}", spec.get(field))


def _schedule(problems: Problems, spec: Json) -> None:
    schedule, zone = spec.get("schedule") or "", spec.get("timeZone")
    if not schedule:
        problems.required("spec.schedule")
    else:
        if "TZ" in schedule:
            detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            problems.invalid("spec.schedule", schedule, detail)
        else:
            try:
                Schedule.parse(schedule)
            except ValueError as error:
                problems.invalid("spec.schedule", schedule, str(error))
    if zone is None:
        return
    if not zone:
        problems.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
    elif not zone_exists(zone):
        problems.invalid("spec.timeZone", zone, f"unknown time zone {zone}")


def zone_exists(name: str) -> bool:
    """Tell whether there is a time zone of that name; "Local" means nothing to others."""
    if name.lower() == "local":
        return False
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _spec(problems: Problems, field: str, spec: Json) -> None:
    """Check what a Job and the template of a CronJob share."""
    for key in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        problems.not_negative(f"{field}.{key}", spec.get(key))
    indexed = spec.get("completionMode") == "Indexed"
    if mode := spec.get("completionMode"):
        problems.one_of(f"{field}.completionMode", mode, _MODES)
    if indexed and spec.get("completions") is None:
        detail = "when completion mode is Indexed"
        problems.required(f"{field}.completions", detail)
    if indexed and (spec.get("parallelism") or 0) > _INDEXES_MAX:
        detail = f"must be less than or equal to {_INDEXES_MAX} when completion mode is Indexed"
        problems.invalid(f"{field}.parallelism", spec["parallelism"], detail)
    if not indexed:
        for key in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
            if spec.get(key) is not None:
                detail = "requires indexed completion mode"
                problems.invalid(f"{field}.{key}", spec[key], detail)
    elif spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        detail = "when maxFailedIndexes is specified"
        problems.required(f"{field}.backoffLimitPerIndex", detail)
    _replacement(problems, field, spec)
    _failure_policy(problems, f"{field}.podFailurePolicy", maybe(spec, "podFailurePolicy"), spec)
    pods.template(problems, f"{field}.template", maybe(spec, "template") or {})
    _restart_policy(problems, f"{field}.template.spec.restartPolicy", spec)


def _replacement(problems: Problems, field: str, spec: Json) -> None:
    policy = spec.get("podReplacementPolicy")
    if policy is None:
        return
    at = f"{field}.podReplacementPolicy"
    if spec.get("podFailurePolicy") is not None:
        problems.one_of(at, policy, _REPLACEMENT[:1])
    else:
        problems.one_of(at, policy, _REPLACEMENT)


def _restart_policy(problems: Problems, at: str, spec: Json) -> None:
    policy = (maybe(maybe(spec, "template"), "spec") or {}).get("restartPolicy") or ""
    if policy in ("", "Always"):
        problems.required(at, 'valid values: "OnFailure", "Never"')
    else:
        problems.one_of(at, policy, _RESTART)
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        problems.invalid(at, policy, detail)


def _failure_policy(problems: Problems, at: str, policy: Json | None, spec: Json) -> None:
    names = {
        container.get("name")
        for key in ("containers", "initContainers")
        for container in items(maybe(maybe(spec, "template"), "spec"), key)
    }
    for number, rule in enumerate(items(policy, "rules")):
        here = f"{at}.rules[{number}]"
        action = rule.get("action") or ""
        if not action:
            problems.required(
                f"{here}.action", 'valid values: "Count", "FailIndex", "FailJob", "Ignore"'
            )
        elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            detail = "requires the backoffLimitPerIndex to be set"
            problems.invalid(f"{here}.action", action, detail)
        else:
            problems.one_of(f"{here}.action", action, _ACTIONS)
        codes, conditions = maybe(rule, "onExitCodes"), items(rule, "onPodConditions")
        if codes is not None and conditions:
            detail = "specifying both OnExitCodes and OnPodConditions is not supported"
            problems.invalid(here, rule, detail)
        elif codes is None and not conditions:
            detail = "specifying one of OnExitCodes and OnPodConditions is required"
            problems.invalid(here, rule, detail)
        if codes is not None:
            _exit_codes(problems, f"{here}.onExitCodes", codes, names)


def _exit_codes(problems: Problems, at: str, codes: Json, names: set[Any]) -> None:
    problems.one_of(f"{at}.operator", codes.get("operator") or "", _OPERATORS)
    name = codes.get("containerName")
    if name is not None and name not in names:
        problems.invalid(
            f"{at}.containerName",
            name,
            "must be one of the container or initContainer names in the pod template",
        )
    values = codes.get("values") or []
    if not values:
        problems.invalid(f"{at}.values", values, "at least one value is required")
    for number, value in enumerate(values):
        if value == 0 and codes.get("operator") == "In":
            detail = "must not be 0 for the In operator"
            problems.invalid(f"{at}.values[{number}]", value, detail)
        elif value in values[:number]:
            problems.duplicate(f"{at}.values[{number}]", value)


def _unplaced(template: Json) -> Json:
    """Return a template without what says where its pods may run."""
    spec = {k: v for k, v in (maybe(template, "spec") or {}).items() if k not in _PLACEMENT}
    told = maybe(template, "metadata") or {}
    kept = {k: v for k, v in told.items() if k not in ("labels", "annotations")}
    return {"metadata": kept, "spec": spec}
