"""Rules of roles and their bindings.

Source: k8s.io/kubernetes/pkg/apis/rbac/validation.
"""

from collections.abc import Sequence
from typing import Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, child, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import selectors

_GROUP: Final = "rbac.authorization.k8s.io"
_REFERENCE: Final = (("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name"))
_SUBJECTS: Final = ("ServiceAccount", "User", "Group")


def role(problems: Problems, obj: Json) -> None:
    """Check a Role: what is in a namespace has no URLs."""
    _rules(problems, obj, namespaced=True)


def cluster_role(problems: Problems, obj: Json) -> None:
    """Check a ClusterRole."""
    _rules(problems, obj, namespaced=False)
    aggregation = maybe(obj, "aggregationRule")
    if aggregation is None:
        return
    field, chosen = (
        "aggregationRule.clusterRoleSelectors",
        items(aggregation, "clusterRoleSelectors"),
    )
    if not chosen:
        detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        problems.required(field, detail)
    for number, selector in enumerate(chosen):
        selectors.label_selector(problems, f"{field}[{number}]", selector)


def role_binding(problems: Problems, obj: Json) -> None:
    """Check a RoleBinding."""
    _binding(problems, obj, ("Role", "ClusterRole"), namespaced=True)


def cluster_role_binding(problems: Problems, obj: Json) -> None:
    """Check a ClusterRoleBinding."""
    _binding(problems, obj, ("ClusterRole",), namespaced=False)


def same_role(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a binding still leads to the role it did."""
    new, was = child(obj, "roleRef"), child(old, "roleRef")
    if new != was:
        shown = {go: new.get(key) or "" for go, key in _REFERENCE}
        problems.invalid("roleRef", shown, "cannot change roleRef")


def _rules(problems: Problems, obj: Json, *, namespaced: bool) -> None:
    for number, rule in enumerate(items(obj, "rules")):
        _rule(problems, f"rules[{number}]", rule, namespaced=namespaced)


def _rule(problems: Problems, field: str, rule: Json, *, namespaced: bool) -> None:
    if not rule.get("verbs"):
        problems.required(f"{field}.verbs", "verbs must contain at least one value")
    if urls := rule.get("nonResourceURLs"):
        at = f"{field}.nonResourceURLs"
        if namespaced:
            problems.invalid(at, urls, "namespaced rules cannot apply to non-resource URLs")
        if any(rule.get(key) for key in ("apiGroups", "resources", "resourceNames")):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            problems.invalid(at, urls, detail)
        return
    if not rule.get("apiGroups"):
        detail = "resource rules must supply at least one api group"
        problems.required(f"{field}.apiGroups", detail)
    if not rule.get("resources"):
        detail = "resource rules must supply at least one resource"
        problems.required(f"{field}.resources", detail)


def _binding(problems: Problems, obj: Json, kinds: Sequence[str], *, namespaced: bool) -> None:
    reference = child(obj, "roleRef")
    problems.one_of("roleRef.apiGroup", reference.get("apiGroup") or "", (_GROUP,))
    problems.one_of("roleRef.kind", reference.get("kind") or "", kinds)
    if name := reference.get("name"):
        problems.invalid_each("roleRef.name", name, names.path_segment(name))
    else:
        problems.required("roleRef.name")
    for number, subject in enumerate(items(obj, "subjects")):
        _subject(problems, f"subjects[{number}]", subject, namespaced=namespaced)


def _subject(problems: Problems, field: str, subject: Json, *, namespaced: bool) -> None:
    name, group = subject.get("name") or "", subject.get("apiGroup") or ""
    if not name:
        problems.required(f"{field}.name")
    match subject.get("kind") or "":
        case "ServiceAccount":
            if name:
                problems.invalid_each(f"{field}.name", name, names.dns1123_subdomain(name))
            problems.one_of(f"{field}.apiGroup", group, ("",))
            if not namespaced and not subject.get("namespace"):
                problems.required(f"{field}.namespace")
        case "User" | "Group":
            problems.one_of(f"{field}.apiGroup", group, (_GROUP,))
        case kind:
            problems.unsupported(f"{field}.kind", kind, _SUBJECTS)
