"""Admission policies in a whole cluster: beside webhooks, and for what controllers write."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hook_server import add, allowed, configuration, hooks

from kubeloop import Cluster, sim
from kubeloop.api.errors import ApiError
from kubeloop.net.client import Client

pytest.importorskip("cel_expr_python", reason="rules in CEL need kubeloop[cel]")

API = "admissionregistration.k8s.io/v1"
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
Json = dict[str, Any]


def play(work: Callable[[Client, Cluster], Awaitable[None]], nodes: int = 0) -> None:
    """Run a test in a cluster of its own."""

    async def main() -> None:
        async with Cluster(nodes=nodes, seed=1) as cluster:
            await work(cluster.api, cluster)

    sim.run(main)


async def enact(api: Client, kind: str, name: str, about: str, **spec: Any) -> None:
    """Make a policy and its binding. about: a resource of the core group."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": [about]}
    told: Json = {"matchConstraints": {"resourceRules": [rule]}, **spec}
    bound: Json = {"policyName": name}
    if kind == "Validating":
        bound["validationActions"] = ["Deny"]
    metadata = {"name": name}
    await api.create(
        {"apiVersion": API, "kind": f"{kind}AdmissionPolicy", "metadata": metadata, "spec": told}
    )
    kind = f"{kind}AdmissionPolicyBinding"
    await api.create({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": bound})


def data(expression: str, policy: str = "IfNeeded") -> Json:
    """Return the spec of a policy that sets data of a ConfigMap."""
    told = {"expression": f"Object{{data: Object.data{{{expression}}}}}"}
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": told}
    return {"mutations": [mutation], "reinvocationPolicy": policy}


def test_policies_come_before_webhooks_and_look_again() -> None:
    async def work(api: Client, _: Cluster) -> None:
        def mark(request: Json) -> Json:
            seen.append(dict(request["object"]["data"]))
            return allowed(add("/data/hook", "yes"))

        def look(request: Json) -> Json:
            looked.append(dict(request["object"]["data"]))
            return allowed()

        seen: list[Json] = []
        looked: list[Json] = []
        async with hooks(mark=mark, look=look):
            again = configuration("Mutating", "mark", reinvocationPolicy="IfNeeded")
            await api.create(again)
            await api.create(configuration("Validating", "look"))
            hooked = "saw: has(object.data.hook) ? 'hook' : 'none'"
            await enact(api, "Mutating", "p", "configmaps", **data(hooked))
            made = await api.create(MAP)
            assert made["data"] == {"k": "v", "hook": "yes", "saw": "hook"}
            assert seen == [
                {"k": "v", "saw": "none"},
                {"k": "v", "hook": "yes", "saw": "hook"},
            ]
            assert looked == [made["data"]]
            denial = [{"expression": "object == null || !has(object.data.hook)", "message": "no"}]
            await enact(api, "Validating", "q", "configmaps", validations=denial)
            with pytest.raises(ApiError, match="'q' with binding 'q' denied request: no"):
                await api.create({**MAP, "metadata": {"name": "b"}})
            assert len(looked) == 1, "a policy refuses before webhooks look"

    play(work)


def test_what_controllers_write_is_judged_and_repaired() -> None:
    async def work(api: Client, _: Cluster) -> None:
        holds = [{"expression": "object == null || has(object.metadata.labels.owner)"}]
        await enact(api, "Validating", "owned", "pods", validations=holds)
        spec = {"containers": [{"name": "c", "image": "i"}]}
        told = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": "r"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "r"}},
                "template": {"metadata": {"labels": {"app": "r"}}, "spec": spec},
            },
        }
        await api.create(told)
        short = await api.wait("replicaset/r", "condition=ReplicaFailure", timeout_s=60)
        message = short["status"]["conditions"][0]["message"]
        assert "ValidatingAdmissionPolicy 'owned' with binding 'owned' denied request" in message
        labels = "Object{metadata: Object.metadata{labels: {'owner': 'us'}}}"
        mutation = {
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": labels},
        }
        await enact(
            api, "Mutating", "own", "pods", mutations=[mutation], reinvocationPolicy="Never"
        )
        await api.wait(
            "replicaset/r", lambda one: one["status"].get("readyReplicas") == 2, timeout_s=900
        )
        pods = await api.list("pods")
        assert [one.metadata["labels"] for one in pods] == [{"app": "r", "owner": "us"}] * 2

    play(work, nodes=1)


def test_a_policy_is_looked_through_and_heeded_after_a_crash() -> None:
    async def work(api: Client, cluster: Cluster) -> None:
        await enact(api, "Validating", "p", "configmaps", validations=[{"expression": "false"}])
        await cluster.settled()
        policy = await api.get("validatingadmissionpolicies", "p")
        assert policy["status"] == {"observedGeneration": 1, "typeChecking": {}}
        cluster.supervisor.crash("apiserver", RuntimeError("for a test"))
        with pytest.raises(ApiError, match="denied request"):
            await api.create(MAP)
        await api.patch("validatingadmissionpolicies", "p", {"spec": {"failurePolicy": "Ignore"}})
        await cluster.settled()
        policy = await api.get("validatingadmissionpolicies", "p")
        assert policy["status"]["observedGeneration"] == 2

    play(work)


def test_leases_of_nodes_are_judged_too() -> None:
    """Renewing one takes a shorter way, but not where somebody wants to look."""

    async def work(api: Client, cluster: Cluster) -> None:
        rule = {
            "apiGroups": ["coordination.k8s.io"],
            "apiVersions": ["v1"],
            "operations": ["UPDATE"],
            "resources": ["leases"],
        }
        mutation = {
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {
                "expression": "Object{metadata: Object.metadata{labels: {'seen': 'yes'}}}"
            },
        }
        about: Any = {"resourceRules": [rule]}
        await enact(
            api,
            "Mutating",
            "p",
            "x",
            matchConstraints=about,
            mutations=[mutation],
            reinvocationPolicy="Never",
        )
        await asyncio.sleep(60)
        leases = await api.list("leases", namespace="kube-node-lease")
        assert [one.metadata.get("labels") for one in leases] == [{"seen": "yes"}]

    play(work, nodes=1)
