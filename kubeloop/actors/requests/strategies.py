"""What differs between kinds when they are written: data, one row a kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.api.resources import Resource


@dataclass(frozen=True, slots=True)
class Strategy:
    """How one kind is created, changed and deleted.

    generation:       metadata.generation counts the changes of everything but metadata and status.
    generation_first: what it is of a new object; 0: it has none until it changes.
    uncounted:        the generation of a new object stays, whatever changes.
    counted:          fields of metadata whose changes count as well.
    status:           the status a new object starts with; None if the kind has no status of its
                      own.
    status_dropped:   a new object loses the status its creator wrote, and has none.
    status_counted:   metadata.generation counts changes of the status, too.
    status_given:     a new object keeps the status its creator wrote: kubelets register so.
    status_locks:     fields of metadata that may not be changed through the status subresource.
    create_on_update: a PUT to a name that is free creates the object.
    versioned:        an update must say which resourceVersion it changes.
    returned:         what is deleted is the answer to its deletion; of others it is a Status.
    orphans:          deleting without a propagationPolicy leaves the dependents.
    """

    generation: bool = False
    generation_first: int = 1
    uncounted: bool = False
    counted: tuple[str, ...] = ()
    status: Mapping[str, Any] | None = None
    status_dropped: bool = False
    status_counted: bool = False
    status_given: bool = False
    status_locks: tuple[str, ...] = ()
    create_on_update: bool = False
    versioned: bool = False
    returned: bool = False
    orphans: bool = False


_PLAIN: Final = Strategy()
_STRATEGIES: Final[Mapping[str, Strategy]] = {
    "pods": Strategy(
        returned=True,
        generation=True,
        status={"phase": "Pending"},
        status_locks=("ownerReferences",),
    ),
    "nodes": Strategy(status={}, status_given=True),
    "namespaces": Strategy(status={"phase": "Active"}),
    "services": Strategy(returned=True, status={"loadBalancer": {}}, create_on_update=True),
    "replicationcontrollers": Strategy(generation=True, status={"replicas": 0}, orphans=True),
    "replicasets.apps": Strategy(generation=True, status={"replicas": 0}),
    "customresourcedefinitions.apiextensions.k8s.io": Strategy(
        generation=True,
        status={"conditions": None, "acceptedNames": {"plural": "", "kind": ""}},
    ),
    "deployments.apps": Strategy(
        generation=True, counted=("annotations",), status={}, status_locks=("labels",)
    ),
    "statefulsets.apps": Strategy(generation=True, status={"replicas": 0, "availableReplicas": 0}),
    "daemonsets.apps": Strategy(
        generation=True,
        status={
            "currentNumberScheduled": 0,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 0,
            "numberReady": 0,
        },
    ),
    "jobs.batch": Strategy(generation=True, status={}, orphans=True),
    "cronjobs.batch": Strategy(generation=True, status={}),
    "poddisruptionbudgets.policy": Strategy(
        generation=True,
        status={
            "disruptionsAllowed": 0,
            "currentHealthy": 0,
            "desiredHealthy": 0,
            "expectedPods": 0,
        },
    ),
    "endpointslices.discovery.k8s.io": Strategy(generation=True, counted=("labels",)),
    "persistentvolumes": Strategy(returned=True, status={"phase": "Pending"}),
    "persistentvolumeclaims": Strategy(returned=True, status={"phase": "Pending"}),
    "podtemplates": Strategy(returned=True, generation=True),
    "limitranges": Strategy(create_on_update=True),
    "resourcequotas": Strategy(returned=True, status={}),
    "priorityclasses.scheduling.k8s.io": Strategy(generation=True, uncounted=True),
    "runtimeclasses.node.k8s.io": Strategy(versioned=True),
    "csidrivers.storage.k8s.io": Strategy(
        returned=True, generation=True, generation_first=0, versioned=True
    ),
    "csinodes.storage.k8s.io": Strategy(returned=True, versioned=True),
    "csistoragecapacities.storage.k8s.io": Strategy(versioned=True),
    "volumeattachments.storage.k8s.io": Strategy(
        returned=True, status={"attached": False}, versioned=True
    ),
    "horizontalpodautoscalers.autoscaling": Strategy(
        status={"desiredReplicas": 0, "currentMetrics": None}
    ),
    "ingresses.networking.k8s.io": Strategy(generation=True, status={"loadBalancer": {}}),
    "ingressclasses.networking.k8s.io": Strategy(generation=True),
    "networkpolicies.networking.k8s.io": Strategy(generation=True),
    "servicecidrs.networking.k8s.io": Strategy(status={}),
    "apiservices.apiregistration.k8s.io": Strategy(status={}),
    "certificatesigningrequests.certificates.k8s.io": Strategy(status={}),
    "flowschemas.flowcontrol.apiserver.k8s.io": Strategy(generation=True, status={}),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": Strategy(
        generation=True, status={}
    ),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": Strategy(generation=True),
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": Strategy(generation=True),
    "validatingadmissionpolicies.admissionregistration.k8s.io": Strategy(
        generation=True, status={}
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": Strategy(generation=True),
    "endpoints": Strategy(create_on_update=True),
    "serviceaccounts": Strategy(returned=True),
    "storageclasses.storage.k8s.io": Strategy(returned=True),
    "volumeattributesclasses.storage.k8s.io": Strategy(returned=True),
    "events": Strategy(create_on_update=True),
    "events.events.k8s.io": Strategy(create_on_update=True),
    "leases.coordination.k8s.io": Strategy(create_on_update=True, versioned=True),
}


_OTHER_VERSIONS: Final[Mapping[str, Strategy]] = {
    "horizontalpodautoscalers.autoscaling": Strategy(
        status={"currentReplicas": 0, "desiredReplicas": 0}
    ),
}
_CUSTOM: Final = Strategy(generation=True, status_counted=True, versioned=True)
_CUSTOM_WITH_STATUS: Final = Strategy(generation=True, status_dropped=True, versioned=True)


def strategy(resource: Resource) -> Strategy:
    """Return the row of a resource."""
    if resource.custom is not None:
        return _CUSTOM_WITH_STATUS if resource.custom.has_status else _CUSTOM
    rows = _STRATEGIES if resource.other is None else _OTHER_VERSIONS
    return rows.get(resource.id, _PLAIN)
