"""Same seed, same history: a cluster and somebody's operator, in processes that hash differently.

This file is also the program that those processes run.
"""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kubeloop import Cluster, sim
from kubeloop.sim.checker import log_hash
from kubeloop.sim.loop import SimLoop
from kubeloop.sim.trace import Trace

SEEDS = range(100)
SLOW_SEEDS = range(0, 100, 10)  # With -X dev all takes five times as long.
NO_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}  # Loaded in 40 ms.


def operator(url: str, token: str) -> Any:
    """Return an operator written with kopf: it labels ConfigMaps, at the second try."""
    import kopf

    handlers, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.posting.enabled = False

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> Any:
        return kopf.ConnectionInfo(server=url, token=token)

    @kopf.on.create("configmaps", registry=handlers)
    async def label(patch: Any, retry: int, **_: Any) -> None:
        if retry == 0:
            raise kopf.TemporaryError("not yet", delay=2)
        patch.metadata.labels["seen"] = "yes"

    return kopf.operator(
        registry=handlers, settings=settings, namespaces=["default"], standalone=True
    )


async def scenario() -> str:
    """Return the hash of all that was written while an operator did its work."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    async with Cluster(nodes=1, rest=True, seed=loop.seed) as cluster:
        token = cluster.kubeconfig["users"][0]["user"]["token"]
        work = asyncio.create_task(operator(cluster.url, token))
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
        await cluster.api.create(body)
        await asyncio.sleep(6)
        found = await cluster.api.get("configmaps", "c")
        assert found["metadata"]["labels"] == {"seen": "yes"}
        work.cancel()
        await asyncio.wait([work])
        return log_hash(cluster.store.history)


def histories(seeds: Iterable[int], hash_seed: int, *options: str) -> dict[int, str]:
    """Return what another process writes for these seeds."""
    done = subprocess.run(
        [sys.executable, *options, __file__, *map(str, seeds)],
        env=os.environ | NO_AUTHORITIES | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        check=False,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    return {int(seed): history for seed, _, history in lines}


def test_same_seed_same_log_whatever_the_hash_seed() -> None:
    pytest.importorskip("kopf", reason="no kopf: pip install kopf")
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(histories, SEEDS, 0)
        other = pool.submit(histories, SEEDS, 1)
        developing = pool.submit(histories, SLOW_SEEDS, 2, "-X", "dev")
    assert len(one.result()) == len(SEEDS)
    assert other.result() == one.result()
    assert developing.result() == {seed: one.result()[seed] for seed in SLOW_SEEDS}
    assert len(set(one.result().values())) == len(SEEDS)


def main() -> None:
    """Print the hash of the log of each seed; of every tenth also that of all callbacks."""
    logging.disable(logging.CRITICAL)
    import_module("kopf")  # With aiohttp, as a program does: before it runs.
    for seed in map(int, sys.argv[1:]):
        trace = Trace() if seed % 10 == 0 else None
        policy = ("random", "pct", "fifo")[seed % 3]
        history = sim.run(scenario, seed=seed, policy=policy, trace=trace)  # type: ignore[arg-type]
        print(seed, history, "" if trace is None else trace.digest)


if __name__ == "__main__":
    main()
