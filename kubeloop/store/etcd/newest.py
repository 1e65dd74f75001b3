"""Reads of what is newest: asks etcd how far its history goes, and waits until the mirror is there.

So a read that begins after a write was acknowledged sees it, whichever process wrote. Readers share
the questions: whoever comes while one is under way waits for the next, which sees all he must see.
Source: Ongaro, "Consensus: Bridging Theory and Practice", 6.4 (read index).
"""

import asyncio
from collections.abc import Callable
from typing import Final

from kubeloop.store.etcd.client import Client, Refused, Unavailable
from kubeloop.store.etcd.outcomes import StoreUnavailable

PAUSE_S: Final = 0.05  # Before etcd is asked again, if it did not answer.


class Newest:
    """What the mirror must have before reads are answered.

    base: the revision of etcd of the newest group the mirror has;  patience_s: how long to wait.
    """

    def __init__(
        self, client: Client, sequence: bytes, base: Callable[[], int], patience_s: float
    ) -> None:
        self._client, self._sequence, self._base = client, sequence, base
        self._patience_s = patience_s
        self._asking: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._behind: list[tuple[int, asyncio.Future[None]]] = []

    async def confirm(self) -> None:
        """Return when all that was in etcd at this call is in the mirror.

        Raises: StoreUnavailable.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._round(self._asking))
        asked = self._next
        await asyncio.wait([asked])
        if asked.cancelled():
            raise StoreUnavailable("the store is closed")
        asked.result()

    def told(self) -> None:
        """Hear that the mirror may have come further."""
        reached = self._base()
        for wanted, future in self._behind:
            if wanted <= reached and not future.done():
                future.set_result(None)
        self._behind = [(wanted, future) for wanted, future in self._behind if wanted > reached]

    def close(self) -> None:
        """Ask no more; who waits is cancelled."""
        for task in (self._asking, self._next):
            if task is not None:
                task.cancel()

    async def _round(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        self._asking, self._next = self._next, None  # Who comes from now on waits for another.
        try:
            async with asyncio.timeout(self._patience_s):
                wanted = await self._ask()
                if wanted > self._base():
                    future = asyncio.get_running_loop().create_future()
                    self._behind.append((wanted, future))
                    await future
        except TimeoutError:
            waited = f"etcd did not answer for {self._patience_s} s"
            raise StoreUnavailable(f"{waited}: what is newest is not known") from None

    async def _ask(self) -> int:
        """Return the revision of etcd of its newest group, 0 if there is none."""
        while True:
            try:
                _, found = await self._client.list(self._sequence, self._sequence + b"\0")
            except (Unavailable, Refused):
                await asyncio.sleep(PAUSE_S)
                continue
            return found[0].mod if found else 0
