"""Every method of a generated client: what it calls, and arguments it can be called with.

Nothing is written down per method: the path and the HTTP method are read from the generated
code, and what a method needs (an object to read, a body of the right kind) follows from them.
"""

import inspect
import re
from dataclasses import dataclass
from typing import Any

from samples import SAMPLES, Json

_PATH = re.compile(r"'(/(?:api|apis)/[^']*)'")
_METHOD = re.compile(r"'(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)'")
_SUFFIX = "_with_http_info"


@dataclass(frozen=True)
class Operation:
    """One generated method. method, path: of HTTP; the path is a template."""

    api: str
    name: str
    method: str
    path: str

    @property
    def collection(self) -> str:
        """The path of the objects it is about."""
        return self.path.partition("/{name}")[0]

    @property
    def plural(self) -> str:
        return self.collection.rpartition("/")[2]

    @property
    def named(self) -> bool:
        return "{name}" in self.path

    @property
    def subresource(self) -> str:
        return self.path.partition("/{name}")[2].strip("/").partition("/")[0]

    @property
    def api_version(self) -> str:
        parts = self.path.split("/")
        return parts[2] if parts[1] == "api" else "/".join(parts[2:4])

    @property
    def group_version(self) -> str:
        return self.api_version

    def __str__(self) -> str:
        return self.name


def operations(client: Any, api: str) -> list[Operation]:
    """Return what a class of generated methods has."""
    cls, found = getattr(client, api), []
    for whole in sorted(dir(cls)):
        if not whole.endswith(_SUFFIX) or whole.startswith("_"):
            continue
        name = whole.removesuffix(_SUFFIX)
        maker = getattr(cls, f"_{name}_serialize", None) or getattr(cls, whole)
        source = inspect.getsource(maker)
        path, method = _PATH.search(source), _METHOD.search(source)
        assert path is not None and method is not None, f"{api}.{name} calls nothing"
        found.append(Operation(api, name, method[1], path[1]))
    return found


def sample(operation: Operation, kind: str, name: str, namespace: str | None) -> Json:
    """Return a valid new object of the kind an operation is about."""
    plural = operation.plural
    label = {"sample": name}
    metadata: Json = {"name": name, "labels": label}
    if namespace is not None:
        metadata["namespace"] = namespace
    base = {"apiVersion": operation.api_version, "kind": kind, "metadata": metadata}
    made: Json = {**base, **_named(SAMPLES.get(plural, {}), name)}
    match plural:
        case "ipaddresses":
            metadata["name"] = address_of(name)
        case "customresourcedefinitions":
            metadata["name"] = f"{name}.sample.example"
        case "apiservices":
            metadata["name"] = f"v1.{name}.sample.example"
        case "events":
            made.update(event(operation.api_version, namespace or ""))
    return made


def address_of(name: str) -> str:
    """Return an IP address of its own for a name that ends with a number."""
    number = int(re.sub(r"\D", "", name) or 0)
    return f"172.31.{number // 250}.{number % 250 + 1}"


def event(api_version: str, namespace: str) -> Json:
    about = {"kind": "Pod", "name": "x", "namespace": namespace}
    if api_version == "v1":
        return {"involvedObject": about, "reason": "Tried", "type": "Normal", "message": "m"}
    return {
        "regarding": about,
        "reason": "Tried",
        "type": "Normal",
        "note": "m",
        "action": "Try",
        "eventTime": "2026-01-01T00:00:00.123456Z",
        "reportingController": "sample.example/c",
        "reportingInstance": "c-1",
    }


def _named(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _named(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner, name) for inner in value]
    return value.replace("*", name) if value in ("*", "*.sample.example") else value


def reader_of(operation: Operation, all_of_it: list[Operation]) -> Operation:
    """Return the operation that reads what this one replaces."""
    for path in (operation.path, operation.path.rpartition("/")[0]):
        for other in all_of_it:
            if (other.method, other.path) == ("GET", path):
                return other
    raise AssertionError(f"nothing reads {operation.path}")
