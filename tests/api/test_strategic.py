"""Strategic merge patch: the real kubectl is the oracle; then laws that hold for any patch."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import ApiError, BadRequest
from kubeloop.api.schema import decode_strict
from kubeloop.api.strategic import strategic_merge_patch

KUBECTL = Path(__file__).parents[2] / ".venv" / "bin" / "kubectl"

Json = dict[str, Any]


def named(name: str, **fields: Any) -> Json:
    return {"name": name, **fields}


POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/a", "x/b"]},
    "spec": {
        "containers": [
            named(
                "a",
                image="1",
                command=["x", "y"],
                env=[named("E", value="1"), named("F", value="2")],
                ports=[{"containerPort": 80}, {"containerPort": 81, "protocol": "UDP"}],
            ),
            named("b", image="2"),
        ],
        "volumes": [named("v", emptyDir={}), named("w", hostPath={"path": "/x"})],
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "nodeSelector": {"q": "r"},
    },
}
DEPLOYMENT: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d"},
    "spec": {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [named("a", image="1")]},
        },
    },
}
SERVICE: Json = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "s"},
    "spec": {"ports": [{"port": 80, "name": "x"}, {"port": 81, "name": "y"}]},
}

ORDER, DROP = "$setElementOrder/", "$deleteFromPrimitiveList/"
POD_SPECS: list[Json] = [
    {"containers": [named("b", image="3")]},
    {"containers": [named("c", image="3"), named("a", image="9")]},
    {"containers": [named("a", **{"$patch": "delete"})]},
    {"containers": [named("z", image="1"), {"$patch": "replace"}]},
    {"containers": [named("a", **{"$patch": "replace"}, image="7"), named("q", image="1")]},
    {"containers": [named("a", **{"$patch": "merge"})]},
    {"containers": [named("a", **{"$patch": "nope"})]},
    {"containers": [{"$patch": "delete"}]},
    {"containers": [{"image": "x"}]},
    {"containers": ["x"]},
    {"containers": "x"},
    {"containers": None},
    {"containers": []},
    {f"{ORDER}containers": [named("b"), named("a")]},
    {
        f"{ORDER}containers": [named("c"), named("b"), named("a")],
        "containers": [named("c", image="x"), named("a", image=None)],
    },
    {f"{ORDER}containers": [named("b")]},
    {f"{ORDER}containers": [named("a")], "containers": [named("b", image="x")]},
    {f"{ORDER}containers": [named("b")], "containers": [named("a", **{"$patch": "delete"})]},
    {f"{ORDER}containers": "x"},
    {f"{ORDER}initContainers": [named("i")], "initContainers": [named("i", image="1")]},
    {"containers": [named("a", env=[named("F", value="9"), named("G", value="1")])]},
    {"containers": [named("a", env=[named("F", value=None)], command=["z"])]},
    {"containers": [named("a", ports=[{"containerPort": 81, "$patch": "delete"}])]},
    {"volumes": [named("v", **{"$retainKeys": ["name", "hostPath"]}, hostPath={"path": "/y"})]},
    {"volumes": [named("v", **{"$retainKeys": ["name"]}, hostPath={"path": "/y"})]},
    {"volumes": [named("v", **{"$retainKeys": "name"})]},
    {"volumes": [named("w", **{"$retainKeys": ["name", "emptyDir"]}, emptyDir={}, hostPath=None)]},
    {"volumes": [named("v", hostPath={"path": "/y"}, emptyDir=None)]},
    {
        f"{ORDER}volumes": [named("v"), named("y"), named("x")],
        "volumes": [named("v", **{"$patch": "delete"}), named("x", emptyDir={})],
    },
    {"tolerations": [{"key": "z"}]},
    {"nodeSelector": {"$patch": "replace", "x": "y"}},
    {"nodeSelector": ["x"]},
    {"affinity": {"nodeAffinity": None, "podAffinity": {"$patch": "delete", "x": 1}}},
    {"imagePullSecrets": [named("a"), named("b", **{"$patch": "delete"})]},
]
POD_METADATA: list[Json] = [
    {"finalizers": ["x/c", "x/a"]},
    {"finalizers": ["x/c", "x/c", "x/b"]},
    {"finalizers": [1]},
    {f"{DROP}finalizers": ["x/a", "x/q"], "finalizers": ["x/z"]},
    {
        f"{DROP}finalizers": ["x/a"],
        f"{ORDER}finalizers": ["x/z", "x/b"],
        "finalizers": ["x/z"],
    },
    {f"{DROP}nothing": ["x/a"]},
    {"labels": {"a": None, "c": "d"}},
    {"labels": {"$patch": "delete"}},
    {"labels": {"$patch": "what"}},
    {"annotations": {"x": None, "y": "z"}},
]
CASES: list[tuple[Json, Json]] = [
    *((POD, {"spec": spec}) for spec in POD_SPECS),
    *((POD, {"metadata": metadata}) for metadata in POD_METADATA),
    (POD, {"$patch": "replace", "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "z"}}),
    (DEPLOYMENT, {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
    (DEPLOYMENT, {"spec": {"template": {"spec": {"containers": [named("b", image="3")]}}}}),
    (SERVICE, {"spec": {"ports": [{"port": 81, "nodePort": 30000}]}}),
    (SERVICE, {"spec": {f"{ORDER}ports": [{"port": 81}, {"port": 80}]}}),
    (SERVICE, {"spec": {"ports": [{"port": "81", "name": "z"}]}}),
]


def apply(obj: Json, patch: Any) -> Json:
    return strategic_merge_patch(obj, patch, obj["apiVersion"], obj["kind"])


@pytest.mark.kubectl
@pytest.mark.skipif(not KUBECTL.exists(), reason="the kubectl wheel is not installed")
@pytest.mark.parametrize(
    ("obj", "patch"),
    CASES,
    ids=[f"{i}-{json.dumps(patch)[:60]}" for i, (_, patch) in enumerate(CASES)],
)
def test_it_patches_as_kubectl_does(obj: Json, patch: Json, tmp_path: Path) -> None:
    file = tmp_path / "object.json"
    file.write_text(json.dumps(obj))
    told = [KUBECTL, "patch", "--local", "--type=strategic", "-f", file, "-o", "json"]
    oracle = subprocess.run([*told, "-p", json.dumps(patch)], capture_output=True, text=True)
    if oracle.returncode == 0:
        assert apply(obj, patch) == json.loads(oracle.stdout)
        return
    with pytest.raises(ApiError) as caught:
        apply(obj, patch)
    message = oracle.stderr.strip().removeprefix("error: ")
    assert message.startswith(caught.value.message.strip())


names = st.sampled_from("abcd")
images = st.sampled_from(["1", "2", None])
env = st.lists(st.builds(named, names, value=images), max_size=3, unique_by=lambda e: e["name"])
containers = st.lists(
    st.builds(named, names, image=images, env=env), max_size=4, unique_by=lambda c: c["name"]
)
selectors = st.dictionaries(names, st.none() | names, max_size=3)
finalizers = st.lists(st.sampled_from(["x/a", "x/b", "x/c"]), unique=True)
patches = st.fixed_dictionaries(
    {},
    optional={
        "spec": st.fixed_dictionaries(
            {}, optional={"containers": containers, "nodeSelector": selectors}
        ),
        "metadata": st.fixed_dictionaries(
            {}, optional={"labels": selectors, "finalizers": finalizers}
        ),
    },
)


@given(patches)
def test_patching_twice_is_patching_once(patch: Json) -> None:
    once = stored(apply(POD, patch))
    assert stored(apply(once, patch)) == once


def stored(obj: Json) -> Json:
    """Return `obj` as it is kept: a patch leaves nulls in elements that are new."""
    return decode_strict("v1", "Pod", obj)[0]


@given(patches)
def test_it_never_changes_its_inputs(patch: Json) -> None:
    obj, told = copy.deepcopy(POD), copy.deepcopy(patch)
    made = apply(obj, told)
    made["metadata"].clear()
    made["spec"]["containers"].clear()
    assert (obj, told) == (POD, patch)


@given(patches)
def test_merging_lists_keep_what_the_patch_does_not_name(patch: Json) -> None:
    made = apply(POD, patch)["spec"]["containers"]
    had = {c["name"] for c in POD["spec"]["containers"]}
    asked = [c["name"] for c in patch.get("spec", {}).get("containers", ())]
    assert {c["name"] for c in made} == had | set(asked)
    assert [c["name"] for c in made if c["name"] in asked] == asked


@given(st.permutations(["a", "b", "c"]))
def test_a_given_order_is_the_order_afterwards(order: list[str]) -> None:
    told = {f"{ORDER}containers": [named(n) for n in order], "containers": [named("c", image="1")]}
    made = apply(POD, {"spec": told})
    assert [c["name"] for c in made["spec"]["containers"]] == order
    assert ORDER not in json.dumps(made)


def test_an_empty_patch_changes_nothing() -> None:
    assert apply(POD, {}) == POD
    assert apply(POD, None) == POD


@pytest.mark.parametrize("patch", [[], "x", 1])
def test_a_patch_is_an_object(patch: Any) -> None:
    with pytest.raises(BadRequest):
        apply(POD, patch)


def test_a_kind_without_a_schema_has_no_strategic_merge_patch() -> None:
    with pytest.raises(BadRequest) as caught:
        strategic_merge_patch({}, {}, "example.com/v1", "Foo")
    assert caught.value.message == "strategic merge patch format is not supported"
