"""Other people's Python clients against a whole cluster."""

from collections.abc import Iterator
from typing import Any

import pytest

from kubeloop import Cluster
from kubeloop.sync import SyncCluster

official = pytest.importorskip("kubernetes", reason="no kubernetes client: pip install kubernetes")
asynchronous = pytest.importorskip(
    "kubernetes_asyncio", reason="no asyncio client: pip install kubernetes_asyncio"
)

LABELS = {"app": "web"}
POD: dict[str, Any] = {
    "metadata": {"name": "p", "labels": LABELS, "annotations": {"kubeloop.dev/sim.log": "hello"}},
    "spec": {"containers": [{"name": "c", "image": "b"}], "terminationGracePeriodSeconds": 0},
}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        SyncCluster(nodes=1, rest=True, tls=True) as cluster,
        official.config.new_client_from_config_dict(cluster.kubeconfig) as api,
    ):
        yield api


def test_official_objects(client: Any) -> None:
    core, apps = official.client.CoreV1Api(client), official.client.AppsV1Api(client)
    (node,) = core.list_node().items
    assert node.status.node_info.kubelet_version.startswith("v1.37")
    template = {
        "metadata": official.client.V1ObjectMeta(labels=LABELS),
        "spec": official.client.V1PodSpec(
            containers=[official.client.V1Container(name="c", image="b")]
        ),
    }
    wanted = official.client.V1Deployment(
        metadata=official.client.V1ObjectMeta(name="web"),
        spec=official.client.V1DeploymentSpec(
            replicas=2,
            selector=official.client.V1LabelSelector(match_labels=LABELS),
            template=official.client.V1PodTemplateSpec(**template),
        ),
    )
    made = apps.create_namespaced_deployment("default", wanted)
    assert made.spec.strategy.rolling_update.max_surge == "25%"
    watch = official.watch.Watch()
    for event in watch.stream(apps.list_namespaced_deployment, "default", timeout_seconds=20):
        if event["object"].status.ready_replicas == 2:
            watch.stop()
    assert apps.read_namespaced_deployment("web", "default").status.ready_replicas == 2
    scaled = apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 1}})
    assert scaled.spec.replicas == 1
    with pytest.raises(official.client.ApiException) as refused:
        apps.create_namespaced_deployment("default", wanted)
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    apps.delete_namespaced_deployment("web", "default", propagation_policy="Foreground")


def test_official_dynamic_client_and_logs(client: Any) -> None:
    dynamic = official.dynamic.DynamicClient(client)
    pods = dynamic.resources.get(api_version="v1", kind="Pod")
    made = pods.create(body={"apiVersion": "v1", "kind": "Pod", **POD}, namespace="default")
    assert made.status.phase == "Pending"
    for event in pods.watch(namespace="default", name="p", timeout=20):
        if event["object"].status.phase == "Running":
            break
    core = official.client.CoreV1Api(client)
    assert core.read_namespaced_pod_log("p", "default") == "hello\n"
    assert core.delete_namespaced_pod("p", "default").metadata.name == "p"


async def test_asyncio_client() -> None:
    async with Cluster(nodes=1, rest=True) as cluster:
        configuration = asynchronous.client.Configuration()
        await asynchronous.config.load_kube_config_from_dict(
            cluster.kubeconfig, client_configuration=configuration
        )
        async with asynchronous.client.ApiClient(configuration) as api:
            core = asynchronous.client.CoreV1Api(api)
            made = await core.create_namespaced_pod("default", POD)
            since = made.metadata.resource_version
            phases = []
            async with asynchronous.watch.Watch() as watch:
                stream = watch.stream(
                    core.list_namespaced_pod, "default", resource_version=since, timeout_seconds=20
                )
                async for event in stream:
                    phases.append(event["object"].status.phase)
                    if phases[-1] == "Running":
                        break
            assert phases[0] == "Pending"
            change = {"metadata": {"labels": {"a": "b"}}}
            patched = await core.patch_namespaced_pod("p", "default", change)
            assert patched.metadata.labels == {**LABELS, "a": "b"}
            await core.delete_namespaced_pod("p", "default")
            assert (await core.list_namespaced_pod("default")).items == []
