"""`kubeloop`: the command line. Each command is a file of its own; this one lists them.

Exit status: 0 it worked, 1 it did not, 2 the command line was wrong.
"""

from importlib import import_module
from typing import Final

import click

from kubeloop import __version__

# Command → module; loaded when used, so that `kubeloop --help` and completion stay quick.
_COMMANDS: Final = {
    "completion": "completion",
    "demo": "demo",
    "down": "down",
    "image": "image",
    "kubectl": "kubectl",
    "replay": "replay",
    "soak": "soak",
    "status": "status",
    "store": "store",
    "up": "up",
}


class Commands(click.Group):
    """Loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"kubeloop.cli.{_COMMANDS[cmd_name]}").command
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kubeloop")
def main() -> None:
    """A complete Kubernetes in one process.

    \b
    kubeloop up                    start a cluster, Ctrl-C stops it
    kubeloop kubectl get pods -A   talk to it with the real kubectl
    """


if __name__ == "__main__":
    main()
