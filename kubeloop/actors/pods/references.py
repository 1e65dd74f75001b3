"""What pods refer to: ConfigMaps, Secrets, Services and claims, kept packed until one is needed.

Pure. Every kubelet hears of all of them and needs few, so an object is decoded when it is asked
for.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgpack

from kubeloop.actors.pods.state import specs_of
from kubeloop.actors.pods.tokens import Tokens
from kubeloop.api.admission.volumes import CLAIMS, VOLUMES
from kubeloop.api.pod_claims import wanted_by
from kubeloop.store.facts import Fact, key_of, prefix_of

RESOURCES: Final = ("services", "configmaps", "secrets", CLAIMS, VOLUMES)
MASTER: Final = ("default", "kubernetes")  # The Service every pod is told of.
_NAMING: Final = {
    "configMap": ("configmaps", "name"),
    "configMapRef": ("configmaps", "name"),
    "configMapKeyRef": ("configmaps", "name"),
    "secret": ("secrets", "secretName"),
    "secretRef": ("secrets", "name"),
    "secretKeyRef": ("secrets", "name"),
}
"""Field of a volume, a projection, an envFrom or a valueFrom → resource, where its name stands."""


class References:
    """Objects by key, folded from facts; and tokens of accounts, which are asked for."""

    def __init__(self) -> None:
        self.tokens = Tokens()
        self._packed: dict[str, bytes] = {}
        self._services: dict[str, None] = {}
        self._variables: dict[str, dict[str, str]] = {}

    def clear(self) -> None:
        """Forget everything: a list follows."""
        self.tokens.clear()
        self._packed.clear()
        self._services.clear()
        self._variables.clear()

    def fold(self, fact: Fact) -> None:
        """Bring what is known up to one fact about one of RESOURCES."""
        if fact.value is None:
            self._packed.pop(fact.key, None)
            self._services.pop(fact.key, None)
        else:
            self._packed[fact.key] = fact.value
        if fact.resource == "services":
            self._variables.clear()
            if fact.value is not None:
                self._services[fact.key] = None

    def get(self, resource: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return an object, freshly decoded; None if there is none."""
        packed = self._packed.get(key_of(resource, namespace, name))
        return None if packed is None else msgpack.unpackb(packed)

    def service_variables(self, namespace: str, *, links: bool) -> Mapping[str, str]:
        """Return the variables that tell of Services: of the API's, with `links` of a namespace's.

        Source: kubelet's envvars.FromServices.
        """
        found = self._variables.get(namespace if links else "")
        if found is None:
            found = {}
            prefix = prefix_of("services", namespace)
            for key in sorted(self._services):
                if key == key_of("services", *MASTER) or (links and key.startswith(prefix)):
                    found |= _service_variables(msgpack.unpackb(self._packed[key]))
            self._variables[namespace if links else ""] = found
        return found


def named_by(pod: Mapping[str, Any]) -> frozenset[str]:
    """Return the store keys of the ConfigMaps, Secrets and claims that a pod's containers need."""
    sources: list[Mapping[str, Any]] = []
    for container in specs_of(pod):
        sources += container.get("envFrom") or ()
        sources += [v.get("valueFrom") or {} for v in container.get("env") or ()]
    for volume in pod["spec"].get("volumes") or ():
        sources += [volume, *((volume.get("projected") or {}).get("sources") or ())]
    namespace, found = pod["metadata"]["namespace"], set()
    for source in sources:
        for field, (resource, naming) in _NAMING.items():
            if wanted := source.get(field):
                name = wanted.get(naming) or wanted.get("name") or ""
                found.add(key_of(resource, namespace, name))
    found |= {key_of(CLAIMS, namespace, wanted.claim) for wanted in wanted_by(pod)}
    return frozenset(found)


def _service_variables(service: Mapping[str, Any]) -> dict[str, str]:
    spec = service["spec"]
    ip, ports = spec.get("clusterIP"), spec.get("ports") or ()
    if not ip or ip == "None" or not ports:
        return {}
    prefix = _variable(service["metadata"]["name"])
    first = ports[0]
    host = f"[{ip}]" if ":" in ip else ip
    found = {f"{prefix}_SERVICE_HOST": ip, f"{prefix}_SERVICE_PORT": str(first["port"])}
    for port in ports:
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{_variable(port['name'])}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol, number = port.get("protocol") or "TCP", str(port["port"])
        url = f"{protocol.lower()}://{host}:{number}"
        if index == 0:
            found[f"{prefix}_PORT"] = url
        one = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found |= {
            one: url,
            f"{one}_PROTO": protocol.lower(),
            f"{one}_PORT": number,
            f"{one}_ADDR": ip,
        }
    return found


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def data_of(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the data of a ConfigMap or Secret by key."""
    if found.get("kind") == "Secret":
        return {key: _decoded(text) for key, text in (found.get("data") or {}).items()}
    data = {key: text.encode() for key, text in (found.get("data") or {}).items()}
    return data | {key: _decoded(text) for key, text in (found.get("binaryData") or {}).items()}


def _decoded(text: Any) -> bytes:
    return text if isinstance(text, bytes) else base64.b64decode(text)
