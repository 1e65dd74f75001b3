"""The Common Expression Language: texts become functions of their variables. Pure.

    compiled = environment("object", "oldObject").typed("object.spec.replicas > 1")
    compiled.type               # "bool": what is told of it before anything is evaluated
    compiled.evaluate(scope)    # a value, or a Failure

Needs the library cel-expr-python (the extra `kubeloop[cel]`). Objects are untyped, so an expression
that misuses a type is found when it is evaluated, where Kubernetes may find it when it compiles;
and a time is a string, which `timestamp(…)` makes one. The libraries for URLs, quantities, IPs and
semantic versions are not there: an expression that needs them does not compile.

Source: Kubernetes, "Common Expression Language in Kubernetes: CEL libraries"; cel-go's messages.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

Expression = Callable[[Mapping[str, Any]], Any]
"""From variables to a value, or a `Failure`."""

Function = tuple[str, Sequence[str], str, Callable[..., Any], bool]
"""Name, types of its parameters, type of its result, what it does, whether it is a member."""

_MISSING_KEY: Final = re.compile(r'Key not found in map : "?(.*?)"?$')
_BEYOND: Final = re.compile(r"Index error: index=(-?\d+) size=\d+$")
_UNDECLARED: Final = re.compile(r"undeclared reference to 'variables\.(\w+)' \(in container ''\)")
_CODE: Final = re.compile(r"^[A-Z_]+: ")
_TYPES: Final = {"NULL": "null_type", "TYPE": "type"}
_NAMES: Final = re.compile(r"[A-Z_]+(?![a-z])")


class BadRule(ValueError):
    """An expression that cannot be used; the message says why."""


class Failure(Exception):
    """What evaluating an expression failed with."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression that can be evaluated.

    type:   the name of the type of its result: "bool", "dyn", "map(string, int)".
    result: the same for the library, which can declare a variable of it.
    """

    evaluate: Expression
    type: str
    result: Any


class Environment:
    """The library, with variables and the functions Kubernetes adds to it."""

    def __init__(self, variables: Mapping[str, Any], functions: Sequence[Function] = ()) -> None:
        """variables: name → a type of the library, or its name there: "DYN", "MAP".

        Raises: BadRule if the library is not there.
        """
        try:
            from cel_expr_python import cel
            from cel_expr_python.ext import ext_math, ext_optional, ext_strings
        except ImportError as error:
            raise BadRule(
                "rules in CEL need the library cel-expr-python: pip install 'kubeloop[cel]'"
            ) from error
        types = cel.Type
        known = {
            name: getattr(types, told) if isinstance(told, str) else told
            for name, told in variables.items()
        }
        extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional(), ext_math.ExtMath()]
        overloads: dict[str, list[Any]] = {}
        for number, (name, parameters, result, function, member) in enumerate(
            (*_FUNCTIONS, *functions)
        ):
            overloads.setdefault(name, []).append(
                cel.Overload(
                    id=f"kubernetes_{name.replace('.', '_')}_{number}",
                    return_type=getattr(types, result),
                    parameters=[getattr(types, one) for one in parameters],
                    is_member=member,
                    impl=function,
                )
            )
        declared = [cel.FunctionDecl(name, told) for name, told in overloads.items()]
        self._env = cel.NewEnv(variables=known, extensions=extensions, functions=declared)

    def compile(self, text: str, where: str) -> Expression:
        """Return an expression as a function of its variables. Raises: BadRule."""
        try:
            return self.typed(text).evaluate
        except BadRule as error:
            raise BadRule(f"{where}: {error}") from error

    def typed(self, text: str) -> Compiled:
        """Return an expression with its type. Raises: BadRule."""
        try:
            expression = self._env.compile(text)
        except RuntimeError as error:
            why = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
            why = _UNDECLARED.sub(r"undefined field '\1'", why)
            raise BadRule(f"compilation failed: {why}") from error

        def evaluate(scope: Mapping[str, Any]) -> Any:
            try:
                value = expression.eval(data=scope)
            except RuntimeError as error:  # What cannot even be handed over.
                return Failure(str(error))
            if value.type().name() == "ERROR":
                return Failure(_told(str(value.plain_value())))
            try:
                return value.plain_value()
            except TypeError:  # What has no counterpart outside: an optional value, a type.
                return Failure(f"{_name(value.type().name())} is no value")

        result = expression.return_type()
        return Compiled(evaluate, _name(result.name()), result)


@cache
def environment(*names: str) -> Environment:
    """Return the language with untyped variables. Raises: BadRule if the library is not there."""
    return Environment(dict.fromkeys(names, "DYN"))


def _name(type_: str) -> str:
    """Return the name of a type as Kubernetes tells it: LIST<DYN> → list(dyn)."""
    named = _NAMES.sub(lambda found: _TYPES.get(found[0], found[0].lower()), type_)
    return named.replace("<", "(").replace(">", ")")


def _told(failure: str) -> str:
    """Return what evaluating failed with as Kubernetes tells it."""
    text = _CODE.sub("", failure)
    if found := _MISSING_KEY.match(text):
        return f"no such key: {found[1]}"
    if found := _BEYOND.match(text):
        return f"index out of bounds: {found[1]}"
    if text.startswith(("No matching overloads found", "Applying SELECT to non-message type")):
        return "no such overload"
    return "division by zero" if text == "divide by zero" else text


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return "" if found is None else found[0]


def _find_all(text: str, pattern: str) -> list[str]:
    return [found[0] for found in re.finditer(pattern, text)]


_FUNCTIONS: Final[Sequence[Function]] = (
    ("isSorted", ("LIST",), "BOOL", lambda items: items == sorted(items), True),
    ("sum", ("LIST",), "DYN", sum, True),
    ("min", ("LIST",), "DYN", min, True),
    ("max", ("LIST",), "DYN", max, True),
    ("find", ("STRING", "STRING"), "STRING", _find, True),
    ("findAll", ("STRING", "STRING"), "LIST", _find_all, True),
)
