"""Keeping a node's images: what is there, and what goes when they take too much room."""

from collections.abc import Iterable, Sequence

from kubeloop.actors.images import pulls
from kubeloop.actors.images.collection import Limits
from kubeloop.actors.node_config import NodeConfig
from kubeloop.actors.pods.state import Pod, specs_of
from kubeloop.actors.registration import Registration
from kubeloop.actors.runtimes.protocol import ImageRecord


class ImageKeeper:
    """What a kubelet does about its node's images. collect_at: when it looks again."""

    def __init__(self, node: NodeConfig, pulls: pulls.Pulls, registration: Registration) -> None:
        self._pulls, self._registration = pulls, registration
        self._every_s, self.collect_at = node.image_gc_s, 0.0
        self._limits = Limits(
            capacity_bytes=node.image_disk_bytes,
            high_percent=node.image_gc_high_percent,
            low_percent=node.image_gc_low_percent,
            minimum_age_s=node.image_minimum_age_s,
        )

    def look(self, records: Sequence[ImageRecord], now: float) -> None:
        """Take what is there, and have the Node tell of it."""
        self._pulls.learn(records, now)
        self._registration.images(records)

    def begin(self, records: Sequence[ImageRecord], now: float) -> None:
        """Take what is there for the first time."""
        self.look(records, now)
        self.collect_at = now + self._every_s

    def collect(
        self, records: Sequence[ImageRecord], pods: Iterable[Pod], now: float
    ) -> tuple[str, list[str]]:
        """Return what is wrong, "" if nothing is, and the digests of the images that may go."""
        self.collect_at = now + self._every_s
        self.look(records, now)
        names = {spec.get("image", "") for pod in pods for spec in specs_of(pod.spec)}
        found = self._pulls.collect(records, names, self._limits, now)
        return found.problem, list(found.digests)
