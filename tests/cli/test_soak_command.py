"""The nightly run: it tells what it finds, keeps the seeds that failed, and tries them first."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from kubeloop.actors.controllers import replication
from kubeloop.chaos.faults.base import Fault
from kubeloop.chaos.generate import Profile, plan_of
from kubeloop.chaos.playing import play
from kubeloop.cli import soak

SMALL = Profile(nodes_most=2, steps_most=5, faults=(), within_s=10.0, rest=False, durable=False)


BUILT_IN = soak.PROFILE


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "PROFILE", SMALL)
    monkeypatch.setattr(soak, "_SHRINK_RUNS", 20)


def soaked(code: int, *arguments: str) -> str:
    done = CliRunner().invoke(soak.command, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_the_built_in_workload() -> None:
    """Of twenty nodes and a hundred pods; things happen to them, and things break."""
    plans = [plan_of(seed, BUILT_IN) for seed in range(20)]
    assert {plan.nodes for plan in plans} == {20}
    assert any(isinstance(one, Fault) for plan in plans for one in plan.happenings)
    populate = next(one for one in plans[0].happenings if one.kind == "populate")
    outcome = play(replace(plans[0], happenings=(populate,)), keep=True)
    pods = {fact.key for fact in outcome.history if fact.resource == "pods"}
    assert len(pods) == 100


def test_nothing_is_found(tmp_path: Path) -> None:
    kept = tmp_path / "failed"
    told = soaked(0, "--seeds", "5", "--jobs", "1", "--failed", str(kept))
    assert "5 trials, 0 failures" in told
    assert "upper bound 0.6 of all seeds" in told
    assert not kept.exists()


def test_what_fails_is_told_kept_and_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "failed"
    with monkeypatch.context() as patch:
        wanted = replication._replicas
        patch.setattr(replication, "_replicas", lambda set_: wanted(set_) + 1)
        told = soaked(1, "--seeds", "8", "--jobs", "1", "--failed", str(kept))
    assert "def test_replicas() -> None:" in told and "play(plan, monitors=standard)" in told
    failed = kept.read_text().split()
    assert failed
    tried: list[int] = []

    def try_(seed: int) -> tuple[int, str]:
        tried.append(seed)
        return seed, ""

    monkeypatch.setattr(soak, "tried", try_)
    soaked(0, "--seeds", "1", "--first", "100", "--jobs", "1", "--failed", str(kept))
    assert tried == [*map(int, failed), 100]
    assert not kept.exists(), "they are well"


def test_several_processes(tmp_path: Path) -> None:
    told = soaked(0, "--seeds", "4", "--jobs", "2", "--failed", str(tmp_path / "failed"))
    assert "4 trials, 0 failures" in told


def test_bad_numbers_are_refused() -> None:
    assert "0 is not in the range x>=1" in soaked(2, "--jobs", "0")
