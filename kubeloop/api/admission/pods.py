"""Admission of pods: service account, default tolerations.

Source: Kubernetes, "Admission Control in Kubernetes": ServiceAccount, DefaultTolerationSeconds.
"""

from collections.abc import Callable
from typing import Any, Final

from kubeloop.api.admission import service_accounts
from kubeloop.api.errors import Forbidden

_TOLERATED: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

Lookup = Callable[[str, str, str], dict[str, Any] | None]
"""(resource, namespace, name) → the object, None if there is none."""


def admit(
    pod: dict[str, Any],
    namespace: str,
    lookup: Lookup,
    *,
    tolerance_s: int,
    generate_name: Callable[[str], str] | None = None,
) -> None:
    """Complete a new pod in place. Raises: Forbidden.

    generate_name: base → a name that begins with it; None: pods get no tokens.
    """
    spec = pod.setdefault("spec", {})
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    found = lookup("serviceaccounts", namespace, account)
    # The default account is made a moment after its namespace; no pod needs to wait for that.
    if account != "default" and found is None:
        why = (
            f"error looking up service account {namespace}/{account}: "
            f'serviceaccount "{account}" not found'
        )
        name = pod["metadata"].get("name") or pod["metadata"].get("generateName", "")
        raise Forbidden("pods", name, why)
    spec["serviceAccountName"] = spec["serviceAccount"] = account
    service_accounts.pull_with(spec, found)
    if generate_name is not None:
        service_accounts.mount_token(spec, found, generate_name)
    _tolerate(spec, tolerance_s)


def admit_update(pod: dict[str, Any], old: dict[str, Any], *, tolerance_s: int) -> None:
    """Complete a changed pod in place: what admission once added need not be repeated."""
    spec = pod.setdefault("spec", {})
    _tolerate(spec, tolerance_s)
    for field in ("priority", "preemptionPolicy"):
        if field in old["spec"]:
            spec.setdefault(field, old["spec"][field])


def _tolerate(spec: dict[str, Any], tolerance_s: int) -> None:
    tolerations = spec.setdefault("tolerations", [])
    for key in _TOLERATED:
        if not any(_covers(toleration, key) for toleration in tolerations):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": tolerance_s,
                }
            )


def _covers(toleration: dict[str, Any], key: str) -> bool:
    """Tell whether a toleration speaks of the NoExecute taint `key` already."""
    if toleration.get("effect") not in (None, "", "NoExecute"):
        return False
    return toleration.get("key") in (key, None, "")
