"""Conversion of custom objects between the versions of their kind, by a webhook. Pure.

    asked = review(webhook, "example.com/v2", objects, uid)      # the ConversionReview that is sent
    converted(objects, "example.com/v2", uid, answer)            # what became of the objects

A webhook may change everything but the metadata of an object; of that its labels and annotations.

Source: Kubernetes, "Versions in CustomResourceDefinitions: Webhook conversion";
k8s.io/apiextensions-apiserver's webhook converter in behaviour.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubeloop.api.errors import ApiError

TIMEOUT_S: Final = 30
_GROUP: Final = "apiextensions.k8s.io"
_KIND: Final = "ConversionReview"
_VERSIONS: Final = ("v1", "v1beta1")
_FREE: Final = ("labels", "annotations")
_CALLING: Final = "failed to call webhook: "

Object = dict[str, Any]
Json = Mapping[str, Any]


class ConversionFailed(ApiError):
    """A webhook did not convert objects; Kubernetes knows no reason for that."""

    code, reason = 500, ""

    def status(self) -> dict[str, Any]:
        """Return the v1.Status, without a reason."""
        return {k: v for k, v in super().status().items() if k != "reason"}


def kind_of(obj: Json) -> str:
    """Return what an object is, as messages tell it: `example.com/v1, Kind=Foo`."""
    return f"{obj.get('apiVersion', '')}, Kind={obj.get('kind', '')}"


def review(webhook: Json, wanted: str, objects: Sequence[Object], uid: str) -> Object:
    """Return the ConversionReview that is sent. wanted: the apiVersion."""
    known = webhook.get("conversionReviewVersions") or ()
    version = next((one for one in known if one in _VERSIONS), "v1")
    return {
        "kind": _KIND,
        "apiVersion": f"{_GROUP}/{version}",
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": list(objects)},
    }


def failed(obj: Json, why: str) -> ConversionFailed:
    """Return the error for objects like this one. why: perhaps that of an admission webhook."""
    return ConversionFailed(
        f"conversion webhook for {kind_of(obj)} failed: {why.removeprefix(_CALLING)}"
    )


def converted(objects: Sequence[Object], wanted: str, asked: Json, answer: Any) -> list[Object]:
    """Return objects as a webhook converted them, with the metadata they had.

    Raises: ConversionFailed.
    """
    first = objects[0]
    told = _objects(first, asked, answer)
    if len(told) != len(objects):
        raise ConversionFailed(
            f"conversion webhook for {kind_of(first)} returned {len(told)} objects, "
            f"expected {len(objects)}"
        )
    return [
        _checked(obj, one, wanted, number)
        for number, (obj, one) in enumerate(zip(objects, told, strict=True))
    ]


def _objects(first: Json, asked: Json, answer: Any) -> list[Any]:
    """Return what an answer holds. Raises: ConversionFailed."""
    told = answer if isinstance(answer, dict) else {}
    if kind_of(told) != kind_of(asked):
        raise failed(first, f"expected webhook response of {kind_of(asked)}, got {kind_of(told)}")
    response = told.get("response")
    if not isinstance(response, dict):
        raise failed(first, "no response provided")
    uid = asked["request"]["uid"]
    if response.get("uid") != uid:
        raise failed(first, f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    result = response.get("result") or {}
    status = result.get("status") or ""
    if status != "Success":
        unsaid = f"response.result.status was '{status}', not 'Success'"
        raise failed(first, str(result.get("message") or unsaid))
    objects: list[Any] = response.get("convertedObjects") or []
    return objects


def _checked(obj: Object, told: Any, wanted: str, number: int) -> Object:
    """Return a converted object with the metadata it had. Raises: ConversionFailed."""
    made: Object = told if isinstance(told, dict) else {}
    by = f"conversion webhook for {kind_of(obj)} returned invalid"
    at = f"{by} converted object at index {number}"
    if made.get("apiVersion") != wanted:
        raise ConversionFailed(
            f"{at}: invalid groupVersion (expected {wanted}, received "
            f"{made.get('apiVersion') or ''})"
        )
    if made.get("kind") != obj["kind"]:
        raise ConversionFailed(
            f"{at}: invalid kind (expected {obj['kind']}, received {made.get('kind') or ''})"
        )
    metadata = made.get("metadata")
    if not isinstance(metadata, dict):
        raise ConversionFailed(f"{by} metadata in object at index {number}: it has none")
    was = obj["metadata"]
    for field, name in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        if (metadata.get(field) or "") != (was.get(field) or ""):
            raise ConversionFailed(
                f"{at}: must have the same {name}: {was.get(field) or ''} != "
                f"{metadata.get(field) or ''}"
            )
    kept = {key: value for key, value in was.items() if key not in _FREE}
    for field in _FREE:
        value = metadata.get(field)
        if value is None:
            continue
        if not _strings(value):
            raise ConversionFailed(
                f"{by} metadata in object at index {number}: {field} must be a map of strings"
            )
        if value:
            kept[field] = value
    return {**made, "metadata": kept}


def _strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
