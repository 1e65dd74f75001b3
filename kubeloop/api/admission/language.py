"""What the expressions of admission policies are written in: variables, functions, programs. Pure.

    language = Language(params=True)
    language.declare("big", "object.spec.replicas > 5")
    program = language.program("!variables.big")
    Run(language, scope).value(program)

A variable is evaluated once for a request, and only if an expression comes to it.

Source: Kubernetes, "Validating Admission Policy: Validation expression, variable composition"; "CEL
in Kubernetes: Kubernetes authorizer library".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from kubeloop.api.admission.literals import untyped, variables_in, with_variables
from kubeloop.api.cel import Environment, Expression, Failure, Function
from kubeloop.api.identity import account_user, groups_of, may_do_anything

_GIVEN: Final = ("object", "oldObject", "request", "namespaceObject")
_PREFIX: Final = "variables."
_ABSENT: Final = 'No value with name "variables.'
_OPTIONAL: Final = "optional_type("

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Program:
    """An expression that compiles.

    type:  the type of its result, as Kubernetes tells it.
    needs: the variables it speaks of.
    """

    text: str
    evaluate: Expression
    type: str
    needs: tuple[str, ...]


class Language:
    """The language of one policy; it grows by the variables the policy declares."""

    def __init__(self, *, params: bool, patches: bool = False) -> None:
        """params: the policy has them;  patches: expressions may make objects and patches."""
        self._patches = patches
        self._base = (*_GIVEN, "params") if params else _GIVEN
        self._types: dict[str, Any] = {}
        self._optional: dict[str, str] = {}  # They cannot be passed on: they are put in place.
        self.variables: dict[str, Program] = {}

    def program(self, text: str, *, authorizer: bool = True, variables: bool = True) -> Program:
        """Return an expression, compiled. Raises: BadRule."""
        made = with_variables(text, self._optional) if variables else text
        types = self._types if variables else {}
        if types:
            language = _environment(self._base, self._patches, authorizer, types)
        else:
            language = _plain_environment(self._base, self._patches, authorizer)
        compiled = language.typed(untyped(made) if self._patches else made)
        return Program(text, compiled.evaluate, compiled.type, variables_in(made))

    def declare(self, name: str, text: str) -> None:
        """Add a variable, which those after it may speak of. Raises: BadRule."""
        made = with_variables(text, self._optional)
        language = _environment(self._base, self._patches, True, self._types)
        compiled = language.typed(untyped(made) if self._patches else made)
        if compiled.type.startswith(_OPTIONAL):
            self._optional[name] = f"({made})"
            return
        self.variables[name] = Program(text, compiled.evaluate, compiled.type, variables_in(made))
        self._types[f"{_PREFIX}{name}"] = compiled.result


def with_authorizer(*names: str) -> Environment:
    """Return the language with untyped variables and an authorizer. Raises: BadRule."""
    return _plain_environment(names, False, True)


@lru_cache(16)
def _plain_environment(names: Sequence[str], patches: bool, authorizer: bool) -> Environment:
    return _environment(names, patches, authorizer, {})


def _environment(
    names: Sequence[str], patches: bool, authorizer: bool, types: Mapping[str, Any]
) -> Environment:
    known = {**dict.fromkeys(names, "DYN"), **types}
    if authorizer:
        known |= {"authorizer": "MAP", "authorizer.requestResource": "MAP"}
    functions = (*_AUTHORIZER, *(_PATCHES if patches else ()))
    return Environment(known, functions)


class Run:
    """The expressions of a policy, evaluated for one request."""

    def __init__(self, variables: Mapping[str, Program], scope: Mapping[str, Any]) -> None:
        self._variables = variables
        self._scope = dict(scope)
        self._failed: dict[str, str] = {}

    def value(self, program: Program) -> Any:
        """Return what an expression comes to, or a Failure."""
        for name in program.needs:
            self._provide(name)
        result = program.evaluate(self._scope)
        if isinstance(result, Failure) and str(result).startswith(_ABSENT):
            name = str(result).removeprefix(_ABSENT).partition('"')[0]
            why = self._failed.get(name, "it is not there")
            return Failure(f'composited variable "{name}" fails to evaluate: {why}')
        return result

    def _provide(self, name: str) -> None:
        """Evaluate a variable: one that fails is missing, so only who comes to it fails."""
        key = f"{_PREFIX}{name}"
        if key in self._scope or name in self._failed or name not in self._variables:
            return
        value = self.value(self._variables[name])
        if isinstance(value, Failure):
            self._failed[name] = str(value)
        else:
            self._scope[key] = value


# The authorizer: who is known may do anything, so what is asked about does not matter.


def authorizer_of(user: str, groups: Sequence[str] = ()) -> Json:
    """Return the value of `authorizer` for a request of a user."""
    return {"user": user, "groups": groups_of(user, groups)}


def _account(asking: Json, namespace: str, name: str) -> Json:
    return authorizer_of(account_user(namespace, name))


def _about(asking: Json, *_: Any) -> Json:
    return asking


def _decision(asking: Json, verb: str) -> Json:
    return {"allowed": may_do_anything(str(asking["user"]), list(asking["groups"]))}


_CHECKED: Final = ("path", "group", "resource", "subresource", "namespace", "name")
_AUTHORIZER: Final[Sequence[Function]] = (
    *((one, ("MAP", "STRING"), "MAP", _about, True) for one in _CHECKED),
    ("fieldSelector", ("MAP", "STRING"), "MAP", _about, True),
    ("labelSelector", ("MAP", "STRING"), "MAP", _about, True),
    ("serviceAccount", ("MAP", "STRING", "STRING"), "MAP", _account, True),
    ("check", ("MAP", "STRING"), "MAP", _decision, True),
    ("allowed", ("MAP",), "BOOL", lambda told: told["allowed"], True),
    ("reason", ("MAP",), "STRING", lambda told: "", True),
    ("errored", ("MAP",), "BOOL", lambda told: False, True),
    ("error", ("MAP",), "STRING", lambda told: "", True),
)
_PATCHES: Final[Sequence[Function]] = (
    (
        "jsonpatch.escapeKey",
        ("STRING",),
        "STRING",
        lambda key: key.replace("~", "~0").replace("/", "~1"),
        False,
    ),
)
