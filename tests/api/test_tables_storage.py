"""The cells of volumes, quotas and classes, as Kubernetes' printers fill them."""

from typing import Any

import pytest

from kubeloop.api import times
from kubeloop.api.resources import RESOURCES
from kubeloop.api.tables import table

NOW = times.parse("2026-01-02T00:00:00Z")
META = {"name": "x", "creationTimestamp": "2026-01-01T23:00:00Z"}
DEFAULT = "storageclass.kubernetes.io/is-default-class"
CSI = "storage.k8s.io"
Json = dict[str, Any]


def cells(id_: str, metadata: Json | None = None, **obj: Any) -> list[Any]:
    told = {"metadata": {**META, **(metadata or {})}, **obj}
    shown = table(RESOURCES[id_], [told], now_unix=NOW, revision="7")
    found: list[Any] = shown["rows"][0]["cells"]
    return found


def test_volumes() -> None:
    spec = {
        "capacity": {"storage": "5Gi"},
        "accessModes": ["ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany"],
        "persistentVolumeReclaimPolicy": "Retain",
        "volumeMode": "Filesystem",
    }
    assert cells("persistentvolumes", spec=spec, status={"phase": "Available"}) == [
        "x", "5Gi", "RWO,ROX,RWX", "Retain", "Available", "", "", "<unset>", "", "60m",
        "Filesystem",
    ]  # fmt: skip
    spec |= {"claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "fast"}
    gone = {"deletionTimestamp": "2026-01-02T00:00:00Z"}
    told = cells("persistentvolumes", gone, spec=spec, status={"phase": "Bound", "reason": "why"})
    assert told[4:9] == ["Terminating", "n/c", "fast", "<unset>", "why"]


def test_claims() -> None:
    spec: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    assert cells("persistentvolumeclaims", spec=spec, status={"phase": "Pending"}) == [
        "x", "Pending", "", "", "", "", "<unset>", "60m", "<unset>",
    ]  # fmt: skip
    spec |= {"volumeName": "v", "storageClassName": "fast", "volumeMode": "Block"}
    status = {
        "phase": "Bound",
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOncePod"],
    }
    old = {"annotations": {"volume.beta.kubernetes.io/storage-class": "old"}}
    assert cells("persistentvolumeclaims", old, spec=spec, status=status) == [
        "x", "Bound", "v", "2Gi", "RWOP", "old", "<unset>", "60m", "Block",
    ]  # fmt: skip


def test_quotas_and_limits() -> None:
    status = {
        "hard": {"pods": "5", "limits.cpu": "2", "requests.cpu": "1", "count/secrets": "9"},
        "used": {"pods": "3", "limits.cpu": "500m"},
    }
    assert cells("resourcequotas", status=status) == [
        "x", "count/secrets: 0/9, pods: 3/5, requests.cpu: 0/1", "limits.cpu: 500m/2", "60m",
    ]  # fmt: skip
    assert cells("limitranges") == ["x", "2026-01-01T23:00:00Z"]


@pytest.mark.parametrize(
    ("id_", "obj", "wanted"),
    [
        ("priorityclasses.scheduling.k8s.io",
         {"value": 7, "globalDefault": True, "preemptionPolicy": "Never"},
         ["x", 7, True, "60m", "Never"]),
        ("runtimeclasses.node.k8s.io", {"handler": "runc"}, ["x", "runc", "60m"]),
        (f"storageclasses.{CSI}", {"provisioner": "a/b", "allowVolumeExpansion": True},
         ["x", "a/b", "Delete", "Immediate", True, "60m"]),
        (f"storageclasses.{CSI}",
         {"provisioner": "a/b", "metadata": {**META, "annotations": {DEFAULT: "true"}}},
         ["x (default)", "a/b", "Delete", "Immediate", False, "60m"]),
        (f"csidrivers.{CSI}",
         {"spec": {"attachRequired": False, "tokenRequests": [{"audience": "a"}, {"audience": "b"}],
                   "volumeLifecycleModes": ["Persistent", "Ephemeral"]}},
         ["x", False, False, False, "a,b", False, "Persistent,Ephemeral", "60m"]),
        (f"csidrivers.{CSI}", {"spec": {}},
         ["x", True, False, False, "<unset>", False, "<none>", "60m"]),
        (f"csinodes.{CSI}", {"spec": {"drivers": [{"name": "a"}, {"name": "b"}]}},
         ["x", 2, "60m"]),
        (f"csistoragecapacities.{CSI}", {"storageClassName": "s", "capacity": "5Gi"},
         ["x", "s", "5Gi"]),
        (f"volumeattachments.{CSI}",
         {"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
          "status": {"attached": True}},
         ["x", "a", "v", "n", True, "60m"]),
        (f"volumeattributesclasses.{CSI}", {"driverName": "a"}, ["x", "a", "60m"]),
        ("podtemplates",
         {"template": {"metadata": {"labels": {"a": "b"}},
                       "spec": {"containers": [{"name": "c", "image": "i"}]}}},
         ["x", "c", "i", "a=b"]),
    ],
)  # fmt: skip
def test_others(id_: str, obj: Json, wanted: list[Any]) -> None:
    told = {"metadata": META, **obj}
    assert cells(id_, **told) == wanted
