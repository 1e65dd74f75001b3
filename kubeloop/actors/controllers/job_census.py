"""The census of a Job's Pods: which count, which run, which are to be counted. Pure.

A Pod that has ended is counted once, whoever crashes in between. It has a finalizer, so it stays
until that is done: its uid is written into `uncountedTerminatedPods` of the status; then the
finalizer is taken from it; then the uid goes, and the number goes up.

Source: Kubernetes, "Jobs: Job tracking with finalizers" (KEP-2307).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kubeloop.actors.controllers.base import DONE_PHASES, condition, is_ready, unix_s
from kubeloop.actors.controllers.job_indexes import failures_of, index_of, parse
from kubeloop.actors.controllers.job_policy import COUNT, Verdict, judge
from kubeloop.actors.view import Object

TRACKED: Final = "batch.kubernetes.io/job-tracking"
UNCOUNTED_MAX: Final = 500
BACKOFF_S: Final = 10.0  # After the first failure; it doubles.
BACKOFF_MAX_S: Final = 600.0


@dataclass(slots=True)
class Census:
    """What is known of a Job's Pods.

    active:      neither ended nor being deleted;  terminating: being deleted, not ended.
    succeeded, failed: all that ever did, those included that the status does not count yet.
    waiting:     uids that ended and are in the status; which of them may go from it is `counted`.
    fresh:       uids that ended and are not in the status yet.
    untracked:   Pods whose finalizer may be taken from them now.
    completed, lost: the indexes that have succeeded, and those that have failed for good.
    verdicts:    what the podFailurePolicy says of those that failed and are fresh.
    """

    active: list[Object] = field(default_factory=list)
    terminating: list[Object] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    waiting: dict[str, list[str]] = field(default_factory=dict)
    counted: dict[str, list[str]] = field(default_factory=dict)
    fresh: dict[str, list[str]] = field(default_factory=dict)
    untracked: list[Object] = field(default_factory=list)
    completed: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether every Pod has ended, and is counted."""
        busy = self.active or self.terminating or self.untracked
        return not busy and not any(self.waiting.values()) and not any(self.fresh.values())


def take(job: Object, pods: Sequence[Object]) -> Census:
    """Return the census of a Job whose Pods are these."""
    spec, status = job["spec"], job.get("status") or {}
    told = status.get("uncountedTerminatedPods") or {}
    census = Census(succeeded=status.get("succeeded") or 0, failed=status.get("failed") or 0)
    completions = spec.get("completions") or 0
    census.completed = parse(status.get("completedIndexes") or "", completions)
    census.lost = parse(status.get("failedIndexes") or "", completions)
    by_uid = {pod["metadata"]["uid"]: pod for pod in pods}
    for kind in ("succeeded", "failed"):
        known = list(told.get(kind) or ())
        held = [uid for uid in known if uid in by_uid and is_tracked(by_uid[uid])]
        census.waiting[kind], census.fresh[kind] = held, []
        census.counted[kind] = [uid for uid in known if uid not in held]
        census.untracked += [by_uid[uid] for uid in held]
    census.succeeded += len(told.get("succeeded") or ())
    census.failed += len(told.get("failed") or ())
    for pod in pods:
        _count(census, pod, job, known=told)
    return census


def is_tracked(pod: Object) -> bool:
    """Tell whether a Pod waits to be counted."""
    return TRACKED in (pod["metadata"].get("finalizers") or ())


def phase_of(pod: Object) -> str:
    """Return a Pod's phase."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _count(census: Census, pod: Object, job: Object, known: Mapping[str, Any]) -> None:
    phase, ending = phase_of(pod), bool(pod["metadata"].get("deletionTimestamp"))
    if phase not in DONE_PHASES:
        (census.terminating if ending else census.active).append(pod)
    if not is_tracked(pod):
        return
    only_failed = job["spec"].get("podReplacementPolicy") == "Failed"
    if phase == "Succeeded":
        kind = "succeeded"
    elif phase == "Failed" or (ending and not only_failed):
        kind = "failed"
    else:
        return
    uid = pod["metadata"]["uid"]
    if uid in (known.get(kind) or ()):
        return
    if len(census.fresh["succeeded"]) + len(census.fresh["failed"]) >= UNCOUNTED_MAX:
        return
    indexed = job["spec"].get("completionMode") == "Indexed"
    index = index_of(pod) if indexed else None
    if kind == "succeeded":
        if indexed and index is not None:
            census.completed.add(index)
        census.fresh[kind].append(uid)
        census.succeeded += 1
        return
    verdict = judge(job["spec"].get("podFailurePolicy"), pod) if phase == "Failed" else COUNT
    census.verdicts.append(verdict)
    census.fresh[kind].append(uid)
    if verdict.action == "Ignore":
        census.untracked.append(pod)
        census.fresh[kind].remove(uid)
        return
    census.failed += 1
    limit = job["spec"].get("backoffLimitPerIndex")
    if index is not None and (
        verdict.action == "FailIndex" or (limit is not None and failures_of(pod) >= limit)
    ):
        census.lost.add(index)


def ready(pods: Sequence[Object]) -> int:
    """Return how many are ready."""
    return sum(map(is_ready, pods))


def restarts(pods: Sequence[Object]) -> int:
    """Return how often containers of Pods that are not done were started again."""
    count = 0
    for pod in pods:
        status = pod.get("status") or {}
        for name in ("initContainerStatuses", "containerStatuses"):
            count += sum(c.get("restartCount") or 0 for c in status.get(name) or ())
    return count


def backoff_s(pods: Sequence[Object], now_s: float) -> float:
    """Return how long to wait before another Pod is made [s]: more with each failure in a row."""
    ended = sorted(
        (finished_s(pod), phase_of(pod) == "Failed") for pod in pods if phase_of(pod) in DONE_PHASES
    )
    failures, last_s = 0, 0.0
    for at_s, failed in ended:
        failures, last_s = (failures + 1, at_s) if failed else (0, 0.0)
    if not failures:
        return 0.0
    return last_s + min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(failures - 1, 10)) - now_s


def finished_s(pod: Object) -> float:
    """Return when a Pod ended, seconds since 1970: with the last of its containers."""
    status = pod.get("status") or {}
    states = [container.get("state") or {} for container in status.get("containerStatuses") or ()]
    ended = [state["terminated"] for state in states if "terminated" in state]
    last_s = max((unix_s(one.get("finishedAt")) for one in ended), default=0.0)
    if last_s:
        return last_s
    ready_ = condition(pod, "Ready")
    since = None if ready_ is None else ready_.get("lastTransitionTime")
    return unix_s(pod["metadata"].get("deletionTimestamp") or since)
