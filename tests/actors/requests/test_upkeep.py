"""What every cluster has from its start: one commit, of objects as anybody could have made them."""

import msgpack
from hypothesis import given
from hypothesis import strategies as st
from request_server import NOW, Server

from kubeloop.actors.requests import upkeep
from kubeloop.api.resources import RESOURCES
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import key_of


def test_the_packed_objects_are_those_that_are_made() -> None:
    """If not: python tools/generate_planted.py."""
    made = [(key_of(id_, "", name), msgpack.packb(obj)) for id_, name, obj in upkeep.made()]
    assert list(upkeep._packed()) == made


@given(st.sets(st.integers(0, len(upkeep._packed()) - 1), max_size=5))
def test_what_is_missing_comes_back_with_the_next_start(gone: set[int]) -> None:
    server = Server()
    state = server.core.state
    before = state.store.revision
    assert upkeep.plant(state) and state.store.revision == before + 1
    assert not upkeep.plant(state) and upkeep.due(state) == []
    keys = [key for key, _ in upkeep._packed()]
    uids = set()
    for key in keys:
        stored = state.store.get(key)
        assert stored is not None
        obj = msgpack.unpackb(stored.value)
        uids.add(obj["metadata"]["uid"])
        assert obj["metadata"]["resourceVersion"] == str(before + 1)
        times = {one["time"] for one in obj["metadata"]["managedFields"]}
        assert times == {obj["metadata"]["creationTimestamp"]} == {rfc3339(NOW)}
        assert b"1970" not in stored.value and b"00000000-0000" not in stored.value
    assert len(uids) == len(keys)
    for number in gone:
        _, _, id_, name = keys[number].split("/")
        assert RESOURCES[id_].stored
        server.ok("delete", id_, name, namespace="")
    assert upkeep.plant(state) == bool(gone)
    assert all(state.store.get(key) is not None for key in keys)
