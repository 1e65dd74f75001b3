"""Tokens in projected volumes: asked for once, told when refused, gone with their pod."""

from typing import Any

import msgpack
import pytest

from kubeloop import sim
from kubeloop.actors.messages import Outcome
from kubeloop.actors.pods.downward import ConfigError
from kubeloop.actors.pods.state import Pod, new_pod
from kubeloop.actors.pods.tokens import TAG, Tokens
from kubeloop.api.times import rfc3339
from kubeloop.cluster import Cluster
from kubeloop.nodes import SimulatedNodes

SOURCE = {"path": "token", "audience": "vault", "expirationSeconds": 1000}


def manifest(*sources: dict[str, Any], account: str = "default") -> dict[str, Any]:
    projected = {"sources": [{"serviceAccountToken": source} for source in sources]}
    mount = {"name": "t", "mountPath": "/var/run/token"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {
            "serviceAccountName": account,
            "volumes": [{"name": "t", "projected": projected}],
            "containers": [{"name": "c", "image": "i", "volumeMounts": [mount]}],
        },
    }


def a_pod(*sources: dict[str, Any]) -> Pod:
    obj = manifest(*sources)
    obj["metadata"]["uid"] = "u1"
    return new_pod(obj, wall_s=0, now=0)


def answer(token: str, ends_s: float) -> bytes:
    told = {"status": {"token": token, "expirationTimestamp": rfc3339(ends_s)}}
    packed: bytes = msgpack.packb(told)
    return packed


def test_a_token_is_asked_for_once_and_anew_when_it_is_old() -> None:
    tokens, pod = Tokens(), a_pod(SOURCE)
    (request,) = tokens.wanted(pod, 100.0)
    body = msgpack.unpackb(request.body)
    assert body["spec"]["audiences"] == ["vault"] and body["spec"]["expirationSeconds"] == 1000
    assert body["spec"]["boundObjectRef"]["uid"] == "u1"
    assert (request.resource, request.subresource) == ("serviceaccounts", "token")
    assert tokens.wanted(pod, 101.0) == [] and pod.awaits_token, "it is on its way"
    tokens.clear()
    assert len(tokens.wanted(pod, 102.0)) == 1, "the answer may have been lost"
    tag = request.tag.removeprefix(f"{TAG}/")
    assert tokens.answered(tag, Outcome(tag, 201, 0, answer("abc", 1100.0))) == "u1"
    assert (
        tokens.wanted(pod, 500.0) == []
        and not pod.awaits_token
        and tokens.text(pod, SOURCE) == "abc"
    )
    assert tokens.wanted(pod, 950.0) and pod.awaits_token
    tokens.forget("u1")
    assert tokens.wanted(pod, 500.0)


def test_a_refusal_is_told_and_asked_again() -> None:
    tokens, pod = Tokens(), a_pod(SOURCE)
    (request,) = tokens.wanted(pod, 100.0)
    tag = request.tag.removeprefix(f"{TAG}/")
    body = msgpack.packb({"message": 'serviceaccounts "x" not found'})
    tokens.answered(tag, Outcome(tag, 404, 0, body))
    assert tokens.wanted(pod, 101.0) == [] and not pod.awaits_token
    with pytest.raises(ConfigError, match='failed to fetch token: serviceaccounts "x" not found'):
        tokens.text(pod, SOURCE)
    assert len(tokens.wanted(pod, 102.0)) == 1
    assert tokens.answered("gone/1/", Outcome("", 201, 0, answer("x", 1.0))) == ""


async def whole() -> None:
    async with Cluster(nodes=1, seed=1) as cluster:
        await cluster.settled()
        await cluster.api.create(manifest(SOURCE, {"path": "own"}))
        await cluster.api.wait("pod/p", "condition=Ready", timeout_s=60)
        pod = await cluster.api.get("pods", "p")
        assert isinstance(cluster.nodes, SimulatedNodes)
        runtime = cluster.nodes.runtimes["node-1"]
        read = {}
        for path in ("token", "own"):
            argv = ["cat", f"/var/run/token/{path}"]
            session = await runtime.open_exec(pod.uid, "c", argv, stdin=False, tty=False)
            read[path] = (await session.read())[1].decode()
        for path, audiences in (("token", ["vault"]), ("own", [])):
            review = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "metadata": {"name": ""},
                "spec": {"token": read[path], "audiences": audiences},
            }
            status = (await cluster.api.create(review))["status"]
            assert status["authenticated"], status
            assert status["user"]["username"] == "system:serviceaccount:default:default"
        assert read["token"] != read["own"]


def test_a_pod_reads_tokens_that_are_good() -> None:
    sim.run(whole, seed=1)
