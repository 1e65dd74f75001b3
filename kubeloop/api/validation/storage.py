"""Rules of the kinds of storage.k8s.io."""

from collections.abc import Mapping
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import resources, selectors
from kubeloop.api.validation.persistence import class_name, driver_name

PARAMETERS_MAX: Final = 512
PARAMETERS_BYTES_MAX: Final = 256 * 1024
NODE_ID_MAX: Final = 256
_RECLAIM: Final = ("Delete", "Retain")
_BINDING: Final = ("Immediate", "WaitForFirstConsumer")
_GROUP_POLICIES: Final = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLES: Final = ("Ephemeral", "Persistent")
_TOKEN_S_MIN: Final = 600
_TOKEN_S_MAX: Final = 1 << 32


def storage_class(problems: Problems, obj: Json) -> None:
    """Check a StorageClass."""
    _provisioner(problems, "provisioner", obj.get("provisioner") or "")
    _parameters(problems, obj.get("parameters") or {})
    problems.one_of("reclaimPolicy", obj.get("reclaimPolicy"), _RECLAIM)
    problems.one_of("volumeBindingMode", obj.get("volumeBindingMode"), _BINDING)
    for number, term in enumerate(items(obj, "allowedTopologies")):
        at = f"allowedTopologies[{number}].matchLabelExpressions"
        for place, expression in enumerate(items(term, "matchLabelExpressions")):
            values = expression.get("values") or []
            if not values:
                problems.required(f"{at}[{place}].values")
            for i, value in enumerate(values):
                if value in values[:i]:
                    problems.duplicate(f"{at}[{place}].values[{i}]", value)
            key = expression.get("key") or ""
            problems.invalid_each(f"{at}[{place}].key", key, names.qualified_name(key))


def storage_class_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a StorageClass stays what it is."""
    for key in ("parameters", "provisioner", "reclaimPolicy"):
        if (obj.get(key) or None) != (old.get(key) or None):
            problems.forbidden(key, f"updates to {key} are forbidden.")
    problems.immutable(
        "volumeBindingMode", obj.get("volumeBindingMode"), old.get("volumeBindingMode")
    )


def attributes_class(problems: Problems, obj: Json) -> None:
    """Check a VolumeAttributesClass."""
    _provisioner(problems, "driverName", obj.get("driverName") or "")
    parameters = obj.get("parameters") or {}
    _parameters(problems, parameters)
    if not parameters:
        problems.required("parameters", "must contain at least one key/value pair")


def attributes_class_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a VolumeAttributesClass stays what it is."""
    for key in ("driverName", "parameters"):
        if (obj.get(key) or None) != (old.get(key) or None):
            problems.forbidden(key, f"updates to {key} are forbidden.")


def driver(problems: Problems, obj: Json) -> None:
    """Check a CSIDriver, whose name is that of the driver."""
    driver_name(problems, "name", (obj.get("metadata") or {}).get("name") or "")
    spec = obj.get("spec") or {}
    problems.one_of("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), _GROUP_POLICIES)
    audiences: set[str] = set()
    for number, request in enumerate(items(spec, "tokenRequests")):
        at, audience = f"spec.tokenRequests[{number}]", request.get("audience") or ""
        if audience in audiences:
            problems.duplicate(f"{at}.audience", audience)
        audiences.add(audience)
        if (seconds := request.get("expirationSeconds")) is None:
            continue
        if seconds < _TOKEN_S_MIN:
            detail = "may not specify a duration less than 10 minutes"
            problems.invalid(f"{at}.expirationSeconds", seconds, detail)
        if seconds > _TOKEN_S_MAX:
            detail = "may not specify a duration larger than 2^32 seconds"
            problems.invalid(f"{at}.expirationSeconds", seconds, detail)
    for mode in spec.get("volumeLifecycleModes") or ():
        problems.one_of("spec.volumeLifecycleModes", mode, _LIFECYCLES)


def driver_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a CSIDriver attaches as before, for volumes of the same lives."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    # Its path has been misspelt ever since.
    problems.immutable(
        "spec.attachedRequired", spec.get("attachRequired"), was.get("attachRequired")
    )
    key = "volumeLifecycleModes"
    problems.immutable(f"spec.{key}", spec.get(key), was.get(key))


def node(problems: Problems, obj: Json) -> None:
    """Check the drivers of a CSINode."""
    seen: set[str] = set()
    for number, one in enumerate(items(obj.get("spec"), "drivers")):
        at, name = f"spec.drivers[{number}]", one.get("name") or ""
        driver_name(problems, f"{at}.name", name)
        identity = one.get("nodeID") or ""
        if not identity:
            problems.required(f"{at}.nodeID")
        elif len(identity) > NODE_ID_MAX:
            detail = f"must be {NODE_ID_MAX} characters or less"
            problems.invalid(f"{at}.nodeID", identity, detail)
        count = (maybe(one, "allocatable") or {}).get("count")
        problems.not_negative(f"{at}.allocatable.count", count)
        if name in seen:
            problems.duplicate(f"{at}.name", name)
        seen.add(name)
        for key in one.get("topologyKeys") or ():
            if not key:
                problems.required(at)
            problems.invalid_each(at, key, names.qualified_name(key))


def node_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that the drivers of a CSINode come and go, but do not change."""
    known = {one.get("name"): one for one in items(old.get("spec"), "drivers")}
    for one in items(obj.get("spec"), "drivers"):
        was = known.get(one.get("name"))
        if was is not None and _steady(one) != _steady(was):
            problems.invalid("CSINodeDriver", one, "field is immutable")


def capacity(problems: Problems, obj: Json) -> None:
    """Check a CSIStorageCapacity."""
    name = obj.get("storageClassName") or ""
    problems.invalid_each("storageClassName", name, names.dns1123_subdomain(name))
    selectors.label_selector(problems, "nodeTopology", maybe(obj, "nodeTopology"))
    for key in ("capacity", "maximumVolumeSize"):
        if obj.get(key) is not None:
            resources.amount(problems, key, "storage", obj[key])


def capacity_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a CSIStorageCapacity is about the same as before."""
    for key in ("nodeTopology", "storageClassName"):
        problems.immutable(key, obj.get(key), old.get(key))


def attachment(problems: Problems, obj: Json) -> None:
    """Check a VolumeAttachment."""
    spec = obj.get("spec") or {}
    driver_name(problems, "spec.attacher", spec.get("attacher") or "")
    source = maybe(spec, "source") or {}
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    once = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and name is None:
        problems.required("spec.source", once)
    elif inline is not None and name is not None:
        problems.forbidden("spec.source", once)
    elif name == "":
        detail = "must specify non empty persistentVolumeName"
        problems.required("spec.source.persistentVolumeName", detail)
    else:
        class_name(problems, "spec.source.persistentVolumeName", name or "")
    where = spec.get("nodeName") or ""
    problems.invalid_each("spec.nodeName", where, names.dns1123_subdomain(where))


def attachment_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a VolumeAttachment stays where it is."""
    problems.immutable("spec", obj.get("spec"), old.get("spec"))


def _provisioner(problems: Problems, field: str, name: str) -> None:
    if not name:
        problems.required(field)
    else:
        problems.invalid_each(field, name, names.qualified_name(name.lower()))


def _parameters(problems: Problems, given: Mapping[str, Any]) -> None:
    if len(given) > PARAMETERS_MAX:
        problems.too_long("parameters", PARAMETERS_MAX)
        return
    for key in sorted(given):
        if not key:
            problems.invalid("parameters", key, "field can not be empty.")
    size = sum(
        len(f"{key}{value}".encode("utf-8", "surrogatepass")) for key, value in given.items()
    )
    if size > PARAMETERS_BYTES_MAX:
        problems.too_long("parameters", PARAMETERS_BYTES_MAX)


def _steady(one: Json) -> Json:
    """Return what may not change of a driver: how many volumes it can have, may."""
    return {k: v for k, v in one.items() if k != "allocatable"}
