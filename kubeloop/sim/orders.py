"""Orders in which libraries go through sets, where otherwise addresses would decide.

Tasks and futures of a simulation hash by their number (`sim.tasks`). That leaves:

- anyio's cancel scopes, which have no number and no room for one. All that is needed is that their
  hash is the same in every run, so all have the same: what a set then yields depends on what was
  put in and taken out, and when.
- sets of coroutines that are given to `asyncio.as_completed` (kopf does so). They become tasks in
  the order of their functions' names and arguments.

Not seen to: sets of strings, whose order depends on PYTHONHASHSEED.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

_ANYIO: Final = "anyio._backends._asyncio"
_PLAIN: Final = (str, bytes, int, float, bool, type(None))


@contextmanager
def fixed_orders(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Fix these orders for code on `loop` while the body runs; anyio's if it has been imported."""

    def ours() -> bool:
        return asyncio._get_running_loop() is loop

    complete = asyncio.as_completed

    def as_completed(fs: Any, **options: Any) -> Any:
        if ours() and isinstance(fs, set | frozenset):
            fs = [asyncio.ensure_future(f) for f in sorted(fs, key=_what)]
        return complete(fs, **options)

    scope: Any = import_module(_ANYIO).CancelScope if "anyio" in sys.modules else None
    address = None if scope is None else scope.__hash__
    asyncio.as_completed = as_completed  # type: ignore[assignment]
    if address is not None:
        scope.__hash__ = lambda self: 0 if ours() else address(self)
    try:
        yield
    finally:
        asyncio.as_completed = complete
        if address is not None:
            scope.__hash__ = address


def _what(awaitable: Any) -> tuple[str, str]:
    """Return what tells an awaitable from others: a coroutine's function and plain arguments."""
    frame = getattr(awaitable, "cr_frame", None)
    if frame is None:
        return "", f"{hash(awaitable):020}"
    plain = {k: v for k, v in frame.f_locals.items() if isinstance(v, _PLAIN)}
    return awaitable.__qualname__, repr(sorted(plain.items()))
