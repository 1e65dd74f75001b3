"""CronJob: makes a Job whenever its schedule says so, and clears away old ones.

Source: Kubernetes, "CronJob"; kube-controller-manager's cronjob controller (v2) in behaviour.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    controller_uids,
    owners,
    reference_to,
    split,
    unix_s,
)
from kubeloop.actors.controllers.job import JOBS
from kubeloop.actors.controllers.job_ttl import finished_s
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.cron import Schedule
from kubeloop.api.times import rfc3339

CRON_JOBS: Final = "cronjobs.batch"
SCHEDULED: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MISSED_MAX: Final = 100  # More missed times than that are a clock that went wrong.
_SEARCHED_MAX: Final = 1_000
_HISTORIES: Final = {
    "successfulJobsHistoryLimit": "Complete",
    "failedJobsHistoryLimit": "Failed",
}


class Times(NamedTuple):
    """When a CronJob is due. seconds since 1970; None: never.

    due:    the last time that has come and was not attended to.
    missed: how many there were, that one included.
    next:   the first in the future.
    """

    due: float | None
    missed: int
    next: float | None


class CronJobController:
    """Work items are CronJobs."""

    name = "cronjob-controller"
    resources = (CRON_JOBS, JOBS)
    indexes: Mapping[tuple[str, str], Index] = {(JOBS, "controller"): controller_uids}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, _ = split(key)
        if resource == CRON_JOBS:
            yield key
            return
        yield from owners(CRON_JOBS, "CronJob", namespace, before, after)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        cron = view.get(*split(key))
        if cron is None or cron["metadata"].get("deletionTimestamp"):
            return NOTHING
        jobs = list(view.by(JOBS, "controller", cron["metadata"]["uid"]))
        status = dict(cron.get("status") or {})
        told = _follow(cron, status, jobs)
        actions = self._clear(cron, jobs)
        made = self._start(cron, status, jobs, now_s)
        events = [*told, *made.events]
        if status != (cron.get("status") or {}):
            request = self._write.update({**cron, "status": status}, subresource="status")
            actions.append(Action(request))
        return Result([*actions, *made.actions], events, made.again_s)

    def _start(
        self,
        cron: Object,
        status: dict[str, Any],
        jobs: Sequence[Object],
        now_s: float,
    ) -> Result:
        """Return the Job that is due, and when the next one is; `status` is brought up to date."""
        spec = cron["spec"]
        if spec.get("suspend"):
            return NOTHING
        try:
            schedule, zone = Schedule.parse(spec["schedule"]), _zone(spec.get("timeZone"))
        except ValueError as error:
            text = f"unparseable schedule: {spec.get('schedule', '')} : {error}"
            return Result(events=[Event(cron, "Warning", "UnparseableSchedule", text)])
        except (KeyError, OSError):
            text = f"invalid timeZone: {spec.get('timeZone')!r}: unknown time zone"
            return Result(events=[Event(cron, "Warning", "UnknownTimeZone", text)])
        times = _times(cron, schedule, zone, now_s)
        again_s = None if times.next is None else times.next - now_s
        events: list[Event] = []
        if times.missed > MISSED_MAX:
            text = (
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or "
                "check clock skew"
            )
            events.append(Event(cron, "Warning", "TooManyMissedTimes", text))
        if times.due is None:
            return Result((), events, again_s)
        deadline_s = spec.get("startingDeadlineSeconds")
        if deadline_s is not None and times.due + deadline_s < now_s:
            told = datetime.fromtimestamp(times.due, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
            text = f"Missed scheduled time to start a job: {told}"
            return Result((), [*events, Event(cron, "Warning", "MissSchedule", text)], again_s)
        name = f"{cron['metadata']['name']}-{int(times.due) // 60}"
        active = [job for job in jobs if finished_s(job) is None and _due_s(job)]
        if any(job["metadata"]["name"] == name for job in jobs):
            status["lastScheduleTime"] = rfc3339(times.due)
            return Result((), events, again_s)
        policy = spec.get("concurrencyPolicy")
        if policy == "Forbid" and active:
            text = (
                "Not starting job because prior execution is running and concurrency policy is "
                "Forbid"
            )
            return Result((), [*events, Event(cron, "Normal", "JobAlreadyActive", text)], again_s)
        actions = [self._delete(cron, job) for job in active] if policy == "Replace" else []
        actions.append(self._create(cron, name, times.due, zone))
        return Result(actions, events, again_s)

    def _create(self, cron: Object, name: str, due_s: float, zone: tzinfo) -> Action:
        template, metadata = cron["spec"].get("jobTemplate") or {}, cron["metadata"]
        told = template.get("metadata") or {}
        scheduled = datetime.fromtimestamp(due_s, zone).isoformat().replace("+00:00", "Z")
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": dict(told.get("labels") or {}),
                "annotations": {**(told.get("annotations") or {}), SCHEDULED: scheduled},
                "ownerReferences": [reference_to(cron)],
            },
            "spec": template.get("spec") or {},
        }
        return Action(
            self._write.create(job),
            success=Event(cron, "Normal", "SuccessfulCreate", f"Created job {name}"),
            failure=Event(cron, "Warning", "FailedCreate", "Error creating job: {error}"),
        )

    def _clear(self, cron: Object, jobs: Sequence[Object]) -> list[Action]:
        """Return the deletions of finished Jobs beyond what the history limits keep."""
        actions: list[Action] = []
        for field, kind in _HISTORIES.items():
            limit = cron["spec"].get(field)
            if limit is None:
                continue
            ended = sorted(
                (job for job in jobs if _ended_as(job) == kind),
                key=lambda job: (
                    (job.get("status") or {}).get("startTime") or "",
                    job["metadata"]["name"],
                ),
            )
            surplus = ended[: max(0, len(ended) - limit)]
            actions += [
                self._delete(cron, job)
                for job in surplus
                if not job["metadata"].get("deletionTimestamp")
            ]
        return actions

    def _delete(self, cron: Object, job: Object) -> Action:
        name = job["metadata"]["name"]
        return Action(
            self._write.delete(job, propagationPolicy="Background"),
            success=Event(cron, "Normal", "SuccessfulDelete", f"Deleted job {name}"),
            failure=Event(cron, "Warning", "FailedDelete", "Deleted job: {error}"),
            gone_is_fine=True,
        )


def _follow(cron: Object, status: dict[str, Any], jobs: Sequence[Object]) -> list[Event]:
    """Bring the list of active Jobs, and the times, up to date in place; return the news."""
    was = {ref.get("uid"): ref for ref in status.get("active") or ()}
    by_uid = {job["metadata"]["uid"]: job for job in jobs}
    events: list[Event] = []
    for uid, ref in was.items():
        if uid not in by_uid:
            text = f"Active job went missing: {ref.get('name', '')}"
            events.append(Event(cron, "Normal", "MissingJob", text))
    active = []
    for uid, job in by_uid.items():
        name, kind = job["metadata"]["name"], _ended_as(job)
        due_s = _due_s(job)
        if due_s > unix_s(status.get("lastScheduleTime")):
            status["lastScheduleTime"] = rfc3339(due_s)
        if not kind and due_s:
            active.append(job)
            continue
        if not kind:  # A user has made it: `kubectl create job --from`.
            text = f"Saw a job that the controller did not create or forgot: {name}"
            events.append(Event(cron, "Warning", "UnexpectedJob", text))
            continue
        if uid in was:
            text = f"Saw completed job: {name}, condition: {kind}"
            events.append(Event(cron, "Normal", "SawCompletedJob", text))
        ended = (job.get("status") or {}).get("completionTime")
        if kind == "Complete" and unix_s(ended) > unix_s(status.get("lastSuccessfulTime")):
            status["lastSuccessfulTime"] = ended
    if active:
        status["active"] = [_reference(job) for job in sorted(active, key=_age)]
    else:
        status.pop("active", None)
    return events


def _due_s(job: Object) -> float:
    """Return the time a Job was made for, seconds since 1970; 0 if it is no CronJob's doing."""
    return unix_s((job["metadata"].get("annotations") or {}).get(SCHEDULED))


def _times(cron: Object, schedule: Schedule, zone: tzinfo, now_s: float) -> Times:
    """Return when a CronJob is due."""
    spec, status = cron["spec"], cron.get("status") or {}
    since_s = unix_s(status.get("lastScheduleTime") or cron["metadata"]["creationTimestamp"])
    deadline_s = spec.get("startingDeadlineSeconds")
    if deadline_s is not None:
        since_s = max(since_s, now_s - deadline_s)
    now = datetime.fromtimestamp(now_s, zone)
    next_ = schedule.after(now)
    next_s = None if next_ is None else next_.timestamp()
    found = schedule.after(datetime.fromtimestamp(since_s, zone))
    due_s: float | None = None
    missed = 0
    while found is not None and found.timestamp() <= now_s:
        due_s, missed = found.timestamp(), missed + 1
        if missed > _SEARCHED_MAX:  # Then the last is looked for from nearby.
            found = _shortly_before(schedule, now, found)
            missed += 1
            due_s = found.timestamp()
        found = schedule.after(found)
    return Times(due_s, missed, next_s)


def _shortly_before(schedule: Schedule, now: datetime, found: datetime) -> datetime:
    """Return a time of the schedule not long before `now`: half the way, again and again."""
    while (now - found).total_seconds() > 3600:
        later = schedule.after(found + (now - found) / 2)
        if later is None or later > now:
            break
        found = later
    return found


def _zone(name: str | None) -> tzinfo:
    """Return a time zone. Raises: KeyError, OSError, ValueError."""
    return UTC if name is None else ZoneInfo(name)


def _ended_as(job: Object) -> str:
    """Return "Complete" or "Failed", "" if a Job goes on."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def _reference(job: Object) -> dict[str, Any]:
    """Return a core/v1 ObjectReference; without its version, which changes all the time."""
    metadata = job["metadata"]
    return {
        "kind": "Job",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": "batch/v1",
    }


def _age(job: Object) -> tuple[str, str]:
    return job["metadata"]["creationTimestamp"], job["metadata"]["name"]
