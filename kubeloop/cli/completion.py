"""`kubeloop completion`: print the shell script that completes kubeloop's commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script.

    \b
    bash:  eval "$(kubeloop completion bash)"
    zsh:   eval "$(kubeloop completion zsh)"
    fish:  kubeloop completion fish | source
    """
    from kubeloop.cli.main import main

    found = get_completion_class(shell)
    assert found is not None, "click knows the shells of the choice above"
    click.echo(found(main, {}, "kubeloop", "_KUBELOOP_COMPLETE").source())
