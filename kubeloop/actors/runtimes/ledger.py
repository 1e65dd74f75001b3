"""What runs where, as those know who run it: the truth beside what the API says."""

from collections.abc import Callable


class Ledger:
    """Which node runs which pod, whatever anybody believes.

    running:    pod uid → node → running containers.
    homes:      pod uid → the node it ran on first, which must be the only one ever.
    violations: what must never happen and did.
    """

    def __init__(self) -> None:
        self.running: dict[str, dict[str, int]] = {}
        self.homes: dict[str, str] = {}
        self.violations: list[str] = []
        self._hear: Callable[[str, str], None] = lambda node, pod_uid: None

    def listen(self, hear: Callable[[str, str], None]) -> None:
        """Have `hear(node, pod uid)` called whenever a container begins."""
        self._hear = hear

    def began(self, node: str, pod_uid: str) -> None:
        """A container of the pod began on `node`."""
        nodes = self.running.setdefault(pod_uid, {})
        nodes[node] = nodes.get(node, 0) + 1
        if len(nodes) > 1:
            self.violations.append(f"pod {pod_uid} runs on {' and '.join(sorted(nodes))}")
        elif (home := self.homes.setdefault(pod_uid, node)) != node:
            self.violations.append(f"pod {pod_uid} ran on {home}, and runs on {node} now")
        self._hear(node, pod_uid)

    def ended(self, node: str, pod_uid: str) -> None:
        """A container of the pod ended on `node`."""
        nodes = self.running[pod_uid]
        nodes[node] -= 1
        if not nodes[node]:
            del nodes[node]
        if not nodes:
            del self.running[pod_uid]
