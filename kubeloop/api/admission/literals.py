"""The literals of MutatingAdmissionPolicies: `Object.spec{replicas: 1}`, `JSONPatch{op: "remove"}`.

The library knows no types made at run time, so a literal becomes a map that says what it was:

    untyped('Object.spec{replicas: 1}')     # '{"\\u0000type": "Object.spec", "replicas": 1}'
    plain(value)                            # checks the types against where they are; drops them

Source: Kubernetes, "Mutating Admission Policy"; k8s.io/apiserver's mutation types in behaviour.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kubeloop.api.cel import BadRule

TYPE: Final = "\0type"
_MARK: Final = r'"\u0000type"'
OBJECT: Final = "Object"
PATCH: Final = "JSONPatch"
_PATCH_FIELDS: Final = ("op", "path", "from", "value")
_TOKEN: Final = re.compile(
    r"""(?P<text>[rR]?[bB]?[rR]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))"""
    r"""|(?P<space>\s+|//[^\n]*)|(?P<name>[A-Za-z_]\w*)|(?P<other>.)""",
    re.DOTALL,
)
_OPEN: Final = "{[("
_CLOSE: Final = "}])"


class Mismatch(ValueError):
    """A literal of one type stands where another belongs; the message is Kubernetes'."""


def tokens(text: str) -> list[tuple[str, str]]:
    """Return what an expression consists of, with the kind of each: text, space, name, other."""
    return [(str(found.lastgroup), found[0]) for found in _TOKEN.finditer(text)]


def variables_in(text: str) -> tuple[str, ...]:
    """Return the names of the policy's variables that an expression speaks of."""
    return tuple(dict.fromkeys(name for _, _, name in _mentions(tokens(text))))


def with_variables(text: str, values: Mapping[str, str]) -> str:
    """Return an expression with some variables replaced by texts."""
    told = tokens(text)
    made, since = "", 0
    for start, end, name in _mentions(told):
        if name in values:
            made += "".join(one for _, one in told[since:start]) + values[name]
            since = end
    return made + "".join(one for _, one in told[since:])


def _mentions(told: list[tuple[str, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield where the tokens `variables.NAME` begin and end, and the name."""
    solid = [at for at, (kind, _) in enumerate(told) if kind != "space"]
    for place, at in enumerate(solid[:-2]):
        dot, name = solid[place + 1], solid[place + 2]
        before = told[solid[place - 1]][1] if place else ""
        read = told[at][1] == "variables" and told[dot][1] == "." != before
        if read and told[name][0] == "name":
            yield at, name + 1, told[name][1]


def whole(text: str) -> str:
    """Return the type of an expression that is a single literal, "" if it is none."""
    told = [one for one in tokens(text.strip()) if one[0] != "space"]
    path, at = _path(told, 0)
    depth = 0
    for place in range(at, len(told)):
        depth += (told[place][1] in _OPEN) - (told[place][1] in _CLOSE)
        if depth == 0:
            return path if path and place == len(told) - 1 else ""
    return ""


def untyped(text: str) -> str:
    """Return an expression with its literals as maps. Raises: BadRule."""
    told = tokens(text)
    made: list[str] = []
    inside: list[str] = []  # What the brackets round this place are: a type, or "".
    field, at = False, 0  # Whether a field may come next.
    while at < len(told):
        kind, one = told[at]
        path, after = _path(told, at)
        if path and not (made and made[-1] == "."):
            made.append(f'{{{_MARK}: "{path}"')
            inside.append(path)
            at = _skip(told, after + 1)
            empty = at < len(told) and told[at][1] == "}"
            made.append("" if empty else ", ")
            field = not empty
            continue
        if field and kind == "name" and _next(told, at) == ":":
            if inside[-1] == PATCH and one not in _PATCH_FIELDS:
                raise BadRule(f"compilation failed: undefined field '{one}'")
            made.append(f'"{one}"')
        else:
            made.append(one)
        at += 1
        if kind == "space" or (field and one == "?"):
            continue
        if kind == "other" and one in _OPEN:
            inside.append("")
        elif kind == "other" and one in _CLOSE and inside:
            inside.pop()
        field = one == "," and bool(inside and inside[-1])
    return "".join(made)


def _path(told: list[tuple[str, str]], at: int) -> tuple[str, int]:
    """Return the type of a literal that begins here, "" if none does, and where its brace is."""
    if at >= len(told) or told[at][1] not in (OBJECT, PATCH) or told[at][0] != "name":
        return "", at
    path, at = told[at][1], _skip(told, at + 1)
    while at + 1 < len(told) and told[at][1] == ".":
        at = _skip(told, at + 1)
        path, at = f"{path}.{told[at][1]}", _skip(told, at + 1)
    return (path, at) if at < len(told) and told[at][1] == "{" else ("", at)


def _skip(told: list[tuple[str, str]], at: int) -> int:
    while at < len(told) and told[at][0] == "space":
        at += 1
    return at


def _next(told: list[tuple[str, str]], at: int) -> str:
    at = _skip(told, at + 1)
    return told[at][1] if at < len(told) else ""


def type_of(value: Any) -> str:
    """Return the type a literal had, "" of what is none."""
    return str(value.get(TYPE, "")) if isinstance(value, dict) else ""


def plain(value: Any, path: str = "") -> Any:
    """Return a value without types. path: of the type that belongs here; "" if any does.

    Raises: Mismatch.
    """
    if isinstance(value, dict):
        told = type_of(value)
        if told and path and told != path:
            raise Mismatch(
                f'unexpected type name "{told}", expected "{path}", which matches field name path '
                "from root Object type"
            )
        inner = _within(told or path)
        return {key: plain(one, inner(key)) for key, one in value.items() if key != TYPE}
    return [plain(one, path) for one in value] if isinstance(value, list) else value


def _within(path: str) -> Callable[[str], str]:
    return lambda key: f"{path}.{key}" if path else ""
