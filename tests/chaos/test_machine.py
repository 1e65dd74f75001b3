"""A cluster as hypothesis' state machine: rules of one's own, monitors, a shrunk failure."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test

from kubeloop.chaos import (
    ActorDown,
    Broken,
    ClusterMachine,
    Configure,
    Cordon,
    Deploy,
    Stage,
    WatchEnds,
)
from kubeloop.store.facts import Fact

QUICK = settings(
    max_examples=12,
    stateful_step_count=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class NeverTwo:
    """A monitor that objects to something harmless, so that it is found."""

    name = "never-two"

    def begin(self, stage: Stage) -> None:
        self.heard_of: set[str] = set()

    def heard(self, facts: Sequence[Fact]) -> None:
        users = "/registry/configmaps/default/"
        self.heard_of |= {fact.key for fact in facts if fact.key.startswith(users)}
        if self.heard_of - {"/registry/configmaps/default/one"}:
            raise Broken("there is a ConfigMap not called one")

    def end(self) -> None:
        pass


class Machine(ClusterMachine):
    ended: ClassVar[list[str]] = []

    @rule()
    def look(self) -> None:
        pods = self.run(self.stage.api.list("pods"))
        assert all(pod.kind == "Pod" for pod in pods)

    def teardown(self) -> None:
        super().teardown()
        if self.outcome is not None:
            self.ended.append(self.outcome.hash)


def test_a_cluster_lives_through_what_hypothesis_thinks_of() -> None:
    Machine.ended.clear()
    run_state_machine_as_test(Machine, settings=QUICK)
    first, Machine.ended[:] = list(Machine.ended), []
    assert len(set(first)) > 3
    run_state_machine_as_test(Machine, settings=QUICK)
    assert Machine.ended == first, "the same examples are the same runs"


class Guarded(ClusterMachine):
    nodes = 1
    steps = (Cordon, Configure, Deploy)  # Not what other tests have made known.
    faults = (ActorDown, WatchEnds)

    def monitors(self) -> Sequence[Any]:
        return [NeverTwo()]


def test_what_a_monitor_sees_is_shrunk() -> None:
    with pytest.raises(Broken, match="not called one") as caught:
        run_state_machine_as_test(
            Guarded,
            settings=settings(
                QUICK,
                max_examples=200,
                stateful_step_count=3,
                phases=[Phase.generate, Phase.shrink],
            ),
        )
    told = "\n".join(getattr(caught.value, "__notes__", []))
    assert re.findall(r"state\.(\w+)\(", told) == ["begin", "user", "teardown"]
    assert "Configure(at_s=0.0, name='two', value=0)" in "".join(told.split("\n"))


class Operated(ClusterMachine):
    seen: ClassVar[list[str]] = []

    async def operator(self, stage: Stage) -> None:
        async for change in stage.api.watch("configmaps"):
            self.seen.append(change.object.name)

    @rule()
    def configure(self) -> None:
        self.run(Configure(name="one").happen(self.stage))


def test_an_operator_runs_beside_it() -> None:
    run_state_machine_as_test(Operated, settings=QUICK)
    assert "one" in Operated.seen
