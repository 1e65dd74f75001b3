"""Admission webhooks in a simulation: real HTTPS to a server of somebody else's."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hook_server import add, allowed, client, configuration, denied, hooks, never

from kubeloop import Cluster, sim
from kubeloop.api.errors import ApiError, BadRequest, Conflict, InternalError, NotFound
from kubeloop.net.client import Client

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}


def play(work: Callable[[Client, Cluster], Awaitable[None]], **options: Any) -> None:
    """Run a test in a cluster of its own."""

    async def main() -> None:
        async with Cluster(nodes=0, seed=1, **options) as cluster:
            await work(cluster.api, cluster)

    sim.run(main)


async def register(api: Client, *configurations: dict[str, Any]) -> None:
    """Register webhooks."""
    for one in configurations:
        await api.create(one)


def label(request: dict[str, Any], name: str, value: str = "yes") -> Any:
    """Return a response that adds a label."""
    labels = (request["object"]["metadata"].get("labels") or {}) | {name: value}
    return allowed(add("/metadata/labels", labels))


def test_one_that_changes_and_one_that_looks() -> None:
    async def work(api: Client, _: Cluster) -> None:
        async with hooks(
            mark=lambda request: label(request, "marked"),
            look=lambda request: (
                allowed(warnings=["looked at"])
                if request["object"]["metadata"]["labels"] == {"marked": "yes"}
                else denied("unmarked")
            ),
        ) as asked:
            await register(api, configuration("Mutating", "mark"))
            await register(api, configuration("Validating", "look"))
            made = await api.create(MAP)
            assert made.metadata["labels"] == {"marked": "yes"}
            assert [one["operation"] for one in asked] == ["CREATE", "CREATE"]
            first, second = asked
            assert first["object"]["data"] == {"k": "v"} and first["oldObject"] is None
            assert "uid" not in first["object"]["metadata"]
            assert second["object"]["metadata"]["uid"] == made.uid
            assert first["userInfo"]["username"] == "system:admin"
            assert first["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
            assert (first["namespace"], first["name"]) == ("default", "a")
            assert first["options"]["kind"] == "CreateOptions"
            asked.clear()
            await api.patch("cm", "a", {"data": {"k": "w"}}, type_="merge")
            assert [one["operation"] for one in asked] == ["UPDATE", "UPDATE"]
            assert asked[0]["oldObject"]["data"] == {"k": "v"}
            assert asked[0]["object"]["data"] == {"k": "w"}

    play(work)


def test_a_refusal_is_told_and_nothing_is_written() -> None:
    async def work(api: Client, cluster: Cluster) -> None:
        no = {"no": lambda _: denied("I do not like it", code=403, reason="Forbidden")}
        async with hooks(**no, dumb=lambda _: {"allowed": False}):
            await register(api, configuration("Validating", "no"))
            await cluster.settled()
            before = cluster.store.revision
            with pytest.raises(ApiError) as refused:
                await api.create(MAP)
            assert str(refused.value) == (
                'admission webhook "no.hooks.example" denied the request: I do not like it'
            )
            assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
            assert cluster.store.revision == before
            with pytest.raises(NotFound):
                await api.get("cm", "a")
            await api.create({**MAP, "kind": "Secret", "data": {}})  # Nobody asked to be asked.
            await api.delete("validatingwebhookconfigurations", "validating")
            await register(api, configuration("Validating", "dumb"))
            with pytest.raises(ApiError, match="denied the request without explanation"):
                await api.create(MAP)

    play(work)


def test_deletion_is_asked_about() -> None:
    async def work(api: Client, _: Cluster) -> None:
        async with hooks(
            keep=lambda r: denied("keep it") if not r["object"] else allowed()
        ) as asked:
            await register(api, configuration("Validating", "keep"))
            await api.create(MAP)
            with pytest.raises(ApiError, match="keep it"):
                await api.delete("cm", "a")
            assert asked[-1]["operation"] == "DELETE"
            assert asked[-1]["oldObject"]["data"] == {"k": "v"}
            assert (await api.get("cm", "a")).name == "a"

    play(work)


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_one_that_does_not_answer(policy: str) -> None:
    async def work(api: Client, _: Cluster) -> None:
        loop = asyncio.get_running_loop()
        late = configuration("Validating", "never", failurePolicy=policy, timeoutSeconds=3)
        nobody = configuration("Mutating", "nobody", failurePolicy=policy)
        nobody["webhooks"][0]["clientConfig"]["url"] = "https://127.0.0.1:9/x"
        for one, why, takes_s in (
            (nobody, "dial tcp 127.0.0.1:9: connect: ", 0.0),
            (late, 'Post "https://127.0.0.1:8443/never?timeout=3s": context deadline', 3.0),
        ):
            async with hooks(never=never):
                await register(api, one)
                since = loop.time()
                if policy == "Ignore":
                    await api.create(MAP)
                    await api.delete("cm", "a")
                    takes_s *= 2
                else:
                    with pytest.raises(InternalError, match="failed calling webhook") as failed:
                        await api.create(MAP)
                    assert why in str(failed.value)
                assert abs(loop.time() - since - takes_s) < 0.5
                kind = one["kind"].lower() + "s"
                await api.delete(kind, one["metadata"]["name"])

    play(work)


def test_they_are_asked_in_order_and_again_if_they_want() -> None:
    async def work(api: Client, _: Cluster) -> None:
        order: list[str] = []

        def noted(name: str) -> Callable[[dict[str, Any]], Any]:
            def handle(request: dict[str, Any]) -> Any:
                order.append(name)
                return label(request, name, str(len(order)))

            return handle

        async with hooks(a=noted("a"), b=noted("b")):
            wanted = configuration("Mutating", "a", "b", reinvocationPolicy="IfNeeded")
            wanted["webhooks"][1]["reinvocationPolicy"] = "Never"
            await register(api, wanted)
            made = await api.create(MAP)
            assert order == ["a", "b", "a"]
            assert made.metadata["labels"] == {"a": "3", "b": "2"}

    play(work)


def test_which_ones_are_asked() -> None:
    async def work(api: Client, _: Cluster) -> None:
        async with hooks(look=lambda _: allowed()) as asked:
            await register(
                api,
                configuration(
                    "Validating",
                    "look",
                    objectSelector={"matchLabels": {"look": "yes"}},
                    namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "default"}},
                ),
            )
            await api.create(MAP)
            assert asked == []
            await api.patch("cm", "a", {"metadata": {"labels": {"look": "yes"}}}, type_="merge")
            assert len(asked) == 1
            await api.patch("cm", "a", {"metadata": {"labels": None}}, type_="merge")
            assert len(asked) == 2, "the old object was chosen"
            await api.create({**MAP, "metadata": {"name": "b", "labels": {"look": "yes"}}})
            assert len(asked) == 3
            elsewhere = {"name": "b", "namespace": "kube-public", "labels": {"look": "yes"}}
            await api.create({**MAP, "metadata": elsewhere})
            assert len(asked) == 3

    play(work)


def test_conditions() -> None:
    pytest.importorskip("cel_expr_python", reason="rules in CEL need kubeloop[cel]")

    async def work(api: Client, _: Cluster) -> None:
        async with hooks(look=lambda _: denied("asked")):
            conditions = [
                {"name": "new", "expression": "oldObject == null"},
                {"name": "big", "expression": "has(object.data.big)"},
                {
                    "name": "may",
                    "expression": "authorizer.group('').resource('pods').check('get').allowed()",
                },
            ]
            await register(api, configuration("Validating", "look", matchConditions=conditions))
            await api.create(MAP)
            await api.patch("cm", "a", {"data": {"big": "1"}}, type_="merge")
            with pytest.raises(ApiError, match="asked"):
                await api.create({**MAP, "metadata": {"name": "b"}, "data": {"big": "1"}})

    play(work)


def test_a_dry_run_needs_webhooks_without_effects() -> None:
    async def work(api: Client, cluster: Cluster) -> None:
        async with hooks(look=lambda r: allowed() if r["dryRun"] else denied("wet")) as asked:
            await register(api, configuration("Validating", "look"))
            await api.create(MAP, dry_run=True)
            assert asked[0]["dryRun"]
            with pytest.raises(NotFound):
                await api.get("cm", "a")
            with pytest.raises(ApiError, match="wet"):
                await api.create(MAP)

    play(work)


def test_nonsense_is_refused() -> None:
    async def work(api: Client, _: Cluster) -> None:
        answers: list[Any] = [
            (allowed(add("/nowhere/at/all", 1)), "failed calling webhook"),
            (allowed(add("/metadata/name", "b")), "a webhook changed metadata.name"),
            ({**allowed(), "uid": "x"}, 'expected response.uid="'),
            (allowed(patch="e30=", patchType="Merge"), 'unexpected patch type "Merge"'),
            (allowed(add("/data/k", 3)), "cannot unmarshal number into Go"),
        ]
        async with hooks(silly=lambda _: answers[0][0]):
            await register(api, configuration("Mutating", "silly"))
            while answers:
                with pytest.raises((InternalError, BadRequest)) as refused:
                    await api.create(MAP)
                assert answers.pop(0)[1] in str(refused.value)

    play(work)


def test_what_changes_meanwhile_is_asked_about_again() -> None:
    """As an update is tried again in Kubernetes; one that names a version conflicts."""

    async def work(api: Client, _: Cluster) -> None:
        go = asyncio.Event()
        seen: list[Any] = []

        async def slow(request: dict[str, Any]) -> Any:
            seen.append(request["object"]["data"])
            await go.wait()
            return allowed()

        async with hooks(slow=slow):
            made = await api.create(MAP)
            rule = configuration("Validating", "slow", timeoutSeconds=30)
            await register(api, rule)
            update = asyncio.create_task(
                api.patch("cm", "a", {"data": {"mine": "1"}}, type_="merge")
            )
            stale = asyncio.create_task(api.update({**made, "data": {"all": "new"}}))
            await asyncio.sleep(1)
            await api.delete("validatingwebhookconfigurations", "validating")
            await api.patch("cm", "a", {"data": {"others": "2"}}, type_="merge")
            await register(api, rule)
            go.set()
            assert (await update)["data"] == {"k": "v", "mine": "1", "others": "2"}
            with pytest.raises(Conflict):
                await stale
            assert {"k": "v", "mine": "1"} in seen
            assert {"k": "v", "mine": "1", "others": "2"} in seen

    play(work)


def test_an_api_server_that_fails_while_they_are_asked() -> None:
    """Who waits is told; nothing was written; its successor asks as well."""

    async def work(api: Client, cluster: Cluster) -> None:
        async with hooks(never=never, look=lambda _: allowed()) as asked:
            await register(api, configuration("Validating", "never", timeoutSeconds=30))
            waits = asyncio.create_task(api.create(MAP))
            await asyncio.sleep(1)
            assert len(asked) == 1
            cluster.supervisor.crash("apiserver", RuntimeError("for a test"))
            with pytest.raises(ApiError):
                await waits
            await asyncio.sleep(5)
            with pytest.raises(NotFound):
                await api.get("cm", "a")
            config = await api.get("validatingwebhookconfigurations", "validating")
            config["webhooks"][0]["clientConfig"] = client("look")
            await api.update(config)
            assert (await api.create(MAP)).name == "a"
            assert len(asked) == 2

    play(work)


def test_what_the_cluster_itself_writes_is_asked_about() -> None:
    async def work(api: Client, _: Cluster) -> None:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
        rule["resources"] = ["pods"]
        async with hooks(mark=lambda request: label(request, "marked")) as asked:
            wanted = configuration("Mutating", "mark", rules=[rule])
            await register(api, wanted)
            spec = {"containers": [{"name": "c", "image": "i"}]}
            await api.create(
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": "d"},
                    "spec": {
                        "replicas": 2,
                        "selector": {"matchLabels": {"app": "d"}},
                        "template": {"metadata": {"labels": {"app": "d"}}, "spec": spec},
                    },
                }
            )
            await api.wait("deployment/d", "condition=Available", timeout_s=60)
            pods = await api.list("pods")
            assert [pod.metadata["labels"]["marked"] for pod in pods] == ["yes", "yes"]
            user = "system:serviceaccount:kube-system:replicaset-controller"
            assert {one["userInfo"]["username"] for one in asked} == {user}

    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as cluster:
            await work(cluster.api, cluster)

    sim.run(main)
