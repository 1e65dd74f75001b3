"""The kinds of events.k8s.io: the events of the core group, in another form."""

from typing import Final

from kubeloop.api import events
from kubeloop.api.kinds.row import Resource

ROWS: Final = (
    Resource(
        "events.k8s.io",
        "v1",
        "Event",
        "events",
        "event",
        short_names=("ev",),
        fields=tuple(events.FIELDS),
        other=events.Events(),
        kept_as=events.STORED,
        kept=events.FIELDS,
    ),
)
