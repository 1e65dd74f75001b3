"""Rules of CustomResourceDefinitions.

Source: k8s.io/apiextensions-apiserver, pkg/apis/apiextensions/validation and pkg/apiserver/schema,
in behaviour.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.cel import BadRule
from kubeloop.api.defaulting.tools import Json, maybe
from kubeloop.api.jsonpath import BadPath, Path
from kubeloop.api.problems import Problems
from kubeloop.api.rules import REASONS, VALIDATIONS, Rules, has_rules, nodes
from kubeloop.api.structural import Schema, Structural
from kubeloop.api.validation import webhooks

_SCOPES: Final = ("Cluster", "Namespaced")
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = (
    *("byte", "date", "date-time", "double", "float", "int32", "int64", "password"),
)
_KEEP: Final = "x-kubernetes-preserve-unknown-fields"
_EITHER: Final = "x-kubernetes-int-or-string"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_LIST_TYPE: Final = "x-kubernetes-list-type"
_LIST_KEYS: Final = "x-kubernetes-list-map-keys"
_NEVER: Final = {
    "$ref": "$ref is not supported",
    "definitions": "definitions is not supported",
    "dependencies": "dependencies is not supported",
    "id": "id is not supported",
    "patternProperties": "patternProperties is not supported",
    "additionalItems": "additionalItems is not supported",
}
_ONLY_OUTSIDE: Final = ("additionalProperties", "default", "description", "nullable", "title")


def definition(problems: Problems, obj: Json) -> None:
    """Check a definition, new or changed."""
    spec = maybe(obj, "spec") or {}
    group, told = spec.get("group") or "", maybe(spec, "names") or {}
    wanted = f"{told.get('plural') or ''}.{group}"
    if obj["metadata"].get("name") != wanted:
        detail = 'must be spec.names.plural+"."+spec.group'
        problems.invalid("metadata.name", obj["metadata"].get("name"), detail)
    _group(problems, group)
    if not spec.get("scope"):
        problems.required("spec.scope")
    problems.one_of("spec.scope", spec.get("scope") or "", _SCOPES)
    versions: Sequence[Json] = spec.get("versions") or ()
    _versions(problems, versions)
    _names(problems, told)
    for number, version in enumerate(versions):
        _version(problems, f"spec.versions[{number}]", version)
    _conversion(problems, maybe(spec, "conversion") or {})
    if spec.get("preserveUnknownFields"):
        detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
        detail += "spec.versions[*].schema instead"
        problems.invalid("spec.preserveUnknownFields", True, detail)


def definition_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check a change: what is served keeps its names; versions with objects stay."""
    spec, was = obj["spec"], old["spec"]
    for field in ("group", "scope"):
        problems.immutable(f"spec.{field}", spec.get(field), was.get(field))
    if any(c["status"] == "True" and c["type"] == "Established" for c in _conditions(old)):
        for field in ("plural", "kind"):
            has, had = spec["names"].get(field), was["names"].get(field)
            problems.immutable(f"spec.names.{field}", has, had)
    known = [version["name"] for version in spec["versions"]]
    for number, name in enumerate((old.get("status") or {}).get("storedVersions") or ()):
        if name not in known:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must "
                "remain in spec.versions until a storage migration ensures no data remains "
                f"persisted in {name} and removes {name} from status.storedVersions"
            )
            problems.invalid(f"status.storedVersions[{number}]", name, detail)


def _conditions(obj: Json) -> Sequence[Json]:
    return (obj.get("status") or {}).get("conditions") or ()


def _group(problems: Problems, group: str) -> None:
    if not group:
        problems.required("spec.group")
    elif wrong := names.dns1123_subdomain(group):
        problems.invalid("spec.group", group, ",".join(wrong))
    elif "." not in group:
        problems.invalid("spec.group", group, "should be a domain with at least one dot")


def _versions(problems: Problems, versions: Sequence[Json]) -> None:
    seen: set[str] = set()
    for number, version in enumerate(versions):
        name, at = version.get("name") or "", f"spec.versions[{number}].name"
        if name in seen:
            problems.invalid("spec.versions", [v.get("name") for v in versions], "duplicate name")
        seen.add(name)
        if wrong := names.dns1035_label(name):
            problems.invalid(at, name, ",".join(wrong))
    storing = [version for version in versions if version.get("storage")]
    if len(storing) != 1:
        detail = "must have exactly one version marked as storage version"
        problems.invalid("spec.versions", [v.get("name") for v in versions], detail)


def _names(problems: Problems, told: Json) -> None:
    plural, kind = told.get("plural") or "", told.get("kind") or ""
    if not plural:
        problems.required("spec.names.plural")
    elif wrong := names.dns1035_label(plural):
        problems.invalid("spec.names.plural", plural, ",".join(wrong))
    singular = told.get("singular") or ""
    if singular and (wrong := names.dns1035_label(singular)):
        problems.invalid("spec.names.singular", singular, ",".join(wrong))
    for field in ("kind", "listKind"):
        value = told.get(field) or ""
        if not value:
            problems.required(f"spec.names.{field}")
        elif wrong := names.dns1035_label(value.lower()):
            problems.invalid(f"spec.names.{field}", value, f"may have mixed case, but should "
                             f"otherwise match: {','.join(wrong)}")  # fmt: skip
    for field in ("shortNames", "categories"):
        for number, value in enumerate(told.get(field) or ()):
            if wrong := names.dns1035_label(value):
                problems.invalid(f"spec.names.{field}[{number}]", value, ",".join(wrong))
    if kind and kind == told.get("listKind"):
        problems.invalid("spec.names.listKind", kind, "kind and listKind may not be the same")


def _conversion(problems: Problems, conversion: Json) -> None:
    strategy = conversion.get("strategy") or ""
    problems.one_of("spec.conversion.strategy", strategy, ("None", "Webhook"))
    told, config = maybe(conversion, "webhook"), "spec.conversion.webhookClientConfig"
    if strategy == "Webhook":
        client = maybe(told or {}, "clientConfig")
        if client is None:
            problems.required(config, "required when strategy is set to Webhook")
        else:
            webhooks.client(problems, config, client)
        versions = (told or {}).get("conversionReviewVersions")
        webhooks.versions(problems, "spec.conversion.conversionReviewVersions", versions)
    elif told is not None:
        problems.forbidden(config, "should not be set when strategy is not set to Webhook")


def _version(problems: Problems, at: str, version: Json) -> None:
    schema = (maybe(version, "schema") or {}).get("openAPIV3Schema")
    here = f"{at}.schema.openAPIV3Schema"
    if not schema:
        problems.required(here, "schemas are required")
    else:
        _schema(problems, here, schema)
        _rules(problems, here, schema)
    for number, column in enumerate(version.get("additionalPrinterColumns") or ()):
        _column(problems, f"{at}.additionalPrinterColumns[{number}]", column)
    for number, field in enumerate(version.get("selectableFields") or ()):
        _path(problems, f"{at}.selectableFields[{number}].jsonPath", field.get("jsonPath") or "")
    scale = (maybe(version, "subresources") or {}).get("scale")
    if scale is not None:
        _scale(problems, f"{at}.subresources.scale", scale)


def _column(problems: Problems, at: str, column: Json) -> None:
    if not column.get("name"):
        problems.required(f"{at}.name")
    told = column.get("type") or ""
    if not told:
        problems.required(f"{at}.type", f"must be one of {','.join(_COLUMN_TYPES)}")
    elif told not in _COLUMN_TYPES:
        problems.invalid(f"{at}.type", told, f"must be one of {','.join(_COLUMN_TYPES)}")
    form = column.get("format") or ""
    if form and form not in _COLUMN_FORMATS:
        problems.invalid(f"{at}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
    _path(problems, f"{at}.jsonPath", column.get("jsonPath") or "")


def _path(problems: Problems, at: str, text: str) -> None:
    if not text:
        problems.required(at)
        return
    try:
        Path.parse(text)
    except BadPath as error:
        problems.invalid(at, text, str(error))


def _scale(problems: Problems, at: str, scale: Json) -> None:
    for field, below in (
        ("specReplicasPath", ".spec."),
        ("statusReplicasPath", ".status."),
        ("labelSelectorPath", ""),
    ):
        value = scale.get(field) or ""
        if not value and below:
            problems.required(f"{at}.{field}")
        elif value and not value.startswith(below or (".status.", ".spec.")):
            detail = f"should be a json path under {below or '.status or .spec'}".rstrip(".")
            problems.invalid(f"{at}.{field}", value, detail)


# Schemas.


def _schema(problems: Problems, at: str, schema: Json) -> None:
    """Check that a schema is structural."""
    if not schema.get("type"):
        problems.required(f"{at}.type", "must not be empty at the root")
    elif schema["type"] != "object":
        problems.invalid(f"{at}.type", schema["type"], "must be object at the root")
    if schema.get("nullable"):
        problems.forbidden(f"{at}.nullable", "nullable cannot be true at the root")
    for path, node in nodes(schema):
        here = f"{at}.{path}" if path else at
        _node(problems, here, node, logical=_is_logical(path), root=not path)
    if not problems:
        _defaults(problems, at, schema)


def _is_logical(path: str) -> bool:
    return re.search(r"(^|\.)(not\b|(allOf|anyOf|oneOf)\[)", path) is not None


def _node(problems: Problems, at: str, node: Schema, *, logical: bool, root: bool) -> None:
    for field, detail in _NEVER.items():
        if node.get(field):
            problems.forbidden(f"{at}.{field}", detail)
    if node.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        problems.forbidden(f"{at}.uniqueItems", detail)
    told = node.get("type") or ""
    if told and told not in _TYPES:
        problems.unsupported(f"{at}.type", told, _TYPES)
    if logical:
        _in_group(problems, at, node)
    elif not root and not told and not node.get(_EITHER) and not node.get(_KEEP):
        what = "array items" if at.endswith(".items") else "specified object fields"
        problems.required(f"{at}.type", f"must not be empty for {what}")
    if told == "array" and not logical and not isinstance(node.get("items"), Mapping):
        problems.required(f"{at}.items", "must be specified")
    if node.get("properties") and isinstance(node.get("additionalProperties"), Mapping):
        detail = "additionalProperties and properties are mutual exclusive"
        problems.forbidden(f"{at}.additionalProperties", detail)
    if node.get("additionalProperties") is False:
        detail = "must not be false: unknown fields are pruned"
        problems.forbidden(f"{at}.additionalProperties", detail)
    if node.get(_EMBEDDED) and not (node.get("properties") or node.get(_KEEP)):
        detail = f"must not be empty if {_EMBEDDED} is true without {_KEEP}"
        problems.required(f"{at}.properties", detail)
    if pattern := node.get("pattern"):
        _pattern(problems, f"{at}.pattern", pattern)
    _list_type(problems, at, node)


def _in_group(problems: Problems, at: str, node: Schema) -> None:
    """Check what stands in allOf, anyOf, oneOf or not: it may only judge, and not say what is."""
    for field in _ONLY_OUTSIDE:
        if node.get(field):
            problems.forbidden(f"{at}.{field}", "must be undefined to be structural")
    if node.get("type") and not node.get(_EITHER) and not _is_either(at):
        problems.forbidden(f"{at}.type", "must be empty to be structural")


def _is_either(at: str) -> bool:
    """Tell whether types may stand there: those of x-kubernetes-int-or-string."""
    return re.search(r"anyOf\[\d\]$", at) is not None


def _pattern(problems: Problems, at: str, pattern: str) -> None:
    try:
        re.compile(pattern.replace(r"\z", r"\Z"))
    except re.error as error:
        problems.invalid(at, pattern, f"must be a valid regular expression, but isn't: {error}")


def _list_type(problems: Problems, at: str, node: Schema) -> None:
    kind, keys = node.get(_LIST_TYPE), node.get(_LIST_KEYS) or ()
    if kind is None:
        return
    problems.one_of(f"{at}.{_LIST_TYPE}", kind, ("atomic", "map", "set"))
    if node.get("type") != "array":
        detail = f"must be array if {_LIST_TYPE} is specified"
        problems.invalid(f"{at}.type", node.get("type") or "", detail)
    if kind != "map":
        return
    if not keys:
        detail = "must not be empty if x-kubernetes-list-type is map"
        problems.required(f"{at}.{_LIST_KEYS}", detail)
    items = node.get("items") or {}
    properties = items.get("properties") or {}
    for number, key in enumerate(keys):
        if key not in properties:
            detail = "entries must all be names of item properties"
            problems.invalid(f"{at}.{_LIST_KEYS}[{number}]", key, detail)
        elif key not in (items.get("required") or ()) and "default" not in properties[key]:
            detail = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be "
                "a required property"
            )
            problems.required(f"{at}.items.properties[{key}].default", detail)


def _defaults(problems: Problems, at: str, schema: Json) -> None:
    """Check that defaults are values their own schema would take."""
    for path, node in nodes(schema):
        if "default" not in node:
            continue
        there = f"{at}.{path}.default" if path else f"{at}.default"
        for wrong in Structural(node).problems(node["default"]):
            field = f"{there}.{wrong.field}" if wrong.field else there
            text = wrong.message.replace(f": {wrong.field} in body ", ": ")
            problems.append(type(wrong)(wrong.reason, text, field))


def _rules(problems: Problems, at: str, schema: Json) -> None:
    if not has_rules(schema):
        return
    for path, number, rule in _told(schema):
        there = f"{at}.{path}.{VALIDATIONS}[{number}]" if path else f"{at}.{VALIDATIONS}[{number}]"
        if not str(rule.get("rule") or "").strip():
            problems.required(f"{there}.rule", "rule is not specified")
        if rule.get("reason"):
            problems.one_of(f"{there}.reason", rule["reason"], REASONS)
    try:
        Rules(schema)
    except BadRule as error:
        problems.append(_bad_rule(at, str(error)))


def _told(schema: Json) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    for path, node in nodes(schema):
        for number, rule in enumerate(node.get(VALIDATIONS) or ()):
            yield path, number, rule


def _bad_rule(at: str, text: str) -> Any:
    where, _, why = text.partition(": ")
    from_rule = where.endswith((".rule", ".messageExpression"))
    problems = Problems()
    field = f"{at}.{where.lstrip('.')}" if from_rule else at
    problems.invalid(field, "", why if from_rule else text)
    return problems[0]
