"""The invariant of claims and volumes sees what is planted for it, and nothing else."""

from typing import Any

import pytest

from kubeloop.actors.controllers.base import NOTHING
from kubeloop.actors.controllers.local_path import LocalPathProvisioner
from kubeloop.actors.controllers.volume_binding import VolumeBindingController
from kubeloop.actors.runtimes.simulated import SimulatedRuntime
from kubeloop.actors.scheduling.volumes import Progress, Volumes
from kubeloop.chaos import (
    ActorCrashes,
    NodeOff,
    Plan,
    ScaleStateful,
    Stateful,
    Violation,
    play,
)

PLAN = Plan(
    nodes=2,
    happenings=(
        Stateful(app="vault", replicas=3),
        ActorCrashes(at_s=1, actor="controller-manager", nth=5),
        ActorCrashes(at_s=2, actor="kubelet", node=1, nth=3),
        NodeOff(at_s=20, for_s=60, node=2),
        ScaleStateful(at_s=100, app="vault", replicas=1),
        Stateful(at_s=140, app="vault", replicas=2, image="app:2"),
    ),
)


def test_all_is_well() -> None:
    assert play(PLAN).facts > 100


async def keep(self: Any, path: str) -> None:
    """Wipe nothing."""


def nothing(self: Any, volume: Any, view: Any) -> Any:
    """Delete nothing."""
    return NOTHING


def at_once(self: Any, pod: Any, node: Any) -> Progress:
    """Wait for no claim."""
    return Progress(bound=True)


def taken(self: Any, claim: Any, view: Any) -> Any:
    """Give every claim the first volume there is."""
    volumes = sorted(view.list("persistentvolumes"), key=lambda v: v["metadata"]["name"])
    if not volumes:
        return LOOK(self, claim, view)
    told = {key: claim["metadata"][key] for key in ("namespace", "name", "uid")}
    stolen = {**volumes[0], "spec": {**volumes[0]["spec"], "claimRef": told}}
    return self._bind(stolen, claim)


LOOK = VolumeBindingController._look


@pytest.mark.parametrize(
    ("owner", "method", "planted", "why"),
    [
        (SimulatedRuntime, "remove_volume", keep, "still has .* at rest"),
        (LocalPathProvisioner, "_volume", nothing, "was made for a claim that is gone"),
        (Volumes, "progress", at_once, "it is not bound"),
        (VolumeBindingController, "_look", taken, "two claims name pvc-"),
    ],
)
def test_what_is_planted_is_seen(
    owner: type, method: str, planted: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, method, planted)
    with pytest.raises(Violation, match=why):
        play(PLAN)
