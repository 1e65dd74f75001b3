"""`kubeloop soak`: seed after seed of the built-in workload, in several processes.

    make soak SEEDS=10000 JOBS=2

Each seed is a cluster of 20 nodes and 100 pods, and a plan of what its users do and what breaks,
watched by the ready-made invariants. What
fails is shrunk and printed as a test. Failing seeds are kept in a file, and come first next time.
Exit status: 0 if nothing was found, 1 otherwise.
"""

import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import click

from kubeloop.chaos.finding import find
from kubeloop.chaos.generate import Profile
from kubeloop.chaos.steps import Populate

PROFILE: Final = Profile(nodes_least=20, nodes_most=20, steps_most=30, first=(Populate(pods=100),))
FAILED: Final = Path(".kubeloop-failed-seeds")
_TOLD_S: Final = 10.0  # How often progress is told.
_SHRINK_RUNS: Final = 200


def tried(seed: int) -> tuple[int, str]:
    """Return a seed, and the test that tells what it found; "" if that is nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # Faults make actors fail: that is no news here.
    try:
        found = find([seed], profile=PROFILE, runs=_SHRINK_RUNS)
    except Exception:  # noqa: BLE001 - a run that cannot even be played is found, too.
        return seed, traceback.format_exc()
    finally:
        logging.disable(before)
    return seed, "" if found is None else str(found)


def soak(seeds: Sequence[int], *, jobs: int) -> list[int]:
    """Try seeds; print how it goes, and what is found. Return the seeds that failed."""
    begun = told = time.monotonic()
    failed: list[int] = []
    count = 0
    for seed, test in _tried(seeds, jobs):
        count += 1
        if test:
            failed.append(seed)
            click.echo(f"seed {seed} fails:\n\n{test}")
        now = time.monotonic()
        if now - told > _TOLD_S:
            told = now
            rate = count / (now - begun)
            click.echo(f"{count}/{len(seeds)} seeds, {rate:.1f}/s, {len(failed)} failed")
    rate = count / (time.monotonic() - begun)
    told_bound = f", upper bound {3 / count:.2g} of all seeds" if count and not failed else ""
    click.echo(f"{count} trials, {len(failed)} failures, {rate:.1f} seeds/s{told_bound}")
    return failed


def _tried(seeds: Sequence[int], jobs: int) -> Iterator[tuple[int, str]]:
    if jobs == 1:
        yield from map(tried, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(tried, seeds, chunksize=1)


@click.command("soak")
@click.option("--seeds", default=1000, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--first", default=0, show_default=True, type=int, help="The first of them.")
@click.option(
    "--jobs", default=2, show_default=True, type=click.IntRange(1), help="How many at once."
)
@click.option(
    "--failed",
    default=FAILED,
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where failing seeds are kept; they come first next time.",
)
def command(seeds: int, first: int, jobs: int, failed: Path) -> None:
    """Look for bugs in kubeloop itself: play seed after seed of clusters in which things break."""
    wanted = dict.fromkeys([*_kept(failed), *range(first, first + seeds)])
    found = soak(list(wanted), jobs=jobs)
    if found:
        failed.write_text("".join(f"{seed}\n" for seed in found))
        raise SystemExit(1)
    failed.unlink(missing_ok=True)


def _kept(path: Path) -> list[int]:
    if not path.exists():
        return []
    return [int(line) for line in path.read_text().split() if line.lstrip("-").isdecimal()]
