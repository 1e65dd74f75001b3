"""What a cluster has one of: controller manager and scheduler; elected if there are others."""

from collections.abc import Callable
from typing import Final

from kubeloop.actors.controller_manager import ControllerManager, Settings
from kubeloop.actors.elector import Elector
from kubeloop.actors.scheduler import Scheduler
from kubeloop.actors.supervisor import Factory, Supervisor

CONTROLLER_MANAGER: Final = "controller-manager"
SCHEDULER: Final = "scheduler"


def start_leaders(
    supervisor: Supervisor, settings: Settings, identity: Callable[[], str] | None
) -> None:
    """Start them at once, or have each start when it is elected.

    identity: makes the name of a candidate; None: there are no others.
    """
    factories: dict[str, Factory] = {
        CONTROLLER_MANAGER: lambda scene, name: ControllerManager(scene, name, settings=settings),
        SCHEDULER: Scheduler,
    }
    for name, factory in factories.items():
        if identity is None:
            supervisor.start(name, factory)
        else:
            _start_elector(supervisor, name, factory, identity())


def _start_elector(supervisor: Supervisor, leader: str, factory: Factory, identity: str) -> None:
    def end() -> None:
        if leader in supervisor.names():
            supervisor.stop(leader)

    supervisor.start(
        f"elector/{leader}",
        lambda scene, name: Elector(
            scene,
            name,
            lease=f"kube-{leader}",
            identity=identity,
            begin=lambda: supervisor.start(leader, factory),
            end=end,
        ),
    )
