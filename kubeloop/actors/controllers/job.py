"""Job: makes Pods until enough of them have succeeded, or too many have failed.

Source: Kubernetes, "Jobs"; kube-controller-manager's job controller in behaviour: what is counted
when (`job_census`), the order of the conditions (first SuccessCriteriaMet or FailureTarget; when
every Pod has ended Complete or Failed), the texts of events.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from kubeloop.actors.controllers.base import (
    DONE_PHASES,
    Action,
    Event,
    Result,
    Writer,
    adopters,
    controller_of,
    controller_uids,
    orphan_namespace,
    own_namespace,
    own_uid,
    owners,
    reference_to,
    split,
    unix_s,
)
from kubeloop.actors.controllers.job_census import (
    TRACKED,
    Census,
    backoff_s,
    is_tracked,
    phase_of,
    ready,
    restarts,
    take,
)
from kubeloop.actors.controllers.job_indexes import (
    FAILURES,
    INDEX,
    failures_of,
    index_of,
    met,
    told,
)
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.selectors import LabelSelector, label_selector
from kubeloop.api.times import rfc3339

JOBS: Final = "jobs.batch"
_PODS: Final = "pods"
_OURS: Final = "kubernetes.io/job-controller"  # The managedBy that is as good as none.
BURST_MAX: Final = 500

BACKOFF: Final = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
DEADLINE: Final = ("DeadlineExceeded", "Job was active longer than specified deadline")
LOST: Final = ("FailedIndexes", "Job has failed indexes")
LOST_MAX: Final = (
    "MaxFailedIndexesExceeded",
    "Job has exceeded the specified maximal number of failed indexes",
)
REACHED: Final = ("CompletionsReached", "Reached expected number of succeeded pods")
POLICY: Final = ("SuccessPolicy", "Matched rules at index 0")


class End(NamedTuple):
    """How a Job ends. type: "Complete" or "Failed"."""

    type: str
    reason: str
    message: str


def _tracked(pod: Object) -> list[str]:
    """Index: the namespace and name of the Job that a Pod waits to be counted by."""
    owner = controller_of(pod)
    if owner is None or owner.get("kind") != "Job" or not is_tracked(pod):
        return []
    return [f"{pod['metadata']['namespace']}/{owner['name']}"]


class JobController:
    """Work items are Jobs, those included that are gone: their Pods must not wait for ever."""

    name = "job-controller"
    resources = (JOBS, _PODS)
    indexes: Mapping[tuple[str, str], Index] = {
        (JOBS, "uid"): own_uid,
        (JOBS, "namespace"): own_namespace,
        (_PODS, "controller"): controller_uids,
        (_PODS, "orphan"): orphan_namespace,
        (_PODS, "tracked"): _tracked,
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, _ = split(key)
        if resource == JOBS:
            yield key
            return
        yield from owners(JOBS, "Job", namespace, before, after)
        yield from adopters(JOBS, after, view)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        _, namespace, name = split(key)
        job = view.get(JOBS, namespace, name)
        uid = "" if job is None else job["metadata"]["uid"]
        waiting = view.by(_PODS, "tracked", f"{namespace}/{name}")
        forgotten = [self._untrack(pod) for pod in waiting if uid not in controller_uids(pod)]
        if job is None or job["spec"].get("managedBy") not in (None, _OURS):
            return Result(forgotten)
        mine = list(view.by(_PODS, "controller", uid))
        if job["metadata"].get("deletionTimestamp") or _ended(job):
            return Result([*forgotten, *(self._untrack(pod) for pod in mine if is_tracked(pod))])
        claims = self._claim(job, mine, view)
        if claims:
            return Result([*forgotten, *claims])
        result = self._run(job, mine, now_s, trouble)
        return replace(result, actions=[*forgotten, *result.actions])

    # Whose Pods.

    def _claim(self, job: Object, mine: Sequence[Object], view: View) -> list[Action]:
        """Return the writes that adopt and release Pods."""
        selector, uid = _selector(job), job["metadata"]["uid"]
        actions = []
        for pod in mine:
            if not selector.matches(pod["metadata"].get("labels") or {}):
                if is_tracked(pod):
                    actions.append(self._untrack(pod))
                actions.append(self._write.release(pod, [uid]))
        for pod in view.by(_PODS, "orphan", job["metadata"]["namespace"]):
            ours = selector.matches(pod["metadata"].get("labels") or {})
            if ours and phase_of(pod) not in DONE_PHASES and not _is_ending(pod):
                patch = {
                    "metadata": {"ownerReferences": [reference_to(job)], "finalizers": [TRACKED]}
                }
                adopt = self._write.patch(pod, patch, type_="strategic")
                actions.append(Action(adopt, gone_is_fine=True))
        return actions

    def _untrack(self, pod: Object) -> Action:
        left = [f for f in pod["metadata"].get("finalizers") or () if f != TRACKED]
        version = pod["metadata"]["resourceVersion"]
        patch = {"metadata": {"finalizers": left or None, "resourceVersion": version}}
        return Action(self._write.patch(pod, patch), gone_is_fine=True)

    # One Job.

    def _run(self, job: Object, mine: Sequence[Object], now_s: float, trouble: str) -> Result:
        spec, status = job["spec"], dict(job.get("status") or {})
        census = take(job, mine)
        again: list[float] = []
        end = _decided(status) or _end(job, census, now_s)
        actions = [self._untrack(pod) for pod in census.untracked]
        suspended = bool(spec.get("suspend"))
        if end is None and suspended:
            actions += [a for pod in census.active for a in self._drop(job, pod)]
        elif end is not None:
            actions += [self._delete(job, pod) for pod in census.active]
        else:
            more, pause_s = self._manage(job, mine, census, now_s, trouble)
            actions += more
            again += [pause_s] if pause_s > 0 else []
        if end is None and not suspended and spec.get("activeDeadlineSeconds") is not None:
            begun_s = unix_s(status["startTime"]) if status.get("startTime") else now_s
            again.append(begun_s + spec["activeDeadlineSeconds"] - now_s)
        _tell_counts(status, census, spec)
        if end is None:
            event = _tell_suspension(job, status, suspended=suspended, now_s=now_s)
        else:
            event = _tell_end(job, status, end, census, now_s)
        if status != (job.get("status") or {}):
            request = self._write.update({**job, "status": status}, subresource="status")
            actions.append(Action(request, success=event))
        return Result(actions, again_s=min(again, default=None), owes=bool(again))

    def _manage(
        self, job: Object, mine: Sequence[Object], census: Census, now_s: float, trouble: str
    ) -> tuple[list[Action], float]:
        """Return the writes that bring the Pods to the number wanted, and for how long to wait."""
        spec, active = job["spec"], len(census.active)
        parallelism = spec.get("parallelism") or 0
        completions = spec.get("completions")
        indexed = spec.get("completionMode") == "Indexed"
        if indexed:
            done = len(census.completed) + len(census.lost)
            wanted = min(parallelism, (completions or 0) - done)
        elif completions is None:
            wanted = active if census.succeeded else parallelism
        else:
            wanted = min(parallelism, completions - census.succeeded)
        surplus = self._surplus(job, census, wanted, indexed=indexed)
        if surplus:
            return [a for pod in surplus for a in self._drop(job, pod)], 0.0
        missing = wanted - active
        if spec.get("podReplacementPolicy") == "Failed":
            missing -= len(census.terminating)
        if missing <= 0:
            return [], 0.0
        pause_s = backoff_s(mine, now_s)
        if pause_s > 0:
            return [], pause_s
        missing = min(missing, 1 if trouble else BURST_MAX)
        if not indexed:
            return [self._create(job, None, 0)] * missing, 0.0
        return [self._create(job, *one) for one in _next_indexes(job, mine, census)[:missing]], 0.0

    def _surplus(self, job: Object, census: Census, wanted: int, *, indexed: bool) -> list[Object]:
        """Return the Pods that are too many: of an index that is done or has one, then the last."""
        twice: list[Object] = []
        kept: list[Object] = []
        if indexed:
            seen = census.completed | census.lost
            for pod in sorted(census.active, key=_worth, reverse=True):
                index = index_of(pod)
                outside = index is None or index >= (job["spec"].get("completions") or 0)
                (twice if outside or index in seen else kept).append(pod)
                seen = seen if index is None else seen | {index}
        else:
            kept = sorted(census.active, key=_worth, reverse=True)
        return [*twice, *kept[max(0, wanted) :]]

    def _create(self, job: Object, index: int | None, failures: int) -> Action:
        template, metadata = job["spec"]["template"], job["metadata"]
        told_ = template.get("metadata") or {}
        meta = {k: dict(told_[k]) for k in ("labels", "annotations") if told_.get(k)}
        finalizers = [*(told_.get("finalizers") or ()), TRACKED]
        spec, prefix = template["spec"], f"{metadata['name']}-"
        if index is not None:
            own = {INDEX: str(index)}
            if job["spec"].get("backoffLimitPerIndex") is not None:
                own[FAILURES] = str(failures)
            meta["annotations"] = {**meta.get("annotations", {}), **own}
            meta["labels"] = {**meta.get("labels", {}), INDEX: str(index)}
            prefix = f"{metadata['name']}-{index}-"
            spec = _with_index(spec, f"{metadata['name']}-{index}")
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **meta,
                "generateName": prefix,
                "namespace": metadata["namespace"],
                "finalizers": finalizers,
                "ownerReferences": [reference_to(job)],
            },
            "spec": spec,
        }
        return Action(
            self._write.create(pod),
            success=Event(job, "Normal", "SuccessfulCreate", "Created pod: {name}"),
            failure=Event(job, "Warning", "FailedCreate", "Error creating: {error}"),
        )

    def _drop(self, job: Object, pod: Object) -> list[Action]:
        """Return the writes that end a Pod which does not count as one that failed."""
        delete = self._delete(job, pod)
        return [self._untrack(pod), delete] if is_tracked(pod) else [delete]

    def _delete(self, job: Object, pod: Object) -> Action:
        name = pod["metadata"]["name"]
        return Action(
            self._write.delete(pod),
            success=Event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {name}"),
            failure=Event(job, "Warning", "FailedDelete", "Error deleting: {error}"),
            gone_is_fine=True,
        )


# How it ends.


def _end(job: Object, census: Census, now_s: float) -> End | None:
    """Return how a Job ends, None if it goes on."""
    spec, status = job["spec"], job.get("status") or {}
    for verdict in census.verdicts:
        if verdict.action == "FailJob":
            return End("Failed", "PodFailurePolicy", verdict.message)
    limit = spec.get("backoffLimit")
    limit = 6 if limit is None else limit
    if census.failed > limit or _restarted(spec, census, limit):
        return End("Failed", *BACKOFF)
    deadline_s, begun = spec.get("activeDeadlineSeconds"), status.get("startTime")
    counting = deadline_s is not None and begun and not spec.get("suspend")
    if counting and now_s - unix_s(begun) >= deadline_s:
        return End("Failed", *DEADLINE)
    if spec.get("completionMode") == "Indexed":
        return _end_of_indexed(spec, census)
    completions = spec.get("completions")
    if completions is None:
        done = census.succeeded > 0 and not census.active
    else:
        done = census.succeeded >= completions
    return End("Complete", *REACHED) if done else None


def _end_of_indexed(spec: Mapping[str, Any], census: Census) -> End | None:
    completions, most = spec.get("completions") or 0, spec.get("maxFailedIndexes")
    if most is not None and len(census.lost) > most:
        return End("Failed", *LOST_MAX)
    policy = spec.get("successPolicy")
    if policy is not None and met(policy, census.completed, completions):
        return End("Complete", *POLICY)
    if len(census.completed | census.lost) < completions:
        return None
    return End("Failed", *LOST) if census.lost else End("Complete", *REACHED)


def _restarted(spec: Mapping[str, Any], census: Census, limit: int) -> bool:
    """Tell whether containers that are started again in their Pods were so too often."""
    if (spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    count = restarts(census.active)
    return count > 0 if limit == 0 else count >= limit


def _decided(status: Mapping[str, Any]) -> End | None:
    """Return how it was decided before that the Job ends."""
    for condition in status.get("conditions") or ():
        if condition.get("status") != "True":
            continue
        kind = {"SuccessCriteriaMet": "Complete", "FailureTarget": "Failed"}.get(condition["type"])
        if kind is not None:
            return End(kind, condition.get("reason", ""), condition.get("message", ""))
    return None


def _ended(job: Object) -> bool:
    """Tell whether a Job is Complete or Failed."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


# What its status tells.


def _tell_counts(status: dict[str, Any], census: Census, spec: Mapping[str, Any]) -> None:
    """Bring the counts of a status up to date, in place."""
    left: dict[str, list[str]] = {}
    for kind in ("succeeded", "failed"):
        if census.counted[kind]:
            status[kind] = (status.get(kind) or 0) + len(census.counted[kind])
        if uids := [*census.waiting[kind], *census.fresh[kind]]:
            left[kind] = uids
    if spec.get("completionMode") == "Indexed":
        _set(status, "completedIndexes", told(census.completed))
        if spec.get("backoffLimitPerIndex") is not None:
            status["failedIndexes"] = told(census.lost)
        _set(status, "succeeded", len(census.completed) - len(left.get("succeeded", ())))
    status["uncountedTerminatedPods"] = left
    _set(status, "active", len(census.active))
    status["ready"] = ready(census.active)
    status["terminating"] = len(census.terminating)


def _set(status: dict[str, Any], field: str, value: Any) -> None:
    """Set a field that is left out when it is zero."""
    if value:
        status[field] = value
    else:
        status.pop(field, None)


def _tell_suspension(
    job: Object, status: dict[str, Any], *, suspended: bool, now_s: float
) -> Event | None:
    """Set when it began, and whether it is suspended; return the news."""
    conditions = list(status.get("conditions") or ())
    was = next((c for c in conditions if c["type"] == "Suspended"), None)
    is_so = was is not None and was["status"] == "True"
    if suspended:
        status.pop("startTime", None)
        if is_so:
            return None
        reason, message, value = "JobSuspended", "Job suspended", "True"
    else:
        status.setdefault("startTime", rfc3339(now_s))
        if not is_so:
            return None
        status["startTime"] = rfc3339(now_s)
        reason, message, value = "JobResumed", "Job resumed", "False"
    _condition(status, "Suspended", value, reason, message, now_s)
    event = "Suspended" if suspended else "Resumed"
    return Event(job, "Normal", event, message)


def _tell_end(
    job: Object, status: dict[str, Any], end: End, census: Census, now_s: float
) -> Event | None:
    """Tell how it ends, and that it has when every Pod is counted; return the news."""
    interim = "SuccessCriteriaMet" if end.type == "Complete" else "FailureTarget"
    decided = _decided(status) is not None
    status.setdefault("startTime", rfc3339(now_s))
    if not decided:
        _condition(status, interim, "True", end.reason, end.message, now_s)
    if not census.settled:
        return None
    _condition(status, end.type, "True", end.reason, end.message, now_s)
    if end.type == "Complete":
        status["completionTime"] = rfc3339(now_s)
        return Event(job, "Normal", "Completed", "Job completed")
    return Event(job, "Warning", end.reason, end.message)


def _condition(
    status: dict[str, Any], kind: str, value: str, reason: str, message: str, now_s: float
) -> None:
    now = rfc3339(now_s)
    new = {
        "type": kind,
        "status": value,
        "lastProbeTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }
    others = [c for c in status.get("conditions") or () if c["type"] != kind]
    status["conditions"] = [*others, new]


# Pods.


def _next_indexes(job: Object, mine: Sequence[Object], census: Census) -> list[tuple[int, int]]:
    """Return (index, failures before) of the Pods to make, the lowest first."""
    running = {index_of(pod) for pod in census.active}
    if job["spec"].get("podReplacementPolicy") == "Failed":
        running |= {index_of(pod) for pod in census.terminating}
    failures: dict[int | None, int] = {}
    for pod in mine:
        if phase_of(pod) == "Failed" or _is_ending(pod):
            index = index_of(pod)
            failures[index] = max(failures.get(index, 0), failures_of(pod) + 1)
    taken = census.completed | census.lost
    free = (i for i in range(job["spec"].get("completions") or 0) if i not in taken)
    return [(index, failures.get(index, 0)) for index in free if index not in running]


def _with_index(spec: Mapping[str, Any], hostname: str) -> dict[str, Any]:
    """Return a Pod's spec in which the containers know their index."""
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}
    told_ = {"hostname": hostname, **spec}
    for field in ("containers", "initContainers"):
        if spec.get(field):
            told_[field] = [_with_variable(container, variable) for container in spec[field]]
    return told_


def _with_variable(container: Mapping[str, Any], variable: dict[str, Any]) -> dict[str, Any]:
    env = list(container.get("env") or ())
    if any(one.get("name") == variable["name"] for one in env):
        return dict(container)
    return {**container, "env": [*env, variable]}


def _selector(job: Object) -> LabelSelector:
    return label_selector(job["spec"].get("selector"))


def _is_ending(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _worth(pod: Object) -> tuple[bool, bool, str, str]:
    """Return a sort key: the Pods we would miss least first."""
    bound, running = bool(pod["spec"].get("nodeName")), phase_of(pod) == "Running"
    metadata = pod["metadata"]
    return bound, running, metadata["creationTimestamp"], metadata["name"]
