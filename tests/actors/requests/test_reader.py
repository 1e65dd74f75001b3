"""What is read without a turn of the API server is what the API server would have said."""

import random
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.requests.core import Core
from kubeloop.actors.requests.definitions import Definitions
from kubeloop.actors.requests.reader import Reader
from kubeloop.actors.requests.state import Settings
from kubeloop.api.calls import Request
from kubeloop.store.store import Store

NAMES = st.sampled_from(["a", "b", "c"])
MAPS = "configmaps"
WRITES = st.tuples(st.sampled_from(["create", "delete", "flush"]), NAMES)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "resourceVersion": st.sampled_from(["0", "1", "2", "9999", "x"]),
        "resourceVersionMatch": st.sampled_from(["Exact", "NotOlderThan"]),
        "limit": st.integers(0, 2),
        "labelSelector": st.sampled_from(["n=a", "n!=a", "n in (a,b)"]),
        "fieldSelector": st.sampled_from(["metadata.name=a", "metadata.name!=a", "spec.x=y"]),
    },
)
RESOURCES = st.sampled_from([MAPS, "pods", "nothing"])
NAMESPACES = st.sampled_from(["", "default"])
READS = st.one_of(
    st.tuples(RESOURCES, NAMES).map(lambda told: Request("get", told[0], "default", told[1])),
    st.tuples(NAMESPACES, OPTIONS).map(
        lambda told: Request("list", MAPS, told[0], options=told[1])
    ),
)


def core_over(store: Store) -> Core:
    return Core(store, wall=lambda: 0.0, bits=random.Random(1).getrandbits, settings=Settings())


def config_map(name: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"n": name}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


@given(st.lists(WRITES, max_size=8), READS)
def test_it_says_the_same_or_nothing(writes: list[tuple[str, str]], read: Request) -> None:
    store = Store.memory()
    core, reader = core_over(store), Reader(store, Definitions(store))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    core.handle(Request("create", "namespaces", body=msgpack.packb(namespace)))
    for verb, name in writes:
        if verb == "flush":
            store.flush(lambda error: None)
        else:
            body = msgpack.packb(config_map(name)) if verb == "create" else b""
            given = "" if verb == "create" else name
            core.handle(Request(verb, MAPS, "default", given, body=body))
    said = reader.read(read)
    if store.durable != store.revision:
        assert said is None, "somebody might be told of what is taken back"
        store.flush(lambda error: None)
        said = reader.read(read)
    assert said == core.handle(read)


def test_what_it_does_not_answer() -> None:
    store = Store.memory()
    reader = Reader(store, Definitions(store))
    for request in (
        Request("create", MAPS, "default"),
        Request("get", MAPS, "default", "a", "status"),
        Request("get", "componentstatuses", "", "scheduler"),
        Request("list", "tokenreviews.authentication.k8s.io"),
    ):
        assert reader.read(request) is None
