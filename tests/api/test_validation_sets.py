"""What is said of StatefulSets, DaemonSets and ControllerRevisions that make no sense."""

from copy import deepcopy
from typing import Any

import pytest

from kubeloop.api.defaults import apply_defaults
from kubeloop.api.resources import BY_KIND
from kubeloop.api.validation import validate_create, validate_update


def made(kind: str, name: str = "x", **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "b"}]},
    }
    selector = {"matchLabels": {"a": "b"}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": selector, "template": template, **deepcopy(spec)},
    }


def causes(obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    resource = BY_KIND[obj["apiVersion"], obj["kind"]]
    for one in (obj, old):
        if one is not None:
            apply_defaults(resource, one)
            one["metadata"].setdefault("resourceVersion", "1")
    found = validate_create(resource, obj) if old is None else validate_update(resource, obj, old)
    return [(cause.field, cause.message) for cause in found]


def rolling(**limits: Any) -> dict[str, Any]:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": limits}}


ROLLING = "spec.updateStrategy.rollingUpdate"
ODD: list[tuple[str, dict[str, Any], str, str]] = [
    ("StatefulSet", {"replicas": -1}, "spec.replicas", "Invalid value: -1: must be greater than"),
    ("StatefulSet", {"ordinals": {"start": -1}}, "spec.ordinals.start", "Invalid value: -1"),
    (
        "StatefulSet",
        {"podManagementPolicy": "Any"},
        "spec.podManagementPolicy",
        "Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
    ),
    ("StatefulSet", rolling(partition=-1), f"{ROLLING}.partition", "Invalid value: -1"),
    ("StatefulSet", rolling(maxUnavailable=0), f"{ROLLING}.maxUnavailable", "cannot be 0"),
    ("StatefulSet", rolling(maxUnavailable="150%"), f"{ROLLING}.maxUnavailable", "100%"),
    (
        "StatefulSet",
        {"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}},
        ROLLING,
        "only allowed for updateStrategy 'RollingUpdate'",
    ),
    (
        "StatefulSet",
        {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Keep"}},
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
        'Unsupported value: "Keep": supported values: "Delete", "Retain"',
    ),
    ("StatefulSet", {"selector": {}}, "spec.selector", "empty selector is invalid for statefulset"),
    (
        "DaemonSet",
        {"selector": {"matchLabels": {"a": "c"}}},
        "spec.template.metadata.labels",
        "`selector` does not match template `labels`",
    ),
    ("DaemonSet", rolling(maxUnavailable=0), f"{ROLLING}.maxUnavailable", "cannot be 0 when"),
    ("DaemonSet", rolling(maxSurge=1), f"{ROLLING}.maxSurge", "may not be set when"),
    ("DaemonSet", rolling(maxSurge="x", maxUnavailable=0), f"{ROLLING}.maxSurge", "Invalid value"),
    (
        "DaemonSet",
        {"updateStrategy": {"type": "Now"}},
        "spec.updateStrategy.type",
        'Unsupported value: "Now": supported values: "OnDelete", "RollingUpdate"',
    ),
]


@pytest.mark.parametrize(("kind", "spec", "field", "text"), ODD)
def test_what_is_odd_is_told(kind: str, spec: dict[str, Any], field: str, text: str) -> None:
    found = causes(made(kind, **spec))
    assert any(at == field and text in message for at, message in found), found
    assert causes(made(kind)) == []


def test_names_of_stateful_sets_begin_hostnames() -> None:
    assert causes(made("StatefulSet", name="a.b"))[0][0] == "metadata.name"
    assert causes(made("DaemonSet", name="a.b")) == []


def test_what_may_not_change() -> None:
    old = made("StatefulSet", serviceName="s")
    assert causes(made("StatefulSet", serviceName="s", replicas=3, minReadySeconds=1), old) == []
    [(field, message)] = causes(made("StatefulSet", serviceName="t"), old)
    assert field == "spec"
    assert message == (
        "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
        "'template', 'updateStrategy', 'revisionHistoryLimit', "
        "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )


def test_a_revision_holds_what_it_did() -> None:
    revision = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "x", "namespace": "default"},
        "data": {"a": 1},
        "revision": 1,
    }
    assert causes(deepcopy(revision)) == []
    assert causes({**deepcopy(revision), "revision": -1})[0][0] == "revision"
    assert causes({**deepcopy(revision), "revision": 2}, deepcopy(revision)) == []
    changed = {**deepcopy(revision), "data": {"a": 2}}
    assert [field for field, _ in causes(changed, deepcopy(revision))] == ["data"]


def test_defaults() -> None:
    stateful, daemons = made("StatefulSet"), made("DaemonSet")
    for obj in (stateful, daemons):
        apply_defaults(BY_KIND["apps/v1", obj["kind"]], obj)
    spec = {k: v for k, v in stateful["spec"].items() if k not in ("selector", "template")}
    assert spec == {
        "replicas": 1,
        "serviceName": "",
        "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "revisionHistoryLimit": 10,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }
    assert stateful["status"] == {"replicas": 0, "availableReplicas": 0}
    spec = {k: v for k, v in daemons["spec"].items() if k not in ("selector", "template")}
    assert spec == {
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
        },
        "revisionHistoryLimit": 10,
    }
