"""When a cluster has settled: nothing is left to be done, by anybody."""

import asyncio
from typing import TYPE_CHECKING, Final

from kubeloop.api.resources import RESOURCES

if TYPE_CHECKING:
    from kubeloop.cluster import Cluster

QUIET_S: Final = 30.0  # So long nothing is written but heartbeats.
_HEARTBEATS: Final = ("leases.coordination.k8s.io", "nodes", "events")


class NotSettled(Exception):
    """The cluster goes on and on; the message says who writes what."""


async def settled(cluster: "Cluster", *, within_s: float, quiet_s: float = QUIET_S) -> None:
    """Return when nothing has been written for a while but heartbeats. Raises: NotSettled."""
    watched = [name for name in RESOURCES if name not in _HEARTBEATS]
    changed = asyncio.Event()
    cursor = cluster.hub.open(resources=watched, revision=cluster.store.durable, wake=changed.set)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    try:
        while True:
            changed.clear()
            facts = cursor.take()
            try:
                await asyncio.wait_for(changed.wait(), quiet_s)
            except TimeoutError:
                return
            if loop.time() > deadline:
                keys = sorted({fact.key for fact in facts})
                raise NotSettled(f"after {within_s} s these are still written: {keys}")
    finally:
        cursor.close()
