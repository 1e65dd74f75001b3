"""ValidatingAdmissionPolicies are looked through: their status tells up to which generation.

Objects are untyped here, so looking at the types an expression uses finds nothing to warn of.

Source: validatingadmissionpolicystatus of Kubernetes' controller manager in behaviour.
"""

from collections.abc import Iterable, Mapping

from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.admission.policies import VALIDATING


class PolicyStatusController:
    """Work items are ValidatingAdmissionPolicies."""

    name = "validatingadmissionpolicy-status-controller"
    resources = (VALIDATING,)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        yield key

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        policy = view.get(*split(key))
        if policy is None:
            return NOTHING
        status, generation = policy.get("status") or {}, policy["metadata"].get("generation", 1)
        if status.get("observedGeneration") == generation and "typeChecking" in status:
            return NOTHING
        told = {**status, "observedGeneration": generation, "typeChecking": {}}
        request = self._write.update({**policy, "status": told}, subresource="status")
        return Result([Action(request, gone_is_fine=True)])
