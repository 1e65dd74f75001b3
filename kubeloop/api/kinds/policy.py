"""The kinds of policy."""

from typing import Final

from kubeloop.api.kinds.row import STATUS, Resource

ROWS: Final = (
    Resource(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "poddisruptionbudget",
        short_names=("pdb",),
        subresources=(STATUS,),
    ),
)
