"""/healthz, /livez and /readyz: checks under kube-apiserver's names, of what there is here. Pure.

Source: Kubernetes, "Kubernetes API health endpoints"; k8s.io/apiserver's healthz in behaviour.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

HEALTH: Final = ("healthz", "livez", "readyz")
STORE: Final = "etcd"
INFORMERS: Final = "informer-sync"
BOOTSTRAP: Final = (
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/bootstrap-controller",
)
"""Checks that what a cluster begins with is there."""

_PLANTED: Final = (
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
)
_CHECKS: Final = ("ping", "log", STORE, "poststarthook/crd-informer-synced", *BOOTSTRAP, *_PLANTED)
CHECKS: Final[Mapping[str, Sequence[str]]] = {
    "healthz": _CHECKS,
    "livez": _CHECKS,
    "readyz": ("ping", "log", STORE, INFORMERS, *_CHECKS[3:], "shutdown"),
}


def paths() -> list[str]:
    """Return the path of every check."""
    every = [f"/{one}/{check}" for one in HEALTH for check in CHECKS[one]]
    return [*(f"/{one}" for one in HEALTH), *every]


def one(endpoint: str, check: str, failing: Mapping[str, str]) -> tuple[int, str] | None:
    """Return status and text of a single check, None if there is none of that name.

    failing: name of a check → why it fails.
    """
    if check not in CHECKS[endpoint]:
        return None
    if why := failing.get(check):
        return 500, f"internal server error: {why}\n"
    return 200, "ok"


def all_of(
    endpoint: str, excluded: Sequence[str], failing: Mapping[str, str], *, verbose: bool
) -> tuple[int, str]:
    """Return status and text of all checks of an endpoint but those that are excluded."""
    lines, failed, unknown = "", False, set(excluded)
    for check in CHECKS[endpoint]:
        if check in unknown:
            lines += f"[+]{check} excluded: ok\n"
        elif check in failing:
            lines += f"[-]{check} failed: reason withheld\n"
            failed = True
        else:
            lines += f"[+]{check} ok\n"
    if strangers := sorted(unknown - set(CHECKS[endpoint])):
        named = ",".join(json.dumps(name, ensure_ascii=False) for name in strangers)
        lines += f"warn: some health checks cannot be excluded: no matches for {named}\n"
    if failed:
        return 500, f"{lines}{endpoint} check failed\n"
    return 200, f"{lines}{endpoint} check passed\n" if verbose else "ok"
