"""What all faults have: they begin, and they end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubeloop.chaos.values import Happening, Real, drawn

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Fault(Happening):
    """Something that breaks, for a while.

    for_s: how long, in virtual seconds. A run heals everything at its end, whatever this says.
    """

    for_s: float = drawn(Real(0.0, 60.0))

    async def happen(self, stage: "Stage") -> None:
        stage.note(str(self))
        heal = self.begin(stage)
        if heal is not None:
            stage.heal_later(self.for_s, heal, str(self))

    def begin(self, stage: "Stage") -> Callable[[], None] | None:
        """Break it; return what makes it well again, None if it is so by itself. Override."""
        raise NotImplementedError
