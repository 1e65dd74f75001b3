"""`kubeloop down`: stop a cluster that runs in another terminal."""

import click

from kubeloop.cli.state import must_run, stop

_TIMEOUT_S = 10.0


@click.command("down")
@click.option("--name", default="kubeloop", show_default=True, help="The cluster to stop.")
def command(name: str) -> None:
    """Stop a running cluster; its data directory, if it has one, stays."""
    record = must_run(name)
    if not stop(record, timeout_s=_TIMEOUT_S):
        raise click.ClickException(
            f"process {record.pid} did not stop within {_TIMEOUT_S:.0f} s; end it with: "
            f"kill -9 {record.pid}"
        )
    click.echo(f"cluster {name} stopped")
