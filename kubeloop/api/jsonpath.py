"""JSONPath, as far as definitions of custom resources use it. Pure.

    Path.parse('.status.conditions[?(@.type=="Ready")].status').find(obj)

A path is a row of steps: `.name`, `['name']`, `[2]`, `[-1]`, `[*]`, and `[?(@.a.b=="c")]`, a filter
whose comparison is one of == != < <= > >=, or that the field is there. It may stand in braces.

Source: Kubernetes, "JSONPath Support"; "CustomResourceDefinitions: Additional printer columns".
"""

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]'"(){}?@*\s]+) | \.(?P<every>\*)
      | \[\s*(?P<index>-?\d+)\s*\] | \[\s*(?P<all>\*)\s*\]
      | \[\s*(?P<quote>['"])(?P<quoted>(?:(?!(?P=quote)).)*)(?P=quote)\s*\]
      | \[\?\(\s*@(?P<left>[^=!<>\s)]+)\s*
        (?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<right>[^)]+?)\s*)?\)\]""",
    re.VERBOSE,
)
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_Step = Callable[[Any], list[Any]]


class BadPath(ValueError):
    """Not a path that is understood; the message says where it ends to be."""


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed path."""

    text: str
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, text: str) -> "Path":
        """Return the path that a text tells of. Raises: BadPath."""
        inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
        steps: list[_Step] = []
        at = 0
        while at < len(inner):
            found = _STEP.match(inner, at)
            if found is None:
                raise BadPath(f"unrecognized character in action: {inner[at]!r} in {text!r}")
            steps.append(_step(found, text))
            at = found.end()
        if not steps:
            raise BadPath(f"{text!r} leads nowhere: it must begin with a dot")
        return cls(text, tuple(steps))

    def find(self, value: Any) -> list[Any]:
        """Return everything the path leads to in a value."""
        found = [value]
        for step in self.steps:
            found = [inner for one in found for inner in step(one)]
        return found


def _step(found: re.Match[str], text: str) -> _Step:
    name = found["name"] if found["name"] is not None else found["quoted"]
    if name is not None:
        return lambda value: [value[name]] if isinstance(value, dict) and name in value else []
    if found["index"] is not None:
        return _item(int(found["index"]))
    if found["left"] is None:
        return _inner
    left = Path.parse(found["left"])
    if found["op"] is None:
        return lambda value: [one for one in _inner(value) if left.find(one)]
    compare, right = _COMPARE[found["op"]], _literal(found["right"], text)
    return lambda value: [one for one in _inner(value) if _holds(compare, left.find(one), right)]


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _item(index: int) -> _Step:
    def step(value: Any) -> list[Any]:
        fits = isinstance(value, list) and -len(value) <= index < len(value)
        return [value[index]] if fits else []

    return step


def _holds(compare: Callable[[Any, Any], bool], found: list[Any], right: Any) -> bool:
    """Tell whether a comparison holds; between what cannot be compared none does."""
    same = [one for one in found if isinstance(one, str) == isinstance(right, str)]
    return any(not isinstance(one, dict | list) and compare(one, right) for one in same)


def _literal(text: str, path: str) -> Any:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    try:
        return json.loads(text)
    except ValueError:
        raise BadPath(f"{text!r} is no value to compare with in {path!r}") from None
