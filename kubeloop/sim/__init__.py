"""The world that can be wound back: virtual time, in-memory network and disk."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubeloop.sim.checker import check_determinism, log_hash
    from kubeloop.sim.disk import MemoryDisk
    from kubeloop.sim.loop import EPOCH, SimLoop, run
    from kubeloop.sim.policies import Pct
    from kubeloop.sim.trace import Trace

__all__ = ["EPOCH", "MemoryDisk", "Pct", "SimLoop", "Trace", "check_determinism", "log_hash", "run"]

_HOMES = {
    "EPOCH": "kubeloop.sim.loop",
    "MemoryDisk": "kubeloop.sim.disk",
    "Pct": "kubeloop.sim.policies",
    "SimLoop": "kubeloop.sim.loop",
    "Trace": "kubeloop.sim.trace",
    "check_determinism": "kubeloop.sim.checker",
    "log_hash": "kubeloop.sim.checker",
    "run": "kubeloop.sim.loop",
}


def __getattr__(name: str) -> Any:
    """Import asyncio and the loop only when somebody simulates (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
