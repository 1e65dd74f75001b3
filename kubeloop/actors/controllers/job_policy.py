"""A podFailurePolicy: what the end of a Pod means for its Job. Pure.

Source: Kubernetes, "Jobs: Pod failure policy" (KEP-3329).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kubeloop.actors.view import Object


class Verdict(NamedTuple):
    """What a rule says. action: "FailJob", "FailIndex", "Ignore", "Count";  message: why."""

    action: str
    message: str = ""


COUNT = Verdict("Count")


def judge(policy: Mapping[str, Any] | None, pod: Object) -> Verdict:
    """Return what the first rule that matches a failed Pod says; it counts if none does."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        why = _matches(rule, pod)
        if why:
            action = rule.get("action", "Count")
            return Verdict(action, f"{why} matching {action} rule at index {number}")
    return COUNT


def _matches(rule: Mapping[str, Any], pod: Object) -> str:
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    codes = rule.get("onExitCodes")
    if codes is not None:
        for container, code in _exits(pod):
            wanted = codes.get("containerName")
            if code and wanted in (None, container) and _among(codes, code):
                return f"Container {container} for pod {name} failed with exit code {code}"
        return ""
    for pattern in rule.get("onPodConditions") or ():
        for condition in (pod.get("status") or {}).get("conditions") or ():
            same_type = condition.get("type") == pattern.get("type")
            if same_type and condition.get("status") == pattern.get("status", "True"):
                return f"Pod {name} has condition {pattern.get('type')}"
    return ""


def _among(codes: Mapping[str, Any], code: int) -> bool:
    values: Sequence[int] = codes.get("values") or ()
    return (code in values) is (codes.get("operator") == "In")


def _exits(pod: Object) -> Iterator[tuple[str, int]]:
    """Yield (container, exit code) of those that have ended."""
    status = pod.get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses"):
        for container in status.get(field) or ():
            ended = (container.get("state") or {}).get("terminated")
            if ended is not None:
                yield container.get("name", ""), int(ended.get("exitCode") or 0)
