"""The values that make sense in the fields of built-in kinds: data, one row a field.

Source: the API reference of Kubernetes 1.37, and the rules in `kubeloop.api.validation`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from kubeloop.chaos.manifests import access, control, networking, storage
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
from kubeloop.chaos.manifests.tools import NAMES, labels, object_of, unique

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_TIME: Final = "2026-01-01T00:00:00Z"
_MICRO_TIME: Final = "2026-01-01T00:00:00.000000Z"


def _resources() -> "SearchStrategy[Any]":
    """Return requests that are no more than the limits."""
    from hypothesis import strategies as st

    pairs = {"cpu": [("100m", "1"), ("1", "1"), ("0", "2")], "memory": [("1Mi", "64Mi")]}
    chosen = st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(values) for name, values in pairs.items()}
    )
    return chosen.map(
        lambda found: {
            "requests": {name: pair[0] for name, pair in found.items()},
            "limits": {name: pair[1] for name, pair in found.items()},
        }
    )


_names: Final = one_of(*NAMES)
_bool: Final = one_of(False, True)
_text: Final = one_of("", "hello", "a b", "é", "$(HOME)", "x" * 40)
_port: Final = one_of(80, 8080, 1, 65535, 53)
_protocol: Final = one_of("TCP", "UDP", "SCTP")
_part: Final = one_of(1, 0, "25%", "100%")
_portion: Final = one_of(1, 2, "25%", "100%")
_ip: Final = one_of("10.9.9.9", "192.0.2.1", "198.51.100.7")
_images: Final = one_of("nginx:1", "app", "registry.example/a/b:v1", "a@sha256:" + "0" * 64)
_command: Final = list_of(one_of("sh", "-c", "true", "sleep 1"))
_headers: Final = list_of(made_of("name", "value", name=one_of("X-A", "Accept"), value=_text), 1)
_http: Final = made_of(
    "port",
    port=_port,
    path=one_of("/", "/healthz", ""),
    scheme=one_of("HTTP", "HTTPS"),
    httpHeaders=_headers,
)
_handler: Final = either(
    exec=made_of("command", command=one_of(["true"], ["sh", "-c", "exit 1"])),
    httpGet=_http,
    tcpSocket=made_of("port", port=_port),
)
_hook: Final = either(
    exec=made_of("command", command=one_of(["true"])),
    httpGet=_http,
    sleep=made_of("seconds", seconds=whole(0, 5)),
)
_reference: Final = made_of("name", "key", name=_names, key=one_of("a", "b.c"), optional=_bool)
_source: Final = either(
    fieldRef=made_of(
        "fieldPath", fieldPath=one_of("metadata.name", "status.podIP", "spec.nodeName")
    ),
    configMapKeyRef=_reference,
    secretKeyRef=_reference,
)
_selector: Final = made_of(
    matchLabels=labels,
    matchExpressions=list_of(
        one_of(
            {"key": "app", "operator": "In", "values": ["web", "db"]},
            {"key": "tier", "operator": "Exists"},
            {"key": "tier", "operator": "DoesNotExist"},
            {"key": "app", "operator": "NotIn", "values": ["x"]},
        )
    ),
)
_term: Final = made_of(
    "labelSelector",
    "topologyKey",
    labelSelector=_selector,
    topologyKey=one_of("kubernetes.io/hostname"),
)
_node_term: Final = one_of(
    {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
    {"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["3"]}]},
    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]},
)
_weight: Final = whole(1, 100)
_pod_affinity: Final = made_of(
    requiredDuringSchedulingIgnoredDuringExecution=list_of(_term, 1),
    preferredDuringSchedulingIgnoredDuringExecution=list_of(
        made_of("weight", "podAffinityTerm", weight=_weight, podAffinityTerm=_term), 2
    ),
)
_affinity: Final = made_of(
    nodeAffinity=made_of(
        requiredDuringSchedulingIgnoredDuringExecution=made_of(
            "nodeSelectorTerms", nodeSelectorTerms=one_of([{"matchExpressions": [
                {"key": "disk", "operator": "Exists"}]}])
        ),
        preferredDuringSchedulingIgnoredDuringExecution=list_of(
            made_of("weight", "preference", weight=_weight, preference=_node_term), 2
        ),
    ),
    podAffinity=_pod_affinity,
    podAntiAffinity=_pod_affinity,
)  # fmt: skip
_items: Final = list_of(one_of({"key": "a", "path": "a"}, {"key": "b", "path": "b/c", "mode": 256}))
_volume: Final = either(
    emptyDir=made_of(medium=one_of("", "Memory"), sizeLimit=one_of("1Mi", "1Gi")),
    configMap=made_of("name", name=_names, items=_items, defaultMode=one_of(420, 0, 511)),
    secret=made_of("secretName", secretName=_names, items=_items, optional=_bool),
    hostPath=made_of("path", path=one_of("/data", "/a/b"), type=one_of("", "Directory")),
    downwardAPI=made_of(
        items=one_of([{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}])
    ),
    persistentVolumeClaim=made_of("claimName", claimName=_names, readOnly=_bool),
    ephemeral=storage.EPHEMERAL,
)


_paths: Final = one_of("/a", "/b/c", "/d")
_mount: Final = made_of("name", "mountPath", name=_names, mountPath=_paths, readOnly=_bool)


def _volumes() -> "SearchStrategy[Any]":
    from hypothesis import strategies as st

    named = st.builds(lambda name, source: {"name": name, **source}, _names(), _volume())
    return unique(named, "name")


def _environment() -> "SearchStrategy[Any]":
    from hypothesis import strategies as st

    plain = made_of("name", name=one_of("A", "B_C", "PATH"), value=_text)()
    told = made_of("name", "valueFrom", name=one_of("A", "D"), valueFrom=_source)()
    return unique(st.one_of(plain, told), "name")


NAMES_OF: Final[Mapping[str, Sequence[str]]] = {
    "apiservices.apiregistration.k8s.io": ("v1.a.example",),
    "ipaddresses.networking.k8s.io": ("10.96.0.7", "2001:db8::7"),
    "namespaces": ("n-a", "n-b"),
    "nodes": ("node-a", "node-b"),
    "csidrivers.storage.k8s.io": ("csi.example", "other.csi.example"),
}
"""Names of objects, where those of all others would be taken or wrong."""

WHOLE: Final[Mapping[str, Row]] = {
    "Affinity": _affinity,
    "LabelSelector": _selector,
    "LifecycleHandler": _hook,
    "ResourceRequirements": _resources,
}
"""Types whose values are told as they are."""

_PROBE: Final[Mapping[str, Row]] = {
    "initialDelaySeconds": whole(0, 60),
    "periodSeconds": whole(1, 60),
    "timeoutSeconds": whole(1, 10),
    "failureThreshold": whole(1, 5),
}


def _probe() -> "SearchStrategy[Any]":
    from hypothesis import strategies as st

    rest = object_of({name: row() for name, row in _PROBE.items()})
    return st.builds(lambda handler, rest: {**handler, **rest}, _handler(), rest)


FIELDS: Final[Mapping[str, Mapping[str, Row]]] = {
    "ConfigMap": {
        "data": map_of(("a", "b.c", "d-e", "f_g"), _text),
        "binaryData": map_of(("h", "i"), one_of("", "Yg==")),
    },
    "Container": {
        "name": _names,
        "image": _images,
        "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"),
        "command": _command,
        "args": _command,
        "env": _environment,
        "workingDir": one_of("", "/", "/tmp"),
        "ports": several("ContainerPort", "containerPort"),
        "volumeMounts": lambda: unique(_mount(), "mountPath"),
        "livenessProbe": _probe,
        "readinessProbe": _probe,
        "startupProbe": _probe,
        "lifecycle": made_of(postStart=_hook, preStop=_hook),
        "terminationMessagePath": one_of("/dev/termination-log", "/var/m"),
        "terminationMessagePolicy": one_of("File", "FallbackToLogsOnError"),
        "securityContext": made_of(
            runAsUser=whole(0, 70000), runAsGroup=whole(0, 70000), readOnlyRootFilesystem=_bool
        ),
    },
    "ContainerPort": {"containerPort": _port, "protocol": _protocol},
    "ControllerRevision": {
        "revision": whole(0, 9),
        "data": one_of({"spec": {}}, {"a": [1, None, "b"]}),
    },
    "CronJob": {},
    "CronJobSpec": {
        "schedule": one_of("* * * * *", "*/5 0 1 1 *", "@hourly", "0 0 31 2 0-6"),
        "timeZone": one_of("Etc/UTC", "Europe/Berlin"),
        "concurrencyPolicy": one_of("Allow", "Forbid", "Replace"),
        "startingDeadlineSeconds": whole(0, 600),
        "successfulJobsHistoryLimit": whole(0, 5),
        "failedJobsHistoryLimit": whole(0, 5),
    },
    "CustomResourceDefinition": {},
    "CustomResourceDefinitionSpec": {
        "group": one_of("a.example", "b.a.example"),
        "scope": one_of("Namespaced", "Cluster"),
        "names": one_of(
            {"plural": "foos", "kind": "Foo"},
            {"plural": "bars", "kind": "Bar", "shortNames": ["ba"], "categories": ["all"]},
        ),
        "versions": one_of(
            *(
                [{"name": "v1", "served": True, "storage": True,
                  "schema": {"openAPIV3Schema": schema}}]
                for schema in (
                    {"type": "object"},
                    {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                        "a": {"type": "string", "default": "x"}}}}},
                )
            )
        ),
    },
    "DaemonSet": {},
    "DaemonSetSpec": {"minReadySeconds": whole(0, 30), "revisionHistoryLimit": whole(0, 9)},
    "DaemonSetUpdateStrategy": {
        "type": one_of("RollingUpdate", "OnDelete"),
        "rollingUpdate": made_of(maxUnavailable=_portion),
    },
    "Deployment": {},
    "DeploymentSpec": {
        "replicas": whole(0, 9),
        "minReadySeconds": whole(0, 30),
        "revisionHistoryLimit": whole(0, 9),
        "progressDeadlineSeconds": whole(60, 900),
    },
    "DeploymentStrategy": {
        "type": one_of("RollingUpdate", "Recreate"),
        "rollingUpdate": made_of("maxSurge", maxSurge=_portion, maxUnavailable=_part),
    },
    "Endpoint": {
        "addresses": lambda: list_of(_ip)().filter(bool),
        "nodeName": one_of("node-1"),
        "hostname": _names,
        "zone": one_of("here"),
    },
    "EndpointConditions": {},
    "EndpointAddress": {"ip": _ip},
    "EndpointPort": {"port": _port, "protocol": _protocol, "name": one_of("http", "p")},
    "EndpointSlice": {
        "addressType": one_of("IPv4"),
        "endpoints": several("Endpoint", "addresses"),
        "ports": several("EndpointPort", "name", most=2),
    },
    "Endpoints": {
        "subsets": one_of(
            [],
            [{"addresses": [{"ip": "10.9.9.9"}], "ports": [{"port": 80}]}],
            [{"notReadyAddresses": [{"ip": "10.9.9.8"}], "ports": [{"port": 1}]}],
        )
    },
    "Event": {
        "involvedObject": made_of("kind", "name", kind=one_of("Pod", "Job"), name=_names),
        "reason": one_of("Told", "Killing"),
        "message": _text,
        "type": one_of("Normal", "Warning"),
        "count": whole(1, 9),
        "firstTimestamp": one_of(_TIME),
    },
    "events.v1.Event": {
        "regarding": made_of("kind", "name", kind=one_of("Pod", "Job"), name=_names),
        "reason": one_of("Told", "Killing"),
        "note": _text,
        "type": one_of("Normal", "Warning"),
        "eventTime": one_of(_MICRO_TIME),
        "action": one_of("Binding", "Pulling"),
        "reportingController": one_of("example.com/c"),
        "reportingInstance": one_of("c-1"),
        "series": one_of({"count": 2, "lastObservedTime": _MICRO_TIME}),
    },
    "Job": {},
    "JobSpec": {
        "parallelism": whole(0, 5),
        "completions": whole(1, 5),
        "completionMode": one_of("NonIndexed", "Indexed"),
        "backoffLimit": whole(0, 9),
        "backoffLimitPerIndex": whole(0, 3),
        "activeDeadlineSeconds": whole(1, 600),
        "ttlSecondsAfterFinished": whole(0, 600),
        "podReplacementPolicy": one_of("TerminatingOrFailed", "Failed"),
    },
    "JobTemplateSpec": {},
    "Lease": {},
    "LeaseSpec": {
        "holderIdentity": one_of("me", "you"),
        "leaseDurationSeconds": whole(1, 60),
        "leaseTransitions": whole(0, 9),
        "renewTime": one_of(_MICRO_TIME),
        "acquireTime": one_of(_MICRO_TIME),
    },
    "Namespace": {},
    "Node": {},
    "NodeSpec": {
        "taints": one_of([], [{"key": "a", "effect": "NoSchedule"}]),
        "podCIDR": one_of("10.1.0.0/24"),
    },
    "Pod": {},
    "PodDisruptionBudget": {},
    "PodDisruptionBudgetSpec": {
        "minAvailable": _part,
        "maxUnavailable": _part,
        "unhealthyPodEvictionPolicy": one_of("IfHealthyBudget", "AlwaysAllow"),
    },
    "PodSecurityContext": {
        "runAsUser": whole(0, 70000),
        "fsGroup": whole(0, 70000),
        "fsGroupChangePolicy": one_of("Always", "OnRootMismatch"),
        "supplementalGroups": list_of(whole(0, 9)),
    },
    "PodSpec": {
        "containers": several("Container", "name", least=1, most=2),
        "initContainers": several("Container", "name", most=1),
        "volumes": _volumes,
        "restartPolicy": one_of("Always", "OnFailure", "Never"),
        "terminationGracePeriodSeconds": whole(0, 60),
        "activeDeadlineSeconds": whole(1, 600),
        "dnsPolicy": one_of("ClusterFirst", "Default"),
        "nodeSelector": labels,
        "hostname": _names,
        "subdomain": _names,
        "schedulerName": one_of("default-scheduler", "mine"),
        "imagePullSecrets": list_of(one_of({"name": "a"}, {"name": "b"})),
        "hostAliases": one_of([{"ip": "192.0.2.1", "hostnames": ["a.example"]}]),
        "topologySpreadConstraints": one_of(
            [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable":
              "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}]
        ),
    },
    "PodTemplateSpec": {
        "metadata": made_of(labels=labels, annotations=map_of(("example.com/a", "b"), _text))
    },
    "ReplicaSet": {},
    "ReplicaSetSpec": {"replicas": whole(0, 9), "minReadySeconds": whole(0, 30)},
    "ReplicationController": {},
    "ReplicationControllerSpec": {"replicas": whole(0, 9), "minReadySeconds": whole(0, 30)},
    "Secret": {
        "data": map_of(("a", "b.c"), one_of("", "Yg==", "aGVsbG8=")),
        "stringData": map_of(("d", "e"), _text),
        "type": one_of("Opaque", "example.com/mine"),
    },
    "Service": {},
    "ServicePort": {
        "port": _port,
        "protocol": _protocol,
        "targetPort": one_of(80, 8080, "http"),
        "appProtocol": one_of("http", "example.com/p"),
    },
    "ServiceSpec": {
        "type": one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        "ports": several("ServicePort", "port", "protocol", least=1),
        "selector": labels,
        "clusterIP": one_of("None"),
        "sessionAffinity": one_of("None", "ClientIP"),
        "externalTrafficPolicy": one_of("Cluster", "Local"),
        "internalTrafficPolicy": one_of("Cluster", "Local"),
    },
    "ServiceAccount": {
        "imagePullSecrets": list_of(one_of({"name": "a"}, {"name": "b"})),
    },
    "StatefulSet": {},
    "StatefulSetSpec": {
        "replicas": whole(0, 9),
        "serviceName": _names,
        "podManagementPolicy": one_of("OrderedReady", "Parallel"),
        "volumeClaimTemplates": storage.claim_templates,
        "persistentVolumeClaimRetentionPolicy": made_of(
            whenDeleted=one_of("Retain", "Delete"), whenScaled=one_of("Retain", "Delete")
        ),
        "minReadySeconds": whole(0, 30),
        "revisionHistoryLimit": whole(0, 9),
        "ordinals": made_of("start", start=whole(0, 9)),
    },
    "StatefulSetUpdateStrategy": {
        "type": one_of("RollingUpdate", "OnDelete"),
        "rollingUpdate": made_of(partition=whole(0, 5)),
    },
    "Toleration": {
        "key": one_of("example.com/taint", "node.kubernetes.io/not-ready"),
        "operator": one_of("Exists", "Equal"),
        "value": one_of("", "a"),
        "effect": one_of("NoExecute", "NoSchedule", "PreferNoSchedule"),
        "tolerationSeconds": whole(0, 600),
    },
    **access.FIELDS,
    **control.FIELDS,
    **networking.FIELDS,
    **storage.FIELDS,
}  # fmt: skip
"""Type → field → its values. A type with a row is drawn wherever a field is of it."""

LEFT_OUT: Final = frozenset(
    {
        *("PodSpec.hostNetwork", "PodSpec.hostPID", "PodSpec.hostIPC", "PodSpec.hostUsers"),
        *("PodSpec.setHostnameAsFQDN", "PodSpec.ephemeralContainers"),
        *("CustomResourceDefinitionSpec.preserveUnknownFields", "JobSpec.manualSelector"),
        *("JobSpec.selector", "Container.restartPolicyRules", "PodSecurityContext.runAsNonRoot"),
        *(
            "PodSpec.resources",
            "Endpoint.deprecatedTopology",
        ),
        *("Container.resizePolicy", "Namespace.spec", "EndpointPort.appProtocol"),
    }
)
"""Fields that nothing is drawn for: they need what is not there, or exclude each other."""
