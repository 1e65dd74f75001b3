"""Pure reconcilers, one file per controller."""

from kubeloop.actors.controllers.base import Controller
from kubeloop.actors.controllers.certificates import CertificateController, Notary
from kubeloop.actors.controllers.cluster_roles import ClusterRoleController
from kubeloop.actors.controllers.cronjob import CronJobController
from kubeloop.actors.controllers.daemonset import DaemonSetController
from kubeloop.actors.controllers.definitions import DefinitionController
from kubeloop.actors.controllers.deployment import DeploymentController
from kubeloop.actors.controllers.disruption import DisruptionController
from kubeloop.actors.controllers.endpoints import EndpointsController
from kubeloop.actors.controllers.endpointslices import EndpointSliceController
from kubeloop.actors.controllers.ephemeral_volumes import EphemeralVolumeController
from kubeloop.actors.controllers.garbage import GarbageCollector
from kubeloop.actors.controllers.job import JobController
from kubeloop.actors.controllers.job_ttl import FinishedJobController
from kubeloop.actors.controllers.load_balancers import LoadBalancerController
from kubeloop.actors.controllers.local_path import LocalPathProvisioner
from kubeloop.actors.controllers.namespaces import NamespaceController
from kubeloop.actors.controllers.nodes import NodeLifecycleController
from kubeloop.actors.controllers.pod_garbage import PodGarbageCollector
from kubeloop.actors.controllers.policy_status import PolicyStatusController
from kubeloop.actors.controllers.quotas import ResourceQuotaController
from kubeloop.actors.controllers.replication import ReplicationController
from kubeloop.actors.controllers.root_ca import RootCaPublisher
from kubeloop.actors.controllers.service_accounts import ServiceAccountController
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.controllers.statefulset import StatefulSetController
from kubeloop.actors.controllers.volume_binding import VolumeBindingController
from kubeloop.actors.controllers.volume_expansion import VolumeExpansionController
from kubeloop.actors.controllers.volume_protection import VolumeProtectionController
from kubeloop.api.resources import RESOURCES


def all_controllers(settings: Settings, notary: Notary, *, begun_s: float) -> list[Controller]:
    """Return every controller, fresh. begun_s: since when they watch [s since 1970]."""
    return [
        NamespaceController(),
        ServiceAccountController(),
        RootCaPublisher(settings),
        NodeLifecycleController(settings, begun_s=begun_s),
        ReplicationController("ReplicationController"),
        ReplicationController("ReplicaSet"),
        DeploymentController(),
        StatefulSetController(),
        DaemonSetController(),
        JobController(),
        CronJobController(),
        FinishedJobController(),
        DisruptionController(RESOURCES),
        DefinitionController(),
        ClusterRoleController(),
        CertificateController(notary),
        EndpointSliceController(),
        EndpointsController(),
        LoadBalancerController(settings),
        GarbageCollector(),
        PodGarbageCollector(settings),
        PolicyStatusController(),
        ResourceQuotaController(),
        VolumeBindingController(),
        VolumeProtectionController(),
        EphemeralVolumeController(),
        LocalPathProvisioner(),
        VolumeExpansionController(),
    ]
