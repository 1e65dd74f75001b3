"""Names for what happens in a simulation: who runs, where it waits, who called.

Names are the same in every run: they hold no addresses and depend on no hash.
"""

import asyncio
import gc
import os
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Sequence
from types import CodeType, FrameType
from typing import Any, Final

_ADDRESS: Final = re.compile("0x[0-9a-f]{6,}")
_SUSPENDED: Final = (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await"))
_OURS: Final = os.path.join(os.path.dirname(__file__), "")
_LIBRARY: Final = os.path.join(sysconfig.get_path("stdlib"), "")
_PACKAGES: Final = f"{os.sep}site-packages{os.sep}"  # They may lie below the library.


def callback_of(handle: asyncio.Handle) -> Any:
    """Return what a handle calls; None if it was cancelled."""
    return handle._callback  # type: ignore[attr-defined]


def handle_name(handle: asyncio.Handle) -> str:
    """Return the name of what a handle calls: "task NAME (coroutine)", "Kubelet.turn of k1"."""
    callback = callback_of(handle)
    while hasattr(callback, "func") and hasattr(callback, "keywords"):  # functools.partial
        callback = callback.func
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return f"task {task_name(owner)}"
    name = getattr(callback, "__qualname__", None) or type(callback).__qualname__
    if isinstance(called := getattr(owner, "name", None), str):
        return f"{name} of {called}"
    return str(name)


def task_name(task: "asyncio.Task[Any]") -> str:
    """Return "NAME (coroutine)"."""
    name = without_addresses(task.get_name())
    return f"{name} ({getattr(task.get_coro(), '__qualname__', '?')})"


def without_addresses(text: str) -> str:
    """Return a text with "0x…" for every address, as the default `repr` has them."""
    return _ADDRESS.sub("0x…", text) if "0x" in text else text


def waiting_place(task: "asyncio.Task[Any]") -> str:
    """Return where a task waits: "FILE:LINE in FUNCTION", and the library's function it awaits."""
    awaited: Any = task.get_coro()
    ours, inner = "", ""
    while awaited is not None:
        frame, following = _suspended(awaited)
        if frame is not None:
            if not _is_library(frame.f_code):
                ours, inner = place(frame.f_code, frame.f_lineno), ""
            else:
                inner = frame.f_code.co_qualname
        awaited = following
    if not ours:
        return inner or "an unknown place"
    return f"{ours}, awaiting {inner}" if inner else ours


def _suspended(awaited: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of a suspended coroutine or generator, and what it awaits in turn."""
    for prefix, following in _SUSPENDED:
        if hasattr(awaited, f"{prefix}_frame"):
            return getattr(awaited, f"{prefix}_frame"), getattr(awaited, f"{prefix}_{following}")
    # What stands for a step of an asynchronous generator does not tell which one it is of.
    inner = gc.get_referents(awaited)
    frames = (one for one in inner if any(hasattr(one, f"{name}_frame") for name, _ in _SUSPENDED))
    return None, next(frames, None)


def caller() -> str:
    """Return who called: "FILE:LINE in FUNCTION, task NAME"; the library and ours do not count."""
    frames = outer_frames(1)
    where = frames[0] if frames else "an unknown place"
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
    return where if task is None else f"{where}, task {task_name(task)}"


def outer_frames(most: int) -> list[str]:
    """Return up to `most` places on the stack, innermost first; those of the library only if
    there are no others."""
    found: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < most:
        if not _is_library(frame.f_code):
            found.append(place(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def place(code: CodeType, line: int | None) -> str:
    """Return "FILE:LINE in FUNCTION"."""
    return f"{code.co_filename}:{line} in {code.co_qualname}"


def _is_library(code: CodeType) -> bool:
    """Tell whether code is Python's own or the simulation's: nobody looks for a mistake there."""
    file = code.co_filename
    if file.startswith(("<", _OURS)):
        return True
    return file.startswith(_LIBRARY) and _PACKAGES not in file


def cycle_text(wakes: Iterable[tuple[str, str]]) -> str:
    """Return who wakes whom: the cycle that was gone through most, one line each.

    wakes: (who ran, whom it scheduled), in order of time.
    """
    counts = Counter(wakes)
    if not counts:
        return ""
    following: dict[str, str] = {}
    for (waker, woken), _ in counts.most_common():
        following.setdefault(waker, woken)
    path = [counts.most_common(1)[0][0][0]]
    while following.get(path[-1]) is not None and following[path[-1]] not in path:
        path.append(following[path[-1]])
    back = following.get(path[-1])
    cycle = path[path.index(back) :] if back is not None else path
    return _arrows(cycle, counts)


def _arrows(cycle: Sequence[str], counts: Counter[tuple[str, str]]) -> str:
    lines = [f"  {cycle[0]}"]
    for waker, woken in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        if times := counts[waker, woken]:
            lines.append(f"  → wakes {woken} ({times} ×)")
    return "\n".join(lines)
