"""What the system writes into a new Job: the selector and the labels its Pods are known by.

Source: Kubernetes, "Jobs: Specifying your own Pod selector"; the registry of batch/v1 in behaviour.
"""

from typing import Final

from kubeloop.actors.requests.state import Object
from kubeloop.api.defaulting import jobs

CONTROLLER_UID: Final = "batch.kubernetes.io/controller-uid"
JOB_NAME: Final = "batch.kubernetes.io/job-name"
_OLD_UID: Final = "controller-uid"  # Its names from before there was a prefix.
_OLD_NAME: Final = "job-name"
PRESERVED: Final = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background "
    "to remove them or set propagationPolicy=Orphan to suppress this warning"
)


def choose(job: Object) -> None:
    """Give a new Job, which has its name and uid, a selector that no other has."""
    jobs.labels(job)  # Those its author gave the template, before more are there.
    spec = job.get("spec")
    if not isinstance(spec, dict) or spec.get("manualSelector"):
        return
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    template = spec.setdefault("template", {})
    told = template.setdefault("metadata", {})
    labels = {CONTROLLER_UID: uid, JOB_NAME: name, _OLD_UID: uid, _OLD_NAME: name}
    told["labels"] = {**(told.get("labels") or {}), **labels}
    selector = spec.setdefault("selector", {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), CONTROLLER_UID: uid}
    jobs.labels(job)  # As when it is read: a Job without labels has those of its template.
