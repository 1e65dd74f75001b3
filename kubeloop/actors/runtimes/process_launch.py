"""What a container runs, and in which surroundings: pure, but for looking at the host's own tree.

Here an image's configuration and the pod's wishes become the order that `sandbox.launch` carries
out.
"""

import os
import posixpath
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubeloop.actors.pods.state import specs_of
from kubeloop.actors.runtimes.protocol import ContainerSpec, RuntimeFailure

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOST_LABEL: Final = "kubeloop.base"  # "host": the image borrows the machine's programs.
HOST_DIRECTORIES: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix")
BIN: Final = "/opt/kubeloop/bin"  # The last place where a program is looked for: our python3.
TERMINATION_LOG: Final = "/dev/termination-log"

_VOLUMES: Final = ("configMap", "secret", "downwardAPI", "projected", "emptyDir", "hostPath",
                   "persistentVolumeClaim", "ephemeral")  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The part of an OCI image configuration that matters to us."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    working_dir: str = "/"
    borrows_host: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "ImageConfig":
        """Return what an OCI image configuration says. Raises: ValueError."""
        config: Any = document.get("config") or {}
        labels: Any = {}
        if isinstance(config, dict):
            labels = config.get("Labels") or {}
        if not isinstance(config, dict) or not isinstance(labels, dict):
            raise ValueError("the image's configuration is no object")
        pairs = [line.partition("=") for line in _strings(config, "Env")]
        return cls(
            entrypoint=_strings(config, "Entrypoint"),
            command=_strings(config, "Cmd"),
            environment=tuple((name, value) for name, _, value in pairs),
            working_dir=str(config.get("WorkingDir") or "/"),
            borrows_host=labels.get(HOST_LABEL) == "host",
        )


def _strings(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = config.get(key) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"the image's {key} is no list of strings")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Volume:
    """Something of the host that appears in a container.

    source: absolute;  beneath: what of it, by a path that containers may have changed.
    """

    source: str
    target: str
    read_only: bool
    beneath: tuple[str, ...] = ()


def arguments(spec: ContainerSpec, image: ImageConfig) -> list[str]:
    """Return the command line. Raises: RuntimeFailure if there is none.

    As in Kubernetes: `command` replaces entrypoint and cmd of the image, `args` its cmd.
    """
    if spec.command:
        argv = [*spec.command, *spec.args]
    else:
        argv = [*image.entrypoint, *(spec.args or image.command)]
    if not argv:
        raise RuntimeFailure(
            "CreateContainerError",
            f"failed to generate container spec: no command specified: the image {spec.image} "
            "names none, so the container must",
        )
    return argv


def environment(spec: ContainerSpec, image: ImageConfig, hostname: str) -> dict[str, str]:
    """Return the environment: the defaults, the image's, the pod's; later ones win."""
    found = {"PATH": PATH, "HOME": "/root", "HOSTNAME": hostname}
    if spec.tty:
        found["TERM"] = "xterm"
    found.update(image.environment)
    found.update(spec.env)
    if image.borrows_host:
        found["PATH"] = f"{found['PATH']}:{BIN}"
    return found


def working_directory(spec: ContainerSpec, image: ImageConfig) -> str:
    """Return the absolute path to start in."""
    path = posixpath.join("/", spec.working_dir or image.working_dir)
    return "/" + posixpath.normpath(path).lstrip("/")


def etc_files(hostname: str, ip: str) -> dict[str, str]:
    """Return the files of /etc that tell a pod who it is."""
    hosts = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n"
    return {
        "hosts": f"{hosts}{ip}\t{hostname}\n",
        "hostname": f"{hostname}\n",
        "resolv.conf": "# No name server is reachable from here; hosts come from /etc/hosts.\n",
    }


def host_directories() -> dict[str, str]:
    """Return what of the host an image may borrow: path → what it really is.

    All of Python is part of it: a program in the image may be run by the Python that runs us.
    """
    found = {path: os.path.realpath(path) for path in HOST_DIRECTORIES if os.path.isdir(path)}
    prefix = os.path.realpath(sys.base_prefix)
    if not any(_below(prefix, real) for real in found.values()):
        found[prefix] = prefix
    return found


def python() -> str:
    """Return the binary of the running Python, past every link and virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def root_of(
    directory: Path,
    *,
    base: Path,
    image: Path,
    overlay: bool,
    borrows_host: bool,
    skeleton: Path | None = None,
    etc: Path | None = None,
    volumes: Sequence[Volume],
) -> dict[str, Any]:
    """Return the order for `sandbox.rootfs.enter`.

    directory: the container's own, with `upper` and `work` in it, or a copy of the image in `root`.
    base: what relative paths count from, so that no odd name reaches the options of a mount; it has
    a directory `mount`, empty, where the root is put together. skeleton: a layer below the image.
    etc: the directory with the pod's files of /etc.
    """
    own = directory.relative_to(base)
    return {
        "base": str(base),
        "overlay": overlay,
        "image": str(image.relative_to(base)),
        "layers": [str(layer.relative_to(base)) for layer in (image, skeleton) if layer],
        "upper": str(own / "upper"),
        "work": str(own / "work"),
        "copy": str(own / "root"),
        "place": "mount",
        "old": f".old-{os.urandom(8).hex()}",  # A name no image can have known.
        "host": host_directories() if borrows_host else {},
        "bin": BIN,
        "python": python(),
        "etc": str(etc or ""),
        "mounts": [
            {
                "source": v.source,
                "beneath": list(v.beneath),
                "target": posixpath.join("/", v.target),
                "read_only": v.read_only,
            }
            for v in volumes
        ],
    }


def plain_ip(ip: str) -> str:
    """Return the loopback address of a pod that has no network of its own: 10.1.2.3 → 127.1.2.3."""
    return f"127.{ip.partition('.')[2]}"


def why_unsupported(pod: Mapping[str, Any]) -> str:
    """Return why a Pod cannot run as real processes of one user, "" if it can."""
    spec = pod.get("spec") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            return f"{field} is not supported: pods of this runtime have namespaces of their own"
    for volume in spec.get("volumes") or ():
        for kind in volume:
            if kind != "name" and kind not in _VOLUMES:
                return (
                    f'volume "{volume.get("name")}": {kind} volumes are not supported; '
                    f"use one of {', '.join(_VOLUMES)}"
                )
    for container in specs_of({"spec": {"containers": [], **spec}}):
        if (container.get("securityContext") or {}).get("privileged"):
            return f'container "{container.get("name")}": privileged is not supported: no root here'
    return ""
