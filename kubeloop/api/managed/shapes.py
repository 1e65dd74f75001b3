"""Shapes: what the managers of fields must know of a kind.

A field is a leaf (a scalar, or what is only ever replaced as a whole), an object with fields or
keys, a list whose elements have keys, a set of scalars, or free: what nobody declared shows by its
value whether it is an object.

Source: Kubernetes, "Server-Side Apply: Merge strategy"; x-kubernetes-list-type and -map-type.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import orjson

from kubeloop.api.resources import Resource
from kubeloop.api.typetable import Spec, schema

LEAF, MAP, KEYED, SET, FREE = range(5)

_KEY_DEFAULTS: Final = {"protocol": "TCP"}  # Of the built-in kinds: of ports.
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


class Shape:
    """What a field is.

    form:     LEAF, MAP, KEYED, SET or FREE.
    element:  of a MAP what its keys lead to, if that is not in `fields`; of a KEYED its elements.
    keys:     of a KEYED the fields that tell its elements apart; `defaults` if they are missing.
    required: of a MAP the fields that are always there, if only as "", 0 or null.
    embedded: of a MAP the objects that are always there, if only empty.
    """

    __slots__ = ("_fields", "_make", "defaults", "element", "embedded", "form", "keys", "required")

    def __init__(
        self,
        form: int,
        *,
        make: Callable[[], Mapping[str, "Shape"]] | None = None,
        element: "Shape | None" = None,
        keys: tuple[str, ...] = (),
        defaults: Mapping[str, Any] | None = None,
        required: tuple[str, ...] = (),
        embedded: tuple[str, ...] = (),
    ) -> None:
        self.form, self.element, self.keys = form, element, keys
        self.defaults = defaults or {}
        self.required, self.embedded = required, embedded
        self._make, self._fields = make, None if make else dict[str, Shape]()

    @property
    def fields(self) -> Mapping[str, "Shape"]:
        """Of a MAP its declared fields; made when asked for, as types contain themselves."""
        if self._fields is None:
            assert self._make is not None
            self._fields = dict(self._make())
        return self._fields

    def at(self, name: str) -> "Shape | None":
        """Return what a field of a MAP is, None if it has none of this name."""
        return self.fields.get(name) or self.element


LEAF_SHAPE: Final = Shape(LEAF)
FREE_SHAPE: Final = Shape(FREE)
SET_SHAPE: Final = Shape(SET)


def element_of(shape: Shape, item: Any) -> str | None:
    """Return what an element of a KEYED or a SET is called in a set of fields.

    None if it has no keys, or is not of its kind.
    """
    if shape.form == SET:
        return None if isinstance(item, dict | list) else f"v:{orjson.dumps(item).decode()}"
    if not isinstance(item, dict):
        return None
    told = {}
    for key in shape.keys:
        value = item.get(key)
        if value is None:
            value = shape.defaults.get(key)
        if value is None:
            return None
        told[key] = value
    return f"k:{orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode()}"


def missing_key(shape: Shape, item: Any) -> str:
    """Say why an element has no name in a set of fields."""
    if shape.form == SET:
        return "sets may only contain scalars"
    if item is None:
        return "associative list with keys may not have a null element"
    if not isinstance(item, dict):
        return "associative list with keys may not have non-map elements"
    gone = next(k for k in shape.keys if item.get(k) is None and k not in shape.defaults)
    return (
        f'associative list with keys has an element that omits key field "{gone}" '
        "(and doesn't have default value)"
    )


def shape_of(resource: Resource) -> Shape:
    """Return the shape of a kind's objects."""
    if resource.custom is not None:
        return resource.custom.shape
    name = schema().kinds.get((resource.api_version, resource.kind))
    return FREE_SHAPE if name is None else _of_type(name)


class Unset:
    """What a field that is always there has before anybody sets it: "", 0 or null."""

    def __eq__(self, other: object) -> bool:
        return not other

    def __hash__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset()


def zero(shape: Shape) -> dict[str, Any]:
    """Return what an object that does not exist yet is taken for: what is always there, empty."""
    found: dict[str, Any] = dict.fromkeys(shape.required, UNSET)
    found.update({name: zero(shape.fields[name]) for name in shape.embedded})
    return found


# The built-in kinds.

EMBEDDED: Final[Mapping[str, tuple[str, ...]]] = {
    "apps.v1.DaemonSetSpec": ("template", "updateStrategy"),
    "apps.v1.DeploymentSpec": ("strategy", "template"),
    "apps.v1.ReplicaSetSpec": ("template",),
    "apps.v1.StatefulSetSpec": ("template", "updateStrategy"),
    "apiextensions.v1.CustomResourceDefinitionSpec": ("names",),
    "apiextensions.v1.CustomResourceDefinitionStatus": ("acceptedNames",),
    "autoscaling.v1.HorizontalPodAutoscalerSpec": ("scaleTargetRef",),
    "autoscaling.v2.HorizontalPodAutoscalerSpec": ("scaleTargetRef",),
    "batch.v1.CronJobSpec": ("jobTemplate",),
    "batch.v1.JobSpec": ("template",),
    "batch.v1.JobTemplateSpec": ("metadata", "spec"),
    "core.v1.Event": ("involvedObject", "source"),
    "core.v1.NodeDaemonEndpoints": ("kubeletEndpoint",),
    "core.v1.NodeStatus": ("daemonEndpoints", "nodeInfo"),
    "core.v1.PersistentVolumeClaimSpec": ("resources",),
    "core.v1.PodTemplate": ("template",),
    "core.v1.PodTemplateSpec": ("metadata", "spec"),
    "core.v1.ServiceStatus": ("loadBalancer",),
    "events.v1.Event": ("deprecatedSource", "regarding"),
    "flowcontrol.v1.FlowSchemaSpec": ("priorityLevelConfiguration",),
    "networking.v1.IngressStatus": ("loadBalancer",),
    "networking.v1.NetworkPolicySpec": ("podSelector",),
    "rbac.v1.ClusterRoleBinding": ("roleRef",),
    "rbac.v1.RoleBinding": ("roleRef",),
    "storage.v1.VolumeAttachmentSpec": ("source",),
}
"""The objects inside a type that Go keeps by value: they are always there, so nobody adds them."""

ALWAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "core.v1.Event": (
        "eventTime",
        "firstTimestamp",
        "lastTimestamp",
        "reportingComponent",
        "reportingInstance",
    ),
}
"""The fields that Go always writes, beside those that are required."""

_OF_KINDS: Final = ("metadata", "spec", "status")


@cache
def _of_type(name: str) -> Shape:
    """Return the shape of a type in the table."""
    told = schema().type(name)
    if told.form != "object":
        return FREE_SHAPE if told.form == "any" else LEAF_SHAPE
    if told.facts.get("mapType") == "atomic":
        return LEAF_SHAPE
    short = ".".join(name.rsplit(".", 3)[1:])
    embedded = EMBEDDED.get(short, ())
    if {"apiVersion", "kind", "metadata"} <= told.fields.keys():
        embedded += tuple(f for f in _OF_KINDS if f in told.fields and _is_object(told.fields[f]))
    scalars = tuple(f for f in told.required if f in told.fields and f not in embedded)
    scalars += ALWAYS.get(short, ())
    return Shape(
        MAP,
        make=lambda: {field: _of_spec(spec) for field, spec in told.fields.items()},
        required=scalars,
        embedded=embedded,
    )


def _is_object(spec: Spec) -> bool:
    return spec.form == "object" and schema().type(spec.type).form == "object"


def _of_spec(spec: Spec) -> Shape:
    """Return the shape of a field in the table."""
    if spec.facts.get("mapType") == "atomic":
        return LEAF_SHAPE
    if spec.form == "object":
        return _of_type(spec.type)
    if spec.form == "map":
        assert spec.element is not None
        return Shape(MAP, element=_of_spec(spec.element))
    if spec.form != "list":
        return LEAF_SHAPE
    told = spec.facts.get("listType")
    keys = tuple(spec.facts.get("listKeys") or ())
    if told is None and "merge" in spec.strategies:
        keys = (spec.merge_key,) if spec.merge_key else ()
        told = "map" if keys else "set"
    if told == "set":
        return SET_SHAPE
    if told != "map":
        return LEAF_SHAPE
    assert spec.element is not None
    defaults = {key: value for key, value in _KEY_DEFAULTS.items() if key in keys}
    return Shape(KEYED, element=_of_spec(spec.element), keys=keys, defaults=defaults)


# Custom kinds.


def of_schema(told: Mapping[str, Any] | None) -> Shape:
    """Return the shape of a custom kind. told: its openAPIV3Schema; None if it has none."""
    if told is None:
        return Shape(MAP, make=_own_metadata, element=FREE_SHAPE)
    return _of_object(told, embedded=True)


def _own_metadata() -> Mapping[str, Shape]:
    return {"apiVersion": LEAF_SHAPE, "kind": LEAF_SHAPE, "metadata": _of_type(_META)}


def _of_object(told: Mapping[str, Any], *, embedded: bool) -> Shape:
    """Return the shape of an object. embedded: it has apiVersion, kind and metadata."""
    if told.get("x-kubernetes-map-type") == "atomic":
        return LEAF_SHAPE
    fields = {name: _of_part(part) for name, part in (told.get("properties") or {}).items()}
    if embedded:
        fields.update(_own_metadata())
    more, element = told.get("additionalProperties"), None
    if isinstance(more, dict):
        element = _of_part(more)
    elif more or told.get("x-kubernetes-preserve-unknown-fields"):
        element = FREE_SHAPE
    return Shape(MAP, make=lambda: fields, element=element)


def _of_part(told: Mapping[str, Any]) -> Shape:
    """Return the shape of a part of a structural schema."""
    match told.get("type"):
        case "object":
            return _of_object(told, embedded=bool(told.get("x-kubernetes-embedded-resource")))
        case "array":
            return _of_array(told)
        case None if told.get("x-kubernetes-preserve-unknown-fields"):
            return FREE_SHAPE
    return LEAF_SHAPE


def _of_array(told: Mapping[str, Any]) -> Shape:
    form = told.get("x-kubernetes-list-type")
    if form == "set":
        return SET_SHAPE
    if form != "map":
        return LEAF_SHAPE
    items = told.get("items") or {}
    keys, parts = tuple(told.get("x-kubernetes-list-map-keys") or ()), items.get("properties") or {}
    defaults = {key: parts[key]["default"] for key in keys if "default" in parts.get(key, {})}
    return Shape(KEYED, element=_of_part(items), keys=keys, defaults=defaults)
