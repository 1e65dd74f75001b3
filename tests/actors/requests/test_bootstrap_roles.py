"""The roles every cluster has: valid, and made of their parts as the controller would make them."""

from typing import Any

from request_server import Server

from kubeloop.actors.requests.bootstrap_roles import bootstrap_roles
from kubeloop.api.roles import CLUSTER_ROLES, rules_of, selectors_of

Json = dict[str, Any]


def role(name: str, *rules: str, labels: Json | None = None, chosen: Any = ()) -> Json:
    told: Json = {"metadata": {"name": name, "labels": labels or {}}, "rules": [*rules]}
    return {**told, "aggregationRule": {"clusterRoleSelectors": [*chosen]}} if chosen else told


def test_they_are_taken_and_need_no_more_work() -> None:
    server = Server()
    for obj in bootstrap_roles():
        server.create(obj)
    roles = server.core.state.all(CLUSTER_ROLES)
    made = [one for one in roles if selectors_of(one)]
    assert {one["metadata"]["name"] for one in made} == {"admin", "edit", "view"}
    for one in made:
        assert one["rules"] == rules_of(one, roles)
        assert len(one["rules"]) >= 10


def test_a_role_has_the_rules_of_those_it_chooses() -> None:
    a = role("a", "1", "2", labels={"x": "1"})
    b = role("b", "2", "3", labels={"y": "1"})
    c = role("c", "4", labels={"x": "1"})
    both = [{"matchLabels": {"y": "1"}}, {"matchLabels": {"x": "1"}}]
    chooser = role("z", "old", labels={"x": "1"}, chosen=both)
    assert rules_of(chooser, [chooser, c, b, a]) == ["2", "3", "1", "4"]
    assert rules_of(role("z", chosen=[{"matchLabels": {"n": "1"}}]), [a, b]) == []
    assert rules_of(role("z", chosen=[{}]), [c, a]) == ["1", "2", "4"]
