"""What the store needs of memory, beyond the values themselves.

Measured in a process of its own, where nothing else was freed that could be used again. The history
keeps 10,000 revisions, each with the path of its tree that changed: most of what is measured.
"""

import os
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from kubeloop.store.facts import NO_CAUSE, key_of
from kubeloop.store.history import Write
from kubeloop.store.store import Store

ROOT = Path(__file__).parents[2]
PODS = 20_000
POD_BYTES = 3000
FACTOR_MAX = 1.3
EACH_MAX = 600  # bytes


@pytest.mark.parametrize("stride", [1, 7919], ids=["in order", "scattered"])
def test_a_pod_needs_little_more_memory_than_its_bytes(stride: int) -> None:
    command = [sys.executable, "-m", "tests.store.test_memory", str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    resident, values = map(int, done.stdout.split())
    assert resident >= values, "the store does not hold what was put"
    assert resident <= FACTOR_MAX * values + EACH_MAX * PODS


def measure(stride: int) -> tuple[int, int]:
    """Put pods, one by one; return how many bytes the process grew by, and those of the values."""
    store, values = Store.memory(), 0
    before = resident_bytes()
    for n in range(PODS):
        spec = {"nodeName": f"node-{n % 100}", "padding": os.urandom(POD_BYTES - 100)}
        value = msgpack.packb({"metadata": {"name": f"pod-{n}"}, "spec": spec})
        values += len(value)
        store.commit(
            [Write(key_of("pods", "default", f"pod-{n * stride % PODS:06}"), value)], NO_CAUSE
        )
        store.flush(lambda error: None)
    grown = resident_bytes() - before
    assert len(store.list("/registry/pods/").values) == PODS
    return grown, values


def resident_bytes() -> int:
    """Return how much memory of this process is in use: what the machine has to have."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(*measure(int(sys.argv[1])))
