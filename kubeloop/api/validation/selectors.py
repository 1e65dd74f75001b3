"""Rules of what chooses: label selectors, node selectors, affinity, tolerations, taints."""

from collections.abc import Mapping
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import metadata

EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_SET_OPERATORS: Final = ("In", "NotIn")
_EXISTENCE_OPERATORS: Final = ("Exists", "DoesNotExist")
_NODE_FIELDS: Final = ("metadata.name",)


def label_selector(problems: Problems, field: str, selector: Json | None) -> None:
    """Check a metav1.LabelSelector."""
    if selector is None:
        return
    metadata.labels(problems, f"{field}.matchLabels", selector.get("matchLabels"))
    for number, expression in enumerate(items(selector, "matchExpressions")):
        _label_expression(problems, f"{field}.matchExpressions[{number}]", expression)


def shown(selector: Json | None) -> Json | None:
    """Return a metav1.LabelSelector as Go prints it: fields in their order, keys sorted."""
    if selector is None:
        return None
    told: Json = {}
    if labels := selector.get("matchLabels"):
        told["matchLabels"] = metadata.sorted_labels(labels)
    if expressions := items(selector, "matchExpressions"):
        keys = ("key", "operator", "values")
        told["matchExpressions"] = [{k: e[k] for k in keys if k in e} for e in expressions]
    return told


def affinity(problems: Problems, field: str, wanted: Json | None) -> None:
    """Check the affinity of a pod: to nodes, to pods, against pods."""
    if node := maybe(wanted, "nodeAffinity"):
        at = f"{field}.nodeAffinity"
        if (required := maybe(node, _REQUIRED)) is not None:
            node_selector(problems, f"{at}.{_REQUIRED}", required)
        for number, term in enumerate(items(node, _PREFERRED)):
            here = f"{at}.{_PREFERRED}[{number}]"
            _weight(problems, here, term)
            _node_term(problems, f"{here}.preference", maybe(term, "preference") or {})
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = maybe(wanted, kind)
        for number, term in enumerate(items(rules, _REQUIRED)):
            _pod_term(problems, f"{field}.{kind}.{_REQUIRED}[{number}]", term)
        for number, weighted in enumerate(items(rules, _PREFERRED)):
            here = f"{field}.{kind}.{_PREFERRED}[{number}]"
            _weight(problems, here, weighted)
            term = maybe(weighted, "podAffinityTerm") or {}
            _pod_term(problems, f"{here}.podAffinityTerm", term)


def tolerations(problems: Problems, field: str, tolerated: list[Json]) -> None:
    """Check which taints a pod puts up with."""
    for number, toleration in enumerate(tolerated):
        at = f"{field}[{number}]"
        key, operator = toleration.get("key") or "", toleration.get("operator") or ""
        value, effect = toleration.get("value") or "", toleration.get("effect") or ""
        if key:
            problems.invalid_each(f"{at}.key", key, names.qualified_name(key))
        elif operator != "Exists":
            detail = (
                "operator must be Exists when `key` is empty, which means"
                ' "match all values and all keys"'
            )
            problems.invalid(f"{at}.operator", operator, detail)
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            problems.invalid(f"{at}.effect", effect, detail)
        if operator in ("", "Equal"):
            if wrong := names.label_value(value):
                problems.invalid(f"{at}.operator", value, ";".join(wrong))
        elif operator == "Exists":
            if value:
                detail = "value must be empty when `operator` is 'Exists'"
                problems.invalid(f"{at}.operator", _shown(toleration, _TOLERATION), detail)
        else:
            problems.unsupported(f"{at}.operator", operator, ("Equal", "Exists"))
        if effect:
            problems.one_of(f"{at}.effect", effect, EFFECTS)


def taints(problems: Problems, field: str, given: list[Json]) -> None:
    """Check the taints of a node: no two with the same key and effect."""
    seen: set[tuple[str, str]] = set()
    for number, taint in enumerate(given):
        at = f"{field}[{number}]"
        key, effect = taint.get("key") or "", taint.get("effect") or ""
        problems.invalid_each(f"{at}.key", key, names.qualified_name(key))
        value = taint.get("value") or ""
        if wrong := names.label_value(value):
            problems.invalid(f"{at}.value", value, ";".join(wrong))
        if effect:
            problems.one_of(f"{at}.effect", effect, EFFECTS)
        else:
            problems.required(f"{at}.effect")
        if (key, effect) in seen:
            problems.duplicate(at, _shown(taint, _TAINT))
        seen.add((key, effect))


_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_TOLERATION: Final[Mapping[str, Any]] = {
    "key": "",
    "operator": "",
    "value": "",
    "effect": "",
    "tolerationSeconds": None,
}
_TAINT: Final[Mapping[str, Any]] = {"key": "", "value": "", "effect": "", "timeAdded": None}


def _shown(obj: Json, fields: Mapping[str, Any]) -> Json:
    """Return `obj` as Kubernetes' internal type of it prints: every field, capitalised."""
    return {key[0].upper() + key[1:]: obj.get(key, zero) for key, zero in fields.items()}


def _label_expression(problems: Problems, field: str, expression: Json) -> None:
    values, operator = expression.get("values") or [], expression.get("operator") or ""
    if operator in _SET_OPERATORS:
        if not values:
            detail = "must be specified when `operator` is 'In' or 'NotIn'"
            problems.required(f"{field}.values", detail)
    elif operator in _EXISTENCE_OPERATORS:
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            problems.forbidden(f"{field}.values", detail)
    else:
        problems.invalid(f"{field}.operator", operator, "not a valid selector operator")
    key = expression.get("key") or ""
    problems.invalid_each(f"{field}.key", key, names.qualified_name(key))
    for number, value in enumerate(values):
        problems.invalid_each(f"{field}.values[{number}]", value, names.label_value(value))


def node_selector(problems: Problems, field: str, selector: Json) -> None:
    """Check a v1.NodeSelector."""
    terms = items(selector, "nodeSelectorTerms")
    if not terms:
        detail = "must have at least one node selector term"
        problems.required(f"{field}.nodeSelectorTerms", detail)
    for number, term in enumerate(terms):
        _node_term(problems, f"{field}.nodeSelectorTerms[{number}]", term)


def _node_term(problems: Problems, field: str, term: Json) -> None:
    for number, expression in enumerate(items(term, "matchExpressions")):
        _node_expression(problems, f"{field}.matchExpressions[{number}]", expression)
    for number, expression in enumerate(items(term, "matchFields")):
        at = f"{field}.matchFields[{number}]"
        values, operator = expression.get("values") or [], expression.get("operator") or ""
        if operator not in _SET_OPERATORS:
            problems.invalid(f"{at}.operator", operator, "not a valid selector operator")
        elif len(values) != 1:
            detail = (
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            )
            problems.required(f"{at}.values", detail)
        if expression.get("key") not in _NODE_FIELDS:
            problems.invalid(
                f"{at}.key", expression.get("key") or "", "not a valid field selector key"
            )


def _node_expression(problems: Problems, field: str, expression: Json) -> None:
    values, operator = expression.get("values") or [], expression.get("operator") or ""
    if operator in _SET_OPERATORS:
        if not values:
            detail = "must be specified when `operator` is 'In' or 'NotIn'"
            problems.required(f"{field}.values", detail)
    elif operator in _EXISTENCE_OPERATORS:
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            problems.forbidden(f"{field}.values", detail)
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            problems.required(f"{field}.values", detail)
    else:
        problems.invalid(f"{field}.operator", operator, "not a valid selector operator")
    key = expression.get("key") or ""
    problems.invalid_each(f"{field}.key", key, names.qualified_name(key))


def _pod_term(problems: Problems, field: str, term: Json) -> None:
    label_selector(problems, f"{field}.labelSelector", maybe(term, "labelSelector"))
    label_selector(problems, f"{field}.namespaceSelector", maybe(term, "namespaceSelector"))
    for name in term.get("namespaces") or ():
        problems.invalid_each(f"{field}.namespace", name, names.dns1123_label(name))
    key = term.get("topologyKey") or ""
    if not key:
        problems.required(f"{field}.topologyKey", "can not be empty")
    problems.invalid_each(f"{field}.topologyKey", key, names.qualified_name(key))


def _weight(problems: Problems, field: str, term: Json) -> None:
    weight = term.get("weight", 0)
    if not 1 <= weight <= 100:
        problems.invalid(f"{field}.weight", weight, "must be in the range 1-100")
