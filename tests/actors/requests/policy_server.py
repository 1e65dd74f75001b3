"""A core that heeds admission policies, and short ways to write these."""

from typing import Any

from request_server import Server

from kubeloop.api.calls import Outcome

Json = dict[str, Any]
API = "admissionregistration.k8s.io/v1"


class Heeding(Server):
    """A core whose writes are durable at once, so that policies are heeded from the next one on."""

    def ask(self, *args: Any, **more: Any) -> Outcome:
        outcome = super().ask(*args, **more)
        self.store.flush(lambda error: None)
        return outcome

    def policy(self, *, kind: str = "Validating", binding: Json | None = None, **spec: Any) -> None:
        """Make a policy called "p", and bind it."""
        self.create(policy(kind, **spec))
        self.create(bound(kind, **(binding or {})))

    def drop(self, kind: str = "Validating") -> None:
        plural = f"{kind.lower()}admissionpolicies.{API.partition('/')[0]}"
        self.ok("delete", plural, "p", namespace="")
        self.ok("delete", plural.replace("policies", "policybindings"), "b", namespace="")


def rule(*resources: str, group: str = "", version: str = "v1", **more: Any) -> Json:
    """Return a rule about creations and updates."""
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(resources) or ["configmaps"],
        **more,
    }


def policy(kind: str = "Validating", **spec: Any) -> Json:
    """Return a policy about ConfigMaps."""
    told = {"matchConstraints": {"resourceRules": [rule()]}, **spec}
    if kind == "Mutating":
        told.setdefault("reinvocationPolicy", "Never")
    kind = f"{kind}AdmissionPolicy"
    return {"apiVersion": API, "kind": kind, "metadata": {"name": "p"}, "spec": told}


def bound(kind: str = "Validating", **spec: Any) -> Json:
    """Return the binding of a policy."""
    if kind == "Validating":
        spec.setdefault("validationActions", ["Deny"])
    return {
        "apiVersion": API,
        "kind": f"{kind}AdmissionPolicyBinding",
        "metadata": {"name": "b"},
        "spec": {"policyName": "p", **spec},
    }


def checks(expression: str, **more: Any) -> list[Json]:
    """Return one validation."""
    return [{"expression": expression, **more}]
