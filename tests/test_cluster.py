"""The door: what a program that embeds a cluster can do with it."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kubeloop
from kubeloop import Cluster, SyncCluster, sim
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.api.errors import AlreadyExists, Conflict, Invalid, NotFound
from kubeloop.net.client import ALL
from kubeloop.store.store import StoreFailed

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: web:1}]
"""


async def test_the_ten_lines_of_the_readme(tmp_path: Path) -> None:
    manifest = tmp_path / "deployment.yaml"
    manifest.write_text(DEPLOYMENT)
    async with Cluster(nodes=3) as c:
        await c.api.apply(manifest)
        await c.api.wait("deployment/web", lambda d: d.status.get("readyReplicas") == 3)
        pods = await c.api.list("pods")
        assert {pod.spec["nodeName"] for pod in pods} == {"node-1", "node-2", "node-3"}


def test_the_client() -> None:
    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as c:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
            made = await c.api.create(body)
            assert (made.kind, made.name, made.namespace) == ("ConfigMap", "a", "default")
            with pytest.raises(AlreadyExists):
                await c.api.create(body)
            changed = await c.api.patch("cm", "a", {"data": {"k": "v"}}, type_="merge")
            assert changed.resource_version > made.resource_version
            with pytest.raises(Conflict):
                await c.api.update({**made, "data": {"k": "w"}})
            assert (await c.api.get("configmap", "a"))["data"] == {"k": "v"}
            assert [o.name for o in await c.api.list("cm", fields="metadata.name=a")] == ["a"]
            assert await c.api.list("cm", labels="x=y") == []
            assert {o.namespace for o in await c.api.list("sa", namespace=ALL)} >= {"kube-system"}
            await c.api.delete("cm", "a")
            with pytest.raises(NotFound, match='configmaps "a" not found'):
                await c.api.get("cm", "a")
            with pytest.raises(Invalid, match="must be no more than 253 bytes"):
                await c.api.create({**body, "metadata": {"name": "x" * 300}})
            with pytest.raises(LookupError, match="resource type 'widgets'"):
                await c.api.list("widgets")
            with pytest.raises(TimeoutError, match="it never existed"):
                await c.api.wait("pod/nope", "condition=Ready", timeout_s=1)

    sim.run(main)


def test_apply_sets_what_is_said_and_removes_what_no_longer_is() -> None:
    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as c:
            config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
            await c.api.apply({**config, "data": {"one": "1", "two": "2"}})
            await c.api.patch("cm", "a", {"data": {"other": "3"}}, type_="merge")
            await c.api.apply({**config, "data": {"one": "1b"}})
            (found,) = await c.api.list("cm", fields="metadata.name=a")
            assert found["data"] == {"one": "1b", "other": "3"}
            revision = found.resource_version
            (same,) = await c.api.apply({**config, "data": {"one": "1b"}})
            assert same.resource_version == revision, "nothing changed, nothing is written"

    sim.run(main)


def test_apply_on_the_servers_side() -> None:
    async def main() -> None:
        async with Cluster(nodes=0, seed=1) as c:
            config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
            await c.api.apply({**config, "data": {"one": "1"}}, field_manager="m1")
            with pytest.raises(Conflict, match=r'conflict with "m1": \.data\.one'):
                await c.api.apply({**config, "data": {"one": "2"}}, field_manager="m2")
            again = {**config, "data": {"one": "2"}}
            (found,) = await c.api.apply(again, field_manager="m2", force=True)
            assert [entry["manager"] for entry in found.metadata["managedFields"]] == ["m2"]
            with pytest.raises(ValueError, match="who forces it"):
                await c.api.apply(config, force=True)

    sim.run(main)


def test_a_watch_misses_nothing() -> None:
    async def main() -> None:
        async with Cluster(nodes=0, seed=1) as c:
            seen = []

            async def follow() -> None:
                async for change in c.api.watch("cm", labels="w=1"):
                    seen.append((change.type, change.object.name))
                    if change.type == "DELETED":
                        return

            watching = asyncio.create_task(follow())
            meta = {"name": "a", "labels": {"w": "1"}}
            await c.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
            await c.api.patch("cm", "a", {"data": {"k": "v"}}, type_="merge")
            await c.api.patch("cm", "a", {"metadata": {"labels": {"w": None}}}, type_="merge")
            await watching
            assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]

    sim.run(main)


def test_the_synchronous_twin() -> None:
    with SyncCluster(nodes=2, rest=True) as c:
        c.api.apply(DEPLOYMENT)
        web = c.api.wait("deployment/web", "condition=Available")
        assert web.name == "web"
        changes = c.api.watch("deployments")
        assert next(changes).object.name == "web"
        changes.close()
        assert c.url.startswith("http://127.0.0.1:")
        assert c.kubeconfig["current-context"] == "kubeloop-kubeloop"


def test_images_are_scripts_of_behaviour() -> None:
    async def main() -> None:
        images = {"job:1": Script(run_s=5, exit_code=3)}
        async with Cluster(nodes=1, seed=1, images=images) as c:
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "job"},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "c", "image": "job:1"}],
                },
            }
            await c.api.create(pod)
            done = await c.api.wait("pod/job", lambda p: p.status.get("phase") == "Failed")
            assert done is not None
            (status,) = done.status["containerStatuses"]
            assert status["state"]["terminated"]["exitCode"] == 3

    sim.run(main)


async def test_two_clusters_in_one_process_never_meet() -> None:
    async with Cluster(nodes=1, name="one") as one, Cluster(nodes=1, name="two") as two:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
        await one.api.create(body)
        assert [o.name for o in await two.api.list("cm")] == []
        await one.stop()
        await two.api.create(body)


@pytest.mark.parametrize(
    ("options", "told"), [({"nodes": -1}, "0 nodes or more"), ({"tls": True}, "rest=True")]
)
def test_wrong_options_are_explained(options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Cluster(**options)  # type: ignore[arg-type]


async def test_without_an_endpoint_there_is_no_url() -> None:
    async with Cluster(nodes=0) as c:
        with pytest.raises(RuntimeError, match="rest=True"):
            assert c.url


def test_importing_kubeloop_loads_nothing_heavy() -> None:
    code = """
        import sys, kubeloop
        heavy = {"aiohttp", "pykka", "yaml", "click", "rich", "asyncio", "hypothesis"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    with pytest.raises(AttributeError, match="nonsense"):
        assert kubeloop.nonsense  # type: ignore[attr-defined]


def test_without_rest_a_cluster_needs_no_http() -> None:
    code = """
        import asyncio, sys
        from kubeloop import Cluster
        async def main():
            async with Cluster(nodes=1):
                assert "aiohttp" not in sys.modules
        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


async def test_what_has_not_begun_or_has_failed_is_not_healthy() -> None:
    cluster = Cluster(nodes=0)
    await cluster.prepare()
    try:
        assert "poststarthook/rbac/bootstrap-roles" in cluster.failing()
        assert "informer-sync" in cluster.failing()
        await cluster.start()
        assert cluster.failing() == {}
        cluster.store.failure = StoreFailed("the disk is full")
        assert cluster.failing() == {"etcd": "etcd failed: the disk is full"}
    finally:
        cluster.store.failure = None
        await cluster.stop()
