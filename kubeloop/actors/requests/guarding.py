"""Pod security at work: pods, what makes pods, and the namespaces that say which ones may come."""

from typing import Final

from kubeloop.actors.requests.state import Object, State
from kubeloop.api.admission import pod_security
from kubeloop.api.calls import Request
from kubeloop.api.errors import Forbidden, Invalid
from kubeloop.api.resources import Resource

_PODS: Final = "pods"
_NAMESPACES: Final = "namespaces"


def guard(
    state: State, resource: Resource, request: Request, obj: Object, old: Object | None
) -> None:
    """Refuse, or warn of, what is not secure enough. Raises: Forbidden, Invalid."""
    if request.subresource:
        return
    if resource.id == _NAMESPACES:
        _guard_namespace(state, obj, old)
    elif resource.id == _PODS or resource.id in pod_security.TEMPLATES:
        namespace = state.get(_NAMESPACES, "", request.namespace) or {"metadata": {}}
        labels = namespace["metadata"].get("labels")
        if pod_security.speaks(labels):
            _guard_pods(state, resource, obj, old, pod_security.policy_of(labels))


def _guard_pods(
    state: State,
    resource: Resource,
    obj: Object,
    old: Object | None,
    policy: pod_security.Policy,
) -> None:
    if resource.id == _PODS:
        if old is not None and not pod_security.matters(obj, old):
            return
        if why := pod_security.refusal(policy, obj):
            raise Forbidden(_PODS, obj["metadata"]["name"], why)
    template = obj if resource.id == _PODS else pod_security.template_of(resource.id, obj)
    if template is not None and (warning := pod_security.warning(policy, template)):
        state.warnings.append(warning)


def _guard_namespace(state: State, obj: Object, old: Object | None) -> None:
    labels = obj["metadata"].get("labels") or {}
    were = {} if old is None else old["metadata"].get("labels") or {}
    if not pod_security.speaks(labels) or labels == were:
        return
    policy, before = pod_security.policy_of(labels), pod_security.policy_of(were)
    name = obj["metadata"]["name"]
    if policy.problems and policy.problems != before.problems:
        raise Invalid("Namespace", name, policy.problems)
    if old is not None and pod_security.tightens(policy.enforce, before.enforce):
        pods = state.all(_PODS, name)
        state.warnings += pod_security.told_of_pods(name, policy.enforce, pods)
