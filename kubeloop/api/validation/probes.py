"""Rules of probes and life-cycle hooks: exactly one handler, numbers that make sense."""

from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems

_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_COUNTS: Final = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)


def probes(problems: Problems, field: str, container: Json) -> None:
    """Check the three probes of a container."""
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe, at = maybe(container, kind), f"{field}.{kind}"
        if probe is None:
            continue
        handler(problems, at, probe)
        for key in _COUNTS:
            problems.not_negative(f"{at}.{key}", probe.get(key))
        grace = probe.get("terminationGracePeriodSeconds")
        if grace is not None and grace <= 0:
            at_grace = f"{at}.terminationGracePeriodSeconds"
            problems.invalid(at_grace, grace, "must be greater than 0")
        if kind == "readinessProbe":
            if grace is not None:
                detail = "must not be set for readinessProbes"
                problems.invalid(f"{at}.terminationGracePeriodSeconds", grace, detail)
        elif probe.get("successThreshold", 1) != 1:
            problems.invalid(f"{at}.successThreshold", probe["successThreshold"], "must be 1")


def lifecycle(problems: Problems, field: str, container: Json) -> None:
    """Check the hooks of a container."""
    for hook in ("postStart", "preStop"):
        action = maybe(maybe(container, "lifecycle"), hook)
        if action is not None:
            handler(problems, f"{field}.lifecycle.{hook}", action)


def handler(problems: Problems, field: str, action: Json) -> None:
    """Check what a probe or hook does."""
    given = [name for name in _HANDLERS if maybe(action, name) is not None]
    if not given:
        problems.required(field, "must specify a handler type")
    for number, name in enumerate(given):
        at = f"{field}.{name}"
        if number:
            problems.forbidden(at, "may not specify more than 1 handler type")
        elif name == "exec":
            if not action[name].get("command"):
                problems.required(f"{at}.command")
        elif name == "httpGet":
            _http(problems, at, action[name])
        elif name == "sleep":
            if action[name].get("seconds", 0) < 0:
                problems.invalid(f"{at}.seconds", action[name]["seconds"], "must be non-negative")
        else:
            port(problems, f"{at}.port", action[name].get("port", 0))


def port(problems: Problems, field: str, value: Any) -> None:
    """Check a port that is a number or a name."""
    wrong = names.port_name(value) if isinstance(value, str) else names.port_number(value or 0)
    problems.invalid_each(field, value, wrong)


def _http(problems: Problems, field: str, http: Json) -> None:
    if not http.get("path"):
        problems.required(f"{field}.path")
    port(problems, f"{field}.port", http.get("port", 0))
    problems.one_of(f"{field}.scheme", http.get("scheme") or "", ("HTTP", "HTTPS"))
    for header in items(http, "httpHeaders"):
        name = header.get("name") or ""
        problems.invalid_each(f"{field}.httpHeaders", name, names.http_header_name(name))
