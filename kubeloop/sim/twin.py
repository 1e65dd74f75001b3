"""Runs a scenario with its trace, in this process or in another one that differs in what must not
matter: PYTHONHASHSEED, `-X dev`. For `sim.checker`.

The other process is `python -m kubeloop.sim.twin`; it reads a job from its standard input, as JSON,
and writes an outcome to its standard output. What the scenario prints goes to standard error.
"""

import importlib
import inspect
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from kubeloop.sim.loop import STEPS_MAX, run
from kubeloop.sim.naming import without_addresses
from kubeloop.sim.policies import Pct, Policy
from kubeloop.sim.trace import Step, Trace

Scenario = Callable[[], Coroutine[Any, Any, Any]]

_PLAIN: Final = (str, bytes, int, float, bool, type(None))
_MODULE: Final = "kubeloop.sim.twin"


class ScenarioNotFound(ValueError):
    """Another process could not import the scenario."""


class TwinFailed(Exception):
    """Another process ended without an outcome."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a scenario is run. detail: first and last + 1 of the callbacks to be recorded."""

    seed: int = 0
    policy: Policy = "fifo"
    steps_max: int = STEPS_MAX
    detail: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    digest:      of the trace;  steps: how many callbacks;  checkpoints: see `Trace`, as hex.
    ended:       what was returned, if that is plain, or raised.
    recorded:    the callbacks in detail.
    error:       what was raised, if it was in this process.
    """

    digest: str
    steps: int
    checkpoints: list[str]
    ended: str
    recorded: list[Step] = field(default_factory=list)
    error: BaseException | None = None


def run_here(scenario: Scenario, setting: Setting) -> Outcome:
    """Return what comes of a scenario in this process."""
    trace, error = Trace(range(*setting.detail)), None
    try:
        result = run(
            scenario,
            seed=setting.seed,
            policy=setting.policy,
            steps_max=setting.steps_max,
            trace=trace,
        )
        ended = f"returned {_plain(result)}"
    except Exception as raised:  # noqa: BLE001 - it is part of the outcome.
        error, ended = raised, without_addresses(f"raised {type(raised).__name__}: {raised}")
    checkpoints = [checkpoint.hex() for checkpoint in trace.checkpoints]
    return Outcome(trace.digest, trace.steps, checkpoints, ended, trace.recorded, error)


def run_elsewhere(scenario: Scenario, setting: Setting, hash_seeds: Sequence[int]) -> list[Outcome]:
    """Return what comes of a scenario in other processes, one per hash seed, at the same time.

    Those with an odd hash seed run with `-X dev`. Raises: ScenarioNotFound, TwinFailed.
    """
    job = json.dumps({"scenario": _reference(scenario), "setting": asdict(setting)}).encode()
    with ThreadPoolExecutor(len(hash_seeds)) as pool:
        return list(pool.map(lambda hash_seed: _run_in_process(job, hash_seed), hash_seeds))


def _run_in_process(job: bytes, hash_seed: int) -> Outcome:
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    done = subprocess.run(
        [sys.executable, *(["-X", "dev"] if hash_seed % 2 else []), "-m", _MODULE],
        input=job,
        capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": path},
        check=False,
    )
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace")[-2_000:]
        raise TwinFailed(f"a run in a process of its own ended with {done.returncode}:\n{told}")
    outcome = Outcome(**json.loads(done.stdout))
    recorded = [Step(*step[:-1], tuple(step[-1])) for step in outcome.recorded]
    return replace(outcome, recorded=recorded)


def main() -> None:
    """Do a job, as another process has written it."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = json.load(sys.stdin)
    told = job["setting"]
    if isinstance(told["policy"], dict):
        told["policy"] = Pct(**told["policy"])
    outcome = run_here(_find(*job["scenario"]), Setting(**told))
    with answers:
        json.dump(asdict(replace(outcome, error=None)), answers)


def _reference(scenario: Scenario) -> tuple[str, str, str]:
    """Return module, file and name of a scenario. Raises: ScenarioNotFound."""
    module, name = scenario.__module__, scenario.__qualname__
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not scenario:
        raise ScenarioNotFound(
            f"{module}.{name} cannot be imported by another process: the scenario must be a"
            " function of a module, not one made inside of another or a lambda"
        )
    return module, inspect.getfile(scenario), name


def _find(module: str, file: str, name: str) -> Any:
    """Return the scenario of a reference."""
    if module == "__main__":
        return runpy.run_path(file, run_name="__kubeloop_scenario__")[name]
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _plain(result: Any) -> str:
    """Return a text of a result that is the same in every process."""
    if isinstance(result, _PLAIN):
        return repr(result)
    if isinstance(result, list | tuple):
        return f"[{', '.join(map(_plain, result))}]"
    if isinstance(result, dict):
        return f"{{{', '.join(f'{_plain(k)}: {_plain(v)}' for k, v in result.items())}}}"
    return f"a {type(result).__qualname__}"


if __name__ == "__main__":
    main()
