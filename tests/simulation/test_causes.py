"""What the controllers and the scheduler write leads back to the request of a user."""

from typing import Any

from kubeloop.cluster import Cluster
from kubeloop.store.causality import effects, why

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        },
    },
}


def test_what_is_written_leads_back_to_the_users_request(simulate: Any) -> None:
    async def scenario() -> None:
        async with Cluster(nodes=2) as cluster:
            made = await cluster.api.create(DEPLOYMENT)
            await cluster.api.wait("deployment/web", "condition=Available")
            history, begun = cluster.store.history, int(made.metadata["resourceVersion"])
            (asked,) = history.facts_at(begun)
            assert (asked.cause.actor, asked.cause.user) == ("", "system:admin")
            led_to = effects(history, begun)
            kinds = {fact.resource for fact in led_to}
            assert {"replicasets.apps", "pods"} <= kinds
            writers = {"controller-manager", "scheduler"}
            mine = [f for f in history.since(begun) if f.cause.actor in writers and "web" in f.key]
            assert len(mine) > 4
            for fact in mine:
                chain = why(history, fact.revision)
                assert chain.complete
                assert asked in [one for facts in chain.facts for one in facts], fact.key
                assert fact in led_to

    simulate(scenario)
