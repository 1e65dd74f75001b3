"""A node's own record: its Node object, and the Lease that says it is alive. Pure.

The kubelet makes the Node if there is none (also when somebody deleted it), keeps its status true,
and renews the lease. Each request waits for the answer to the one before.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack

from kubeloop.actors.node_config import NodeConfig
from kubeloop.actors.pods import pressure
from kubeloop.actors.runtimes.protocol import ImageRecord
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.times import rfc3339, rfc3339_micro

Object = Mapping[str, Any]

LEASES: Final = "kube-node-lease"
RETRY_S: Final = 1.0
NEVER: Final = float("inf")
IMAGES_MAX: Final = 50  # As Kubernetes' nodeStatusMaxImages.
_CONDITIONS: Final = """
MemoryPressure False KubeletHasSufficientMemory kubelet has sufficient memory available
DiskPressure False KubeletHasNoDiskPressure kubelet has no disk pressure
PIDPressure False KubeletHasSufficientPID kubelet has sufficient PID available
Ready True KubeletReady kubelet is posting ready status
"""  # Type, status, reason, message.
EVENTS: Final = (
    "NodeHasSufficientMemory",
    "NodeHasNoDiskPressure",
    "NodeHasSufficientPID",
    "NodeReady",
)
"""Reasons of the events that tell of a new Node's conditions."""


class Registration:
    """What a kubelet does about its own Node and Lease.

    runtime: the container runtime's name, "simulated".
    node:    the Node as the API has it, None if it has none.
    because: the revision of the newest fact of the Node while something may follow from it; 0 if
             nothing does, and what is done is done by the clock.
    asked:   the `because` of the last request about the Node.
    next_at: when `turn` has something to do again, if nothing happens before.
    """

    def __init__(self, config: NodeConfig, runtime: str) -> None:
        self.config = config
        self.runtime = f"{runtime}://{config.kubelet_version.removeprefix('v')}"
        self.node: Object | None = None
        self.because = self.asked = 0
        self.next_at = 0.0
        self._lease_at = self._status_at = self._node_at = 0.0
        self._seen = 0  # The revision the Node must have been seen at before it is judged.
        self._lease_known = True
        self._asking: set[str] = set()
        self._images: list[dict[str, Any]] = []
        self._stale = True  # Something may have to be written that was not looked at yet.
        self.pressures: frozenset[str] = frozenset()  # Conditions of the Node that hold.
        self._images_moved = False  # There are others since; they are told with a heartbeat.

    def images(self, records: Sequence[ImageRecord]) -> None:
        """Take the images that are on the node, for its status: the largest come first."""
        ordered = sorted(records, key=lambda r: (-r.size_bytes, r.digest))[:IMAGES_MAX]
        images = [{"names": [*r.names], "sizeBytes": r.size_bytes} for r in ordered]
        if images != self._images:
            self._images, self._images_moved = images, True

    def observe(self, node: Object | None, revision: int = 0) -> None:
        """Take the Node as the API has it now. revision: of the fact that tells it."""
        self.node, self.because = node, revision
        self._node_at, self._stale = 0.0, True

    def press(self, conditions: frozenset[str]) -> None:
        """Take which conditions of pressure hold."""
        if conditions != self.pressures:
            self.pressures, self._stale = conditions, True

    def start_over(self) -> None:
        """Expect no more answers: the Node is listed again."""
        self._asking.clear()
        self._seen = 0
        self.observe(None)

    def turn(self, now: float, wall_s: float) -> list[Request]:
        """Return the requests due now; set `next_at`."""
        requests = []
        due = self._stale or now >= self._status_at
        if due and now >= self._node_at and self._judges():
            self._stale, self._images_moved = self.node is None, False
            request = self._create() if self.node is None else self._update(now, wall_s)
            if request is None:
                self.because = 0
            else:
                self.asked = request.because
                requests.append(request)
        if self.node is not None and "lease" not in self._asking and now >= self._lease_at:
            self._lease_at = now + self.config.heartbeat_s
            self._stale = self._stale or self._images_moved
            requests.append(self._renew(wall_s))
        for request in requests:
            self._asking.add(request.tag)
        self.next_at = self._next_at(now)
        return requests

    def _next_at(self, now: float) -> float:
        if self.node is None:
            return self._node_at if self._judges() else NEVER
        # While the answer is awaited it is the time of the next, which will be right most often.
        at = NEVER if self._lease_at <= now else self._lease_at
        if self._status_at < at or self._node_at < at:
            node_at = max(self._node_at, self._status_at)
            if node_at < at and self._judges():
                return node_at
        return at

    def _judges(self) -> bool:
        """Tell whether what is known of the Node is fresh enough to act on."""
        if "node" in self._asking:
            return False
        return self.node is None or int(self.node["metadata"]["resourceVersion"]) >= self._seen

    def answered(self, outcome: Outcome, now: float) -> None:
        """Take the answer to a request of `turn`: what failed is tried again."""
        self._asking.discard(outcome.tag)
        if outcome.tag == "lease":
            if outcome.code == 404 and self._lease_known:
                self._lease_known, self._lease_at = False, now
            elif outcome.code >= 400:
                self._lease_known, self._lease_at = True, now + RETRY_S
            else:
                self._lease_known = True
        elif outcome.code >= 400:
            self._status_at, self._node_at, self._stale = now, now + RETRY_S, True
        else:
            self._seen = outcome.revision
            if self.node is None:
                self._node_at = now + RETRY_S  # It will have been seen long before.

    def _create(self) -> Request:
        config = self.config
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": config.name, "labels": self._labels()},
            "spec": {"podCIDR": config.pod_cidr, "podCIDRs": [config.pod_cidr]},
        }
        body = msgpack.packb(node)
        return Request("create", "nodes", body=body, tag="node", because=self.because)

    def _update(self, now: float, wall_s: float) -> Request | None:
        """Return the patch that makes the Node true, None if it is and nothing is due."""
        assert self.node is not None
        metadata, spec = self.node["metadata"], self.node.get("spec") or {}
        has = metadata.get("labels") or {}
        labels = {key: value for key, value in self._labels().items() if has.get(key) != value}
        cidr = self.config.pod_cidr
        if labels or not spec.get("podCIDR"):
            patch: dict[str, Any] = {"metadata": {"labels": labels}}
            if not spec.get("podCIDR"):
                patch["spec"] = {"podCIDR": cidr, "podCIDRs": [cidr]}
            return self._patch(patch, "")
        old = self.node.get("status") or {}
        status = self._status(old, wall_s)
        if now < self._status_at and _steady(old) == _steady({**old, **status}):
            return None
        self._status_at = now + self.config.status_s
        version = metadata.get("resourceVersion")
        return self._patch({"metadata": {"resourceVersion": version}, "status": status}, "status")

    def _patch(self, patch: Object, subresource: str) -> Request:
        return Request(
            "patch",
            "nodes",
            name=self.config.name,
            subresource=subresource,
            body=msgpack.packb(patch),
            options={"patchType": "merge"},
            tag="node",
            because=self.because,
        )

    def _labels(self) -> dict[str, str]:
        config = self.config
        return {
            "beta.kubernetes.io/arch": config.arch,
            "beta.kubernetes.io/os": config.os,
            "kubernetes.io/arch": config.arch,
            "kubernetes.io/hostname": config.name,
            "kubernetes.io/os": config.os,
            **config.labels,
        }

    def _status(self, old: Object, wall_s: float) -> dict[str, Any]:
        config = self.config
        return {
            "capacity": dict(config.capacity),
            "allocatable": dict(config.capacity),
            "conditions": _conditions(old.get("conditions") or (), rfc3339(wall_s), self.pressures),
            "addresses": [
                {"type": "InternalIP", "address": config.address},
                {"type": "Hostname", "address": config.name},
            ],
            "nodeInfo": {
                "machineID": config.name,
                "systemUUID": config.name,
                "bootID": config.name,
                "kernelVersion": config.kernel_version,
                "osImage": config.os_image,
                "containerRuntimeVersion": self.runtime,
                "kubeletVersion": config.kubelet_version,
                "kubeProxyVersion": config.kubelet_version,
                "operatingSystem": config.os,
                "architecture": config.arch,
            },
            "images": self._images,
        }

    def _renew(self, wall_s: float) -> Request:
        config, renewed = self.config, rfc3339_micro(wall_s)
        if self._lease_known:
            patch = {"spec": {"renewTime": renewed, "holderIdentity": config.name}}
            return Request(
                "patch",
                "leases.coordination.k8s.io",
                LEASES,
                config.name,
                body=msgpack.packb(patch),
                options={"patchType": "merge"},
                tag="lease",
            )
        assert self.node is not None
        owner = {
            "apiVersion": "v1",
            "kind": "Node",
            "name": config.name,
            "uid": self.node["metadata"]["uid"],
        }
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": config.name, "namespace": LEASES, "ownerReferences": [owner]},
            "spec": {
                "holderIdentity": config.name,
                "leaseDurationSeconds": config.lease_s,
                "renewTime": renewed,
            },
        }
        body = msgpack.packb(lease)
        return Request("create", "leases.coordination.k8s.io", LEASES, body=body, tag="lease")


def _conditions(old: Sequence[Object], now: str, pressures: frozenset[str]) -> list[dict[str, Any]]:
    """Return the kubelet's conditions, and those of others as they are."""
    before = {condition["type"]: condition for condition in old}
    found = []
    for line in _CONDITIONS.strip().splitlines():
        kind, status, reason, message = line.split(" ", 3)
        if kind in pressures:
            status, (reason, message) = "True", pressure.told(kind, holds=True)
        was = before.pop(kind, {})
        since = was.get("lastTransitionTime") if was.get("status") == status else None
        found.append(
            {
                "type": kind,
                "status": status,
                "lastHeartbeatTime": now,
                "lastTransitionTime": since or now,
                "reason": reason,
                "message": message,
            }
        )
    return [dict(condition) for condition in before.values()] + found


def _steady(status: Object) -> dict[str, Any]:
    """Return a status without what changes with every heartbeat, in one order."""
    conditions = [
        {key: value for key, value in condition.items() if key != "lastHeartbeatTime"}
        for condition in status.get("conditions") or ()
    ]
    conditions.sort(key=lambda condition: str(condition["type"]))
    return {**status, "conditions": conditions, "images": status.get("images") or []}
