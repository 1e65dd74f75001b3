"""Defaults of Jobs and CronJobs."""

from typing import Final

from kubeloop.api.defaulting import pods
from kubeloop.api.defaulting.tools import Json, child, fill, items, maybe

_INT32_MAX: Final = 2**31 - 1


def job(obj: Json) -> None:
    """Fill in a Job: it does its work once, and tries six times."""
    spec = child(obj, "spec")
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    fill(spec, {"parallelism": 1})
    per_index = spec.get("backoffLimitPerIndex") is not None
    policy = maybe(spec, "podFailurePolicy")
    spec_defaults = {
        "backoffLimit": _INT32_MAX if per_index else 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "TerminatingOrFailed" if policy is None else "Failed",
        "manualSelector": False,
    }
    fill(spec, spec_defaults)
    for rule in items(policy, "rules"):
        for pattern in items(rule, "onPodConditions"):
            fill(pattern, {"status": "True"})
    template = child(spec, "template")
    pods.template(template)
    labels(obj)
    child(obj, "status")


def labels(obj: Json) -> None:
    """Give a Job without labels those of its template."""
    metadata, template = child(obj, "metadata"), maybe(maybe(obj, "spec"), "template")
    told = maybe(maybe(template, "metadata"), "labels")
    if told and not metadata.get("labels"):
        metadata["labels"] = dict(told)


def cron_job(obj: Json) -> None:
    """Fill in a CronJob. The Jobs of its template get their defaults when they are made."""
    spec = child(obj, "spec")
    defaults = {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    }
    fill(spec, defaults)
    template = child(spec, "jobTemplate")
    child(template, "metadata")
    pods.template(child(child(template, "spec"), "template"))
    child(obj, "status")
