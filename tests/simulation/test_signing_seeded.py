"""Certificates in a whole cluster on virtual time: signed whoever crashes, and from one seed."""

import asyncio
import base64

from hypothesis import given, settings
from hypothesis import strategies as st
from signing_requests import CLIENT, NODE_CLIENT, request_pem, signing_request

from kubeloop import Cluster, sim
from kubeloop.api.errors import ApiError
from kubeloop.net.client import KubeObject

CALLS = ("client auth", "digital signature")


def issued(obj: KubeObject) -> bool:
    return "certificate" in obj.status


async def signed(crashes: list[float]) -> list[bytes]:
    """Return two certificates that were signed while the controller manager crashed."""
    async with Cluster(nodes=1, rest=True, tls=True, seed=1) as cluster:

        async def crash() -> None:
            for after_s in crashes:
                await asyncio.sleep(after_s)
                if cluster.supervisor.actor("controller-manager") is not None:
                    cluster.supervisor.crash("controller-manager", RuntimeError("on purpose"))

        crashing = asyncio.create_task(crash())
        node = request_pem("system:node:n", ["system:nodes"])
        asked = signing_request("jane", CLIENT, CALLS, request_pem("jane", ["dev"]))
        await cluster.api.create(asked)
        await cluster.api.create(signing_request("node", NODE_CLIENT, CALLS, node))
        found = await cluster.api.get("csr", "jane")
        yes = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
        await cluster.api.update({**found, "status": {"conditions": [yes]}}, subresource="approval")
        made = [await cluster.api.wait(f"csr/{name}", issued) for name in ("jane", "node")]
        await crashing
        # Whoever comes back publishes the authority again.
        await cluster.api.delete("configmaps", "kube-root-ca.crt")
        await cluster.api.wait(
            "configmap/kube-root-ca.crt", lambda obj: bool(obj["data"]["ca.crt"])
        )
        await asyncio.sleep(2 * 3600)
        for name in ("jane", "node"):
            try:
                await cluster.api.get("csr", name)
            except ApiError as error:
                assert error.reason == "NotFound"
            else:
                raise AssertionError(f"{name} is still there")
        return [base64.b64decode(obj.status["certificate"]) for obj in made]


@settings(max_examples=12)
@given(st.lists(st.floats(0, 0.05), max_size=4))
def test_they_are_signed_and_go_whoever_crashes(crashes: list[float]) -> None:
    sim.run(lambda: signed(crashes), seed=1)


def test_a_seed_is_a_certificate() -> None:
    sim.run(lambda: signed([]), seed=1)  # What is imported for the first time draws, too.
    assert sim.run(lambda: signed([]), seed=1) == sim.run(lambda: signed([]), seed=1)
    assert sim.run(lambda: signed([]), seed=1) != sim.run(lambda: signed([]), seed=2)
