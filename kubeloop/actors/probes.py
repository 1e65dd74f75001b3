"""Probes: when they are due, and what their results mean. Pure but for the seam `Prober`.

A probe starts `initialDelaySeconds` after its container, repeats every `periodSeconds`, and changes
its verdict after `successThreshold` or `failureThreshold` equal results in a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

KINDS: Final = ("startup", "readiness", "liveness")
FIELDS: Final = {
    "startup": "startupProbe",
    "readiness": "readinessProbe",
    "liveness": "livenessProbe",
}
TITLES: Final = {"startup": "Startup", "readiness": "Readiness", "liveness": "Liveness"}


class Prober(Protocol):
    """Asks a pod over the network, from its node."""

    async def http(
        self,
        ip: str,
        port: int,
        *,
        scheme: str,
        path: str,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[bool, str]:
        """GET; return (whether the status was 200..399, what went wrong)."""

    async def tcp(self, ip: str, port: int, *, timeout_s: float) -> tuple[bool, str]:
        """Connect; return (whether it could, what went wrong)."""


@dataclass(slots=True)
class ProbeState:
    """One probe of one run of a container. verdict: None until the first threshold is reached."""

    kind: str
    delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int
    next_at: float
    verdict: bool | None = None
    asked: bool = False
    successes: int = 0
    failures: int = 0

    @classmethod
    def of(cls, container: Mapping[str, Any], kind: str, now: float) -> "ProbeState | None":
        """Return the state of a container's probe at its start; None if it has no such probe."""
        probe = container.get(FIELDS[kind])
        if not probe:
            return None
        delay_s = float(probe.get("initialDelaySeconds") or 0)
        return cls(
            kind,
            delay_s=delay_s,
            period_s=float(probe.get("periodSeconds") or 10),
            timeout_s=float(probe.get("timeoutSeconds") or 1),
            success_threshold=int(probe.get("successThreshold") or 1),
            failure_threshold=int(probe.get("failureThreshold") or 3),
            next_at=now + delay_s,
        )

    def ask(self, now: float) -> bool:
        """Tell whether to probe now; if so the result is awaited, and the next time is set."""
        if self.asked or now < self.next_at:
            return False
        self.asked = True
        self.next_at = now + self.period_s
        return True

    def answer(self, ok: bool) -> bool:
        """Take a result; tell whether a threshold was reached by it (again)."""
        self.asked = False
        if ok:
            self.successes, self.failures = self.successes + 1, 0
            reached = self.successes >= self.success_threshold
        else:
            self.successes, self.failures = 0, self.failures + 1
            reached = self.failures >= self.failure_threshold
        if reached:
            self.verdict = ok
        return reached
