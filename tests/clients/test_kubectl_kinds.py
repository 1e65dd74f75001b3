"""Every kind in the hands of the real kubectl: shown in every format, changed in every way."""

import json

import pytest
import yaml
from kubectl_tool import Kubectl

from kubeloop.api.resources import RESOURCES

pytestmark = pytest.mark.kubectl

TEMPLATE = """
  template:
    metadata: {labels: {app: x}}
    spec: {containers: [{name: c, image: "nginx:1"}]}
"""
ONCE = '{restartPolicy: Never, containers: [{name: c, image: "nginx:1"}]}'
ENDPOINT = "{addresses: [10.9.9.9], conditions: {ready: true}}"
PORT = '{name: "", port: 80, protocol: TCP}'
REQUEST = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlHTE1EOENBUUF3RERFS01BZ0dBMVVFQXd3QllU"
    "QXFNQVVHQXl0bGNBTWhBSXFJNDkxMENmR1YvVkxiTFR5NgpYWExLWndtL0haUVNHL04waUFHMEQyOWNvQUF3QlFZ"
    "REsyVndBMEVBcmMvQXNmWnJ2RmwzS3d0MFd3NjhHc1g2Ci9uMjZIcG05Tm1oMFpWQndjWlFIRnpCMFl6blpybmJ2"
    "Yy9GN0pzZmxWVG9QVGNoekJJS2Zxd0Uyc1ZLSkNRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0t"
    "Cg=="
)  # Of CN=a.
RBAC = "rbac.authorization.k8s.io"
NET = "networking.k8s.io"
MANIFESTS = {
    "apiservices.apiregistration.k8s.io": "{apiVersion: apiregistration.k8s.io/v1, kind:"
    " APIService, metadata: {name: "
    "v1.x.example}, spec: {group: x.example, version: v1, groupPriorityMinimum: 9, "
    "versionPriority: 9}}",
    "certificatesigningrequests.certificates.k8s.io": "{apiVersion: certificates.k8s.io/v1,"
    " kind: CertificateSigningRequest, metadata: "
    "{name: x-request}, spec: {signerName: a.example/b, usages: [client auth], request: "
    "" + REQUEST + "}}",
    f"clusterrolebindings.{RBAC}": f"{{apiVersion: {RBAC}/v1, kind: ClusterRoleBinding, metadata:"
    " {name: x-cluster}, roleRef: {kind: ClusterRole, name: view}, subjects: [{kind: User, name:"
    f" me, apiGroup: {RBAC}}}]}}",
    f"clusterroles.{RBAC}": f"{{apiVersion: {RBAC}/v1, kind: ClusterRole, metadata:"
    " {name: x-cluster}, rules: [{nonResourceURLs: [/healthz], verbs: [get]}]}",
    "configmaps": "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: b}}",
    "controllerrevisions.apps": "{apiVersion: apps/v1, kind: ControllerRevision,"
    " metadata: {name: x}, revision: 3, data: {spec: {}}}",
    "cronjobs.batch": "{apiVersion: batch/v1, kind: CronJob, metadata: {name: x}, spec: {schedule:"
    f' "0 0 1 1 *", jobTemplate: {{spec: {{template: {{spec: {ONCE}}}}}}}}}}}',
    "csidrivers.storage.k8s.io": "{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata:"
    " {name: x.csi.example}, spec: {podInfoOnMount: true}}",
    "csinodes.storage.k8s.io": "{apiVersion: storage.k8s.io/v1, kind: CSINode, metadata: {name:"
    " x-csi-node}, spec: {drivers: [{name: x.csi.example, nodeID: here, topologyKeys:"
    " [zone]}]}}",
    "csistoragecapacities.storage.k8s.io": "{apiVersion: storage.k8s.io/v1, kind:"
    " CSIStorageCapacity, metadata: {name: x}, storageClassName: fast, capacity: 5Gi}",
    "customresourcedefinitions.apiextensions.k8s.io": "{apiVersion: apiextensions.k8s.io/v1, kind:"
    " CustomResourceDefinition, metadata: {name: xs.kinds.example}, spec: {group: kinds.example,"
    " scope: Namespaced, names: {plural: xs, kind: X}, versions: [{name: v1, served: true, storage:"
    " true, schema: {openAPIV3Schema: {type: object}}}]}}",
    "daemonsets.apps": "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: x}\nspec:\n"
    "  selector: {matchLabels: {app: x}}" + TEMPLATE,
    "deployments.apps": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec:\n"
    "  replicas: 0\n  selector: {matchLabels: {app: x}}" + TEMPLATE,
    "endpoints": "{apiVersion: v1, kind: Endpoints, metadata: {name: x},"
    " subsets: [{addresses: [{ip: 10.9.9.9}], ports: [{port: 80, protocol: TCP}]}]}",
    "endpointslices.discovery.k8s.io": "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,"
    f" metadata: {{name: x}}, addressType: IPv4, endpoints: [{ENDPOINT}], ports: [{PORT}]}}",
    "events": "{apiVersion: v1, kind: Event, metadata: {name: x}, reason: Told, message: a tale,"
    " type: Normal, involvedObject: {kind: Pod, name: p, namespace: NAMESPACE}}",
    "events.events.k8s.io": "{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: x-new},"
    " reason: Told, note: a tale, type: Normal, action: Telling, reportingController: a.example/b,"
    " reportingInstance: b-1, eventTime: '2026-01-01T00:00:00.000000Z',"
    " regarding: {kind: Pod, name: p, namespace: NAMESPACE}}",
    "flowschemas.flowcontrol.apiserver.k8s.io": "{apiVersion: flowcontrol.apiserver.k8s.io/v1,"
    " kind: FlowSchema, metadata: {name: "
    "x-flow}, spec: {priorityLevelConfiguration: {name: none}}}",
    "horizontalpodautoscalers.autoscaling": "{apiVersion: autoscaling/v2, kind:"
    " HorizontalPodAutoscaler, metadata: {name: x}, spec: {minReplicas: 1, maxReplicas: 3,"
    " scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: none}}}",
    f"ingressclasses.{NET}": f"{{apiVersion: {NET}/v1, kind: IngressClass, metadata:"
    " {name: x-class}, spec: {controller: a.example/b}}",
    f"ingresses.{NET}": f"{{apiVersion: {NET}/v1, kind: Ingress, metadata: {{name: x}}, spec:"
    " {ingressClassName: none, defaultBackend: {service: {name: x, port: {number: 80}}}}}",
    f"ipaddresses.{NET}": f"{{apiVersion: {NET}/v1, kind: IPAddress, metadata: {{name: 10.96.9.9}},"
    " spec: {parentRef: {resource: services, namespace: default, name: x}}}",
    "jobs.batch": "{apiVersion: batch/v1, kind: Job, metadata: {name: x}, spec: {suspend: true,"
    f" template: {{spec: {ONCE}}}}}}}",
    "leases.coordination.k8s.io": "{apiVersion: coordination.k8s.io/v1, kind: Lease,"
    " metadata: {name: x}, spec: {holderIdentity: me, leaseDurationSeconds: 9}}",
    "limitranges": "{apiVersion: v1, kind: LimitRange, metadata: {name: x}, spec: {limits: [{type:"
    " PersistentVolumeClaim, min: {storage: 1Mi}}]}}",
    "mutatingadmissionpolicies.admissionregistration.k8s.io": "{apiVersion:"
    " admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicy, "
    "metadata: {name: x-policy}, spec: {matchConstraints: {resourceRules: [{apiGroups: "
    '[""], apiVersions: [v1], operations: [CREATE], resources: [nobody], scope: "*"}]}, '
    "reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: "
    '{expression: "[]"}}]}}',
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": "{apiVersion:"
    " admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicyBinding, "
    "metadata: {name: x-binding}, spec: {policyName: none}}",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": "{apiVersion:"
    " admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name:"
    " x-hooks}, webhooks: []}",
    "namespaces": "{apiVersion: v1, kind: Namespace, metadata: {name: x-namespace}}",
    f"networkpolicies.{NET}": f"{{apiVersion: {NET}/v1, kind: NetworkPolicy, metadata:"
    " {name: x}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}}",
    "nodes": "{apiVersion: v1, kind: Node, metadata: {name: x-node}, spec: {unschedulable: true}}",
    "persistentvolumeclaims": "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name:"
    " x}, spec: {storageClassName: nobodys, accessModes: [ReadWriteOnce], resources:"
    " {requests: {storage: 1Gi}}}}",
    "persistentvolumes": "{apiVersion: v1, kind: PersistentVolume, metadata: {name: x-volume},"
    " spec: {storageClassName: of-none, accessModes: [ReadWriteOnce], capacity: {storage:"
    " 1Gi}, hostPath: {path: /x}}}",
    "poddisruptionbudgets.policy": "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata:"
    " {name: x}, spec: {minAvailable: 1, selector: {matchLabels: {app: none}}}}",
    "pods": "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers:"
    ' [{name: c, image: "nginx:1"}], terminationGracePeriodSeconds: 1}}',
    "podtemplates": "apiVersion: v1\nkind: PodTemplate\nmetadata: {name: x}"
    + TEMPLATE.replace("\n  ", "\n"),
    "priorityclasses.scheduling.k8s.io": "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass,"
    " metadata: {name: x-class}, value: 7, description: seven}",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": "{apiVersion:"
    " flowcontrol.apiserver.k8s.io/v1, kind: PriorityLevelConfiguration, "
    "metadata: {name: x-level}, spec: {type: Limited, limited: {limitResponse: {type: "
    "Reject}}}}",
    "replicasets.apps": "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: x}\nspec:\n"
    "  replicas: 0\n  selector: {matchLabels: {app: x}}" + TEMPLATE,
    "replicationcontrollers": "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: x}\n"
    "spec:\n  replicas: 0\n  selector: {app: x}" + TEMPLATE,
    "resourcequotas": "{apiVersion: v1, kind: ResourceQuota, metadata: {name: x}, spec: {hard:"
    " {pods: '9', limits.cpu: '4'}}}",
    f"rolebindings.{RBAC}": f"{{apiVersion: {RBAC}/v1, kind: RoleBinding, metadata: {{name: x}},"
    " roleRef: {kind: Role, name: x}, subjects: [{kind: ServiceAccount, name: default, namespace:"
    " NAMESPACE}]}",
    f"roles.{RBAC}": f"{{apiVersion: {RBAC}/v1, kind: Role, metadata: {{name: x}}, rules:"
    ' [{apiGroups: [""], resources: [pods], verbs: [get]}]}',
    "runtimeclasses.node.k8s.io": "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata:"
    " {name: x-run}, handler: runc}",
    "secrets": "{apiVersion: v1, kind: Secret, metadata: {name: x}, data: {a: Yg==}}",
    "serviceaccounts": "{apiVersion: v1, kind: ServiceAccount, metadata: {name: x}}",
    f"servicecidrs.{NET}": f"{{apiVersion: {NET}/v1, kind: ServiceCIDR, metadata:"
    " {name: x-range}, spec: {cidrs: [10.200.0.0/16]}}",
    "services": "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {selector: {app: x},"
    " ports: [{port: 80}]}}",
    "statefulsets.apps": "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\nspec:\n"
    "  replicas: 0\n  serviceName: x\n  selector: {matchLabels: {app: x}}" + TEMPLATE,
    "storageclasses.storage.k8s.io": "{apiVersion: storage.k8s.io/v1, kind: StorageClass,"
    " metadata: {name: x-storage}, provisioner: example.com/disk}",
    "validatingadmissionpolicies.admissionregistration.k8s.io": "{apiVersion:"
    " admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, "
    "metadata: {name: x-policy}, spec: {matchConstraints: {resourceRules: [{apiGroups: "
    '[""], apiVersions: [v1], operations: [CREATE], resources: [nobody], scope: "*"}]},'
    ' validations: [{expression: "true"}]}}',
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": "{apiVersion:"
    " admissionregistration.k8s.io/v1, kind: "
    "ValidatingAdmissionPolicyBinding, metadata: {name: x-binding}, spec: {policyName: "
    "none, validationActions: [Deny]}}",
    "validatingwebhookconfigurations.admissionregistration.k8s.io": "{apiVersion:"
    " admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name:"
    " x-hooks}}",
    "volumeattachments.storage.k8s.io": "{apiVersion: storage.k8s.io/v1, kind:"
    " VolumeAttachment, metadata: {name: x-attachment}, spec: {attacher: csi.example,"
    " nodeName: here, source: {persistentVolumeName: v}}}",
    "volumeattributesclasses.storage.k8s.io": "{apiVersion: storage.k8s.io/v1, kind:"
    " VolumeAttributesClass, metadata: {name: x-attributes}, driverName: csi.example,"
    " parameters: {a: b}}",
}
COLUMNS = {
    "apiservices.apiregistration.k8s.io": "NAME SERVICE AVAILABLE AGE",
    "certificatesigningrequests.certificates.k8s.io": "NAME AGE SIGNERNAME REQUESTOR"
    " REQUESTEDDURATION CONDITION",
    f"clusterrolebindings.{RBAC}": "NAME ROLE AGE USERS GROUPS SERVICEACCOUNTS",
    f"clusterroles.{RBAC}": "NAME CREATED AT",
    "configmaps": "NAME DATA AGE",
    "controllerrevisions.apps": "NAME CONTROLLER REVISION AGE",
    "cronjobs.batch": "NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE CONTAINERS IMAGES"
    " SELECTOR",
    "csidrivers.storage.k8s.io": "NAME ATTACHREQUIRED PODINFOONMOUNT STORAGECAPACITY"
    " TOKENREQUESTS REQUIRESREPUBLISH MODES AGE",
    "csinodes.storage.k8s.io": "NAME DRIVERS AGE",
    "csistoragecapacities.storage.k8s.io": "NAME STORAGECLASSNAME CAPACITY",
    "customresourcedefinitions.apiextensions.k8s.io": "NAME CREATED AT",
    "daemonsets.apps": "NAME DESIRED CURRENT READY UP-TO-DATE AVAILABLE NODE SELECTOR AGE"
    " CONTAINERS IMAGES SELECTOR",
    "deployments.apps": "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR",
    "endpoints": "NAME ENDPOINTS AGE",
    "endpointslices.discovery.k8s.io": "NAME ADDRESSTYPE PORTS ENDPOINTS AGE",
    "events": "LAST SEEN TYPE REASON OBJECT SUBOBJECT SOURCE MESSAGE FIRST SEEN COUNT NAME",
    "events.events.k8s.io": "LAST SEEN TYPE REASON OBJECT SUBOBJECT SOURCE MESSAGE FIRST SEEN COUNT"
    " NAME",
    "flowschemas.flowcontrol.apiserver.k8s.io": "NAME PRIORITYLEVEL MATCHINGPRECEDENCE"
    " DISTINGUISHERMETHOD AGE MISSINGPL",
    "horizontalpodautoscalers.autoscaling": "NAME REFERENCE TARGETS MINPODS MAXPODS REPLICAS AGE",
    f"ingressclasses.{NET}": "NAME CONTROLLER PARAMETERS AGE",
    f"ingresses.{NET}": "NAME CLASS HOSTS ADDRESS PORTS AGE",
    f"ipaddresses.{NET}": "NAME PARENTREF AGE",
    "jobs.batch": "NAME STATUS COMPLETIONS DURATION AGE CONTAINERS IMAGES SELECTOR",
    "leases.coordination.k8s.io": "NAME HOLDER AGE",
    "limitranges": "NAME CREATED AT",
    "mutatingadmissionpolicies.admissionregistration.k8s.io": "NAME MUTATIONS PARAMKIND AGE",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": "NAME POLICYNAME PARAMREF AGE",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": "NAME WEBHOOKS AGE",
    "namespaces": "NAME STATUS AGE",
    f"networkpolicies.{NET}": "NAME POD-SELECTOR AGE",
    "nodes": "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION"
    " CONTAINER-RUNTIME",
    "persistentvolumeclaims": "NAME STATUS VOLUME CAPACITY ACCESS MODES STORAGECLASS"
    " VOLUMEATTRIBUTESCLASS AGE VOLUMEMODE",
    "persistentvolumes": "NAME CAPACITY ACCESS MODES RECLAIM POLICY STATUS CLAIM STORAGECLASS"
    " VOLUMEATTRIBUTESCLASS REASON AGE VOLUMEMODE",
    "poddisruptionbudgets.policy": "NAME MIN AVAILABLE MAX UNAVAILABLE ALLOWED DISRUPTIONS AGE",
    "pods": "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES",
    "podtemplates": "NAME CONTAINERS IMAGES POD LABELS",
    "priorityclasses.scheduling.k8s.io": "NAME VALUE GLOBAL-DEFAULT AGE PREEMPTIONPOLICY",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": "NAME TYPE"
    " NOMINALCONCURRENCYSHARES QUEUES HANDSIZE QUEUELENGTHLIMIT AGE",
    "replicasets.apps": "NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR",
    "replicationcontrollers": "NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR",
    "resourcequotas": "NAME REQUEST LIMIT AGE",
    f"rolebindings.{RBAC}": "NAME ROLE AGE USERS GROUPS SERVICEACCOUNTS",
    f"roles.{RBAC}": "NAME CREATED AT",
    "runtimeclasses.node.k8s.io": "NAME HANDLER AGE",
    "secrets": "NAME TYPE DATA AGE",
    "serviceaccounts": "NAME AGE",
    f"servicecidrs.{NET}": "NAME CIDRS AGE",
    "services": "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR",
    "statefulsets.apps": "NAME READY AGE CONTAINERS IMAGES",
    "storageclasses.storage.k8s.io": "NAME PROVISIONER RECLAIMPOLICY VOLUMEBINDINGMODE"
    " ALLOWVOLUMEEXPANSION AGE",
    "validatingadmissionpolicies.admissionregistration.k8s.io": "NAME VALIDATIONS PARAMKIND AGE",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": "NAME POLICYNAME PARAMREF"
    " AGE",
    "validatingwebhookconfigurations.admissionregistration.k8s.io": "NAME WEBHOOKS AGE",
    "volumeattachments.storage.k8s.io": "NAME ATTACHER PV NODE ATTACHED AGE",
    "volumeattributesclasses.storage.k8s.io": "NAME DRIVERNAME AGE",
}


def labels_of(kubectl: Kubectl, what: str) -> str:
    """Return the labels tests give: of one letter."""
    labels = kubectl.json(f"get {what}")["metadata"]["labels"]
    return " ".join(f"{k}={v}" for k, v in sorted(labels.items()) if len(k) == 1)


def test_every_kind_has_its_case() -> None:
    assert list(MANIFESTS) == list(COLUMNS) == sorted(RESOURCES)


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_kind(kubectl: Kubectl, kind: str) -> None:
    manifest = MANIFESTS[kind].replace("NAMESPACE", kubectl.namespace)
    what, verb = kubectl("apply -f -", stdin=manifest).split()
    assert verb == "created"
    show(kubectl, kind, what)
    change(kubectl, kind, what)
    # A field that patches replace is in every patch, changed or not: so kubectl has it.
    again = "configured" if kind == "poddisruptionbudgets.policy" else "unchanged"
    assert kubectl("apply -f -", stdin=manifest) == f"{what} {again}\n"
    rewrite(kubectl, kind, what)
    remove(kubectl, kind, what)


def show(kubectl: Kubectl, kind: str, what: str) -> None:
    """Read an object in every format, and by every name of its kind."""
    name, row = what.rpartition("/")[2], RESOURCES[kind]
    header, line = kubectl(f"get {what} -o wide").splitlines()
    assert header.split() == COLUMNS[kind].split()
    assert name in line
    aliases = (row.singular, *row.short_names)
    if row.kept_as:  # Its short names are those of another kind.
        aliases = (f"{row.singular}.{row.group}",)
    for alias in aliases:
        assert kubectl(f"get {alias} {name} -o name").strip() == what
    obj = json.loads(kubectl(f"get {what} -o json"))
    same = yaml.safe_load(kubectl(f"get {what} -o yaml"))
    for told in (obj, same):
        assert (told["kind"], told["apiVersion"]) == (row.kind, row.api_version)
    assert same["metadata"]["uid"] == obj["metadata"]["uid"]
    assert kubectl.path(what, ".metadata.uid") == obj["metadata"]["uid"]
    template = "go-template={{.metadata.name}}/{{.kind}}"
    assert kubectl(f"get {what} -o", template) == f"{name}/{row.kind}"
    columns = kubectl(f"get {what} -o custom-columns=N:.metadata.name,X:.spec.nothing")
    assert columns.split() == ["N", "X", name, "<none>"]
    described = kubectl(f"describe {what}")
    assert described.startswith("Name:") and name in described.splitlines()[0]


def change(kubectl: Kubectl, kind: str, what: str) -> None:
    """Change its metadata: label, annotate, and patch in three ways."""
    assert kubectl(f"label {what} l=one") == f"{what} labeled\n"
    assert "already has a value (one)" in kubectl.fails(f"label {what} l=two")
    assert kubectl(f"annotate {what} example.com/a=b") == f"{what} annotated\n"
    assert kubectl(f"get {kind} -l l=one -o name").strip() == what
    for type_, patch in (
        ("strategic", '{"metadata": {"labels": {"s": "1"}}}'),
        ("merge", '{"metadata": {"labels": {"m": "1", "l": null}}}'),
        ("json", '[{"op": "add", "path": "/metadata/labels/j", "value": "1"}]'),
    ):
        assert kubectl(f"patch {what} --type={type_} -p", patch) == f"{what} patched\n"
    assert labels_of(kubectl, what) == "j=1 m=1 s=1"


def rewrite(kubectl: Kubectl, kind: str, what: str) -> None:
    """Change the whole of it: edit and replace."""
    editor = kubectl.file("editor", '#!/bin/sh\nsed -i \'s/^    s: "1"/    s: edited/\' "$1"\n')
    assert kubectl(f"edit {what}", KUBE_EDITOR=f"sh {editor}") == f"{what} edited\n"
    whole = kubectl(f"get {what} -o yaml").replace("    m: ", "    r: ")
    if kind in ("nodes", "namespaces", "pods"):
        return  # Others are at work on those as well.
    assert kubectl("replace -f -", stdin=whole) == f"{what} replaced\n"
    stale = kubectl.fails("replace -f -", stdin=whole.replace("    r: ", "    o: "))
    assert "Conflict" in stale and "the object has been modified" in stale
    assert labels_of(kubectl, what) == "j=1 r=1 s=edited"


def remove(kubectl: Kubectl, kind: str, what: str) -> None:
    """Delete it, first in pretence."""
    where = f" from {kubectl.namespace} namespace" if RESOURCES[kind].namespaced else ""
    resource, name = what.split("/")
    said = f'{resource} "{name}" deleted{where}'
    assert kubectl(f"delete {what} --dry-run=server") == f"{said} (server dry run)\n"
    assert kubectl(f"delete {what}") == f"{said}\n"
    assert "(NotFound)" in kubectl.fails(f"get {what}")
