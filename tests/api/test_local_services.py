"""APIServices of what definitions add: they come and go with it, and nobody else's are touched."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.catalogue import BUILT_IN, Catalogue
from kubeloop.api.local_services import MANAGED, built_in, changes, custom

names = st.sampled_from(["v1.a.example", "v2.a.example", "v1.b.example"])


def service(name: str, managed: str | None, priority: int) -> dict[str, Any]:
    labels = {} if managed is None else {MANAGED: managed}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"versionPriority": priority}}


services = st.dictionaries(
    names, st.tuples(st.sampled_from(["true", "onstart", "false", None]), st.integers(0, 1))
).map(lambda told: {name: service(name, *one) for name, one in told.items()})
wishes = st.sets(names).map(lambda told: {name: service(name, "true", 0) for name in told})


@given(wishes, services)
def test_doing_it_once_settles_it(
    wanted: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]
) -> None:
    new, other, gone = changes(wanted, found.values())
    after = dict(found)
    for one in (*new, *other):
        after[one["metadata"]["name"]] = one
    for one in gone:
        del after[one["metadata"]["name"]]
    assert changes(wanted, after.values()) == ([], [], [])
    assert wanted.keys() <= after.keys()
    for name, one in found.items():
        if one["metadata"]["labels"].get(MANAGED) != "true":
            assert after[name] == one


def test_those_of_a_fresh_cluster() -> None:
    made = {one["metadata"]["name"]: one["spec"] for one in built_in()}
    assert made["v1."] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    assert "v1.apiregistration.k8s.io" not in made
    assert len(made) == len(BUILT_IN.group_versions) - 1
    # A group that comes first in discovery has no lower priority than one that follows.
    order = [made[f"{v}.{g}"]["groupPriorityMinimum"] for g, v in BUILT_IN.group_versions[2:]]
    assert order == sorted(order, reverse=True)
    versions = [made[f"{v}.autoscaling"]["versionPriority"] for v in ("v2", "v1")]
    assert versions == [30, 15]
    assert custom(Catalogue()) == {}
