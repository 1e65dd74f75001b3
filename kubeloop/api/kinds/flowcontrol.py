"""The kinds of flowcontrol.apiserver.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import STATUS, Resource

_GROUP: Final = "flowcontrol.apiserver.k8s.io"

ROWS: Final = tuple(
    Resource(
        _GROUP,
        "v1",
        kind,
        f"{kind.lower()}s",
        kind.lower(),
        namespaced=False,
        subresources=(STATUS,),
    )
    for kind in ("FlowSchema", "PriorityLevelConfiguration")
)
