"""The rows of Jobs and CronJobs."""

from typing import Any

from kubeloop.api import humanize, times
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.printing.text import NONE, containers, created, name_of, selector


def job(obj: Json, now_unix: float) -> list[Any]:
    """Return the cells of a Job."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        _state(obj),
        _completions(spec, status),
        _duration(status, now_unix),
        humanize.since(created(obj), now_unix),
        *containers(spec.get("template")),
        selector(spec.get("selector")),
    ]


def cron_job(obj: Json, now_unix: float) -> list[Any]:
    """Return the cells of a CronJob."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    last = status.get("lastScheduleTime")
    template = maybe(maybe(spec, "jobTemplate"), "spec") or {}
    return [
        name_of(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        "<unset>" if spec.get("suspend") is None else str(bool(spec["suspend"])),
        len(items(status, "active")),
        humanize.since(last, now_unix) if last else NONE,
        humanize.since(created(obj), now_unix),
        *containers(template.get("template")),
        selector(template.get("selector")),
    ]


def _state(obj: Json) -> str:
    conditions = items(obj.get("status"), "conditions")
    true = {c.get("type") for c in conditions if c.get("status") == "True"}
    if "Complete" in true:
        return "Complete"
    if "Failed" in true:
        return "Failed"
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    for state in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if state in true:
            return state
    return "Running"


def _completions(spec: Json, status: Json) -> str:
    done, wanted = status.get("succeeded", 0), spec.get("completions")
    if wanted is not None:
        return f"{done}/{wanted}"
    parallelism = spec.get("parallelism") or 0
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _duration(status: Json, now_unix: float) -> str:
    begun, ended = status.get("startTime"), status.get("completionTime")
    if not begun:
        return ""
    return humanize.since(begun, times.parse(ended) if ended else now_unix)
