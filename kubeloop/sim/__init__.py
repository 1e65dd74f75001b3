"""The world that can be wound back: virtual time, in-memory network and disk."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubeloop.sim.disk import MemoryDisk
    from kubeloop.sim.loop import SimLoop, run

__all__ = ["MemoryDisk", "SimLoop", "run"]

_HOMES = {
    "MemoryDisk": "kubeloop.sim.disk",
    "SimLoop": "kubeloop.sim.loop",
    "run": "kubeloop.sim.loop",
}


def __getattr__(name: str) -> Any:
    """Import asyncio and the loop only when somebody simulates (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
