"""An address or a node port belongs to one Service, however many API servers share the store."""

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_server import Server, config, service

from kubeloop.actors.requests.claims import RANGES, claims
from kubeloop.store.facts import NO_CAUSE, key_of
from kubeloop.store.history import History, Write

ADDRESSES = [f"10.96.0.{n}" for n in range(1, 5)]
PORTS = [30000, 30001, 30002]


def claimed(server: Server) -> dict[str, str]:
    page = server.store.list(f"{RANGES}/")
    return {
        key.removeprefix(f"{RANGES}/"): msgpack.unpackb(value)["owner"]
        for key, value in zip(page.keys, page.values, strict=True)
    }


def test_a_service_and_what_it_claims_come_and_go_together() -> None:
    server = Server()
    before = claimed(server)
    made = server.create(service())
    ip, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
    mine = {f"serviceips/{ip}": "default/s", f"servicenodeports/TCP-{port}": "default/s"}
    assert claimed(server) == {**before, **mine}
    facts = server.store.history.facts_at(server.store.revision)
    assert facts[0].key == key_of("services", "default", "s")
    assert len(facts) == 3
    change = {"spec": {"type": "ClusterIP"}}
    server.ok("patch", "services", "s", change, patchType="merge")
    assert claimed(server) == {**before, f"serviceips/{ip}": "default/s"}
    server.ok("delete", "services", "s")
    assert claimed(server) == before
    assert len(server.store.history.facts_at(server.store.revision)) == 2


def other(server: Server) -> Server:
    """Return a second API server over the same store."""
    second = Server.__new__(Server)
    second.now, second.store = server.now, server.store
    second.core = type(server.core)(
        server.store,
        wall=lambda: second.now,
        bits=random.Random(1).getrandbits,  # It draws what the first one drew.
        settings=server.core.state.settings,
    )
    return second


@pytest.mark.parametrize(
    "spec", [{"clusterIP": "10.96.0.77"}, {"ports": [{"port": 80, "nodePort": 30007}]}]
)
def test_what_another_api_server_has_given_away_is_not_given_again(spec: Any) -> None:
    first = Server()
    second = other(first)
    first.create(service("a", **spec))
    revision = first.store.revision
    refused = second.refused("create", "services", body=service("b", **spec))
    assert (refused["code"], "already allocated" in refused["message"]) == (422, True)
    assert second.refused("get", "services", "b")["code"] == 404
    assert first.store.revision == revision


def test_two_api_servers_that_draw_alike_give_different_addresses() -> None:
    first = Server()
    second = other(first)
    made = [server.create(service(f"s{n}")) for n, server in enumerate([first, second] * 5)]
    assert len({s["spec"]["clusterIP"] for s in made}) == 10
    assert len({s["spec"]["ports"][0]["nodePort"] for s in made}) == 10


def test_an_address_that_is_taken_at_the_last_moment_is_not_given_twice() -> None:
    """What was read is checked again in the transaction: between the two nothing can change."""
    server = Server()
    state, commit = server.core.state, server.store.commit
    spec = {"clusterIP": "10.96.0.77"}

    def meanwhile(*args: Any, **more: Any) -> int:
        server.store.commit = commit  # type: ignore[method-assign]
        other(server).create(service("first", **spec))
        return commit(*args, **more)

    server.store.commit = meanwhile  # type: ignore[method-assign]
    refused = server.refused("create", "services", body=service("late", **spec))
    assert (refused["code"], "try again" in refused["message"]) == (503, True)
    assert state.owner_of_claim("serviceips", "10.96.0.77") == "default/first"


def test_nobody_creates_in_a_namespace_that_another_api_server_deletes() -> None:
    """The check is part of the transaction: between reading and writing nothing can change."""
    server = Server()
    state, commit = server.core.state, server.store.commit
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})

    def meanwhile(*args: Any, **more: Any) -> int:
        server.store.commit = commit  # type: ignore[method-assign]
        state.store.commit([Write(key_of("namespaces", "", "ns"), b"\x80")], NO_CAUSE)
        return commit(*args, **more)

    server.store.commit = meanwhile  # type: ignore[method-assign]
    refused = server.refused("create", "configmaps", body=config(), namespace="ns")
    assert refused["code"] == 503
    assert server.store.get(key_of("configmaps", "ns", "c")) is None


def made_of(name: str, ips: list[str], ports: list[int]) -> dict[str, Any]:
    spec = {"clusterIPs": ips or ["None"], "ports": [{"nodePort": p} for p in ports]}
    return {"metadata": {"namespace": "a", "name": name}, "spec": spec}


steps = st.lists(
    st.tuples(
        st.sampled_from(["s", "t", "u"]),
        st.none() | st.tuples(
            st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=2),
            st.lists(st.sampled_from(PORTS), unique=True, max_size=2),
        ),
    )
)  # fmt: skip


@given(steps)
def test_claims_are_what_the_services_have(steps: Any) -> None:
    history, services = History(), dict[str, dict[str, Any]]()
    for name, wanted in steps:
        before = services.get(name)
        after = None if wanted is None else made_of(name, *wanted)
        has = {k for s in services.values() if s is not before for k in keys_of(s)}
        writes = claims(before, after, history.revision + 1)
        taken = bool(has & keys_of(after))
        assert taken == any(history.get(w.key) is not None for w in writes if w.value)
        if not taken and writes:
            history.commit(writes, NO_CAUSE)
        if not taken:
            services.pop(name, None)
            if after is not None:
                services[name] = after
        keys = {key for s in services.values() for key in keys_of(s)}
        assert set(history.list(f"{RANGES}/").keys) == keys


def keys_of(service: dict[str, Any] | None) -> set[str]:
    if service is None:
        return set()
    spec = service["spec"]
    ips = {f"{RANGES}/serviceips/{ip}" for ip in spec["clusterIPs"] if ip != "None"}
    return ips | {f"{RANGES}/servicenodeports/TCP-{p['nodePort']}" for p in spec["ports"]}
