"""What happens at the registry all nodes pull from; what a node has already it does not pull."""

from dataclasses import dataclass
from typing import Final

from kubeloop.chaos.faults.base import Fault, Heal
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import IMAGES
from kubeloop.chaos.values import Mostly, OneOf, Real, drawn, kind

SOME: Final = Mostly("", *IMAGES.values)
_ANSWERS: Final = {
    "404": "not found",
    "429": "unexpected status from HEAD request: 429 Too Many Requests",
    "500": "unexpected status from HEAD request: 500 Internal Server Error",
    "503": "unexpected status from HEAD request: 503 Service Unavailable",
}


@dataclass(frozen=True, kw_only=True)
class OfImage(Fault):
    """A fault of an image. image: its name as pods have it; "": of all."""

    image: str = drawn(SOME)


@kind("pulls-slow")
@dataclass(frozen=True, kw_only=True)
class PullsSlow(OfImage):
    """Pulls take longer; at the end those that wait are done."""

    delay_s: float = drawn(Real(0.0, 60.0))

    def begin(self, stage: Stage) -> Heal:
        return stage.nodes.registry.trouble(self.image, slow_s=self.delay_s)


@kind("pulls-fail")
@dataclass(frozen=True, kw_only=True)
class PullsFail(OfImage):
    """The registry refuses: it has no such image, has too much to do, or is broken."""

    answer: str = drawn(OneOf("404", "429", "500", "503"))

    def begin(self, stage: Stage) -> Heal:
        return stage.nodes.registry.trouble(self.image, refuse=self._why)

    def _why(self, image: str) -> str:
        why = _ANSWERS[self.answer]
        return (
            f'failed to pull and unpack image "{image}": '
            f'failed to resolve reference "{image}": {image}: {why}'
        )
