"""The cluster's authority is in every namespace, whatever is done to it and whoever crashes."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, ENDLESS_S, Mini, Op

from kubeloop.actors.controller_manager import Settings

NAME = "kube-root-ca.crt"
KNOWN = Settings(node_grace_s=ENDLESS_S, authority="PEM")
SPOILT: tuple[Any, ...] = (
    {"data": {"ca.crt": "bad"}},
    {"data": {"ca.crt": None}},
    {"data": {"more": "x"}},
    {"metadata": {"annotations": {"kubernetes.io/description": None}}},
    {"metadata": {"labels": {"mine": "yes"}}},
)


def spoil(mini: Mini, what: int | None) -> None:
    """Change the config map of a namespace, or delete it."""
    found = mini.get("configmaps", NAME, "n")
    if found is not None and what is None:
        mini.delete(found)
    elif found is not None and what is not None:
        mini.patch(found, SPOILT[what])


EDITS = st.tuples(st.just("spoil"), st.none() | st.integers(0, len(SPOILT) - 1))


@given(st.lists(st.one_of(EDITS, DISTURBANCES), max_size=20))
def test_it_is_published_and_repaired(ops: list[Op]) -> None:
    mini = Mini(settings=KNOWN, nodes=())
    mini.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    mini.start()
    for op in ops:
        if not mini.disturb(op):
            spoil(mini, op[1])
    mini.settle()
    for namespace in ("default", "kube-system", "kube-public", "kube-node-lease", "n"):
        found = mini.get("configmaps", NAME, namespace) or {}
        assert found["data"] == {"ca.crt": "PEM"}
        told = found["metadata"]["annotations"]["kubernetes.io/description"]
        assert told.startswith("Contains a CA bundle that can be used to verify the kube-apiserver")
        managers = [one["manager"] for one in found["metadata"]["managedFields"]]
        assert "kube-controller-manager" in managers
    mini.see_that_it_rests()


def test_without_an_authority_nothing_is_published() -> None:
    mini = Mini()
    mini.start()
    mini.settle()
    assert mini.all("configmaps") == []
