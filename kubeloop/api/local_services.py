"""The APIServices of what is served here: one for every group version, made and kept by us. Pure.

Source: kube-aggregator's autoregister controller and kube-apiserver's table of priorities in
behaviour.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kubeloop.api.catalogue import BUILT_IN, Catalogue

Json = dict[str, Any]

SERVICES: Final = "apiservices.apiregistration.k8s.io"
MANAGED: Final = "kube-aggregator.kubernetes.io/automanaged"
ALWAYS: Final = "true"
AT_START: Final = "onstart"
_OWN: Final = "apiregistration.k8s.io"  # Who serves APIServices needs none.
_GROUPS: Final = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}
_VERSIONS: Final = {
    ("", "v1"): 1,
    ("autoscaling", "v2"): 30,
    ("flowcontrol.apiserver.k8s.io", "v1"): 21,
}
_VERSION: Final = 15
_CUSTOM: Final = (1000, 100)


def built_in() -> list[Json]:
    """Return those of the built-in group versions: made at the start, and left alone then."""
    return [
        _service(*served, AT_START, _GROUPS[group], _VERSIONS.get(served, _VERSION))
        for served in BUILT_IN.group_versions
        if (group := served[0]) != _OWN
    ]


def custom(catalogue: Catalogue) -> dict[str, Json]:
    """Return those of the group versions that definitions add, by name: these are kept as here."""
    known = set(BUILT_IN.group_versions)
    made = (
        _service(group, version, ALWAYS, *_CUSTOM)
        for group, version in catalogue.group_versions
        if (group, version) not in known
    )
    return {service["metadata"]["name"]: service for service in made}


def changes(
    wanted: Mapping[str, Json], found: Iterable[Json]
) -> tuple[list[Json], list[Json], list[Json]]:
    """Return what is to be created, updated, deleted: those of users are not touched."""
    known = {service["metadata"]["name"]: service for service in found}
    ours = {
        name: service
        for name, service in known.items()
        if (service["metadata"].get("labels") or {}).get(MANAGED) == ALWAYS
    }
    new = [service for name, service in wanted.items() if name not in known]
    other = [
        {**service, "spec": wanted[name]["spec"]}
        for name, service in ours.items()
        if name in wanted and service.get("spec") != wanted[name]["spec"]
    ]
    gone = [service for name, service in ours.items() if name not in wanted]
    return new, other, gone


def _service(group: str, version: str, managed: str, priority: int, of_version: int) -> Json:
    spec: Json = {"group": group} if group else {}
    return {
        "apiVersion": f"{_OWN}/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {MANAGED: managed}},
        "spec": {
            **spec,
            "version": version,
            "groupPriorityMinimum": priority,
            "versionPriority": of_version,
        },
    }
