"""Sets of tasks and the like, as programs in a simulation see them.

In orders that no address decides. Tasks and futures of a simulation hash by their number
(`sim.tasks`). That leaves anyio's cancel scopes and aiohttp's connections, which have no number and
no room for one: all that is needed is that their hash is the same in every run, so all have the
same, and what a set then yields depends on what was put in and taken out. (Of libraries that are
imported before the simulation begins.) And it leaves sets of coroutines that are given to
`asyncio.as_completed` (kopf does so): they become tasks in the order of their functions' names and
arguments. Sets of strings are not seen to: their order depends on PYTHONHASHSEED.

And of one host only: `asyncio.all_tasks()` tells of the tasks of the host it is asked on, as if
each host were a process. Programs that end every task they find (kopf does so) then end their own.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, Final

from kubeloop.sim.transport import HOST

_NUMBERLESS: Final = (
    ("anyio", "anyio._backends._asyncio", "CancelScope"),
    ("aiohttp", "aiohttp.client_proto", "ResponseHandler"),
    ("aiohttp", "aiohttp.connector", "_TransportPlaceholder"),  # Of a connection that comes.
)
"""Library, module and class whose instances are kept in sets."""
_PLAIN: Final = (str, bytes, int, float, bool, type(None))


@contextmanager
def simulated_sets(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Show code on `loop` these sets while the body runs."""

    def ours() -> bool:
        return asyncio._get_running_loop() is loop

    with ExitStack() as stack:

        def swap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
            real = getattr(owner, name)
            setattr(owner, name, make(real))
            stack.callback(setattr, owner, name, real)

        swap(asyncio, "as_completed", lambda real: _as_completed(real, ours))
        swap(asyncio, "all_tasks", lambda real: _all_tasks(real, ours))
        for library, module, name in _NUMBERLESS:
            if library in sys.modules:
                owner = getattr(import_module(module), name)
                swap(owner, "__hash__", lambda real: _hash(real, ours))
        yield


def _hash(real: Callable[[Any], int], ours: Callable[[], bool]) -> Callable[[Any], int]:
    return lambda scope: 0 if ours() else real(scope)


def _as_completed(real: Callable[..., Any], ours: Callable[[], bool]) -> Callable[..., Any]:
    def as_completed(fs: Any, **options: Any) -> Any:
        if ours() and isinstance(fs, set | frozenset):
            fs = [asyncio.ensure_future(f) for f in sorted(fs, key=_what)]
        return real(fs, **options)

    return as_completed


def _what(awaitable: Any) -> tuple[str, str]:
    """Return what tells an awaitable from others: a coroutine's function and plain arguments."""
    frame = getattr(awaitable, "cr_frame", None)
    if frame is None:
        return "", f"{hash(awaitable):020}"
    plain = {k: v for k, v in frame.f_locals.items() if isinstance(v, _PLAIN)}
    return awaitable.__qualname__, repr(sorted(plain.items()))


def _all_tasks(real: Callable[..., Any], ours: Callable[[], bool]) -> Callable[..., Any]:
    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> Any:
        found = real(loop)
        if not ours():
            return found
        # asyncio finds them in a set that is older than the simulation, in an order of its own.
        found = sorted(found, key=hash)
        if loop is not None:
            return set(found)
        here = HOST.get()
        return {task for task in found if _host(task) == here}

    return all_tasks


def _host(task: Any) -> str:
    """Return the host a task was started on; Python 3.12 tells also of what is no `SimTask`."""
    if hasattr(task, "host"):
        return str(task.host)
    host: str = task.get_context().get(HOST, "localhost")
    return host
