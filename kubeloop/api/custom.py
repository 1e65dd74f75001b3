"""Custom resources: what a CustomResourceDefinition makes of its kind, version by version. Pure.

A version of a custom kind is a `Resource` like any other. What a built-in kind has in tables
(types, defaults, rules, columns) it has from its definition, in `Resource.custom`.

Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from kubeloop.api.cel import BadRule
from kubeloop.api.decoding import Malformed, decoder
from kubeloop.api.errors import Cause, InternalError
from kubeloop.api.jsonpath import Path
from kubeloop.api.managed.shapes import Shape, of_schema
from kubeloop.api.resources import SCALE, STATUS, Resource
from kubeloop.api.rules import Rules
from kubeloop.api.structural import Structural

Object = dict[str, Any]

_OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_UNCHECKED: Final = Cause(
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    "<nil>",
)
_FIELD: Final = re.compile(r"^\.?")


@dataclass(frozen=True)
class Column:
    """A column of its own in `kubectl get`."""

    name: str
    type: str
    path: Path
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Scale:
    """Where a custom resource keeps what its scale tells. selector: () if it tells none."""

    spec_replicas: tuple[str, ...]
    status_replicas: tuple[str, ...]
    selector: tuple[str, ...] = ()


@dataclass(frozen=True)
class CustomKind:
    """One version of a custom kind.

    definition: the CustomResourceDefinition;  version: of its `spec.versions` the one.
    """

    definition: Mapping[str, Any]
    version: Mapping[str, Any]

    @property
    def group(self) -> str:
        """The group."""
        return str(self.definition["spec"]["group"])

    @cached_property
    def revision(self) -> int:
        """The revision of the definition: what was written before may need another look."""
        return int(self.definition["metadata"].get("resourceVersion") or 0)

    @cached_property
    def structural(self) -> Structural:
        """The schema; without one everything is kept."""
        told = self.version.get("schema") or {}
        structural = Structural(told.get("openAPIV3Schema"))
        if self.definition["spec"].get("preserveUnknownFields"):
            return Structural(None)
        return structural

    @cached_property
    def shape(self) -> Shape:
        """What the managers of fields must know of it."""
        told = self.version.get("schema") or {}
        keeps = bool(self.definition["spec"].get("preserveUnknownFields"))
        return of_schema(None if keeps else told.get("openAPIV3Schema"))

    @cached_property
    def rules(self) -> Rules:
        """The rules in CEL of the schema.

        Raises: InternalError if the library that knows CEL is not there any more.
        """
        try:
            return Rules((self.version.get("schema") or {}).get("openAPIV3Schema"))
        except BadRule as error:
            raise InternalError(str(error)) from error

    @cached_property
    def storage(self) -> str:
        """The apiVersion in which objects are stored."""
        versions = self.definition["spec"]["versions"]
        return f"{self.group}/{next(v['name'] for v in versions if v.get('storage'))}"

    @cached_property
    def webhook(self) -> Mapping[str, Any] | None:
        """What converts its objects between versions; None if only the version's name changes."""
        told = self.definition["spec"].get("conversion") or {}
        return told.get("webhook") if told.get("strategy") == "Webhook" else None

    @property
    def edition(self) -> tuple[str, int]:
        """What tells this state of the definition from others."""
        metadata = self.definition["metadata"]
        return str(metadata.get("uid", "")), int(metadata.get("generation") or 0)

    @property
    def api_version(self) -> str:
        """The apiVersion of this version."""
        return f"{self.group}/{self.version['name']}"

    @cached_property
    def has_status(self) -> bool:
        """Whether status is a subresource."""
        return (self.version.get("subresources") or {}).get("status") is not None

    @cached_property
    def scale(self) -> Scale | None:
        """The scale subresource."""
        told = (self.version.get("subresources") or {}).get("scale")
        if told is None:
            return None
        return Scale(
            _steps(told["specReplicasPath"]),
            _steps(told["statusReplicasPath"]),
            _steps(told.get("labelSelectorPath") or ""),
        )

    @cached_property
    def columns(self) -> Sequence[Column]:
        """The columns after the name; without any its age."""
        told = self.version.get("additionalPrinterColumns")
        if not told:
            return (Column("Age", "date", Path.parse(".metadata.creationTimestamp")),)
        return tuple(
            Column(
                one["name"],
                one["type"],
                Path.parse(one["jsonPath"]),
                one.get("format", ""),
                one.get("description")
                or f"Custom resource definition column (in JSONPath format): {one['jsonPath']}",
                one.get("priority", 0),
            )
            for one in told
        )

    @property
    def terminating(self) -> bool:
        """Whether the definition is being deleted: nothing new may come."""
        return bool(self.definition["metadata"].get("deletionTimestamp"))

    def decode(self, body: Mapping[str, Any]) -> tuple[Object, list[str]]:
        """Return a body as an object of this version, and the paths of unknown fields.

        Raises: Malformed for metadata of a wrong type.
        """
        obj, unknown = _copy(body), list[str]()
        if (metadata := obj.get("metadata")) is not None:
            try:
                obj["metadata"] = decoder(_OBJECT_META)(metadata, unknown)
            except Malformed as error:
                error.within("ObjectMeta", "metadata")
                raise
        unknown = [f"metadata.{path}" for path in unknown]
        unknown += self.structural.prune(obj)
        return obj, unknown

    def default(self, obj: Object) -> None:
        """Fill in what is missing, in place."""
        self.structural.default(obj)

    def problems(self, obj: Object, old: Mapping[str, Any] | None = None) -> list[Cause]:
        """Return what is wrong with an object, beside its metadata."""
        causes: list[Cause] = list(self.structural.problems(obj))
        if not self.rules:
            return causes
        return [*causes, _UNCHECKED] if causes else self.rules.broken(obj, old)

    def served(self, stored: Object, revision: int = 0) -> Object:
        """Return what is stored as this version has it; what a webhook converts, after that.

        revision: of the last write; what is older than the definition may lack defaults, and may
                  have fields that nobody specifies any more.
        """
        same = stored.get("apiVersion") == self.api_version
        if same and revision >= self.revision:
            return stored
        obj = _copy(stored)
        obj["apiVersion"] = self.api_version
        self.structural.prune(obj)
        self.structural.default(obj)
        return in_order(obj)

    def stored(self, obj: Object) -> Object:
        """Return an object of this version as it is stored."""
        return in_order({**obj, "apiVersion": self.storage})


def resources_of(definition: Mapping[str, Any]) -> list[Resource]:
    """Return a Resource for each version a definition serves; none until it is established."""
    if not is_established(definition):
        return []
    spec, accepted = definition["spec"], definition["status"]["acceptedNames"]
    found = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        custom = CustomKind(definition, version)
        selectable = [one["jsonPath"] for one in version.get("selectableFields") or ()]
        subresources = [STATUS] if custom.has_status else []
        subresources += [SCALE] if custom.scale is not None else []
        found.append(
            Resource(
                spec["group"],
                version["name"],
                accepted["kind"],
                accepted["plural"],
                accepted.get("singular") or accepted["kind"].lower(),
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(accepted.get("shortNames") or ()),
                categories=tuple(accepted.get("categories") or ()),
                subresources=tuple(subresources),
                fields=tuple(_FIELD.sub("", path) for path in selectable),
                list_kind=accepted.get("listKind") or f"{accepted['kind']}List",
                custom=custom,
            )
        )
    return found


def is_established(definition: Mapping[str, Any]) -> bool:
    """Tell whether the kinds of a definition are served."""
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def in_order(obj: Object) -> Object:
    """Return an object with all keys sorted, as custom resources are written."""
    return {key: _sorted(obj[key]) for key in sorted(obj)}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return in_order(value)
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value


def _steps(path: str) -> tuple[str, ...]:
    """Return the fields of a path: ".spec.replicas" → ("spec", "replicas")."""
    return tuple(path.lstrip(".").split(".")) if path else ()
