"""Every method of the generated Python clients, called with what it needs.

A method that Kubernetes serves is answered as Kubernetes answers it. What is not built yet is
named in `NOT_BUILT`, and must answer 501 until it is.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from generated import Operation, operations, reader_of, sample

from kubeloop.actors.runtimes.simulated import Script
from kubeloop.api.resources import ROWS
from kubeloop.sync import SyncCluster

official = pytest.importorskip("kubernetes", reason="no kubernetes client: pip install kubernetes")
asynchronous = pytest.importorskip(
    "kubernetes_asyncio", reason="no asyncio client: pip install kubernetes_asyncio"
)

APIS = (
    "CoreV1Api",
    "AppsV1Api",
    "AdmissionregistrationV1Api",
    "ApiextensionsV1Api",
    "ApiregistrationV1Api",
    "AuthenticationV1Api",
    "AuthorizationV1Api",
    "AutoscalingV1Api",
    "AutoscalingV2Api",
    "BatchV1Api",
    "CertificatesV1Api",
    "CoordinationV1Api",
    "DiscoveryV1Api",
    "EventsV1Api",
    "FlowcontrolApiserverV1Api",
    "NetworkingV1Api",
    "NodeV1Api",
    "PolicyV1Api",
    "RbacAuthorizationV1Api",
    "SchedulingV1Api",
    "StorageV1Api",
)
NAMESPACE = "sample"

NOT_BUILT: dict[str, str] = {
    "pods/proxy": "HTTP through the API server into a pod",
    "services/proxy": "HTTP through the API server to a Service",
    "nodes/proxy": "HTTP through the API server to a kubelet",
}
"""Resource/subresource → what it is; each answers 501, and no other."""

NOT_SERVED: dict[str, str] = {
    "clustertrustbundles/": "of certificates.k8s.io/v1 since 1.37: no trust bundles are projected",
    "podcertificaterequests/": "of certificates.k8s.io/v1 since 1.37: no pod gets a certificate",
    "podcertificaterequests/status": "as the above",
    "csinodes/status": "since 1.37: no CSI driver runs, so none has a status",
}
"""As above; each answers 404, as from a server that does not know the kind."""

ALL = {api: operations(official.client, api) for api in APIS}
NUMBERS = itertools.count(1)
TOUCHED = {"touched": "yes"}
TRIES = 10
SCALED = ("replicationcontrollers", "deployments", "replicasets", "statefulsets")
QUESTIONS = (
    "localsubjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectreviews",
    "selfsubjectrulesreviews",
    "subjectaccessreviews",
    "tokenreviews",
)
KINDS = {(row.api_version, row.plural): row.kind for row in ROWS}


class Official:
    """The client `kubernetes`: answers with (HTTP status, what came)."""

    module: Any = official.client

    def __init__(self, cluster: SyncCluster) -> None:
        self.api = official.config.new_client_from_config_dict(cluster.kubeconfig)

    def call(self, operation: Operation, **arguments: Any) -> tuple[int, Any]:
        cls = getattr(official.client, operation.api)
        if isinstance(body := arguments.get("body"), dict) and operation.method != "PATCH":
            model = getattr(cls, operation.name).__annotations__["body"]
            arguments["body"] = model.from_dict(body)
        try:
            found = getattr(cls(self.api), f"{operation.name}_with_http_info")(**arguments)
        except official.client.ApiException as error:
            return error.status, error.body
        return (found.status, found) if hasattr(found, "status") else (found[1], found[0])

    def close(self) -> None:
        self.api.close()


class Asynchronous:
    """The client `kubernetes_asyncio`, on a loop of its own."""

    module: Any = asynchronous.client

    def __init__(self, cluster: SyncCluster) -> None:
        self.runner = asyncio.Runner()
        self.api = self.runner.run(self._connect(cluster.kubeconfig))

    async def _connect(self, kubeconfig: dict[str, Any]) -> Any:
        configuration = asynchronous.client.Configuration()
        await asynchronous.config.load_kube_config_from_dict(
            kubeconfig, client_configuration=configuration
        )
        return asynchronous.client.ApiClient(configuration)

    def call(self, operation: Operation, **arguments: Any) -> tuple[int, Any]:
        return self.runner.run(self._call(operation, arguments))

    async def _call(self, operation: Operation, arguments: dict[str, Any]) -> tuple[int, Any]:
        whole = getattr(asynchronous.client, operation.api)(self.api)
        try:
            found = await getattr(whole, f"{operation.name}_with_http_info")(**arguments)
        except asynchronous.client.ApiException as error:
            return error.status, error.body
        return (found.status, found) if hasattr(found, "status") else (found[1], found[0])

    def close(self) -> None:
        self.runner.run(self.api.close())
        self.runner.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[SyncCluster]:
    images = {"web:1": Script(log=("hello",))}
    with SyncCluster(nodes=1, rest=True, images=images) as cluster:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        cluster.api.create(space)
        yield cluster


@pytest.fixture(scope="module", params=[Official, Asynchronous], ids=["official", "asyncio"])
def client(cluster: SyncCluster, request: pytest.FixtureRequest) -> Iterator[Any]:
    client = request.param(cluster)
    yield client
    client.close()


@pytest.fixture(scope="module")
def running(cluster: SyncCluster) -> str:
    """The name of a pod that runs."""
    spec = {"containers": [{"name": "c", "image": "web:1"}], "terminationGracePeriodSeconds": 0}
    metadata = {"name": "running", "namespace": NAMESPACE}
    cluster.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    cluster.api.wait("pod/running", "condition=Ready", namespace=NAMESPACE)
    return "running"


class Caller:
    """Calls operations of one class of methods, about an object of its own."""

    def __init__(self, client: Any, operation: Operation) -> None:
        self.client, self.operation = client, operation
        self.number = next(NUMBERS)
        kind = KINDS.get((operation.api_version, operation.plural), "")
        space = NAMESPACE if _namespaced(operation) else None
        self.obj = sample(operation, kind, f"s{self.number}", space)
        self.name = self.obj["metadata"]["name"]

    def call(self, operation: Operation | None = None, **more: Any) -> tuple[int, Any]:
        operation = operation or self.operation
        path: dict[str, Any] = {}
        if operation.named:
            path["name"] = self.name
        if "{namespace}" in operation.path:
            path["namespace"] = NAMESPACE
        return self.client.call(operation, **{**path, **more})

    def create(self, **spec: Any) -> None:
        """Create the object."""
        self.obj.setdefault("spec", {}).update(spec) if spec else None
        status, made = self.call(self.other("POST", named=False), body=self.obj)
        assert status == 201, made

    def read(self) -> Any:
        """Return the object as it is; None if it is gone."""
        status, found = self.call(self.other("GET", named=True))
        assert status in (200, 404), found
        return found if status == 200 else None

    def other(self, method: str, *, named: bool) -> Operation:
        """Return the plain operation of that method on the same kind."""
        for other in ALL[self.operation.api]:
            alike = other.plural == self.operation.plural and not other.subresource
            whole = other.method == method and other.named == named
            if alike and whole and (method != "POST" or _in_place(other, self.obj)):
                return other
        raise AssertionError(f"there is no {method} of {self.operation.plural}")


def _namespaced(operation: Operation) -> bool:
    """Tell whether the objects live in a namespace: some method has it in its path."""
    return any(
        other.plural == operation.plural and "{namespace}" in other.collection
        for other in ALL[operation.api]
    )


def _in_place(operation: Operation, obj: dict[str, Any]) -> bool:
    return ("{namespace}" in operation.path) == ("namespace" in obj["metadata"])


def _whole(caller: Caller) -> None:
    """Call a method on a whole object, or on a collection."""
    operation, mine = caller.operation, {"label_selector": f"sample=s{caller.number}"}
    if operation.method == "POST":
        status, made = caller.call(body=caller.obj)
        assert status == 201, made
        assert made.metadata.name == caller.name
        return
    caller.create()
    match operation.method, operation.named:
        case "GET", True:
            status, found = caller.call()
            assert (status, found.metadata.name) == (200, caller.name)
        case "GET", False:
            status, found = caller.call(**mine)
            assert status == 200, found
            assert [item.metadata.name for item in found.items] == [caller.name]
        case "DELETE", named:
            status, found = caller.call(**({} if named else mine))
            assert status == 200, found
            left = caller.read()
            assert left is None or left.metadata.deletion_timestamp is not None
        case "PATCH", _:
            status, found = caller.call(body={"metadata": {"labels": TOUCHED}})
            assert status == 200, found
            assert found.metadata.labels.items() >= TOUCHED.items()
        case "PUT", _:
            status, found = _replaced(caller, labels=True)
            assert status == 200, found
            assert found.metadata.labels["touched"] == "yes"


def _replaced(caller: Caller, *, labels: bool) -> tuple[int, Any]:
    """Read what there is and write it back: again, if a controller came between."""
    reader = reader_of(caller.operation, ALL[caller.operation.api])
    for _ in range(TRIES):
        status, found = caller.call(reader)
        assert status == 200, found
        if labels:
            found.metadata.labels = {**found.metadata.labels, **TOUCHED}
        status, answer = caller.call(body=found)
        if status != 409:
            break
    return status, answer


def _part(caller: Caller) -> None:
    """Call a method on a status, or on another part that has the object's own form."""
    caller.create()
    match caller.operation.method:
        case "GET":
            status, found = caller.call()
        case "PATCH":
            status, found = caller.call(body={"metadata": {"annotations": TOUCHED}})
        case "PUT":
            status, found = _replaced(caller, labels=False)
        case _:
            raise AssertionError(f"what is {caller.operation}?")
    assert status == 200, found
    assert found.metadata.name == caller.name
    if caller.operation.method == "PATCH" and caller.operation.subresource == "status":
        assert found.metadata.annotations["touched"] == "yes"


def _scale(caller: Caller, running: str) -> None:
    caller.create()
    match caller.operation.method:
        case "GET":
            status, found = caller.call()
            wanted = None
        case "PATCH":
            status, found = caller.call(body={"spec": {"replicas": 0}})
            wanted = None
        case _:
            status, found = _replaced(caller, labels=False)
            wanted = None
    assert status == 200, found
    assert (found.kind, found.metadata.name) == ("Scale", caller.name)
    assert (found.spec.replicas or None) == wanted


def _question(caller: Caller, running: str) -> None:
    """Ask: the answer comes with the status, and nothing is kept."""
    status, found = caller.call(body=caller.obj)
    assert status == 201, found
    assert found.status is not None


def _binding(caller: Caller, running: str) -> None:
    pod = Caller(caller.client, operation_called("create_namespaced_pod"))
    pod.create()
    caller.name = pod.name
    node = {"apiVersion": "v1", "kind": "Node", "name": "node-0"}
    body = {"metadata": {"name": pod.name, "namespace": NAMESPACE}, "target": node}
    # The answer is a Status, and no Binding as the client believes: it is not decoded.
    body = {"apiVersion": "v1", "kind": "Binding", **body}
    status, found = caller.call(body=body, _preload_content=False)
    assert status == 201, found
    assert pod.read().spec.node_name == "node-0"


def _eviction(caller: Caller, running: str) -> None:
    caller.create()
    metadata = {"name": caller.name, "namespace": NAMESPACE}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    status, found = caller.call(body=body)
    assert status == 201, found
    assert caller.read() is None


def _token(caller: Caller, running: str) -> None:
    caller.create()
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [], "expirationSeconds": 3600},
    }
    status, found = caller.call(body=body)
    assert status == 201, found
    assert found.status.token.count(".") == 2


def _log(caller: Caller, running: str) -> None:
    status, found = caller.call(name=running)
    assert (status, found) == (200, "hello\n")


def _connect(caller: Caller, running: str) -> None:
    """Without an upgrade there is no stream: kube-apiserver says so."""
    status, found = caller.call(name=running)
    assert status == 400
    assert "Upgrade request required" in str(found)


def _finalize(caller: Caller, running: str) -> None:
    caller.create()
    status, found = _replaced(caller, labels=False)
    assert (status, found.metadata.name) == (200, caller.name)


def _ephemeral(caller: Caller, running: str) -> None:
    caller.create()
    added = {"name": "debug", "image": "web:1", "targetContainerName": "c"}
    match caller.operation.method:
        case "GET":
            status, found = caller.call()
            assert (status, found.metadata.name) == (200, caller.name)
            return
        case "PATCH":
            status, found = caller.call(body={"spec": {"ephemeralContainers": [added]}})
        case _:
            pod = caller.client.api.sanitize_for_serialization(caller.read())
            pod["spec"]["ephemeralContainers"] = [added]
            status, found = caller.call(body=pod)
    assert status == 200, found
    assert [c.name for c in found.spec.ephemeral_containers] == ["debug"]


def _resize(caller: Caller, running: str) -> None:
    caller.create()
    resources = {"requests": {"cpu": "10m"}, "limits": {"cpu": "20m"}}
    caller.obj["spec"]["containers"][0]["resources"] = resources
    match caller.operation.method:
        case "GET":
            status, found = caller.call()
        case "PATCH":
            container = {"name": "c", "resources": {"requests": {"memory": "1Mi"}}}
            status, found = caller.call(body={"spec": {"containers": [container]}})
        case _:
            status, found = _replaced(caller, labels=False)
    assert (status, getattr(found, "kind", found)) == (200, "Pod")


def _components(caller: Caller, running: str) -> None:
    name = {"name": "scheduler"} if caller.operation.named else {}
    status, found = caller.call(**name)
    assert status == 200, found
    items = [found] if name else found.items
    assert {c.metadata.name: c.conditions[0].status for c in items}["scheduler"] == "True"


SPECIAL: dict[str, Callable[[Caller, str], None]] = {
    "componentstatuses/": _components,
    "bindings/": _binding,
    "namespaces/finalize": _finalize,
    "pods/attach": _connect,
    "pods/binding": _binding,
    "pods/ephemeralcontainers": _ephemeral,
    "pods/eviction": _eviction,
    "pods/exec": _connect,
    "pods/log": _log,
    "pods/portforward": _connect,
    "pods/resize": _resize,
    "serviceaccounts/token": _token,
    **{f"{plural}/scale": _scale for plural in SCALED},
    **{f"{plural}/": _question for plural in QUESTIONS},
}


def _without_model(caller: Caller) -> tuple[int, Any]:
    """Call a method whose body, if it has one, does not matter."""
    more: dict[str, Any] = {"path": "x"} if "{path}" in caller.operation.path else {}
    if caller.operation.method == "PATCH" and not more and "proxy" not in caller.operation.path:
        more["body"] = {}
    elif caller.operation.method in ("POST", "PUT") and "proxy" not in caller.operation.path:
        more["body"] = caller.obj
    return caller.call(**more)


def operation_called(name: str) -> Operation:
    """Return a method of the core group."""
    return next(operation for operation in ALL["CoreV1Api"] if operation.name == name)


def params() -> list[Any]:
    return [pytest.param(op, id=f"{api}-{op}") for api, ops in ALL.items() for op in ops]


@pytest.mark.parametrize("operation", params())
def test_every_generated_method(client: Any, running: str, operation: Operation) -> None:
    kind = f"{operation.plural}/{operation.subresource}"
    if not hasattr(getattr(client.module, operation.api), operation.name):
        pytest.skip(f"this version of {client.module.__name__} has no {operation}")
    if operation.path.endswith("/"):
        status, found = client.call(operation)
        assert (status, found.group_version) == (200, operation.group_version)
    elif kind in NOT_BUILT or kind in NOT_SERVED:
        status, found = _without_model(Caller(client, operation))
        wanted = 501 if kind in NOT_BUILT else 404
        assert status == wanted, f"{kind} is built: take it out of the table ({found})"
    elif kind in SPECIAL:
        SPECIAL[kind](Caller(client, operation), running)
    elif operation.subresource:
        _part(Caller(client, operation))
    else:
        _whole(Caller(client, operation))


def test_what_is_not_built_is_known_to_kubernetes() -> None:
    """The set holds nothing that no client could call."""
    kinds = {f"{op.plural}/{op.subresource}" for ops in ALL.values() for op in ops}
    assert {*NOT_BUILT, *NOT_SERVED} <= kinds
