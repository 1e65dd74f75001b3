"""What all faults have: they begin, and they end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kubeloop.chaos.values import Happening, Real, drawn

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Stage

Heal = Callable[[], None]
"""Makes something well again. It is called once."""


@dataclass(frozen=True, kw_only=True)
class Fault(Happening):
    """Something that breaks, for a while.

    for_s:   how long, in virtual seconds. A run heals everything at its end, whatever this says.
    on_disk: whether it is one of the store's disk: a plan that has it is of a durable cluster.
    """

    on_disk: ClassVar[bool] = False
    for_s: float = drawn(Real(0.0, 60.0))

    async def happen(self, stage: "Stage") -> None:
        stage.note(str(self))
        stage.disturb()
        heal = self.begin(stage)
        if heal is not None:
            stage.heal_later(self.for_s, heal, str(self))

    def begin(self, stage: "Stage") -> Heal | None:
        """Break it; return what makes it well again, None if it is so by itself. Override."""
        raise NotImplementedError
