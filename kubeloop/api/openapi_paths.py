"""OpenAPI paths: what can be asked of every resource, in the dialects of OpenAPI v2 and v3.

kubectl reads little of this, but that little decides how it works: it validates on the server if
the PATCH operation of a kind has a query parameter `fieldValidation`, it finds the schema of a
resource through `x-kubernetes-group-version-kind`, and it computes strategic merge patches itself
if PATCH takes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.api.openapi_custom import custom_name
from kubeloop.api.openapi_schemas import META, PATCH, reference
from kubeloop.api.resources import Resource, Subresource
from kubeloop.api.typetable import schema

_BODIES: Final = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCHES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_DELETE_OPTIONS: Final = f"{META}DeleteOptions"
_STATUS: Final = f"{META}Status"

_STRING, _INTEGER, _BOOLEAN = "string", "integer", "boolean"
_WRITE: Final = (
    ("dryRun", _STRING),
    ("fieldManager", _STRING),
    ("fieldValidation", _STRING),
)
_LIST: Final = (
    ("allowWatchBookmarks", _BOOLEAN),
    ("continue", _STRING),
    ("fieldSelector", _STRING),
    ("labelSelector", _STRING),
    ("limit", _INTEGER),
    ("resourceVersion", _STRING),
    ("resourceVersionMatch", _STRING),
    ("sendInitialEvents", _BOOLEAN),
    ("timeoutSeconds", _INTEGER),
    ("watch", _BOOLEAN),
)
_REMOVE: Final = (
    ("dryRun", _STRING),
    ("gracePeriodSeconds", _INTEGER),
    ("orphanDependents", _BOOLEAN),
    ("propagationPolicy", _STRING),
)


_PROXIED: Final = ("delete", "get", "head", "options", "patch", "post", "put")
_OUTPUT: Final = (
    ("container", _STRING),
    ("stderr", _BOOLEAN),
    ("stdin", _BOOLEAN),
    ("stdout", _BOOLEAN),
    ("tty", _BOOLEAN),
)
_CONNECTS: Final = {
    "attach": _OUTPUT,
    "exec": (("command", _STRING), *_OUTPUT),
    "portforward": (("ports", _INTEGER),),
    "proxy": (("path", _STRING),),
}
"""Subresource that leads out of the API → its query parameters."""


@dataclass(frozen=True, slots=True)
class _Verb:
    """A verb of the API as an operation of HTTP.

    word:   how operation ids begin;  action: x-kubernetes-action.
    """

    method: str
    word: str
    action: str
    query: tuple[tuple[str, str], ...] = ()
    code: str = "200"


_VERBS: Final = {
    "get": _Verb("get", "read", "get"),
    "list": _Verb("get", "list", "list", _LIST),
    "create": _Verb("post", "create", "post", _WRITE, "201"),
    "update": _Verb("put", "replace", "put", _WRITE),
    "patch": _Verb("patch", "patch", "patch", (*_WRITE, ("force", _BOOLEAN))),
    "delete": _Verb("delete", "delete", "delete", _REMOVE),
    "deletecollection": _Verb("delete", "deleteCollection", "deletecollection", _LIST + _REMOVE),
}


def paths(resource: Resource, *, v3: bool) -> dict[str, Any]:
    """Return the paths of a resource and its subresources."""
    made = _Maker(resource, v3)
    base = f"/apis/{resource.group}" if resource.group else "/api"
    base = f"{base}/{resource.version}"
    inner = f"{base}/namespaces/{{namespace}}" if resource.namespaced else base
    item = f"{inner}/{resource.plural}/{{name}}"
    found = {
        f"{inner}/{resource.plural}": made.item(
            ("list", "create", "deletecollection"), named=False
        ),
        item: made.item(("get", "update", "patch", "delete"), named=True),
    }
    if resource.namespaced:
        found[f"{base}/{resource.plural}"] = made.everywhere()
    for sub in resource.subresources:
        at = f"{item}/{sub.name}"
        if not sub.connects:
            found[at] = made.subresource(sub)
            continue
        found[at] = made.connecting(sub)
        if sub.name == "proxy":
            found[f"{at}/{{path}}"] = made.connecting(sub, path=True)
    return found


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the path items of one resource in one dialect."""

    resource: Resource
    v3: bool

    def item(self, verbs: tuple[str, ...], *, named: bool) -> dict[str, Any]:
        """Return the operations of those `verbs` that the resource has."""
        operations: dict[str, Any] = {}
        for name in verbs:
            if name in self.resource.verbs:
                verb = _VERBS[name]
                scope = "Namespaced" if self.resource.namespaced else ""
                operation_id = self._id(verb, f"{scope}{self.resource.kind}")
                operations[verb.method] = self._operation(name, operation_id)
        return operations | self._parameters(named=named, namespaced=self.resource.namespaced)

    def everywhere(self) -> dict[str, Any]:
        """Return the list over all namespaces."""
        operation_id = self._id(_VERBS["list"], f"{self.resource.kind}ForAllNamespaces")
        operation = self._operation("list", operation_id)
        return {"get": operation} | self._parameters(named=False, namespaced=False)

    def subresource(self, sub: Subresource) -> dict[str, Any]:
        """Return the operations of a subresource."""
        operations: dict[str, Any] = {}
        for name in sub.verbs:
            verb = _VERBS[name]
            scope = "Namespaced" if self.resource.namespaced else ""
            operation_id = self._id(verb, f"{scope}{self.resource.kind}{sub.name.capitalize()}")
            operations[verb.method] = self._operation(name, operation_id, sub)
        return operations | self._parameters(named=True, namespaced=self.resource.namespaced)

    def connecting(self, sub: Subresource, *, path: bool = False) -> dict[str, Any]:
        """Return the operations of a subresource that leads out of the API. path: with one."""
        methods = _PROXIED if sub.name == "proxy" else ("get", "post")
        scope = "Namespaced" if self.resource.namespaced else ""
        suffix = f"{self.resource.kind}{sub.name.capitalize()}{'WithPath' if path else ''}"
        operations: dict[str, Any] = {}
        for method in methods:
            operation = self._operation("get", f"connectCoreV1{method.capitalize()}{scope}{suffix}")
            operation["description"] = f"connect {method.upper()} requests to {sub.name}"
            operation["responses"]["200"] = self._answer("OK", "")
            operation["x-kubernetes-action"] = "connect"
            operation["x-kubernetes-group-version-kind"] = _kind(self.resource, sub)
            operations[method] = operation
        shared = self._parameters(named=True, namespaced=self.resource.namespaced)["parameters"]
        shared = shared[:-1]  # Without `pretty`: nothing is told that could be.
        if path:
            shared.append(self._parameter("path", "path", _STRING) | {"required": True})
        queries = [self._query(*parameter) for parameter in _CONNECTS[sub.name]]
        return {**operations, "parameters": [*shared, *queries]}

    def _id(self, verb: _Verb, what: str) -> str:
        group = (self.resource.group or "core").partition(".")[0]
        return f"{verb.word}{group.capitalize()}{self.resource.version.capitalize()}{what}"

    def _operation(self, name: str, operation_id: str, sub: Subresource | None = None) -> Any:
        verb = _VERBS[name]
        kind = _kind(self.resource, sub)
        own = self._name(kind["kind"], _api_version(kind))
        answer = own
        if name == "list":
            of_list = self.resource.list_kind or f"{kind['kind']}List"
            answer = self._name(of_list, (self.resource.api_version, of_list))
        elif name in ("delete", "deletecollection") and self.resource.id != "pods":
            answer = _STATUS
        group = (self.resource.group or "core").partition(".")[0]
        operation: dict[str, Any] = {
            "tags": [f"{group}_{self.resource.version}"],
            "description": f"{verb.word} {self.resource.kind}",
            "operationId": operation_id,
            "parameters": [self._query(*parameter) for parameter in verb.query],
            "responses": {
                verb.code: self._answer("Created" if verb.code == "201" else "OK", answer),
                "401": {"description": "Unauthorized"},
            },
            "x-kubernetes-action": verb.action,
            "x-kubernetes-group-version-kind": kind,
        }
        if name in ("create", "update"):
            self._take(operation, own, _BODIES, required=True)
        elif name == "patch":
            patches = _PATCHES[:2] if self.resource.custom else _PATCHES
            self._take(operation, PATCH, patches, required=True)
        elif name in ("delete", "deletecollection"):
            self._take(operation, _DELETE_OPTIONS, _BODIES, required=False)
        return operation

    def _name(self, kind: str, api_version: tuple[str, str]) -> str:
        """Return the name of a kind's schema, "" if it has none."""
        if self.resource.custom is not None and api_version[0] == self.resource.api_version:
            return custom_name(self.resource, kind)
        return schema().kinds.get(api_version, "")

    def _take(
        self, operation: dict[str, Any], name: str, media: tuple[str, ...], *, required: bool
    ) -> None:
        """Note the body that an operation takes."""
        ref = reference(name, v3=self.v3) if name else {"type": "object"}
        if self.v3:
            content = {each: {"schema": ref} for each in media}
            operation["requestBody"] = {"content": content, "required": required}
        else:
            operation["consumes"] = list(media)
            operation["parameters"].append({"name": "body", "in": "body", "schema": ref})

    def _answer(self, description: str, name: str) -> dict[str, Any]:
        ref = reference(name, v3=self.v3) if name else {"type": "string"}
        if self.v3:
            content = {each: {"schema": ref} for each in _BODIES}
            return {"description": description, "content": content}
        return {"description": description, "schema": ref}

    def _parameters(self, *, named: bool, namespaced: bool) -> dict[str, Any]:
        """Return the parameters that all operations of a path share."""
        steps = [s for s, has in (("name", named), ("namespace", namespaced)) if has]
        shared = [self._parameter(step, "path", _STRING) | {"required": True} for step in steps]
        return {"parameters": [*shared, self._query("pretty", _STRING)]}

    def _query(self, name: str, form: str) -> dict[str, Any]:
        return self._parameter(name, "query", form)

    def _parameter(self, name: str, place: str, form: str) -> dict[str, Any]:
        told = {"type": form, "uniqueItems": True}
        return {"name": name, "in": place} | ({"schema": told} if self.v3 else told)


def _kind(resource: Resource, sub: Subresource | None) -> dict[str, str]:
    if sub is not None and sub.kind:
        version = sub.version or resource.version
        return {"group": sub.group, "kind": sub.kind, "version": version}
    return {"group": resource.group, "kind": resource.kind, "version": resource.version}


def _api_version(kind: Mapping[str, str]) -> tuple[str, str]:
    group, version = kind["group"], kind["version"]
    return (f"{group}/{version}" if group else version), kind["kind"]
