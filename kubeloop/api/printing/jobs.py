"""The rows of Jobs and CronJobs."""

from typing import Any

from kubeloop.api import humanize, times
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.humanize import Ago
from kubeloop.api.printing.text import NONE, containers, created, name_of, selector


def job(obj: Json) -> list[Any]:
    """Return the cells of a Job."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        _state(obj),
        _completions(spec, status),
        _duration(status),
        humanize.since(created(obj)),
        *containers(spec.get("template")),
        selector(spec.get("selector")),
    ]


def cron_job(obj: Json) -> list[Any]:
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
        humanize.since(last) if last else NONE,
        humanize.since(created(obj)),
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


def _duration(status: Json) -> str | Ago:
    begun, ended = status.get("startTime"), status.get("completionTime")
    if not begun:
        return ""
    taken = humanize.since(begun)
    return taken.text(times.parse(ended)) if ended and isinstance(taken, Ago) else taken
