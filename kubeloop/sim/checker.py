"""Does the same seed make the same run? If not: the first callback that differs, and why it ran.

    async def scenario() -> None:
        async with Cluster(nodes=2, seed=1) as cluster:
            ...

    check_determinism(scenario, seed=7, processes=True)

A simulation decides time, chance and order. What it cannot decide is what a program takes from
elsewhere: the order of a set of strings (another one in each process, by PYTHONHASHSEED), `id`,
`hash`, files, the environment. So the scenario is run several times, and the traces are compared.
The first pass keeps a hash at every 256th callback; the second records the callbacks between which
the runs part, with where each was scheduled.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

from kubeloop.sim.loop import STEPS_MAX
from kubeloop.sim.policies import Policy
from kubeloop.sim.trace import CHECKPOINT, Step
from kubeloop.sim.twin import Outcome, Scenario, Setting, TwinFailed, run_elsewhere, run_here
from kubeloop.store.history import History

_PASSES_MAX: Final = 4  # To find a difference that is elsewhere each time.
_BEFORE: Final = 5  # Callbacks shown before the one that differs.
_HINT: Final = (
    "What decides an order and is no part of a seed: sets of strings (PYTHONHASHSEED), sets of\n"
    "objects that hash by address, id(), hash(), os.listdir(), os.environ, real threads."
)


class Nondeterminism(AssertionError):
    """Two runs with the same seed were not the same; the message says where they part."""


def check_determinism(
    scenario: Scenario,
    *,
    seed: int = 0,
    runs: int = 2,
    policy: Policy = "fifo",
    processes: bool = False,
    steps_max: int = STEPS_MAX,
) -> str:
    """Return the digest of a scenario if it comes out the same in all runs.

    scenario:  what `sim.run` runs; made anew for each run.
    processes: run each in a process of its own, with another PYTHONHASHSEED, every second one with
               `-X dev`; then the scenario must be a function of a module.
    Raises:    Nondeterminism; what the scenario raises in all runs, or TwinFailed if they were
               other processes; ScenarioNotFound.
    Cost:      some 2 µs per callback and run more than without; the double if they differ.
    """
    assert runs >= 2, "one run cannot differ from itself"

    def play(numbers: Sequence[int], detail: tuple[int, int] = (0, 0)) -> list[Outcome]:
        setting = Setting(seed, policy, steps_max, detail)
        if processes:
            return run_elsewhere(scenario, setting, numbers)
        return [run_here(scenario, setting) for _ in numbers]

    def name(number: int) -> str:
        dev = ", -X dev" if number % 2 else ""
        return f"run {number + 1}" + (f" (PYTHONHASHSEED={number}{dev})" if processes else "")

    first, *others = play(range(runs))
    for number, other in enumerate(others, 1):
        if _same(first, other):
            continue
        told = _pin_down(partial(play, (0, number)), first, other)
        raise Nondeterminism(
            f"two runs of {scenario.__qualname__} with seed {seed} and policy {policy!r} differ:"
            f" {name(0)}, {name(number)}.\n{told}\n{_HINT}"
        )
    if first.error is not None:
        raise first.error
    if first.ended.startswith("raised"):
        raise TwinFailed(f"in all runs the scenario {first.ended}")
    return first.digest


def log_hash(history: History) -> str:
    """Return a hash of all a store has kept: every fact, in order, and the values before them."""
    digest = blake2b(digest_size=16)
    floor = history.list("", revision=history.floor)
    for stored in floor.items:
        digest.update(repr(stored).encode())
    for fact in history.since(history.floor):
        digest.update(repr((fact.encoded, fact.cause, fact.at)).encode())
    return digest.hexdigest()


def _same(one: Outcome, other: Outcome) -> bool:
    return (one.digest, one.steps, one.ended) == (other.digest, other.steps, other.ended)


def _pin_down(
    again: Callable[[tuple[int, int]], Sequence[Outcome]], one: Outcome, other: Outcome
) -> str:
    """Return what tells where two runs part. again: runs both, recording a part in detail."""
    parts: list[tuple[int, int]] = []
    for _ in range(_PASSES_MAX):
        part = _part(one, other)
        if part is None:
            break
        parts.append(part)
        one, other = again((max(0, part[0] - _BEFORE), part[1]))
        if told := _first_difference(one.recorded, other.recorded):
            return told
    if not parts:
        return f"The callbacks are the same. One {one.ended}, the other {other.ended}."
    places = ", ".join(f"{begin} to {end}" for begin, end in parts)
    return (
        "They part at another place each time, so it is no hash but something real that decides:"
        f" between callbacks {places}."
    )


def _part(one: Outcome, other: Outcome) -> tuple[int, int] | None:
    """Return between which callbacks two runs part; None if they do not."""
    if one.digest == other.digest:
        return None
    common = min(len(one.checkpoints), len(other.checkpoints))
    pairs = zip(one.checkpoints, other.checkpoints, strict=False)
    index = next((n for n, (a, b) in enumerate(pairs) if a != b), common)
    return index * CHECKPOINT, (index + 1) * CHECKPOINT


def _first_difference(one: Sequence[Step], other: Sequence[Step]) -> str:
    """Return a text of the first callback that differs; "" if none does."""
    for index in range(max(len(one), len(other))):
        steps = [run[index] if index < len(run) else None for run in (one, other)]
        if steps[0] is None or steps[1] is None or steps[0][:4] != steps[1][:4]:
            told = "\n".join(_step_text(step) for step in steps)
            before = "".join(f"\n  {_line(step)}" for step in one[max(0, index - _BEFORE) : index])
            number = next(step.number for step in steps if step is not None)
            return (
                f"They part at callback {number}:\n{told}\nBefore, in both:{before or ' nothing'}"
            )
    return ""


def _step_text(step: Step | None) -> str:
    if step is None:
        return "  it has ended"
    origin = "".join(f"\n      {place}" for place in step.origin)
    return f"  {_line(step)}\n    scheduled at{origin or ' a place in the event loop itself'}"


def _line(step: Step) -> str:
    return f"{step.number} at {step.now:.6f} s: {step.name} (chance drawn: {step.drawn})"
