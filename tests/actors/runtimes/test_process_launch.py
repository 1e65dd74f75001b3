"""What a container runs, and what is refused before anything is started."""

from typing import Any

import pytest

from kubeloop.actors.runtimes import process_launch as launch
from kubeloop.actors.runtimes.protocol import ContainerSpec, RuntimeFailure

IMAGE = launch.ImageConfig(entrypoint=("ep", "1"), command=("cmd", "2"))


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec(pod_uid="u", name="c", attempt=0, image="i", **fields)


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ((), (), ["ep", "1", "cmd", "2"]),
        ((), ("a",), ["ep", "1", "a"]),
        (("c",), (), ["c"]),
        (("c",), ("a",), ["c", "a"]),
    ],
)
def test_command_and_args_are_read_as_kubernetes_does(
    command: tuple[str, ...], args: tuple[str, ...], expected: list[str]
) -> None:
    assert launch.arguments(spec(command=command, args=args), IMAGE) == expected


def test_nothing_to_run_is_an_error() -> None:
    with pytest.raises(RuntimeFailure, match="no command specified") as failure:
        launch.arguments(spec(), launch.ImageConfig())
    assert failure.value.reason == "CreateContainerError"


def test_the_pods_environment_wins_over_the_images() -> None:
    image = launch.ImageConfig.of({"config": {"Env": ["A=1", "B=1", "PATH=/x"], "Cmd": ["a"]}})
    found = launch.environment(spec(env={"B": "2"}, tty=True), image, "host")
    assert found == {
        "PATH": "/x", "HOME": "/root", "HOSTNAME": "host", "TERM": "xterm", "A": "1", "B": "2",
    }  # fmt: skip


def test_a_working_directory_is_absolute() -> None:
    image = launch.ImageConfig(working_dir="/srv")
    assert launch.working_directory(spec(), image) == "/srv"
    assert launch.working_directory(spec(working_dir="rel"), image) == "/rel"


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        ({"hostNetwork": True}, "hostNetwork is not supported"),
        ({"volumes": [{"name": "v", "nfs": {"path": "/"}}]}, "nfs volumes are not"),
        ({"containers": [{"name": "c", "securityContext": {"privileged": True}}]}, "privileged"),
        ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {}}]}, ""),
        ({}, ""),
    ],
)
def test_what_cannot_be_run_is_named(pod: dict[str, Any], message: str) -> None:
    found = launch.why_unsupported({"spec": pod})
    assert message in found
    assert bool(found) == bool(message)
