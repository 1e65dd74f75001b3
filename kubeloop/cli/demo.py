"""`kubeloop demo`: the textbook example, end to end, with the real kubectl.

Builds the example image, starts a cluster of two nodes, applies the manifests, waits for the pods,
shows what there is and fetches the Service through its NodePort.
"""

import asyncio
import collections
import os
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from kubeloop.cli.kubectl import find_kubectl
from kubeloop.cli.up import stop_requested

IMAGE: Final = "rainbow/mc-user:1.0.RELEASE"
NODE_PORT: Final = 31001
_FETCHES: Final = 12
_FETCH_TIMEOUT_S: Final = 10.0
_PODS: Final = 3  # The ReplicationController adopts the Pod and adds two.
_MANIFESTS: Final = ("pod.yaml", "service.yaml", "replicationcontroller.yaml")


@click.command("demo")
@click.option("--once", is_flag=True, help="End when everything has been shown.")
@click.option("--example", type=click.Path(exists=True, file_okay=False, path_type=Path),
              default=Path("examples/mc-user"), show_default=True)  # fmt: skip
def command(once: bool, example: Path) -> None:
    """Run the textbook example: three pods behind http://localhost:31001."""
    kubectl = find_kubectl()
    with tempfile.TemporaryDirectory(prefix="kubeloop-demo-") as directory:
        asyncio.run(Demo(example, kubectl, Path(directory)).run(once=once))


class Demo:
    """One run of the demonstration. directory: for what it keeps while it runs."""

    def __init__(self, example: Path, kubectl: str, directory: Path) -> None:
        self.example, self.kubectl_path, self.directory = example, kubectl, directory
        self.kubeconfig = directory / "kubeconfig"
        self.console = Console(soft_wrap=True)

    async def run(self, *, once: bool) -> None:
        """Do it all. Raises: click.ClickException that says what to do."""
        from kubeloop.cluster import Cluster
        from kubeloop.net.kubeconfig import write
        from kubeloop.stores import StartFailed

        stopped = stop_requested()
        images = self.directory / "images"
        with self.console.status("building the example image"):
            self._build(images)
        options: dict[str, Any] = {
            "nodes": 2, "name": "demo", "runtime": "process", "rest": True, "tls": True,
            "image_dir": images, "storage_class": "standard",
        }  # fmt: skip
        try:
            async with Cluster(**options) as cluster:
                write(self.kubeconfig, cluster.kubeconfig)
                self._done(f"cluster of {cluster.node_count} nodes at {cluster.url}")
                await self._deploy()
                await self._show()
                await self._fetch()
                if not once:
                    self._invite()
                    await stopped.wait()
        except StartFailed as error:
            raise click.ClickException(str(error)) from error
        self._done("everything stopped")

    def _build(self, images: Path) -> None:
        from kubeloop.net.registry import ImageStore

        image = ImageStore(images).build(self.example, IMAGE)
        self._done(f"image {IMAGE} built, {image.size_bytes / 1024:.0f} KiB")

    async def _deploy(self) -> None:
        for manifest in _MANIFESTS:
            await self._kubectl("apply", "-f", str(self.example / manifest))
        with self.console.status(f"waiting for {_PODS} pods"):
            await self._kubectl(
                "wait", "--for=jsonpath={.status.readyReplicas}=" + str(_PODS),
                "replicationcontroller/mc-user", "--timeout=60s",
            )  # fmt: skip

    async def _show(self) -> None:
        await self._kubectl("get", "pods,rc,svc,endpoints,nodes", "-o", "wide")

    async def _fetch(self) -> None:
        """Fetch the Service until every pod has answered, and show who did."""
        url = f"http://localhost:{NODE_PORT}"
        self.console.print(f"\n[bold]$ curl {url}[/]  ({_FETCHES} times)")
        answers: collections.Counter[str] = collections.Counter()
        for _ in range(_FETCHES):
            try:
                answer = await asyncio.to_thread(_get, url)
            except (urllib.error.URLError, OSError) as error:
                raise click.ClickException(
                    f"{url} does not answer: {error}. If another program holds port {NODE_PORT}, "
                    "stop it and run the demo again; `kubectl describe service mc-user` tells more."
                ) from error
            self.console.print(f"  {answer}", highlight=False)
            answers[answer] += 1
        if len(answers) < 2:
            raise click.ClickException(
                f"all {_FETCHES} answers came from one pod: the Service does not spread. "
                "See `kubectl get endpointslices`."
            )
        self._done(f"{len(answers)} pods answered through one NodePort")

    def _invite(self) -> None:
        self.console.print(
            f"\nThe cluster goes on. In another terminal:\n"
            f"  export KUBECONFIG={self.kubeconfig}\n"
            f"  {self.kubectl_path} delete pod mc-user    # and see it replaced\n"
            f"  curl http://localhost:{NODE_PORT}\n\nCtrl-C stops it and everything it started.",
            highlight=False,
        )

    async def _kubectl(self, *arguments: str) -> None:
        """Run kubectl and show it. Raises: click.ClickException if it fails."""
        self.console.print(f"\n[bold]$ kubectl {' '.join(arguments)}[/]", highlight=False)
        process = await asyncio.create_subprocess_exec(
            self.kubectl_path,
            *arguments,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        sys.stdout.write(output.decode())
        sys.stdout.flush()
        if process.returncode:
            raise click.ClickException(
                f"kubectl {arguments[0]} failed with status {process.returncode}: see above"
            )

    def _done(self, what: str) -> None:
        self.console.print(f"[green]✔[/] {what}", highlight=False)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_FETCH_TIMEOUT_S) as response:
        text: bytes = response.read()
    return text.decode().strip()
