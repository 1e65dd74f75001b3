"""Leader election: of several who could do a thing, the one that holds a Lease does it. Pure.

As client-go's leaderelection: a candidate takes a Lease that nobody holds, or whose holder has not
renewed it for as long as it lasts; by the candidate's own clock, since clocks differ. A leader that
could not renew it in time stops before anybody else may begin.
"""

from collections.abc import Mapping
from typing import Any, Final

from kubeloop.api.times import rfc3339_micro

LEASE_S: Final = 15.0  # How long a Lease lasts without being renewed.
RENEW_S: Final = 10.0  # A leader that has not renewed for so long is none any more.
RETRY_S: Final = 2.0  # How often it is renewed, or tried for.

Object = Mapping[str, Any]


class Election:
    """What one candidate knows.

    identity: of the candidate, different from all others.
    leading:  whether it is the leader, as far as it knows; see `tick`.
    """

    def __init__(self, namespace: str, name: str, identity: str) -> None:
        self.namespace, self.name, self.identity = namespace, name, identity
        self.leading = False
        self._renewed_at = 0.0
        self._record: tuple[Any, ...] | None = None  # Who held it, and when that was renewed.
        self._record_at = 0.0  # When we first saw it so, on our own clock.

    def wanted(self, lease: Object | None, now: float, wall: float) -> dict[str, Any] | None:
        """Return the Lease to write in the place of what there is, None if it is another's.

        now, wall: seconds on a clock that never goes back, and since 1970.
        """
        spec = (lease or {}).get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._record:
            self._record, self._record_at = record, now
        if holder not in ("", self.identity):
            lasts_s = float(spec.get("leaseDurationSeconds") or LEASE_S)
            if now < self._record_at + lasts_s:
                return None
        told = rfc3339_micro(wall)
        mine = holder == self.identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                # What is written must replace what was read, and nothing else.
                "resourceVersion": (lease or {}).get("metadata", {}).get("resourceVersion", ""),
            },
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": int(LEASE_S),
                "acquireTime": spec.get("acquireTime", told) if mine else told,
                "renewTime": told,
                "leaseTransitions": (spec.get("leaseTransitions") or 0)
                + (holder != "" and not mine),
            },
        }

    def wrote(self, sent_at: float) -> None:
        """Hear that the Lease was written as wanted; it holds from when that was sent."""
        self.leading, self._renewed_at = True, sent_at

    def tick(self, now: float) -> bool:
        """Tell whether it leads still."""
        self.leading = self.leading and now < self._renewed_at + RENEW_S
        return self.leading
