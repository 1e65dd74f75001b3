"""Query parameters → the options of a Request, typed and checked as Kubernetes checks them.

Source: apimachinery, metav1 CreateOptions, UpdateOptions, PatchOptions, DeleteOptions,
ListOptions, and their validation.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from kubeloop.api.errors import BadRequest, Cause, Invalid

_INT64: Final = 1 << 63
_TEXTS: Final = (
    "labelSelector",
    "fieldSelector",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "fieldManager",
    "fieldValidation",
    "propagationPolicy",
)
_KINDS: Final = {
    "create": "CreateOptions",
    "update": "UpdateOptions",
    "patch": "PatchOptions",
    "delete": "DeleteOptions",
    "deletecollection": "DeleteOptions",
}
_FIELD_VALIDATION: Final = ("", "Ignore", "Strict", "Warn")
_FIELD_MANAGER_MAX: Final = 128
_PARAMETERS_MAX: Final = 1000

Options = dict[str, Any]


def parse_query(query: str) -> list[tuple[str, str]]:
    """Return the parameters of a query string, in order. Raises: BadRequest."""
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_PARAMETERS_MAX)
    except ValueError as error:
        raise BadRequest(f"the query string cannot be read: {error}") from None


def parse_options(parameters: list[tuple[str, str]]) -> Options:
    """Return the options a query names; parameters Kubernetes does not know are passed over.

    Raises: BadRequest for a value that is not of its type.
    """
    options: Options = {}
    for name, value in parameters:
        parser = _PARSERS.get(name)
        if name == "dryRun":
            options.setdefault(name, []).append(value)
        elif parser is not None and name not in options:
            options[name] = parser(value)
    return options


def check(verb: str, options: Options) -> None:
    """Check what may be asked with `verb`. Raises: Invalid."""
    if verb in ("get", "list", "watch"):
        if verb != "get":
            check_list(options, watch=verb == "watch")
        return
    causes: list[Cause] = []
    dry_run = options.get("dryRun") or []
    if any(value != "All" for value in dry_run):
        shown = "[" + ",".join(f'"{value}"' for value in dry_run) + "]"
        causes.append(_unsupported("dryRun", shown, ("All",)))
    validation = options.get("fieldValidation", "")
    if validation not in _FIELD_VALIDATION:
        causes.append(_unsupported("fieldValidation", f'"{validation}"', _FIELD_VALIDATION))
    causes += _manager_problems(options.get("fieldManager", ""))
    if verb == "patch":
        causes += _patch_problems(options)
    if causes:
        raise Invalid(_KINDS[verb], "", causes, group="meta.k8s.io")


def check_list(options: Options, *, watch: bool) -> None:
    """Check the options of a list or watch. Raises: Invalid."""
    match, initial = options.get("resourceVersionMatch", ""), "sendInitialEvents" in options
    problems = [] if watch else [*_list_problems(options, match)]
    if watch and match != "NotOlderThan" and initial:
        text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        problems.append(_forbidden("resourceVersionMatch", text))
    if watch and match and not initial:
        text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        problems.append(_forbidden("resourceVersionMatch", text))
    if watch and match and match != "NotOlderThan":
        problems.append(_unsupported("resourceVersionMatch", f'"{match}"', ("NotOlderThan",)))
    if not watch and initial:
        text = "sendInitialEvents is forbidden for list"
        problems.append(_forbidden("sendInitialEvents", text))
    if match and options.get("continue"):
        text = "resourceVersionMatch is forbidden when continue is provided"
        problems.append(_forbidden("resourceVersionMatch", text))
    if problems:
        raise Invalid("ListOptions", "", problems, group="meta.k8s.io")


def delete_options(body: Mapping[str, Any], options: Options) -> Options:
    """Return `options` with those of a DeleteOptions body, which win over the query's.

    Raises: BadRequest for another kind, or a value of a wrong type.
    """
    kind = body.get("kind", "DeleteOptions")
    if kind != "DeleteOptions":
        raise BadRequest(
            f'the object provided is a "{kind}": the body of a delete must be a DeleteOptions'
        )
    merged = dict(options)
    for name, types in _DELETE_FIELDS.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, types) or (isinstance(value, bool) and types is int):
            told = {bool: "bool", int: "number", dict: "object", list: "array"}
            raise BadRequest(
                f"DeleteOptions cannot be handled: json: cannot unmarshal "
                f"{told.get(type(value), 'string')} into Go struct field DeleteOptions.{name} "
                f"of type {_DELETE_TYPES[name]}"
            )
        merged[name] = value
    return merged


_DELETE_FIELDS: Final[Mapping[str, type]] = {
    "gracePeriodSeconds": int,
    "propagationPolicy": str,
    "orphanDependents": bool,
    "preconditions": dict,
    "dryRun": list,
}
_DELETE_TYPES: Final = {
    "gracePeriodSeconds": "int64",
    "propagationPolicy": "v1.DeletionPropagation",
    "orphanDependents": "bool",
    "preconditions": "v1.Preconditions",
    "dryRun": "[]string",
}


def _int(text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(digits) > 19 or not -_INT64 <= int(text) < _INT64:
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


def _bool(text: str) -> bool:
    """Return what apimachinery takes a query's value for: only these two mean no."""
    return text not in ("false", "0")


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(("limit", "timeoutSeconds", "gracePeriodSeconds"), _int),
    **dict.fromkeys(
        ("watch", "allowWatchBookmarks", "sendInitialEvents", "force", "orphanDependents"), _bool
    ),
}


def _list_problems(options: Options, match: str) -> list[Cause]:
    version = options.get("resourceVersion", "")
    problems = []
    if match and not version:
        text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        problems.append(_forbidden("resourceVersionMatch", text))
    if match not in ("", "Exact", "NotOlderThan"):
        known = ("Exact", "NotOlderThan", "")
        problems.append(_unsupported("resourceVersionMatch", f'"{match}"', known))
    if match == "Exact" and version == "0":
        text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        problems.append(_forbidden("resourceVersionMatch", text))
    return problems


def _manager_problems(manager: str) -> list[Cause]:
    problems = []
    if len(manager.encode(errors="replace")) > _FIELD_MANAGER_MAX:
        message = f"Too long: may not be more than {_FIELD_MANAGER_MAX} bytes"
        problems.append(Cause("FieldValueTooLong", message, "fieldManager"))
    at = next((n for n, char in enumerate(manager) if not char.isprintable()), None)
    if at is not None:
        shown = manager.encode("unicode_escape").decode()
        message = (
            f'Invalid value: "{shown}": should only contain printable characters. '
            f"Invalid at position {at}"
        )
        problems.append(Cause("FieldValueInvalid", message, "fieldManager"))
    return problems


def _patch_problems(options: Options) -> list[Cause]:
    applies = options.get("patchType") == "apply"
    if applies and not options.get("fieldManager"):
        message = "Required value: is required for apply patch"
        return [Cause("FieldValueRequired", message, "fieldManager")]
    if not applies and "force" in options:
        return [_forbidden("force", "may not be specified for non-apply patch")]
    return []


def _forbidden(field: str, text: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {text}", field)


def _unsupported(field: str, shown: str, known: tuple[str, ...]) -> Cause:
    values = ", ".join(f'"{value}"' for value in known)
    message = f"Unsupported value: {shown}: supported values: {values}"
    return Cause("FieldValueNotSupported", message, field)
