"""Events: what the components tell users they did. Pure.

Repeats of one event are counted in one object, as client-go's EventCorrelator does.
"""

import zlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgpack

from kubeloop.api.calls import Request
from kubeloop.api.times import rfc3339

REMEMBERED_S: Final = 3300.0  # An Event may be gone an hour after its last change.
REMEMBERED_MAX: Final = 4096  # Events whose repeats are recognised; client-go's cache size.


class Recorder:
    """Turns what happened into requests that create an Event, or count one up.

    component: "kubelet", "default-scheduler";  host: the node, for components that run on one.
    """

    def __init__(self, component: str, host: str = "") -> None:
        self.component, self.host = component, host
        # Of two components that tell of one object at the same moment, neither may go unheard.
        self._offset = zlib.crc32(f"{component} {host}".encode()) & 0xFFFFF
        self._known: OrderedDict[tuple[str, ...], tuple[str, int, float]] = OrderedDict()

    def record(
        self,
        regarding: Mapping[str, Any],
        type_: str,
        reason: str,
        message: str,
        *,
        wall_s: float,
        field_path: str = "",
    ) -> Request:
        """Return the request that tells of an event; sign and send it, whatever its outcome.

        regarding: the object it is about, with apiVersion, kind and metadata.
        type_:     "Normal" or "Warning".
        field_path: what of the object, "spec.containers{web}".
        """
        metadata = regarding["metadata"]
        # Events of cluster-scoped objects live in the default namespace, as in Kubernetes.
        namespace = metadata.get("namespace") or "default"
        identity = (regarding["kind"], metadata.get("uid", ""), field_path, type_, reason, message)
        known = self._known.get(identity)
        if known is not None and wall_s - known[2] < REMEMBERED_S:
            name, count = known[0], known[1] + 1
            self._known[identity] = (name, count, wall_s)
            self._known.move_to_end(identity)
            change = {"count": count, "lastTimestamp": rfc3339(wall_s)}
            return Request(
                "patch",
                "events",
                namespace,
                name,
                body=msgpack.packb(change),
                options={"patchType": "merge"},
            )
        name = f"{metadata['name']}.{int(wall_s * 1e9) + self._offset + len(self._known):x}"
        self._known[identity] = (name, 1, wall_s)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        event = self._event(regarding, namespace, name, type_, reason, message, wall_s)
        if field_path:
            event["involvedObject"]["fieldPath"] = field_path
        return Request("create", "events", namespace, body=msgpack.packb(event))

    def _event(
        self,
        regarding: Mapping[str, Any],
        namespace: str,
        name: str,
        type_: str,
        reason: str,
        message: str,
        wall_s: float,
    ) -> dict[str, Any]:
        metadata = regarding["metadata"]
        involved = {
            "kind": regarding["kind"],
            "namespace": metadata.get("namespace"),
            "name": metadata["name"],
            "uid": metadata.get("uid"),
            "apiVersion": regarding.get("apiVersion"),
            "resourceVersion": metadata.get("resourceVersion"),
        }
        source = {"component": self.component, **({"host": self.host} if self.host else {})}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {k: v for k, v in involved.items() if v},
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": rfc3339(wall_s),
            "lastTimestamp": rfc3339(wall_s),
            "count": 1,
            "type": type_,
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        }
