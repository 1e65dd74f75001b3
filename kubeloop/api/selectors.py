"""Selectors: which objects a list, a watch or an owner means, by label or by field.

A label selector is a conjunction of requirements (`app=web,tier in (a,b),!canary`), written as text
in a query or as a metav1.LabelSelector inside an object; both become the same value here. A field
selector (`spec.nodeName=n1,status.phase!=Running`) knows only `=` and `!=`, and only the fields the
kind supports. Grammar, order of checks and error texts are Kubernetes' own, down to its quirks.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.errors import BadRequest
from kubeloop.api.resources import Resource

# One token: an operator or punctuation, or a word; white space in front of it is skipped.
_TOKEN: Final = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+)")
_PUNCTUATION: Final = frozenset("=!(),<>") | {"==", "!="}
_BINARY: Final = ("in", "notin", "=", "==", "!=", ">", "<")
_BINARY_NAMES: Final = "in, notin, =, ==, !=, gt, lt"
_INT64: Final = range(-(2**63), 2**63)
_OBJECT_OPERATORS: Final = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one label must be.

    operator: "in", "notin", "=", "==", "!=", ">", "<", "exists" or "!" (does not exist).
    values:   sorted, without duplicates.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether `labels` satisfies it."""
        value = labels.get(self.key)
        match self.operator:
            case "=" | "==" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        wanted = _integer(self.values[0])
        number = None if value is None else _integer(value)
        if number is None or wanted is None:
            return False
        return number > wanted if self.operator == ">" else number < wanted

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(self.values)})"
        return f"{self.key}{self.operator}{self.values[0]}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A conjunction of requirements, sorted by key; `nothing` matches nothing at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Return whether an object with `labels` is meant."""
        if self.nothing:
            return False
        for requirement in self.requirements:  # noqa: SIM110 - half the cost of all(…)
            if not requirement.matches(labels or {}):
                return False
        return True

    def label(self) -> tuple[str, tuple[str, ...]] | None:
        """Return a label that all it means have, and its possible values: as few as may be.

        () stands for any value; None if they need not have a label in common.
        """
        has = [(r.key, r.values) for r in self.requirements if r.operator in ("=", "==", "in")]
        if has:
            return min(has, key=lambda label: len(label[1]))
        return next(((r.key, ()) for r in self.requirements if r.operator == "exists"), None)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING: Final = LabelSelector()
NOTHING: Final = LabelSelector(nothing=True)


def parse_labels(text: str) -> LabelSelector:
    """Return the selector a query writes as `text`; "" selects everything. Raises: BadRequest."""
    return _Parser(text).selector()


def set_selector(labels: Mapping[str, str] | None) -> LabelSelector:
    """Return the selector of a map, as Services and ReplicationControllers carry; {} is all."""
    return _sorted(Requirement(k, "=", (v,)) for k, v in (labels or {}).items())


def label_selector(obj: Mapping[str, Any] | None) -> LabelSelector:
    """Return the selector a metav1.LabelSelector describes: None is nothing, {} everything.

    Raises: BadRequest, if a requirement breaks the rules of labels.
    """
    if obj is None:
        return NOTHING
    equalities = (obj.get("matchLabels") or {}).items()
    requirements = [_requirement(key, "=", [value]) for key, value in equalities]
    for expression in obj.get("matchExpressions") or ():
        told = expression.get("operator", "")
        operator = _OBJECT_OPERATORS.get(told)
        if operator is None:
            raise BadRequest(f"{json.dumps(told)} is not a valid label selector operator")
        values = expression.get("values") or []
        requirements.append(_requirement(expression.get("key", ""), operator, values))
    return _sorted(requirements)


def _sorted(requirements: Iterable[Requirement]) -> LabelSelector:
    return LabelSelector(tuple(sorted(requirements, key=lambda r: r.key)))


def _integer(text: str) -> int | None:
    """Return a 64-bit integer as Go's ParseInt reads it, None if it is none."""
    if not re.fullmatch(r"[+-]?[0-9]+", text) or len(text) > 100:
        return None
    number = int(text)
    return number if number in _INT64 else None


def _requirement(key: str, operator: str, values: Iterable[str]) -> Requirement:
    """Return a checked requirement. Raises: BadRequest."""
    made = Requirement(key, operator, tuple(sorted(set(values))))
    problems = _key_problems(key, "key") + _arity_problems(made)
    for index, value in enumerate(made.values):
        wrong = names.label_value(value)
        if wrong:
            problems.append(_invalid(f"values[{index}][{key}]", value, "; ".join(wrong)))
    if problems:
        raise BadRequest(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
    return made


def _key_problems(key: str, field: str) -> list[str]:
    wrong = names.qualified_name(key)
    return [_invalid(field, key, "; ".join(wrong))] if wrong else []


def _arity_problems(requirement: Requirement) -> list[str]:
    """Return what is wrong with the number and the kind of the values."""
    values = requirement.values
    told = _invalid("values", list(values), "{}")
    match requirement.operator:
        case "in" | "notin" if not values:
            return [told.format("for 'in', 'notin' operators, values set can't be empty")]
        case "exists" | "!" if values:
            return [told.format("values set must be empty for exists and does not exist")]
        case ">" | "<" if _integer(values[0]) is None:
            text = "for 'Gt', 'Lt' operators, the value must be an integer"
            return [_invalid("values[0]", values[0], text)]
    return []


def _invalid(field: str, value: Any, detail: str) -> str:
    """Return one error as apimachinery's field package words it."""
    return f"{field}: Invalid value: {json.dumps(value, ensure_ascii=False)}: {detail}"


class _Parser:
    """Recursive descent over the tokens of one selector; "" is the end of the text."""

    def __init__(self, text: str) -> None:
        text = text.partition("\0")[0]  # As in Kubernetes, NUL ends the text.
        self.tokens = [*_TOKEN.findall(text), ""]
        self.position = 0

    def selector(self) -> LabelSelector:
        """selector := "" | requirement ("," requirement)*"""
        requirements: list[Requirement] = []
        if self.peek() == "":
            return EVERYTHING
        if not self.at_key():
            raise self.unexpected(self.peek(), "expected: !, identifier, or 'end of string'")
        while True:
            try:
                requirements.append(self.requirement())
            except BadRequest as error:
                raise BadRequest(f"unable to parse requirement: {error.message}") from None
            token = self.take()
            if token == "":
                return _sorted(requirements)
            if token != ",":
                raise self.unexpected(token, "expected: ',' or 'end of string'")
            if not self.at_key():
                raise self.unexpected(self.peek(), "expected: identifier after ','")

    def requirement(self) -> Requirement:
        """requirement := ["!"] KEY | KEY operator values"""
        negated = self.peek() == "!"
        if negated:
            self.take()
        key = self.take()
        if not _is_word(key):
            raise self.unexpected(key, "expected: identifier")
        for problem in _key_problems(key, "<nil>"):
            raise BadRequest(problem)
        if negated:
            return _requirement(key, "!", ())
        if self.peek() in ("", ","):
            return _requirement(key, "exists", ())
        operator = self.take()
        if operator not in _BINARY:
            raise self.unexpected(operator, f"expected: {_BINARY_NAMES}")
        values = self.value_set() if operator in ("in", "notin") else [self.value()]
        return _requirement(key, operator, values)

    def value(self) -> str:
        """value := "" | WORD"""
        if self.peek() in ("", ","):
            return ""
        token = self.take()
        if not _is_word(token):
            raise self.unexpected(token, "expected: identifier")
        return token

    def value_set(self) -> list[str]:
        """value_set := "(" [WORD] ("," [WORD])* ")" """
        token = self.take()
        if token != "(":
            raise BadRequest(f"found '{token}' expected: '('")
        if self.peek() == ")":
            self.take()
            return [""]
        if self.peek() != "," and not _is_word(self.peek()):
            raise self.unexpected(self.peek(), "expected: ',', ')' or identifier")
        values: list[str] = []
        while True:
            token = self.take()
            if _is_word(token):
                values.append(token)
                if self.peek() not in (",", ")"):
                    raise self.unexpected(self.peek(), "expected: ',' or ')'")
            elif token != ",":
                raise self.unexpected(token, "expected: ',', or identifier")
            elif not values or self.peek() in (",", ")"):
                values.append("")  # "(,", ",," and ",)" have an empty value in between.
            if self.peek() == ")":
                self.take()
                return values

    def at_key(self) -> bool:
        return self.peek() == "!" or _is_word(self.peek())

    def peek(self) -> str:
        return str(self.tokens[self.position])

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    @staticmethod
    def unexpected(token: str, wanted: str) -> BadRequest:
        return BadRequest(f"found '{token}', {wanted}")


def _is_word(token: str) -> bool:
    return token != "" and token not in _PUNCTUATION


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One term of a field selector; `equal` is False for `!=`."""

    field: str
    value: str
    equal: bool

    def __str__(self) -> str:
        escaped = re.sub(r"[\\,=]", r"\\\g<0>", self.value)
        return f"{self.field}{'=' if self.equal else '!='}{escaped}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """A conjunction of terms."""

    terms: tuple[FieldTerm, ...] = ()

    def matches(self, obj: dict[str, Any]) -> bool:
        """Return whether `obj` is meant."""
        for term in self.terms:  # noqa: SIM110 - half the cost of all(…)
            if (_read(obj, term.field) == term.value) is not term.equal:
                return False
        return True

    def requires(self, field: str) -> str | None:
        """Return the value that every match has in `field`, None if several could be."""
        return next((t.value for t in self.terms if t.equal and t.field == field), None)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


# What an absent field compares as; every other one compares as "".
_ABSENT: Final = {
    "spec.hostNetwork": "false",
    "spec.unschedulable": "false",
    "status.replicas": "0",
    "status.succeeded": "0",
}


def parse_fields(text: str, resource: Resource) -> FieldSelector:
    """Return the field selector a query writes as `text`; "" selects everything.

    Raises: BadRequest for bad syntax and for fields `resource` cannot be selected by.
    """
    terms = []
    for part in sorted(re.findall(r"(?:\\.|[^\\,]|\\$)+", text, re.DOTALL)):
        term = re.match(r"(.*?)(!=|==|=)(.*)", part, re.DOTALL)
        if term is None:
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, value = term.groups()
        value = _unescaped(value)
        terms.append(FieldTerm(_supported(field, resource), value, operator != "!="))
    return FieldSelector(tuple(terms))


def _unescaped(text: str) -> str:
    r"""Return a value without its escapes: `\\`, `\,` and `\=` are the only ones."""
    for piece in re.findall(r"\\.|\\$|[,=]", text, re.DOTALL):
        if piece in ("=", ","):
            # Kubernetes prints the rune as a number here.
            why = f"unescaped character in value: {ord(piece)}"
            raise BadRequest(f"invalid field selector: {why}")
        if piece not in (r"\\", r"\,", r"\="):
            raise BadRequest(f"invalid field selector: invalid escape sequence: {piece}")
    return re.sub(r"\\(.)", r"\1", text)


def _supported(field: str, resource: Resource) -> str:
    """Return the field to compare. Raises: BadRequest if objects cannot be selected by it."""
    if field == "spec.host" and resource.id == "pods":
        return "spec.nodeName"  # Its name in the first version of the API.
    if field == "status.successful" and field in resource.fields:
        return "status.succeeded"  # The name the field has by now.
    if field == "metadata.name" or field in resource.fields:
        return resource.kept.get(field, field)
    if field == "metadata.namespace" and (resource.namespaced or not resource.fields):
        return field
    if resource.fields:
        raise BadRequest(f"field label not supported: {field}")
    known = '"metadata.name", "metadata.namespace"'
    raise BadRequest(f"{json.dumps(field)} is not a known field selector: only {known}")


@cache
def _steps(field: str) -> tuple[str, ...]:
    """Return the steps of a dotted path; there are only as many as kinds have such fields."""
    return tuple(field.split("."))


def _read(obj: dict[str, Any], field: str) -> str:
    """Return what `obj` has at a dotted path, as the text it is compared by."""
    value: Any = obj
    for step in _steps(field):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value
    if field == "source":  # Of an Event: the component that reports it.
        component = value.get("component") if isinstance(value, dict) else None
        return str(component or obj.get("reportingComponent") or "")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return _ABSENT.get(field, "")
