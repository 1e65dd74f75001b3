"""Connections are spread evenly, clients with affinity stay, and nobody is sent to the dead."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop.net.balancer import Balancer, Endpoint, maglev


@dataclass
class Rule:
    endpoints: list[Endpoint]
    affinity_s: int = 0
    service: str = "default/web"
    place: tuple[str, int, str] = ("", 30000, "TCP")
    balancing: str = "random"


endpoints = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3)), unique=True, max_size=6)


ways = st.sampled_from(["random", "round-robin", "least-connections", "maglev"])


@given(endpoints, ways, st.data())
def test_it_chooses_one_that_was_not_tried(
    found: list[Endpoint], way: str, data: st.DataObject
) -> None:
    balancer = Balancer(Rule(found, balancing=way), draw=lambda: data.draw(st.floats(0, 0.999)))
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


MANY = [(f"10.244.0.{n}", 8080) for n in range(1, 51)]
CLIENTS = [f"10.1.{n // 250}.{n % 250}" for n in range(5_000)]


@given(st.integers(1, 50), st.integers(1, 20))
def test_round_robin_gives_each_as_many(count: int, rounds: int) -> None:
    balancer = Balancer(Rule(MANY[:count], balancing="round-robin"), draw=lambda: 0.0)
    chosen = [balancer.choose("c", 0.0) for _ in range(count * rounds)]
    assert {chosen.count(endpoint) for endpoint in MANY[:count]} == {rounds}


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 6), st.data())
def test_least_connections_is_the_least(steps: list[int], count: int, data: st.DataObject) -> None:
    """Each step opens a connection, or closes one that is open; the model counts."""
    rule = Rule(MANY[:count], balancing="least-connections")
    balancer = Balancer(rule, draw=lambda: data.draw(st.floats(0, 0.999)))
    open_: list[Endpoint] = []
    for step in steps:
        if step % 3 == 0 and open_:
            balancer.left(open_.pop(step % len(open_)))
            continue
        chosen = balancer.choose("c", 0.0)
        assert chosen is not None
        assert open_.count(chosen) == min(open_.count(endpoint) for endpoint in rule.endpoints)
        balancer.took(chosen)
        open_.append(chosen)
    for endpoint in open_:
        balancer.left(endpoint)
    assert balancer._active == {}


def where(found: list[Endpoint]) -> dict[str, Endpoint | None]:
    balancer = Balancer(Rule(found, balancing="maglev"), draw=lambda: 0.0)
    return {client: balancer.choose(client, 0.0) for client in CLIENTS}


@given(st.sets(st.integers(0, 49), min_size=2, max_size=50), st.data())
@settings(max_examples=15, deadline=None)
def test_maglev_keeps_clients_where_they_are(numbers: set[int], data: st.DataObject) -> None:
    found = [MANY[n] for n in sorted(numbers)]
    gone = data.draw(st.sampled_from(found))
    left = [endpoint for endpoint in found if endpoint != gone]
    before, after = where(found), where(left)
    assert where(found[::-1]) == before, "it is the set that counts"
    shares = [list(before.values()).count(endpoint) for endpoint in found]
    assert max(shares) <= 2 * len(CLIENTS) / len(found) + 30
    if (len(found) <= 10) == (len(left) <= 10):
        moved = [c for c in CLIENTS if before[c] != gone and after[c] != before[c]]
        assert len(moved) <= len(CLIENTS) / 5, "those of others stay, nearly all"
    table = maglev(found)
    slots = [table.count(endpoint) for endpoint in found]
    assert max(slots) - min(slots) <= 1


@given(st.lists(ways, min_size=1, max_size=4), endpoints, endpoints)
def test_a_rule_may_change_its_ways(
    all_: list[str], before: list[Endpoint], after: list[Endpoint]
) -> None:
    balancer = Balancer(Rule(before, balancing=all_[0]), draw=lambda: 0.5)
    for way in all_:
        for found in (before, after):
            balancer.update(Rule(found, balancing=way))
            chosen = balancer.choose("c", 0.0)
            assert chosen in found if found else chosen is None
            if chosen is not None:
                balancer.took(chosen)
