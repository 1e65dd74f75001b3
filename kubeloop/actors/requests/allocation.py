"""ClusterIPs and NodePorts: which are free, and which one is next.

What is taken is what the Services in the store claim: see `claims`.
"""

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from kubeloop.actors.requests.claims import ADDRESSES, PORTS, owner_of, port_name
from kubeloop.api.errors import Cause, InternalError

Object = dict[str, Any]

_PORT_TYPES: Final = ("NodePort", "LoadBalancer")
_FIELDS_OF_TYPES: Final = (
    (_PORT_TYPES, ("externalTrafficPolicy", "healthCheckNodePort")),
    (("LoadBalancer",), ("allocateLoadBalancerNodePorts", "loadBalancerClass")),
)


class Allocations:
    """Gives Services addresses and ports.

    cidr:  of the addresses;  ports: the first and the last.
    owner: (kind, name) of a claim → the Service that has it, "" if nobody has.
    """

    def __init__(self, cidr: str, ports: tuple[int, int], owner: Callable[[str, str], str]) -> None:
        self.network = ipaddress.IPv4Network(cidr)
        self.ports_first, self.ports_last = ports
        self._owner = owner

    def assign(self, service: Object, bits: Callable[[int], int]) -> list[Cause]:
        """Give `service` the addresses and ports it lacks; return what it cannot have.

        Raises: InternalError when a range is exhausted.
        """
        return [*self._assign_address(service, bits), *self._assign_ports(service, bits)]

    def _assign_address(self, service: Object, bits: Callable[[int], int]) -> list[Cause]:
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return []
        asked = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        if asked == "None":
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return []
        if asked:
            problem = self._why_not(asked, owner_of(service))
            if problem:
                message = f'Invalid value: ["{asked}"]: failed to allocate IP {asked}: {problem}'
                return [Cause("FieldValueInvalid", message, "spec.clusterIPs")]
        else:
            asked = self._free_address(bits)
        spec["clusterIP"], spec["clusterIPs"] = asked, [asked]
        return []

    def _why_not(self, address: str, owner: str) -> str:
        if ipaddress.IPv4Address(address) not in self.network:
            return (
                f"the provided IP ({address}) is not in the valid range. "
                f"The range of valid IPs is {self.network}"
            )
        if self._owner(ADDRESSES, address) not in ("", owner):
            return "provided IP is already allocated"
        return ""

    def _free_address(self, bits: Callable[[int], int]) -> str:
        size = self.network.num_addresses
        # As KEP-3070 has it: the lower band is left to those who ask for an address.
        band = min(max(16, size // 16), 256) if size > 64 else 1
        first, count = band, size - 1 - band
        start = bits(32) % count
        for step in range(count):
            address = str(self.network[first + (start + step) % count])
            if not self._owner(ADDRESSES, address):
                return address
        for offset in range(1, band):
            address = str(self.network[offset])
            if not self._owner(ADDRESSES, address):
                return address
        raise InternalError("failed to allocate a serviceIP: range is full")

    def _assign_ports(self, service: Object, bits: Callable[[int], int]) -> list[Cause]:
        spec = service["spec"]
        if spec.get("type") not in _PORT_TYPES:
            return []
        if (
            spec.get("type") == "LoadBalancer"
            and spec.get("allocateLoadBalancerNodePorts") is False
        ):
            wanted = [p for p in spec.get("ports", []) if p.get("nodePort")]
        else:
            wanted = spec.get("ports", [])
        causes = self._check_problem(service)
        taken: set[tuple[str, int]] = set()
        for index, port in enumerate(spec.get("ports", [])):
            number = port.get("nodePort")
            if not number:
                continue
            problem = self._port_problem(port, owner_of(service))
            if problem:
                message = f"Invalid value: {number}: {problem}"
                causes.append(Cause("FieldValueInvalid", message, f"spec.ports[{index}].nodePort"))
            taken.add((port.get("protocol", "TCP"), number))
        for port in wanted:
            if not causes and not port.get("nodePort"):
                port["nodePort"] = self._free_port(port.get("protocol", "TCP"), taken, bits)
                taken.add((port.get("protocol", "TCP"), port["nodePort"]))
        if not causes and needs_health_check(spec) and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = self._free_port("TCP", taken, bits)
        return causes

    def _check_problem(self, service: Object) -> list[Cause]:
        """Say why a Service cannot have the port it wants for its health check."""
        number = service["spec"].get("healthCheckNodePort")
        if not number:
            return []
        problem = self._port_problem({"nodePort": number}, owner_of(service))
        if not problem:
            return []
        message = (
            f"Internal error: failed to allocate requested HealthCheck NodePort {number}: {problem}"
        )
        return [Cause("InternalError", message, "spec.healthCheckNodePort")]

    def _port_problem(self, port: dict[str, Any], owner: str) -> str:
        number = port["nodePort"]
        if not self.ports_first <= number <= self.ports_last:
            return (
                "provided port is not in the valid range. "
                f"The range of valid ports is {self.ports_first}-{self.ports_last}"
            )
        taken_by = self._owner(PORTS, port_name(port.get("protocol", "TCP"), number))
        if taken_by not in ("", owner):
            return "provided port is already allocated"
        return ""

    def _free_port(
        self, protocol: str, taken: set[tuple[str, int]], bits: Callable[[int], int]
    ) -> int:
        count = self.ports_last - self.ports_first + 1
        start = bits(32) % count
        for step in range(count):
            number = self.ports_first + (start + step) % count
            if (protocol, number) not in taken and not self._owner(
                PORTS, port_name(protocol, number)
            ):
                return number
        raise InternalError("failed to allocate a nodePort: range is full")


def needs_health_check(spec: dict[str, Any]) -> bool:
    """Tell whether a Service's balancer must ask each node whether it has endpoints of its own."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def carry_over(old: Object, new: Object) -> None:
    """Keep the address and ports of `old` where `new` does not mention them.

    So a client that never saw them (an apply of the original manifest) does not lose them.
    """
    was, spec = old["spec"], new["spec"]
    if spec.get("type") == "ExternalName":
        for field in ("clusterIP", "clusterIPs"):
            if spec.get(field) == was.get(field):
                spec.pop(field, None)
        return
    if was.get("type") != "ExternalName" and not spec.get("clusterIP"):
        spec["clusterIP"] = was.get("clusterIP")
        spec["clusterIPs"] = was.get("clusterIPs")
    _drop_what_has_no_use(was, spec)
    if needs_health_check(was) and needs_health_check(spec):
        spec["healthCheckNodePort"] = spec.get("healthCheckNodePort") or was.get(
            "healthCheckNodePort"
        )
    elif not needs_health_check(spec) and (
        spec.get("healthCheckNodePort") == was.get("healthCheckNodePort")
    ):
        spec.pop("healthCheckNodePort", None)
    if spec.get("type") not in _PORT_TYPES:
        _drop_ports(was, spec)
        return
    known = {_served(p): p.get("nodePort") for p in was.get("ports", [])}
    used = {p.get("nodePort") for p in spec.get("ports", [])}
    for port in spec.get("ports", []):
        number = known.get(_served(port))
        if number and not port.get("nodePort") and number not in used:
            port["nodePort"] = number


def _served(port: dict[str, Any]) -> tuple[str, Any]:
    """Return what makes a port of a Service the same one in two versions of it."""
    return port.get("protocol") or "TCP", port.get("port")


def _drop_what_has_no_use(was: dict[str, Any], spec: dict[str, Any]) -> None:
    """Drop the fields a Service's new type has no use for, unless they were changed with it.

    Source: `dropTypeDependentFields` of Kubernetes' service strategy.
    """
    for types, fields in _FIELDS_OF_TYPES:
        if was.get("type") in types and spec.get("type") not in types:
            for field in fields:
                if spec.get(field) == was.get(field):
                    spec.pop(field, None)


def _drop_ports(was: dict[str, Any], spec: dict[str, Any]) -> None:
    """Take back the node ports of a Service that has just become a ClusterIP one."""
    if was.get("type") in _PORT_TYPES:
        numbers = {p.get("nodePort") for p in was.get("ports", [])}
        for port in spec.get("ports", []):
            if port.get("nodePort") in numbers:
                port.pop("nodePort", None)
