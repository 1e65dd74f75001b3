"""What a pod may learn of itself: the downward API's fields and resources. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kubeloop.actors.pods.state import Object, Pod, specs_of
from kubeloop.api.quantities import parse

_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


class ConfigError(Exception):
    """A container cannot be configured: what it refers to is missing or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What pods may learn of their node. allocatable: quantities by resource."""

    name: str
    ip: str
    allocatable: Mapping[str, str]


def field_of(pod: Pod, host: Host, path: str) -> str:
    """Return the field of a fieldRef as text. Raises: ConfigError."""
    metadata, spec = pod.spec["metadata"], pod.spec["spec"]
    match = _SUBSCRIPT.fullmatch(path)
    if match is not None:
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return _lines(metadata.get(path.removeprefix("metadata.")) or {})
    fields = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.uid,
        "spec.nodeName": host.name,
        "spec.serviceAccountName": spec.get("serviceAccountName") or "",
        "status.hostIP": host.ip,
        "status.hostIPs": host.ip,
        "status.podIP": pod.ip,
        "status.podIPs": pod.ip,
    }
    if path not in fields:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(fields[path])


def resource_of(pod: Pod, host: Host, container: Object, selector: Object) -> str:
    """Return the quantity of a resourceFieldRef as a whole number. Raises: ConfigError.

    A limit that is not set is what the node has; a request that is not set is 0.
    """
    name = selector.get("containerName") or container["name"]
    found = next((c for c in specs_of(pod.spec) if c["name"] == name), None)
    if found is None:
        raise ConfigError(f"container {name} not found")
    where, _, resource = selector["resource"].partition(".")
    resources = found.get("resources") or {}
    amount = (resources.get(where) or {}).get(resource)
    if amount is None and where == "limits":
        amount = host.allocatable.get(resource)
    divisor = parse(selector.get("divisor") or "0") or parse("1")
    return str(math.ceil(parse(amount or "0") / divisor))


def _lines(mapping: Mapping[str, str]) -> str:
    """Return `key="value"` lines, quoted as Go does."""
    return "\n".join(f"{key}={_quoted(mapping[key])}" for key in sorted(mapping))


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'
