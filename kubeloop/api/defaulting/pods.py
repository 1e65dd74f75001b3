"""Defaults of pods and pod templates: SetDefaults_Pod, _PodSpec, _Container, _Probe, _Volume …

A template gets what every pod spec gets. Only a pod itself gets what depends on it being one:
requests from limits, service links, host ports. (Service account, tolerations and priority are
the business of admission.)
"""

import re
from typing import Any, Final

from kubeloop.api import quantities
from kubeloop.api.defaulting.tools import Json, child, fill, items, maybe

CONTAINER_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")

_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE: Final = {"timeoutSeconds": 1, "periodSeconds": 10}
_PROBE_COUNTS: Final = {"successThreshold": 1, "failureThreshold": 3}
_MODE: Final = 0o644
_VOLUMES: Final[dict[str, dict[str, Any]]] = {
    "secret": {"defaultMode": _MODE},
    "configMap": {"defaultMode": _MODE},
    "downwardAPI": {"defaultMode": _MODE},
    "projected": {"defaultMode": _MODE},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {
        "cachingMode": "ReadWrite",
        "fsType": "ext4",
        "readOnly": False,
        "kind": "Shared",
    },
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}
_DIGEST: Final = re.compile(
    r"@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
)
_DOMAIN: Final = r"(?:[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*(?::([\w][\w.-]{{0,127}}))?", re.ASCII
)


def pod(obj: Json) -> None:
    """Fill in a Pod."""
    spec = child(obj, "spec")
    for name in ("containers", "initContainers"):
        for container in items(spec, name):
            _requests_from_limits(child(container, "resources"))
    pod_spec(spec)
    _pod_level_requests(spec)
    fill(spec, {"enableServiceLinks": True})
    if spec.get("hostNetwork"):
        _host_ports(spec)
    status = child(obj, "status")
    fill(status, {"phase": "Pending"})
    _first_of(status, "podIP", "podIPs")
    _first_of(status, "hostIP", "hostIPs")
    for condition in items(status, "conditions"):
        condition.setdefault("lastProbeTime", None)
        condition.setdefault("lastTransitionTime", None)
    for name in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for container in items(status, name):
            _container_status(container)


def template(obj: Json | None) -> None:
    """Fill in a pod template."""
    if obj is not None:
        child(obj, "metadata")
        pod_spec(child(obj, "spec"))


def pod_spec(spec: Json) -> None:
    """Fill in what pods and templates share."""
    for name in CONTAINER_LISTS:
        for container in items(spec, name):
            _container(container)
    for volume in items(spec, "volumes"):
        _volume(volume)
    if overhead := maybe(spec, "overhead"):
        _round(overhead)
    fill(
        spec,
        {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
        },
    )
    child(spec, "securityContext")


def resource_list(resources: Json | None) -> None:
    """Round every quantity of a resource list to thousandths, in canonical form."""
    if resources:
        _round(resources)


def pull_policy(image: str) -> str:
    """Return when to pull `image` by default: always if it is (or defaults to) ":latest"."""
    match = _IMAGE.fullmatch(image)  # With a digest it never matches, and need not.
    if match is None or _DIGEST.search(image):
        return "IfNotPresent"
    return "Always" if match[1] in (None, "latest") else "IfNotPresent"


def _container(container: Json) -> None:
    fill(
        container,
        {
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": pull_policy(str(container.get("image") or "")),
        },
    )
    resources = child(container, "resources")
    for kind in ("limits", "requests"):
        resource_list(maybe(resources, kind))
    for port in items(container, "ports"):
        fill(port, {"protocol": "TCP"})
    for variable in items(container, "env"):
        if field := maybe(maybe(variable, "valueFrom"), "fieldRef"):
            fill(field, {"apiVersion": "v1"})
    for name in _PROBES:
        if probe := maybe(container, name):
            _probe(probe)
    for hook in ("postStart", "preStop"):
        if http := maybe(maybe(maybe(container, "lifecycle"), hook), "httpGet"):
            fill(http, {"path": "/", "scheme": "HTTP"})


def _probe(probe: Json) -> None:
    for key, value in (_PROBE | _PROBE_COUNTS).items():
        if not probe.get(key):  # Zero is how Kubernetes spells "unset" here.
            probe[key] = value
    if http := maybe(probe, "httpGet"):
        fill(http, {"path": "/", "scheme": "HTTP"})
    if (grpc := maybe(probe, "grpc")) is not None:
        grpc.setdefault("service", "")


def volume_source(volume: Json) -> None:
    """Fill in where a volume comes from: of pods, and persistent ones."""
    for source, settings in _VOLUMES.items():
        if (given := maybe(volume, source)) is not None:
            fill(given, settings)
    if (path := maybe(volume, "hostPath")) is not None:
        path.setdefault("type", "")


def _volume(volume: Json) -> None:
    if not any(value is not None for key, value in volume.items() if key != "name"):
        volume["emptyDir"] = {}
    volume_source(volume)
    if image := maybe(volume, "image"):
        fill(image, {"pullPolicy": pull_policy(str(image.get("reference") or ""))})
    projections = items(maybe(volume, "projected"), "sources")
    for source_ in projections:
        if token := maybe(source_, "serviceAccountToken"):
            fill(token, {"expirationSeconds": 3600})
    for downward in (volume, *projections):
        for item in items(maybe(downward, "downwardAPI"), "items"):
            if field := maybe(item, "fieldRef"):
                fill(field, {"apiVersion": "v1"})
    claim = maybe(maybe(maybe(volume, "ephemeral"), "volumeClaimTemplate"), "spec")
    if claim is not None:
        fill(claim, {"volumeMode": "Filesystem"})
        for kind in ("limits", "requests"):
            resource_list(maybe(child(claim, "resources"), kind))


def _requests_from_limits(resources: Json) -> None:
    limits = maybe(resources, "limits")
    if limits is not None:
        resources["requests"] = {**limits, **(maybe(resources, "requests") or {})}


def _pod_level_requests(spec: Json) -> None:
    """Let a pod's own requests follow from its limits, and from what its containers request."""
    resources = maybe(spec, "resources")
    if resources is None:
        return
    for kind in ("limits", "requests"):
        resource_list(maybe(resources, kind))
    limits, requests = maybe(resources, "limits"), maybe(resources, "requests") or {}
    for name, limit in (limits or {}).items():
        if name in requests:
            continue
        asked = [
            str(container_requests[name])
            for container in items(spec, "containers")
            if name
            in (container_requests := maybe(maybe(container, "resources"), "requests") or {})
        ]
        requests[name] = _sum(asked) if asked else limit
    if requests:
        resources["requests"] = requests


def _sum(texts: list[str]) -> str:
    read = [quantities.read(text) for text in texts]
    total = sum((quantity.number for quantity in read), start=read[0].number * 0)
    return str(quantities.Quantity(total, read[0].family))


def _host_ports(spec: Json) -> None:
    for name in ("containers", "initContainers"):
        for container in items(spec, name):
            for port in items(container, "ports"):
                if not port.get("hostPort"):
                    port["hostPort"] = port.get("containerPort", 0)


def _container_status(status: Json) -> None:
    child(status, "state")
    child(status, "lastState")
    for key, zero in (("ready", False), ("restartCount", 0), ("image", ""), ("imageID", "")):
        status.setdefault(key, zero)


def _first_of(status: Json, single: str, plural: str) -> None:
    """Keep "the" address and the list of addresses in step; the single one has the last word."""
    address, addresses = status.get(single), items(status, plural)
    if address and (not addresses or addresses[0].get("ip") != address):
        status[plural] = [{"ip": address}]
    elif addresses and not address:
        status[single] = addresses[0].get("ip")


def _round(resources: Json) -> None:
    for name, text in resources.items():
        if not isinstance(text, str | int | float):
            continue
        try:
            resources[name] = quantities.at_milli_scale(text)
        except ValueError:
            continue  # Decoding or validation tells the user; defaults have no say.
