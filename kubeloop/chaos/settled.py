"""When a simulated cluster has settled: when nothing is left to be done, by anybody.

See `actors.settling`. Time costs nothing here, so it must also be quiet for longer than any client
needs to make up its mind.
"""

from typing import TYPE_CHECKING, Final

from kubeloop.actors.settling import NotSettled

if TYPE_CHECKING:
    from kubeloop.cluster import Cluster

__all__ = ["QUIET_S", "NotSettled", "settled"]

QUIET_S: Final = 30.0  # So long nothing is written but heartbeats.


async def settled(cluster: "Cluster", *, within_s: float, quiet_s: float = QUIET_S) -> None:
    """Return when nothing is left to be done. Raises: NotSettled."""
    await cluster.settled(within_s=within_s, quiet_s=quiet_s)
