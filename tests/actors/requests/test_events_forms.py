"""One store, two forms: an event of either group is read, changed, chosen and watched as both."""

from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st
from request_server import Server

from kubeloop.api import events

OLD, NEW = "events", "events.events.k8s.io"
MICRO, TIME = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00Z"
Json = dict[str, Any]


def old(name: str = "e", **more: Any) -> Json:
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    kind = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}}
    return {**kind, "involvedObject": about, "reason": "R", "message": "m", "type": "Normal",
            **more}  # fmt: skip


def new(name: str = "n", **more: Any) -> Json:
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name},
        "eventTime": MICRO,
        "regarding": about,
        "reason": "R",
        "note": "m",
        "type": "Normal",
        "action": "A",
        "reportingController": "example.com/c",
        "reportingInstance": "c-1",
        **more,
    }


def said(obj: Json) -> Json:
    return {key: value for key, value in obj.items() if key != "metadata"}


def test_an_old_event_is_read_as_a_new_one() -> None:
    server = Server()
    source = {"component": "kubelet", "host": "n1"}
    server.create(old(count=3, firstTimestamp=TIME, lastTimestamp=TIME, source=source))
    assert said(server.ok("get", NEW, "e")) == {
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "eventTime": None,
        "reason": "R",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        "note": "m",
        "type": "Normal",
        "deprecatedSource": source,
        "deprecatedFirstTimestamp": TIME,
        "deprecatedLastTimestamp": TIME,
        "deprecatedCount": 3,
    }


def test_a_new_event_is_read_as_an_old_one_and_both_lists_have_both() -> None:
    server = Server()
    made = server.create(new(series={"count": 2, "lastObservedTime": MICRO}))
    assert made["apiVersion"] == "events.k8s.io/v1"
    server.create(old())
    told = said(server.ok("get", OLD, "n"))
    assert told == {
        "kind": "Event",
        "apiVersion": "v1",
        "eventTime": MICRO,
        "series": {"count": 2, "lastObservedTime": MICRO},
        "reportingComponent": "example.com/c",
        "reportingInstance": "c-1",
        "action": "A",
        "reason": "R",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "message": "m",
        "type": "Normal",
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
    }
    for resource, version in ((OLD, "v1"), (NEW, "events.k8s.io/v1")):
        items = [msgpack.unpackb(i) for i in server.ask("list", resource).items]
        assert [i["metadata"]["name"] for i in items] == ["e", "n"]
        assert {i["apiVersion"] for i in items} == {version}


def test_both_are_chosen_by_their_own_fields() -> None:
    server = Server()
    server.create(old(reason="Other", reportingComponent="example.com/d"))
    server.create(new())
    for resource, selector, names in (
        (NEW, "regarding.name=p", ["e", "n"]),
        (NEW, "reportingController=example.com/c", ["n"]),
        (NEW, "reason=Other,regarding.kind=Pod", ["e"]),
        (OLD, "involvedObject.name=p,reason=R", ["n"]),
        (NEW, "metadata.name=n,type=Warning", []),
    ):
        items = server.ask("list", resource, fieldSelector=selector).items
        assert [msgpack.unpackb(i)["metadata"]["name"] for i in items] == names
    status = server.refused("list", NEW, fieldSelector="involvedObject.name=p")
    assert status["message"] == "field label not supported: involvedObject.name"


def test_what_is_changed_in_one_form_is_changed_in_the_other() -> None:
    server = Server()
    made = server.create(new())
    made["series"] = {"count": 2, "lastObservedTime": MICRO}
    server.ok("update", NEW, "n", made)
    server.ok("patch", OLD, "n", {"metadata": {"labels": {"a": "b"}}}, patchType="merge")
    server.ok("patch", NEW, "n", {"series": {"count": 5}}, patchType="merge")
    told = server.ok("get", OLD, "n")
    assert (told["series"]["count"], told["metadata"]["labels"]) == (5, {"a": "b"})
    status = server.refused("create", OLD, "", old("n"))
    assert status["reason"] == "AlreadyExists"
    server.ok("deletecollection", NEW, fieldSelector="regarding.name=p")
    assert server.ask("list", OLD).items == []


def test_a_new_event_is_told_strictly() -> None:
    server = Server()
    bad = new("e", eventTime=None, type="Odd", deprecatedCount=1, series={"count": 1,
              "lastObservedTime": MICRO})  # fmt: skip
    assert server.refused("create", NEW, "", bad)["message"] == (
        'Event.events.k8s.io "e" is invalid: [series.count: Invalid value: "": should be at least 2'
        ', eventTime: Required value, type: Invalid value: "": has invalid value: Odd, count:'
        ' Invalid value: "": needs to be unset]'
    )
    made = server.create(new())
    made["note"] = "another"
    assert server.refused("update", NEW, "n", made)["message"] == (
        'Event.events.k8s.io "n" is invalid: message: Invalid value: "another": field is immutable'
    )
    made = server.create(old())
    made["message"] = "another"
    server.ok("update", OLD, "e", made)


def test_they_go_after_their_time_both() -> None:
    server = Server()
    server.create(new())
    server.now += 3601
    server.core.state.expire()
    assert server.ask("list", NEW).items == []


texts = st.sampled_from(["a", "b c"])


@given(
    st.fixed_dictionaries(
        {"metadata": st.just({"name": "e"})},
        optional={
            "eventTime": st.just(MICRO),
            "series": st.just({"count": 2}),
            "reportingComponent": texts,
            "reportingInstance": texts,
            "action": texts,
            "reason": texts,
            "involvedObject": st.just({"kind": "Pod"}),
            "related": st.just({"kind": "Node"}),
            "message": texts,
            "type": texts,
            "source": st.just({"component": "c"}),
            "firstTimestamp": st.just(TIME),
            "lastTimestamp": st.just(TIME),
            "count": st.integers(1, 9),
        },
    )
)
def test_there_and_back_is_the_same(obj: Json) -> None:
    kept = events.stored(events.served(obj))
    assert {key: kept[key] for key in obj} == obj
    assert all(not value for key, value in kept.items() if key not in {*obj, "kind", "apiVersion"})
