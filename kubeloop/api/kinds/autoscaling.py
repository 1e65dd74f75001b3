"""The kind of autoscaling, in two versions: objects are stored as autoscaling/v2 has them."""

from typing import Final

from kubeloop.api.autoscalers import Autoscalers
from kubeloop.api.kinds.row import STATUS, Resource

_NAMES: Final = ("HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler")

ROWS: Final = tuple(
    Resource(
        "autoscaling",
        version,
        *_NAMES,
        short_names=("hpa",),
        categories=("all",),
        subresources=(STATUS,),
        other=other,
    )
    for version, other in (("v2", None), ("v1", Autoscalers()))
)
