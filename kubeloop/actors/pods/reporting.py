"""What a kubelet writes about a pod, and when. Pure: time is an argument.

A change is written once it has settled: while a pod is being started its status waits a moment, so
that Pending → Running costs one write. One write is under way at a time, and the next is decided on
an object that has it already. A pod that was deleted goes for good when its last status is written.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgpack

from kubeloop.actors.pods.state import NEVER, Pod
from kubeloop.actors.pods.status import changes, render
from kubeloop.api.calls import Outcome, Request

RETRY_S: Final = 1.0
RETRY_CONFLICT_S: Final = 0.05
INSIST_S: Final = 10.0  # How often a status is written that the API server does not keep.


@dataclass(slots=True)
class Report:
    """The writing about one pod.

    seen:     the revision the pod must have been seen at before the next write is decided.
    write_by: when a status that has not settled is written all the same.
    retry_at: no write before this time.
    wake_at:  when `next_write` wants to be called again.
    sent:     the status last written, for it is not written again before `insist_at`.
    deleting: the delete was sent; once it succeeded, finalizers may still hold the pod.
    """

    waiting: bool = False
    deleting: bool = False
    sent: dict[str, Any] | None = None
    insist_at: float = 0.0
    seen: int = 0
    write_by: float = NEVER
    retry_at: float = 0.0
    wake_at: float = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who writes. runtime: the scheme of container ids; settle_s: as in NodeConfig."""

    host_ip: str
    runtime: str
    settle_s: float

    def next_write(
        self, report: Report, pod: Pod, *, revision: int, now: float, wall_s: float
    ) -> Request | None:
        """Return the request to send now about `pod`; None if there is nothing to say yet."""
        report.wake_at = NEVER
        if report.waiting or pod.gone or revision < report.seen:
            return None
        if now < report.retry_at:
            report.wake_at = report.retry_at
            return None
        if pod.busy and not pod.deleting:
            report.write_by = min(report.write_by, now + self.settle_s)
            if now < report.write_by:
                report.wake_at = report.write_by
                return None
        else:
            report.write_by = NEVER
        status = render(pod, host_ip=self.host_ip, runtime=self.runtime, wall_s=wall_s)
        changed = changes(pod, status)
        if changed and changed == report.sent and now < report.insist_at:
            report.wake_at = report.insist_at
            return None
        if changed:
            report.waiting, report.sent, report.insist_at = True, changed, now + INSIST_S
            return _patch(pod, changed)
        if pod.deleting and pod.sandbox == "removed" and not report.deleting:
            report.waiting = report.deleting = True
            return _delete(pod)
        return None


def written(report: Report, outcome: Outcome, now: float) -> None:
    """Take the answer to a request of `next_write`."""
    report.waiting = False
    if outcome.code < 400:
        report.seen = max(report.seen, outcome.revision)
    else:
        report.deleting, report.sent = False, None
        report.retry_at = now + (RETRY_CONFLICT_S if outcome.code == 409 else RETRY_S)


def _patch(pod: Pod, status: dict[str, Any]) -> Request:
    metadata = pod.spec["metadata"]
    # With its resourceVersion the patch holds for the object it was made from, or not at all.
    told = {"uid": pod.uid, "resourceVersion": metadata.get("resourceVersion")}
    return Request(
        "patch",
        "pods",
        pod.namespace,
        pod.name,
        "status",
        body=msgpack.packb({"metadata": told, "status": status}),
        options={"patchType": "merge"},
        tag=f"pod/{pod.uid}",
        because=pod.because,
    )


def _delete(pod: Pod) -> Request:
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
    return Request(
        "delete",
        "pods",
        pod.namespace,
        pod.name,
        options=options,
        tag=f"pod/{pod.uid}",
        because=pod.because,
    )
