"""Namespaces end with all they hold; service accounts come with them."""

from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, Mini, Obj, Op, deployment, pod, replica_set

from kubeloop.api.resources import RESOURCES

INSIDE = [r.id for r in RESOURCES.values() if r.namespaced]


def namespace(name: str = "n") -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def inside(obj: Obj) -> Obj:
    return {**obj, "metadata": {**obj["metadata"], "namespace": "n"}}


def contents(mini: Mini) -> list[str]:
    return [f"{r}/{o['metadata']['name']}" for r in INSIDE for o in mini.all(r, "n")]


FILL = st.lists(
    st.sampled_from(["deployment", "set", "pod", "held pod", "service", "config"]), max_size=6
)


def fill(mini: Mini, what: list[str]) -> None:
    for number, kind in enumerate(what):
        match kind:
            case "deployment":
                obj = deployment(2)
                obj["metadata"]["name"] = f"web{number}"
            case "set":
                obj = replica_set(f"s{number}", {"app": f"s{number}"}, 2)
            case "pod":
                obj = pod(f"p{number}", {"app": "web"})
            case "held pod":
                obj = pod(f"p{number}", {}, finalizers=["test/held"])
            case "service":
                obj = {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": f"v{number}"},
                    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
                }
            case _:
                obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}}
        mini.create(inside(obj))


@given(
    seed=st.integers(0, 1000),
    first=FILL,
    later=FILL,
    at=st.integers(0, 30),
    ops=st.lists(DISTURBANCES, max_size=40),
)
@settings(max_examples=80)
def test_it_goes_with_all_it_holds(
    seed: int, first: list[str], later: list[str], at: int, ops: list[Op]
) -> None:
    mini = Mini(seed=seed)
    mini.create(namespace())
    fill(mini, first)
    mini.start()
    for number, op in enumerate([*ops, ("work", 0)]):
        if number == min(at, len(ops)):
            mini.delete(mini.get("namespaces", "n", "") or {})
            fill(mini, later)  # Refused from now on.
        mini.disturb(op)
    mini.settle()
    for obj in mini.all("pods", "n"):
        mini.patch(obj, {"metadata": {"finalizers": None}})
    mini.settle()
    assert contents(mini) == []
    assert mini.get("namespaces", "n", "") is None
    mini.see_that_it_rests()


def test_it_tells_what_it_waits_for() -> None:
    mini = Mini()
    mini.create(namespace())
    fill(mini, ["held pod", "held pod", "config"])
    mini.start()
    mini.delete(mini.get("namespaces", "n", "") or {})
    mini.settle()
    obj = mini.get("namespaces", "n", "") or {}
    told = {
        c["type"]: (c["status"], c["reason"], c["message"]) for c in obj["status"]["conditions"]
    }
    assert obj["status"]["phase"] == "Terminating"
    assert told == {
        "NamespaceDeletionDiscoveryFailure": (
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        "NamespaceDeletionGroupVersionParsingFailure": (
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        "NamespaceDeletionContentFailure": (
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        "NamespaceContentRemaining": (
            "True",
            "SomeResourcesRemain",
            "Some resources are remaining: pods. has 2 resource instances",
        ),
        "NamespaceFinalizersRemaining": (
            "True",
            "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: "
            "test/held in 2 resource instances",
        ),
    }
    mini.see_that_it_rests()


def test_finalizers_of_others_are_waited_for() -> None:
    mini = Mini()
    guarded = namespace()
    guarded["metadata"]["finalizers"] = ["test/guard"]
    mini.create(guarded)
    mini.start()
    mini.settle()
    mini.delete(mini.get("namespaces", "n", "") or {})
    mini.settle()
    obj = mini.get("namespaces", "n", "") or {}
    assert obj["spec"] == {}
    assert contents(mini) == []
    mini.see_that_it_rests()
    mini.patch(obj, {"metadata": {"finalizers": None}})
    mini.settle()
    assert mini.get("namespaces", "n", "") is None


def test_more_than_one_batch_goes() -> None:
    mini = Mini()
    mini.create(namespace())
    fill(mini, ["config"] * 601)
    mini.start()
    mini.delete(mini.get("namespaces", "n", "") or {})
    mini.settle()
    assert mini.get("namespaces", "n", "") is None


def test_every_namespace_has_a_default_account() -> None:
    mini = Mini()
    mini.create(namespace())
    mini.start()
    mini.settle()
    for name in ("default", "kube-system", "n"):
        assert mini.get("serviceaccounts", "default", name) is not None
    mini.delete(mini.get("serviceaccounts", "default", "n") or {})
    mini.settle()
    assert mini.get("serviceaccounts", "default", "n") is not None
    mini.see_that_it_rests()
