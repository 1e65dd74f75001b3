"""Rules of Ingresses and their classes.

Source: k8s.io/kubernetes/pkg/apis/networking/validation.
"""

import ipaddress
import re
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems

_CLASS: Final = "kubernetes.io/ingress.class"
_PATH_TYPES: Final = ("Exact", "ImplementationSpecific", "Prefix")
_NOT_IN_PATHS: Final = ("//", "/./", "/../", "%2f", "%2F")
_NOT_AT_ENDS: Final = ("/..", "/.")
_CONTROLLER_MAX: Final = 250
_HTTP_PATH: Final = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_NOT_A_NAME: Final = "must be a DNS name, not an IP address"


def ingress(problems: Problems, obj: Json) -> None:
    """Check the spec of an Ingress."""
    spec = obj.get("spec") or {}
    rules, backend = items(spec, "rules"), maybe(spec, "defaultBackend")
    if not rules and backend is None:
        detail = "either `defaultBackend` or `rules` must be specified"
        problems.invalid("spec", spec.get("rules"), detail)
    if backend is not None:
        _backend(problems, "spec.defaultBackend", backend)
    for number, rule in enumerate(rules):
        _rule(problems, f"spec.rules[{number}]", rule)
    for number, told in enumerate(items(spec, "tls")):
        for index, host in enumerate(told.get("hosts") or ()):
            _host(problems, f"spec.tls[{number}].hosts[{index}]", host)
        if name := told.get("secretName"):
            at = f"spec.tls[{number}].secretName"
            problems.invalid_each(at, name, names.dns1123_subdomain(name))
    if (name := spec.get("ingressClassName")) is not None:
        problems.invalid_each("spec.ingressClassName", name, names.dns1123_subdomain(name))


def new_ingress(problems: Problems, obj: Json) -> None:
    """Check that a new Ingress names one class, if it does so in both ways."""
    told = ((obj.get("metadata") or {}).get("annotations") or {}).get(_CLASS)
    name = (obj.get("spec") or {}).get("ingressClassName")
    if told is not None and name is not None and told != name:
        detail = "must match `ingressClassName` when both are specified"
        problems.invalid(f"annotations.{_CLASS}", told, detail)


def ingress_status(problems: Problems, obj: Json) -> None:
    """Check where an Ingress is reached."""
    balancer = maybe(obj.get("status") or {}, "loadBalancer")
    for number, point in enumerate(items(balancer, "ingress")):
        at = f"status.loadBalancer.ingress[{number}]"
        if address := point.get("ip"):
            problems.invalid_each(f"{at}.ip", address, names.ip(address))
        if host := point.get("hostname"):
            problems.invalid_each(f"{at}.hostname", host, names.dns1123_subdomain(host))
            if _is_address(host):
                problems.invalid(f"{at}.hostname", host, _NOT_A_NAME)


def ingress_class(problems: Problems, obj: Json) -> None:
    """Check an IngressClass."""
    spec = obj.get("spec") or {}
    controller, field = spec.get("controller") or "", "spec.controller"
    if len(controller) > _CONTROLLER_MAX:
        problems.too_long(field, _CONTROLLER_MAX)
    _domain_path(problems, field, controller)
    parameters, field = maybe(spec, "parameters"), "spec.parameters"
    if parameters is None:
        return
    _reference(problems, field, parameters)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    match scope:
        case "Namespace" if namespace is None:
            detail = "`parameters.scope` is set to 'Namespace'"
            problems.required(f"{field}.namespace", detail)
        case "Namespace":
            at = f"{field}.namespace"
            problems.invalid_each(at, namespace, names.dns1123_label(str(namespace)))
        case "Cluster":
            if namespace is not None:
                detail = "`parameters.scope` is set to 'Cluster'"
                problems.forbidden(f"{field}.namespace", detail)
        case _:
            problems.unsupported(f"{field}.scope", scope or "", ("Cluster", "Namespace"))


def ingress_class_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a class stays with its controller."""
    new, was = ((one.get("spec") or {}).get("controller") for one in (obj, old))
    problems.immutable("spec.controller", new, was)


def _rule(problems: Problems, field: str, rule: Json) -> None:
    host, http = rule.get("host") or "", maybe(rule, "http")
    if host and _is_address(host):
        problems.invalid(f"{field}.host", host, _NOT_A_NAME)
    if host:
        _host(problems, f"{field}.host", host)
    if http is None:
        return
    # What is wrong with any rule's paths is told of the first; so Kubernetes.
    at, paths = "spec.rules[0].http.paths", items(http, "paths")
    if not paths:
        problems.required(at)
    for number, path in enumerate(paths):
        _path(problems, f"{at}[{number}]", path)


def _host(problems: Problems, field: str, host: str) -> None:
    check = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
    problems.invalid_each(field, host, check(host))


def _path(problems: Problems, field: str, told: Json) -> None:
    type_, path = told.get("pathType"), told.get("path") or ""
    if type_ is None:
        problems.required(f"{field}.pathType", "pathType must be specified")
        return
    if type_ not in _PATH_TYPES:
        problems.unsupported(f"{field}.pathType", type_, _PATH_TYPES)
    elif not path.startswith("/") and (path or type_ != "ImplementationSpecific"):
        problems.invalid(f"{field}.path", path, "must be an absolute path")
    if type_ in ("Exact", "Prefix"):
        for part in _NOT_IN_PATHS:
            if part in path:
                problems.invalid(f"{field}.path", path, f"must not contain '{part}'")
        for end in _NOT_AT_ENDS:
            if path.endswith(end):
                problems.invalid(f"{field}.path", path, f"cannot end with '{end}'")
    _backend(problems, f"{field}.backend", maybe(told, "backend") or {})


def _backend(problems: Problems, field: str, backend: Json) -> None:
    resource, service = maybe(backend, "resource"), maybe(backend, "service")
    if resource is not None and service is not None:
        problems.invalid(field, "", "cannot set both resource and service backends")
    elif resource is not None:
        _reference(problems, f"{field}.resource", resource)
    elif service is not None:
        _service(problems, field, service)
    else:
        problems.invalid(field, "", "resource or service backend is required")


def _service(problems: Problems, field: str, service: Json) -> None:
    if name := service.get("name"):
        problems.invalid_each(f"{field}.service.name", name, names.dns1123_label(name))
    else:
        problems.required(f"{field}.service.name")
    port = maybe(service, "port") or {}
    name, number = port.get("name"), port.get("number")
    if name and number:
        problems.invalid(field, "", "cannot set both port name & port number")
    elif name:
        problems.invalid_each(f"{field}.service.port.name", name, names.port_name(name))
    elif number:
        problems.invalid_each(f"{field}.service.port.number", number, names.port_number(number))
    else:
        problems.required(field, "port name or number is required")


def _reference(problems: Problems, field: str, told: Json) -> None:
    """Check what names an object in the same namespace."""
    if (group := told.get("apiGroup")) is not None:
        problems.invalid_each(f"{field}.apiGroup", group, names.dns1123_subdomain(group))
    for key in ("kind", "name"):
        if value := told.get(key):
            problems.invalid_each(f"{field}.{key}", value, names.path_segment(value))
        else:
            problems.required(f"{field}.{key}", f"{key} is required")


def _domain_path(problems: Problems, field: str, text: str) -> None:
    """Check "acme.io/foo"."""
    if not text:
        problems.required(field)
        return
    host, _, path = text.partition("/")
    if not host or not path:
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        problems.invalid(field, text, detail)
        return
    problems.invalid_each(field, host, names.dns1123_subdomain(host))
    if not re.fullmatch(_HTTP_PATH, path):
        problems.invalid(field, path, names.regex_text("Invalid path", _HTTP_PATH))


def _is_address(text: Any) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
