"""A Lease is renewed the short way, and whoever looks cannot tell it from the long one."""

from typing import Any

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st
from request_server import Server

from kubeloop.actors.requests import heartbeats, writing
from kubeloop.api.calls import Outcome, Request

LEASES = heartbeats.LEASES
TIMES = (
    "2026-11-23T05:58:18.123456Z",
    "2026-11-23T05:58:28.000000Z",
    "2026-11-23T05:58:28.000000+01:00",
    "2026-11-23T05:58:28Z",
    "2026-02-30T05:58:28.000000Z",
    "٢026-11-23T05:58:28.000000Z",
    "soon",
    None,
    7,
)


def lease(**metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "n", "labels": {"a": "b"}, **metadata},
        "spec": {
            "holderIdentity": "n",
            "leaseDurationSeconds": 40,
            "renewTime": TIMES[0],
        },
    }


specs = st.dictionaries(
    st.sampled_from(["renewTime", "renewTime", "holderIdentity", "leaseDurationSeconds", "nope"]),
    st.sampled_from([*TIMES, "n", "m", 40, True, {}]),
    max_size=3,
)
patches = st.one_of(
    specs.map(lambda spec: {"spec": spec}),
    st.fixed_dictionaries(
        {"spec": st.sampled_from(TIMES[:4]).map(lambda time: {"renewTime": time})},
        optional={"metadata": st.sampled_from([{}, {"labels": {"a": "c"}}, {"uid": "x"}])},
    ),
    st.sampled_from([[], None, {"spec": None}, {"spec": []}]),
)
OPTIONS: list[dict[str, Any]] = [
    {"patchType": "merge"},
    {"patchType": "merge", "dryRun": ["All"]},
    {"patchType": "merge", "fieldValidation": "Strict"},
    {"patchType": "strategic"},
]


@given(patches, st.sampled_from(OPTIONS), st.booleans(), st.sampled_from(["n", "m"]))
@example({"spec": {"renewTime": TIMES[1], "holderIdentity": "n"}}, OPTIONS[0], True, "n")
@example({"spec": {"renewTime": TIMES[1]}}, OPTIONS[0], False, "n")
def test_the_short_way_answers_and_writes_as_the_long_one(
    patch: Any, options: dict[str, Any], ending: bool, name: str
) -> None:
    told = []
    for way in ("short", "long"):
        server = Server()
        server.create(lease(finalizers=["example.com/hold"] if ending else []))
        if ending:
            server.ok("delete", LEASES, "n")
        request = Request(
            "patch", LEASES, "default", name, "", msgpack.packb(patch), options, tag="t", id="1"
        )
        outcome = server.core.handle(request) if way == "short" else long_way(server, request)
        told.append((outcome, server.store.history.since(0)))
    assert told[0] == told[1]


def long_way(server: Server, request: Request) -> Outcome:
    short, writing.renew = writing.renew, lambda state, request: None
    try:
        return server.core.handle(request)
    finally:
        writing.renew = short


def test_a_heartbeat_takes_the_short_way() -> None:
    server = Server()
    server.create(lease())
    patch = msgpack.packb({"spec": {"renewTime": TIMES[1], "holderIdentity": "n"}})
    request = Request("patch", LEASES, "default", "n", "", patch, dict(OPTIONS[0]))
    assert heartbeats.renew(server.core.state, request) is not None
