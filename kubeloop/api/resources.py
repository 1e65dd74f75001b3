"""The table of what this cluster serves: every kind is a row of data, none has code of its own.

The rows stand in `kinds`, a module per group.

Source: the API resource lists of Kubernetes 1.37 (`/api/v1`, `/apis/GROUP/VERSION`).
"""

from collections.abc import Mapping
from typing import Final

from kubeloop.api.kinds import (
    admissionregistration,
    apiextensions,
    apiregistration,
    apps,
    authentication,
    authorization,
    autoscaling,
    batch,
    certificates,
    coordination,
    core,
    discovery,
    events,
    flowcontrol,
    networking,
    node,
    policy,
    rbac,
    scheduling,
    storage,
)
from kubeloop.api.kinds.row import SCALE, STATUS, Resource, Subresource

__all__ = (
    "BY_KIND",
    "BY_PLURAL",
    "GROUP_VERSIONS",
    "RESOURCES",
    "ROWS",
    "SCALE",
    "STATUS",
    "Resource",
    "Subresource",
    "find",
)

# In the order in which Kubernetes' discovery lists the groups.
ROWS: Final[tuple[Resource, ...]] = (
    *core.ROWS,
    *apiregistration.ROWS,
    *apps.ROWS,
    *events.ROWS,
    *authentication.ROWS,
    *authorization.ROWS,
    *autoscaling.ROWS,
    *batch.ROWS,
    *certificates.ROWS,
    *networking.ROWS,
    *policy.ROWS,
    *rbac.ROWS,
    *storage.ROWS,
    *admissionregistration.ROWS,
    *apiextensions.ROWS,
    *scheduling.ROWS,
    *coordination.ROWS,
    *node.ROWS,
    *discovery.ROWS,
    *flowcontrol.ROWS,
)

_FIRST: Final = {row.id: row for row in reversed(ROWS)}
RESOURCES: Final[Mapping[str, Resource]] = {row.id: _FIRST[row.id] for row in ROWS if row.stored}
"""What is stored, by id; of a kind in several versions the preferred one, which stands first."""
BY_PLURAL: Final[Mapping[tuple[str, str, str], Resource]] = {
    (row.group, row.version, row.plural): row for row in ROWS
}
BY_KIND: Final[Mapping[tuple[str, str], Resource]] = {
    (row.api_version, row.kind): row for row in ROWS
}
GROUP_VERSIONS: Final[tuple[tuple[str, str], ...]] = tuple(
    dict.fromkeys((row.group, row.version) for row in ROWS)
)


def find(name: str) -> Resource:
    """Return the resource a user means by "pods", "pod", "po", "Pod" or "deployments.apps".

    Raises: LookupError, which says what there is.
    """
    wanted = name.lower()
    for row in ROWS:
        if wanted in (row.id, row.plural, row.singular, row.kind.lower(), *row.short_names):
            return row
    known = ", ".join(sorted(RESOURCES))
    raise LookupError(f"the server doesn't have a resource type {name!r}; it has {known}")
