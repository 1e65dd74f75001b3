"""Repeats of one event are counted in one object, as long as that is there."""

from typing import Any

import msgpack

from kubeloop.actors.events import REMEMBERED_MAX, REMEMBERED_S, Recorder

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "a", "uid": "1"},
}


def test_a_repeat_counts_up_the_event_there_is() -> None:
    recorder = Recorder("kubelet", "node-1")
    first = recorder.record(POD, "Normal", "Pulled", "it is here", wall_s=100)
    again = recorder.record(POD, "Normal", "Pulled", "it is here", wall_s=160)
    other = recorder.record(POD, "Normal", "Pulled", "another", wall_s=160)
    assert [r.verb for r in (first, again, other)] == ["create", "patch", "create"]
    assert again.name == msgpack.unpackb(first.body)["metadata"]["name"]
    assert msgpack.unpackb(again.body)["count"] == 2


def test_an_event_that_may_have_expired_is_told_anew() -> None:
    recorder = Recorder("kubelet")
    times = [0.0, REMEMBERED_S - 1, 2 * REMEMBERED_S - 2, 3 * REMEMBERED_S - 1]
    told = [recorder.record(POD, "Normal", "Pulled", "m", wall_s=at) for at in times]
    assert [r.verb for r in told] == ["create", "patch", "patch", "create"]
    assert msgpack.unpackb(told[3].body)["count"] == 1
    names = {msgpack.unpackb(r.body)["metadata"]["name"] for r in (told[0], told[3])}
    assert len(names) == 2


def test_what_is_remembered_is_bounded() -> None:
    recorder = Recorder("kubelet")
    for number in range(REMEMBERED_MAX + 10):
        recorder.record(POD, "Normal", "Pulled", f"m{number}", wall_s=1)
    assert len(recorder._known) == REMEMBERED_MAX
