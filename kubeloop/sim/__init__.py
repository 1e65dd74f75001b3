"""The world that can be wound back: virtual time, in-memory network and disk."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubeloop.sim.loop import SimLoop, run

__all__ = ["SimLoop", "run"]


def __getattr__(name: str) -> Any:
    """Import asyncio and the loop only when somebody simulates (PEP 562)."""
    if name in __all__:
        from kubeloop.sim import loop

        return getattr(loop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
