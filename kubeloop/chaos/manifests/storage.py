"""The values that make sense in the fields of volumes, quotas and classes: one row a field."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from kubeloop.chaos.manifests.rows import (
    Row,
    either,
    list_of,
    made_of,
    map_of,
    one_of,
    several,
    whole,
)
from kubeloop.chaos.manifests.tools import NAMES, labels, unique

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_bool: Final = one_of(False, True)
_names: Final = one_of(*NAMES)
_size: Final = one_of("1Gi", "512Mi", "10Gi", "1e9")
_modes: Final = one_of(
    ["ReadWriteOnce"], ["ReadWriteOnce", "ReadOnlyMany"], ["ReadWriteMany"], ["ReadWriteOncePod"]
)
_driver: Final = one_of("csi.example", "example.com/disk", "kubernetes.io/no-provisioner")
_parameters: Final = map_of(("type", "example.com/speed"), one_of("fast", "slow", ""))
_options: Final = list_of(one_of("noatime", "ro"))
_affinity: Final = {
    "required": {
        "nodeSelectorTerms": [
            {
                "matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}
                ]
            }
        ]
    }
}
_place: Final = either(
    hostPath=made_of("path", path=one_of("/data", "/a/b"), type=one_of("", "Directory")),
    nfs=made_of("server", "path", server=one_of("nfs.example"), path=one_of("/x"), readOnly=_bool),
    csi=made_of(
        "driver", "volumeHandle", driver=one_of("csi.example"), volumeHandle=one_of("h-1", "h/2")
    ),
    local=made_of("path", path=one_of("/mnt/a", "/mnt/b")),
)

_claim: Final = made_of(
    "accessModes",
    "resources",
    accessModes=_modes,
    resources=made_of("requests", requests=made_of("storage", storage=_size)),
    storageClassName=one_of("", "fast", "standard"),
)
EPHEMERAL: Final = made_of(
    "volumeClaimTemplate",
    volumeClaimTemplate=made_of("spec", metadata=made_of(labels=labels), spec=_claim),
)
"""Where an ephemeral volume comes from."""


def claim_templates() -> "SearchStrategy[Any]":
    """Return the claims of a StatefulSet, which have names of their own."""
    named = made_of("name", "spec", name=_names, labels=labels, spec=_claim)()
    return unique(named, "name", most=2).map(
        lambda drawn: [{"metadata": one, "spec": one.pop("spec")} for one in map(dict, drawn)]
    )


_rule: Final = made_of(
    "apiGroups",
    "apiVersions",
    "operations",
    "resources",
    apiGroups=one_of(["*"], ["", "apps"]),
    apiVersions=one_of(["v1"], ["*"]),
    operations=one_of(["CREATE"], ["CREATE", "DELETE"], ["*"]),
    resources=one_of(["nothing"], ["nothing/*", "nobody"]),
    scope=one_of("*", "Cluster", "Namespaced"),
)
_webhook: Final[Mapping[str, Row]] = {
    "name": one_of("a.hooks.example", "b.hooks.example", "c.d.hooks.example"),
    "clientConfig": either(
        url=one_of("https://hooks.example:8443/a"),
        service=made_of("name", "namespace", name=_names, namespace=_names, port=one_of(443, 8443)),
    ),
    "rules": list_of(_rule),
    "failurePolicy": one_of("Fail", "Ignore"),
    "matchPolicy": one_of("Equivalent", "Exact"),
    "sideEffects": one_of("None", "NoneOnDryRun"),
    "timeoutSeconds": whole(1, 30),
    "admissionReviewVersions": one_of(["v1"], ["v1", "v1beta1"]),
    "matchConditions": one_of([{"name": "never", "expression": "object == null"}]),
}

FIELDS: Final[Mapping[str, Mapping[str, Row]]] = {
    "CSIDriver": {},
    "CSIDriverSpec": {
        "fsGroupPolicy": one_of("File", "None", "ReadWriteOnceWithFSType"),
        "volumeLifecycleModes": one_of(["Persistent"], ["Persistent", "Ephemeral"]),
        "tokenRequests": one_of([{"audience": ""}, {"audience": "a", "expirationSeconds": 600}]),
    },
    "CSINode": {},
    "CSINodeSpec": {
        "drivers": one_of(
            [],
            [{"name": "csi.example", "nodeID": "n", "topologyKeys": ["example.com/zone"]}],
            [{"name": "csi.example", "nodeID": "n", "allocatable": {"count": 3}}],
        )
    },
    "CSIStorageCapacity": {
        "storageClassName": _names,
        "capacity": _size,
        "maximumVolumeSize": _size,
    },
    "LimitRange": {},
    "LimitRangeSpec": {
        "limits": one_of(
            [{"type": "Container", "default": {"cpu": "100m"}}],
            [
                {"type": "Container", "max": {"memory": "1Gi"}, "min": {"memory": "1Mi"}},
                {"type": "Pod", "max": {"cpu": "4", "memory": "2Gi"}},
            ],
            [{"type": "Container", "maxLimitRequestRatio": {"cpu": "4"}}],
            [{"type": "PersistentVolumeClaim", "min": {"storage": "1Mi"}}],
            [{"type": "example.com/of-mine", "max": {"storage": "5Gi"}}],
        )
    },
    "PersistentVolume": {},
    "PersistentVolumeClaim": {},
    "PersistentVolumeClaimSpec": {
        "accessModes": _modes,
        "resources": made_of("requests", requests=made_of("storage", storage=_size)),
        "storageClassName": one_of("", "fast"),
        "volumeMode": one_of("Filesystem", "Block"),
        "volumeName": _names,
    },
    "PersistentVolumeSpec": {
        "accessModes": _modes,
        "capacity": made_of("storage", storage=_size),
        "persistentVolumeReclaimPolicy": one_of("Retain", "Delete", "Recycle"),
        "storageClassName": one_of("", "fast"),
        "volumeMode": one_of("Filesystem", "Block"),
        "mountOptions": _options,
        "nodeAffinity": one_of(_affinity),
        "claimRef": made_of(
            "name", "namespace", name=_names, namespace=one_of("default"), kind=one_of(
                "PersistentVolumeClaim")
        ),
        "hostPath": _place,
    },
    "PodTemplate": {},
    "PriorityClass": {
        "value": whole(-9, 9),
        "description": one_of("", "for the rest"),
        "preemptionPolicy": one_of("Never", "PreemptLowerPriority"),
    },
    "ResourceQuota": {},
    "ResourceQuotaSpec": {
        "hard": map_of(
            ("pods", "requests.cpu", "limits.memory", "count/configmaps", "services.nodeports"),
            one_of("0", "5", "100"),
        ),
    },
    "RuntimeClass": {
        "handler": one_of("runc", "kata"),
        "overhead": made_of(podFixed=map_of(("cpu", "memory"), one_of("1", "100m", "64Mi"))),
    },
    "Scheduling": {
        "nodeSelector": labels,
        "tolerations": several("Toleration", "key", "operator"),
    },
    "StorageClass": {
        "provisioner": _driver,
        "parameters": _parameters,
        "reclaimPolicy": one_of("Delete", "Retain"),
        "volumeBindingMode": one_of("Immediate", "WaitForFirstConsumer"),
        "mountOptions": _options,
        "allowedTopologies": one_of(
            [{"matchLabelExpressions": [{"key": "example.com/zone", "values": ["a", "b"]}]}]
        ),
    },
    "MutatingWebhook": {**_webhook, "reinvocationPolicy": one_of("Never", "IfNeeded")},
    "MutatingWebhookConfiguration": {
        "webhooks": several("MutatingWebhook", "name"),
    },
    "ValidatingWebhook": _webhook,
    "ValidatingWebhookConfiguration": {
        "webhooks": several("ValidatingWebhook", "name"),
    },
    "VolumeAttachment": {},
    "VolumeAttachmentSpec": {
        "attacher": one_of("csi.example"),
        "nodeName": one_of("node-1"),
        "source": made_of("persistentVolumeName", persistentVolumeName=_names),
    },
    "VolumeAttributesClass": {
        "driverName": _driver,
        "parameters": one_of({"type": "fast"}, {"type": "slow", "example.com/speed": ""}),
    },
}  # fmt: skip
"""Type → field → its values."""
