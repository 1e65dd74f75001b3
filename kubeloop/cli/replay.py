"""`kubeloop replay`: have an actor live through its tape again, and tell what is otherwise now."""

import pdb
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kubeloop.actors.tapes import Step


@click.command("replay")
@click.argument("tape", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--turn", type=click.IntRange(1), help="Show all of this turn, and no other.")
@click.option("--quiet", "-q", is_flag=True, help="Show only what differs.")
@click.option("--debug", is_flag=True, help="Where the actor fails, stop in pdb.")
def command(tape: Path, turn: int | None, quiet: bool, debug: bool) -> None:
    """Replay a TAPE of `kubeloop up --record`.

    The actor it was recorded of hears again what it heard, from the code of today. Exit status 1 if
    it asks or says anything that is not on the tape.
    """
    from kubeloop.actors.tapes import TapeDamaged, cut_at, replay

    first: Step | None = None
    count = failed = 0
    data = tape.read_bytes()
    try:
        for step in replay(data):
            count, failed = step.number, failed + (step.error is not None)
            if first is None and step.difference:
                first = step
            if turn == step.number or (turn is None and not quiet):
                click.echo(_line(step))
            if turn == step.number:
                click.echo(_all(step))
            if debug and step.error is not None:
                pdb.post_mortem(step.error.__traceback__)
        cut = cut_at(data)
    except TapeDamaged as error:
        raise click.ClickException(f"{tape}: {error}") from error
    if turn is not None and turn > count:
        raise click.ClickException(f"{tape} has {_turns(count)}: there is no turn {turn}")
    if first is not None:
        raise click.ClickException(f"turn {first.number} of {count} differs: {first.difference}")
    failures = f", {failed} of them with the failure that was recorded" if failed else ""
    click.echo(f"{_turns(count)}, all as they were{failures}")
    if cut is not None:
        click.echo(
            f"the tape ends in the middle of turn {count + 1}, at byte {cut} of {len(data)}: "
            "its writer was killed, or the file was cut"
        )


def _turns(count: int) -> str:
    return "1 turn" if count == 1 else f"{count} turns"


def _line(step: "Step") -> str:
    moment = step.moment
    parts = [f"{step.number:>6} {moment.kind:<6} heard {len(moment.heard)}, said {len(step.said)}"]
    if step.difference:
        parts.append(f"DIFFERS: {step.difference}")
    if step.error is not None:
        parts.append(f"FAILS: {step.error!r}")
    return "  ".join(parts)


def _all(step: "Step") -> str:
    """Return what was heard, asked and said in one turn."""
    from kubeloop.actors.tapes.words import heard, words

    lines = [f"  heard  {heard(message)}" for message, _ in step.moment.heard]
    lines += [f"  asked  {what}: {told!r:.100}" for what, told in step.moment.asked]
    lines += [f"  says   {words(*said)}" for said in step.said]
    return "\n".join(lines)
