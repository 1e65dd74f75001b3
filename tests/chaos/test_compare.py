"""What if: the same run with one change, and what comes of it."""

from dataclasses import replace

from kubeloop.chaos import Configure, Deploy, Plan, Scale, play
from kubeloop.chaos.compare import counterfactual, difference

PLAN = Plan(
    seed=4,
    policy="fifo",
    happenings=(Deploy(replicas=2), Configure(at_s=2.0, value=7), Scale(at_s=5.0, replicas=3)),
)


def test_what_if_a_step_had_not_been_taken() -> None:
    found = counterfactual(PLAN, happenings=PLAN.happenings[:2])
    assert found
    assert found.fields["/registry/deployments.apps/default/web"][".spec.replicas"] == (3, 2)
    gone = [key for key in found.only_before if key.startswith("/registry/pods/")]
    assert len(gone) == 1, "the third pod"
    assert not [key for key in found.only_after if key.startswith("/registry/pods/")]
    one, other = found.first
    assert one is not None and one.key == "/registry/deployments.apps/default/web"
    assert other is None or other.key != one.key
    assert ".spec.replicas: 3 → 2" in str(found) and f"- {gone[0]}" in str(found)


def test_what_makes_no_difference_in_the_end() -> None:
    first, *rest = PLAN.happenings
    later = [replace(one, at_s=one.at_s + 10) for one in rest]
    found = counterfactual(PLAN, happenings=(first, *later))
    assert not [key for key in found.fields if "deployments" in key or "configmaps" in key]
    assert found.same > 10


def test_a_run_does_not_differ_from_itself() -> None:
    history = play(PLAN, keep=True).history
    found = difference(history, history)
    assert not found
    assert (found.same, found.first) == (len(history), (None, None))
