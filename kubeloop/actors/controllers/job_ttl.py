"""Finished Jobs go when their time is over: `ttlSecondsAfterFinished`.

Source: Kubernetes, "Automatic Cleanup for Finished Jobs".
"""

from collections.abc import Iterable, Mapping

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Result,
    Writer,
    revision_of,
    split,
    unix_s,
)
from kubeloop.actors.controllers.job import JOBS
from kubeloop.actors.view import Index, Object, View


class FinishedJobController:
    """Work items are Jobs that have a time to live."""

    name = "ttl-after-finished-controller"
    resources = (JOBS,)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        if after is not None and after["spec"].get("ttlSecondsAfterFinished") is not None:
            yield key

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        job = view.get(*split(key))
        ttl_s = None if job is None else job["spec"].get("ttlSecondsAfterFinished")
        ended_s = None if job is None else finished_s(job)
        if job is None or ttl_s is None or ended_s is None:
            return NOTHING
        if job["metadata"].get("deletionTimestamp"):
            return NOTHING
        left_s = ended_s + ttl_s - now_s
        if left_s > 0:
            return Result(again_s=left_s, since=revision_of(job), owes=True)
        # Whoever has changed it meanwhile may have given it more time.
        same = {"resourceVersion": job["metadata"]["resourceVersion"]}
        request = self._write.delete(job, propagationPolicy="Foreground", preconditions=same)
        return Result([Action(request, gone_is_fine=True)])


def finished_s(job: Object) -> float | None:
    """Return when a Job became Complete or Failed, seconds since 1970; None if it is neither."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return unix_s(condition.get("lastTransitionTime"))
    return None
