"""The kinds of batch."""

from typing import Final

from kubeloop.api.kinds.row import STATUS, Resource

ROWS: Final = (
    Resource(
        "batch",
        "v1",
        "CronJob",
        "cronjobs",
        "cronjob",
        short_names=("cj",),
        categories=("all",),
        subresources=(STATUS,),
    ),
    Resource(
        "batch",
        "v1",
        "Job",
        "jobs",
        "job",
        categories=("all",),
        subresources=(STATUS,),
        fields=("status.successful",),
    ),
)
