"""Rules of webhook configurations.

Source: pkg/apis/admissionregistration/validation in behaviour.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from kubeloop.api import names
from kubeloop.api.admission.language import with_authorizer
from kubeloop.api.admission.webhooks import VARIABLES
from kubeloop.api.cel import BadRule
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import selectors

_OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES: Final = ("*", "Cluster", "Namespaced")
_SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")
_VERSIONS: Final = ("v1", "v1beta1")
_TIMEOUT_MAX_S: Final = 30
_CONDITIONS_MAX: Final = 64
Check = Callable[[Problems, str, str], None]


def mutating(problems: Problems, obj: Json) -> None:
    """Check a MutatingWebhookConfiguration."""
    validating(problems, obj)
    for at, hook in enumerate(items(obj, "webhooks")):
        policy = hook.get("reinvocationPolicy")
        problems.one_of(f"webhooks[{at}].reinvocationPolicy", policy, ("IfNeeded", "Never"))


def validating(problems: Problems, obj: Json) -> None:
    """Check a ValidatingWebhookConfiguration."""
    seen: set[str] = set()
    for at, hook in enumerate(items(obj, "webhooks")):
        path = f"webhooks[{at}]"
        name = hook.get("name") or ""
        _qualified(problems, f"{path}.name", name)
        if name in seen:
            problems.duplicate(f"{path}.name", name)
        seen.add(name)
        _hook(problems, path, hook)


def _qualified(problems: Problems, path: str, name: str) -> None:
    if not name:
        problems.required(path)
        return
    problems.invalid_each(path, name, names.dns1123_subdomain(name))
    if name.count(".") < 2:
        problems.invalid(
            path, name, "should be a domain with at least three segments separated by dots"
        )


def _hook(problems: Problems, path: str, hook: Json) -> None:
    for at, told in enumerate(items(hook, "rules")):
        rule(problems, f"{path}.rules[{at}]", told)
    problems.one_of(f"{path}.failurePolicy", hook.get("failurePolicy"), ("Fail", "Ignore"))
    problems.one_of(f"{path}.matchPolicy", hook.get("matchPolicy"), ("Equivalent", "Exact"))
    effects = hook.get("sideEffects")
    if effects is None:
        problems.required(f"{path}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}")
    else:
        problems.one_of(f"{path}.sideEffects", effects, _SIDE_EFFECTS)
    timeout = hook.get("timeoutSeconds")
    if isinstance(timeout, int) and not 1 <= timeout <= _TIMEOUT_MAX_S:
        detail = "the timeout value must be between 1 and 30 seconds"
        problems.invalid(f"{path}.timeoutSeconds", timeout, detail)
    for name in ("namespaceSelector", "objectSelector"):
        selectors.label_selector(problems, f"{path}.{name}", maybe(hook, name))
    client(problems, f"{path}.clientConfig", maybe(hook, "clientConfig") or {})
    versions(problems, f"{path}.admissionReviewVersions", hook.get("admissionReviewVersions"))
    met = items(hook, "matchConditions")
    conditions(problems, f"{path}.matchConditions", met, _compiles)


def rule(problems: Problems, path: str, told: Json) -> None:
    """Check which requests a rule is about."""
    for name in ("operations", "apiGroups", "apiVersions", "resources"):
        listed = told.get(name) or []
        if not listed:
            problems.required(f"{path}.{name}")
        elif "*" in listed and len(listed) > 1 and name != "resources":
            detail = (
                "if '*' is present, must not specify other "
                + {
                    "operations": "operations",
                    "apiGroups": "API groups",
                    "apiVersions": "API versions",
                }[name]
            )
            problems.invalid(f"{path}.{name}", listed, detail)
    for at, one in enumerate(told.get("operations") or ()):
        problems.one_of(f"{path}.operations[{at}]", one, _OPERATIONS)
    for at, one in enumerate(told.get("apiVersions") or ()):
        if one == "":
            problems.required(f"{path}.apiVersions[{at}]")
    for at, one in enumerate(told.get("resources") or ()):
        if one == "":
            problems.required(f"{path}.resources[{at}]")
    scope = told.get("scope")
    if scope is not None:
        problems.one_of(f"{path}.scope", scope, _SCOPES)


def client(problems: Problems, path: str, config: Json) -> None:
    """Check how a webhook is reached."""
    url, service = config.get("url"), maybe(config, "service")
    if (url is None) == (service is None):
        problems.required(path, "exactly one of url or service is required")
    elif url is not None:
        _url(problems, f"{path}.url", url)
    elif service is not None:
        for name in ("name", "namespace"):
            if not service.get(name):
                problems.required(f"{path}.service.{name}", f"service {name} is required")
        port = service.get("port")
        if isinstance(port, int):
            told = names.port_number(port)
            problems.invalid_each(
                f"{path}.service.port", port, [f"port is not valid: {one}" for one in told]
            )


def _url(problems: Problems, path: str, url: str) -> None:
    form = "; desired format: https://host[/path]"
    try:
        told = urlsplit(url)
    except ValueError as error:
        problems.required(path, f"url must be a valid URL: {error}{form}")
        return
    if told.scheme != "https":
        problems.invalid(path, told.scheme, f"'https' is the only allowed URL scheme{form}")
    if not told.netloc:
        problems.invalid(path, told.netloc, f"host must be specified{form}")
    if told.username is not None:
        problems.invalid(path, told.username, f"user information is not permitted in the URL{form}")
    if told.fragment:
        problems.invalid(path, told.fragment, f"fragments are not permitted in the URL{form}")
    if told.query:
        detail = f"query parameters are not permitted in the URL{form}"
        problems.invalid(path, told.query, detail)


def versions(problems: Problems, path: str, told: Any) -> None:
    """Check which versions of reviews a webhook takes."""
    known: Sequence[str] = told or ()
    if not known:
        shown = ", ".join(_VERSIONS)
        problems.required(path, f"must specify one of {shown}")
        return
    if not any(version in _VERSIONS for version in known):
        shown = ", ".join(_VERSIONS)
        problems.invalid(path, [*known], f"must include at least one of {shown}")
    for at, version in enumerate(known):
        if version in known[:at]:
            problems.invalid(f"{path}[{at}]", version, "duplicate version")


def conditions(problems: Problems, path: str, told: Sequence[Json], check: Check) -> None:
    """Check matchConditions. check: adds what is wrong with an expression."""
    if len(told) > _CONDITIONS_MAX:
        problems.too_many(path, len(told), _CONDITIONS_MAX)
    seen: set[str] = set()
    for at, condition in enumerate(told):
        name, text = condition.get("name") or "", (condition.get("expression") or "").strip()
        if not text:
            problems.required(f"{path}[{at}].expression")
        else:
            check(problems, f"{path}[{at}].expression", text)
        if not name:
            problems.required(f"{path}[{at}].name")
        elif name in seen:
            problems.duplicate(f"{path}[{at}].name", name)
        else:
            problems.invalid_each(f"{path}[{at}].name", name, names.qualified_name(name))
        seen.add(name)


def _compiles(problems: Problems, path: str, text: str) -> None:
    try:
        told = with_authorizer(*VARIABLES).typed(text).type
    except BadRule as error:
        problems.invalid(path, text, str(error))
    else:
        if told != "bool":
            problems.invalid(path, text, f"must evaluate to bool but got {told}")
