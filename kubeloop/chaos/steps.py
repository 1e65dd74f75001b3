"""What users do: happenings that write what a user might, and nothing that he must not.

There are few names, so that steps meet: one deploys `web`, another scales it, a third deletes it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.api.errors import ApiError
from kubeloop.api.pod_claims import LOCAL_PATH, WAITS
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.values import FLAG, Happening, OneOf, Whole, drawn, kind

APPS: Final = OneOf("web", "db")
IMAGES: Final = OneOf("app:1", "app:2", "app:3")
SETS: Final = OneOf("queue", "vault")  # Of StatefulSets.
CLAIMING: Final = "vault"
STORAGE: Final[dict[str, Any]] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local"},
    "provisioner": LOCAL_PATH,
    "volumeBindingMode": WAITS,
}
REPLICAS: Final = Whole(0, 6)
FEW: Final = Whole(0, 4)
TAINT: Final = "chaos.kubeloop.io/upkeep"
NODES: Final = Whole(1, 3)
POPULATED: Final = 10  # So many pods has each app of `Populate`.
PROBE_S: Final = 10  # How often its pods are probed: Kubernetes' own default.
TRIES: Final = 20  # A user who is told that the server failed tries again so often.
PAUSE_S: Final = 0.5
_AGAIN: Final = (429, 500, 503, 504)


def workload(
    kind: str,
    name: str,
    replicas: int,
    image: str,
    *,
    cpu: str = "",
    drain_s: int = 0,
    probe_s: int = 1,
    **spec: Any,
) -> dict[str, Any]:
    """Return a Deployment, ReplicaSet, StatefulSet or ReplicationController of one container."""
    labels = {"app": name}
    selector: Any = labels if kind == "ReplicationController" else {"matchLabels": labels}
    main = container(image, cpu=cpu, drain_s=drain_s, probe_s=probe_s)
    template = {"metadata": {"labels": labels}, "spec": {"containers": [main]}}
    return {
        "apiVersion": "v1" if kind == "ReplicationController" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": selector, "template": template, **spec},
    }


def claim(wanted: dict[str, Any]) -> None:
    """Give the pods of a StatefulSet, in place, a volume each, to which every run adds a line."""
    spec = wanted["spec"]
    template = spec["template"]
    template["metadata"]["annotations"] = {"kubeloop.dev/sim.write": '{"/data/log": "begun"}'}
    mount = {"name": "data", "mountPath": "/data"}
    template["spec"]["containers"][0]["volumeMounts"] = [mount]
    asked = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": STORAGE["metadata"]["name"],
    }
    spec["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": asked}]
    spec["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Delete", "whenScaled": "Delete"}


def container(image: str, *, cpu: str = "", drain_s: int = 0, probe_s: int = 1) -> dict[str, Any]:
    """Return a container with a readiness probe.

    cpu:     what it requests, "" for nothing.
    drain_s: how long it goes on serving when its pod is deleted, so that proxies hear before.
    probe_s: how often it is asked whether it is ready.
    """
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": probe_s}
    made: dict[str, Any] = {"name": "main", "image": image, "ports": [{"containerPort": 8080}]}
    if cpu:
        made["resources"] = {"requests": {"cpu": cpu}}
    if drain_s:
        made["lifecycle"] = {"preStop": {"sleep": {"seconds": drain_s}}}
    return {**made, "readinessProbe": probe}


def service(app: str, *, node_port: bool) -> dict[str, Any]:
    """Return a Service for the pods of an app."""
    spec = {
        "type": "NodePort" if node_port else "ClusterIP",
        "selector": {"app": app},
        "ports": [{"port": 80, "targetPort": 8080}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app}, "spec": spec}


def _is_passing(error: ApiError) -> bool:
    return error.code in _AGAIN or error.reason == "Conflict"


async def patiently(stage: Stage, do: Callable[[], Awaitable[object]]) -> None:
    """Do something, again and again for a while if it fails and need not. Raises: ApiError."""
    for _ in range(TRIES):
        try:
            await do()
        except (ApiError, ConnectionError) as error:
            if isinstance(error, ApiError) and not _is_passing(error):
                raise
            await stage.sleep_until(stage.loop.time() + PAUSE_S)
        else:
            return


@dataclass(frozen=True, kw_only=True)
class Action(Happening):
    """Something a user does; he tries again if the server fails, and reads if he comes second."""

    async def happen(self, stage: Stage) -> None:
        stage.note(str(self))
        await patiently(stage, lambda: self.do(stage))

    async def do(self, stage: Stage) -> None:
        """Do it once; override."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Step(Action):
    """An action that plans get by chance."""


@kind("deploy")
@dataclass(frozen=True, kw_only=True)
class Deploy(Step):
    """Apply a Deployment: a new one, or another image or number of replicas of one there is.

    surge, unavailable: of its rollouts;  cpu, drain_s: as of `container`.
    """

    founds = True
    app: str = drawn(APPS)
    replicas: int = drawn(REPLICAS)
    image: str = drawn(IMAGES)
    surge: int = drawn(OneOf(1, 0, 2))
    unavailable: int = drawn(OneOf(0, 1, 2))
    cpu: str = drawn(OneOf("", "1500m", "3"))
    drain_s: int = drawn(OneOf(0, 5))

    async def do(self, stage: Stage) -> None:
        surge = self.surge if self.surge or self.unavailable else 1  # Both may not be 0.
        rolling = {"maxSurge": surge, "maxUnavailable": self.unavailable}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        wanted = workload(
            "Deployment",
            self.app,
            self.replicas,
            self.image,
            cpu=self.cpu,
            drain_s=self.drain_s,
            strategy=strategy,
        )
        await stage.api.apply(wanted)


@kind("populate")
@dataclass(frozen=True, kw_only=True)
class Populate(Action):
    """Apply Deployments, each with a Service, that make so many pods: a soak begins with it."""

    pods: int = drawn(Whole(0, 100))

    async def do(self, stage: Stage) -> None:
        for first in range(0, self.pods, POPULATED):
            app, replicas = f"app-{first // POPULATED}", min(POPULATED, self.pods - first)
            await stage.api.apply(workload("Deployment", app, replicas, "app:1", probe_s=PROBE_S))
            await stage.api.apply(service(app, node_port=first % (2 * POPULATED) == 0))


@kind("replicate")
@dataclass(frozen=True, kw_only=True)
class Replicate(Step):
    """Apply a ReplicationController."""

    founds = True
    app: str = drawn(OneOf("old", "older"))
    replicas: int = drawn(REPLICAS)
    image: str = drawn(IMAGES)

    async def do(self, stage: Stage) -> None:
        wanted = workload("ReplicationController", self.app, self.replicas, self.image)
        await stage.api.apply(wanted)


@kind("stateful")
@dataclass(frozen=True, kw_only=True)
class Stateful(Step):
    """Apply a StatefulSet. parallel: whether its pods need not wait for one another.

    The one called vault has claims: its pods write to volumes.
    """

    founds = True
    app: str = drawn(SETS)
    replicas: int = drawn(FEW)
    image: str = drawn(IMAGES)
    parallel: bool = drawn(FLAG)

    async def do(self, stage: Stage) -> None:
        policy = "Parallel" if self.parallel else "OrderedReady"
        told: dict[str, Any] = {"podManagementPolicy": policy, "serviceName": self.app}
        wanted = workload("StatefulSet", self.app, self.replicas, self.image, **told)
        if self.app == CLAIMING:
            await stage.api.apply(STORAGE)
            claim(wanted)
        await stage.api.apply(wanted)


@kind("scale-stateful")
@dataclass(frozen=True, kw_only=True)
class ScaleStateful(Step):
    """Scale a StatefulSet."""

    app: str = drawn(SETS)
    replicas: int = drawn(FEW)

    async def do(self, stage: Stage) -> None:
        await stage.api.scale("statefulsets", self.app, self.replicas)


@kind("bare-pod")
@dataclass(frozen=True, kw_only=True)
class BarePod(Step):
    """Apply a pod that is nobody's.

    tolerates_s: how long it stays on a node that `TaintNode` clears; -1: not at all.
    """

    name: str = drawn(OneOf("lone", "lonely"))
    image: str = drawn(IMAGES)
    tolerates_s: int = drawn(OneOf(-1, 0, 5, 40))

    async def do(self, stage: Stage) -> None:
        spec: dict[str, Any] = {"containers": [container(self.image)]}
        if self.tolerates_s >= 0:
            clears = {"key": TAINT, "operator": "Exists", "effect": "NoExecute"}
            spec["tolerations"] = [{**clears, "tolerationSeconds": self.tolerates_s}]
        metadata = {"name": self.name, "labels": {"app": self.name}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        await stage.api.apply(pod)


@kind("scale")
@dataclass(frozen=True, kw_only=True)
class Scale(Step):
    """Scale a Deployment."""

    app: str = drawn(APPS)
    replicas: int = drawn(REPLICAS)

    async def do(self, stage: Stage) -> None:
        await stage.api.scale("deployments", self.app, self.replicas)


@kind("delete-app")
@dataclass(frozen=True, kw_only=True)
class DeleteApp(Step):
    """Delete a Deployment."""

    app: str = drawn(APPS)
    propagation: str = drawn(OneOf("Background", "Foreground", "Orphan"))

    async def do(self, stage: Stage) -> None:
        propagation: Any = self.propagation
        await stage.api.delete("deployments", self.app, propagation=propagation)


@kind("delete-pod")
@dataclass(frozen=True, kw_only=True)
class DeletePod(Step):
    """Delete a pod: of those there are, in the order of their names, the one of this number."""

    number: int = drawn(Whole(0, 9))
    now: bool = drawn(FLAG)

    async def do(self, stage: Stage) -> None:
        pods = sorted(pod.name for pod in await stage.api.list("pods"))
        if pods:
            grace_s = 0 if self.now else None
            await stage.api.delete("pods", pods[self.number % len(pods)], grace_s=grace_s)


@kind("expose")
@dataclass(frozen=True, kw_only=True)
class Expose(Step):
    """Apply a Service for an app."""

    app: str = drawn(APPS)
    node_port: bool = drawn(FLAG)

    async def do(self, stage: Stage) -> None:
        await stage.api.apply(service(self.app, node_port=self.node_port))


@kind("unexpose")
@dataclass(frozen=True, kw_only=True)
class Unexpose(Step):
    """Delete the Service of an app."""

    app: str = drawn(APPS)

    async def do(self, stage: Stage) -> None:
        await stage.api.delete("services", self.app)


@kind("cordon")
@dataclass(frozen=True, kw_only=True)
class Cordon(Step):
    """Say whether new pods may come to a node."""

    node: int = drawn(NODES)
    off: bool = drawn(FLAG)

    async def do(self, stage: Stage) -> None:
        change = {"spec": {"unschedulable": self.off}}
        await stage.api.patch("nodes", f"node-{self.node}", change)


@kind("configure")
@dataclass(frozen=True, kw_only=True)
class Configure(Step):
    """Apply a ConfigMap: nobody else writes it, so whatever is acknowledged is seen."""

    name: str = drawn(OneOf("one", "two", "three"))
    value: int = drawn(Whole(0, 99))

    async def do(self, stage: Stage) -> None:
        named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}}
        await stage.api.apply({**named, "data": {"value": str(self.value)}})
