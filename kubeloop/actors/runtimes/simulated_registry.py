"""Where simulated nodes have their images from: a registry that may be slow, or refuse."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from kubeloop.actors.runtimes.protocol import ImageRecord, RuntimeFailure
from kubeloop.actors.runtimes.scripts import DEFAULT, Script

Refusal = Callable[[str], str]
"""Why an image cannot be pulled, in the runtime's words; "" if it can."""


@dataclass(slots=True, eq=False)
class _Trouble:
    image: str
    slow_s: float
    refuse: Refusal
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def slow(self) -> None:
        """Take so much longer, or until the trouble is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.slow_s):
                await self.over.wait()


class SimulatedRegistry:
    """Has every image there may be. scripts: by image: its size, and how long a pull takes."""

    def __init__(self, scripts: Mapping[str, Script] | None = None) -> None:
        self._scripts: Mapping[str, Script] = {} if scripts is None else scripts
        self._troubles: list[_Trouble] = []

    def trouble(
        self, image: str = "", *, slow_s: float = 0.0, refuse: Refusal = lambda image: ""
    ) -> Callable[[], None]:
        """Have pulls of an image ("" for all) take longer, then be refused; return what ends it."""
        trouble = _Trouble(image, slow_s, refuse)
        self._troubles.append(trouble)

        def end() -> None:
            if trouble in self._troubles:
                self._troubles.remove(trouble)
                trouble.over.set()

        return end

    async def pull(self, image: str) -> ImageRecord:
        """Return an image that was fetched. Raises: RuntimeFailure."""
        script = self._scripts.get(image, DEFAULT)
        for trouble in self._with(image):
            if trouble.slow_s:
                await trouble.slow()
        if script.pull_s:
            await asyncio.sleep(script.pull_s)
        refusals = [trouble.refuse(image) for trouble in self._with(image)]
        why = next(filter(None, refusals), script.pull_error)
        if why:
            raise RuntimeFailure("ErrImagePull", why)
        digest = f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
        return ImageRecord(digest, (image,), script.size_bytes)

    def _with(self, image: str) -> list[_Trouble]:
        return [trouble for trouble in self._troubles if trouble.image in ("", image)]
