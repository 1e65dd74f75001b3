"""Flow schemas and levels of a fresh cluster: they refer to each other, and are put back right."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.flows import AUTO_UPDATE, MANDATORY, dangling, levels, repaired, schemas

WANTED = {"spec": {"matchingPrecedence": 1}}


def flow(name: str, told: str | None, generation: int, precedence: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "generation": generation}
    if told is not None:
        metadata["annotations"] = {AUTO_UPDATE: told, "mine": "x"}
    return {"metadata": metadata, "spec": {"matchingPrecedence": precedence}}


flows = st.builds(
    flow,
    st.sampled_from(["exempt", "catch-all", "probes"]),
    st.sampled_from(["true", "false", "perhaps", None]),
    st.integers(1, 3),
    st.integers(1, 2),
)


@given(flows)
def test_it_is_put_back_once_unless_somebody_else_looks_after_it(found: dict[str, Any]) -> None:
    metadata = found["metadata"]
    told = metadata.get("annotations", {}).get(AUTO_UPDATE)
    after = repaired(found, WANTED) or found
    assert repaired(after, WANTED) is None
    noted = after["metadata"]["annotations"]
    assert noted[AUTO_UPDATE] in ("true", "false")
    assert {k: v for k, v in noted.items() if k != AUTO_UPDATE} == {
        k: v for k, v in metadata.get("annotations", {}).items() if k != AUTO_UPDATE
    }
    if metadata["name"] in MANDATORY or told == "true":
        assert after["spec"] == WANTED["spec"] and noted[AUTO_UPDATE] == "true"
    elif told == "false" or metadata["generation"] > 1:
        assert after["spec"] == found["spec"] and noted[AUTO_UPDATE] == "false"


def test_every_schema_has_its_level() -> None:
    known = {level["metadata"]["name"] for level in levels()}
    used = {one["spec"]["priorityLevelConfiguration"]["name"] for one in schemas()}
    assert used <= known and set(MANDATORY) <= used
    order = [one["spec"]["matchingPrecedence"] for one in schemas()]
    assert order == sorted(order)


def test_what_is_said_of_a_level_that_is_missing() -> None:
    assert dangling("x", known=True)["status"] == "False"
    lost = dangling("x", known=False)
    assert (lost["status"], lost["reason"]) == ("True", "NotFound")
    assert lost["message"] == (
        'This FlowSchema references the PriorityLevelConfiguration object named "x" '
        "but there is no such object"
    )
