"""Connections are spread evenly, clients with affinity stay, and nobody is sent to the dead."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.balancer import Balancer, Endpoint


@dataclass
class Rule:
    endpoints: list[Endpoint]
    affinity_s: int = 0
    service: str = "default/web"
    place: tuple[str, int, str] = ("", 30000, "TCP")


endpoints = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3)), unique=True, max_size=6)


@given(endpoints, st.data())
def test_it_chooses_one_that_was_not_tried(found: list[Endpoint], data: st.DataObject) -> None:
    balancer = Balancer(Rule(found), draw=lambda: data.draw(st.floats(0, 0.999)))
    tried: list[Endpoint] = []
    while (chosen := balancer.choose("c", 0.0, tried)) is not None:
        assert chosen in found
        assert chosen not in tried
        tried.append(chosen)
    assert sorted(tried) == sorted(found)


def test_every_endpoint_gets_its_share() -> None:
    found = [("a", 1), ("b", 1), ("c", 1)]
    draws = iter(n / 300 for n in range(300))
    balancer = Balancer(Rule(found), draw=lambda: next(draws))
    chosen = [balancer.choose("c", 0.0) for _ in range(300)]
    assert {chosen.count(endpoint) for endpoint in found} == {100}


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.floats(0, 50)), max_size=30), endpoints)
def test_a_client_stays_until_it_is_away_too_long(
    visits: list[tuple[str, float]], found: list[Endpoint]
) -> None:
    draws = iter([0.1, 0.9, 0.5, 0.3, 0.7] * 30)
    balancer = Balancer(Rule(found, affinity_s=30), draw=lambda: next(draws))
    now, last = 0.0, dict[str, tuple[Endpoint, float]]()
    for client, pause in visits:
        now += pause
        chosen = balancer.choose(client, now)
        if chosen is None:
            assert not found
            continue
        if client in last and now < last[client][1] + 30:
            assert chosen == last[client][0]
        last[client] = (chosen, now)


def test_affinity_ends_with_its_endpoint() -> None:
    balancer = Balancer(Rule([("a", 1)], affinity_s=30), draw=lambda: 0.0)
    assert balancer.choose("c", 0.0) == ("a", 1)
    balancer.update(Rule([("b", 1)], affinity_s=30))
    assert balancer.choose("c", 1.0) == ("b", 1)
