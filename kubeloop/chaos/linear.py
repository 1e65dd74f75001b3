"""Is there an order in which concurrent operations on one object make sense?

Wing and Gong's search, with Lowe's memory of what was tried: an operation may come next if it began
before any other that is left ended. No object depends on another, so each is looked at alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NEVER: Final = float("inf")
ANY: Final = -1  # The revision of a write nobody was told of.

UNKNOWN: Final = "\0"  # What a patch made of an object if nobody was told.

State = tuple[str, int] | None
"""The value of an object and its revision; None if there is none."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client did. begin, end: numbers that order all beginnings and ends; end NEVER: it was
    not told how it went, and it may have taken effect or not.

    kind:     "get", "put" (whatever is there), "create" (if nothing is), "change" (if something
              is), "swap" (if it has revision `expected`), "delete".
    ok:       whether it was done; a get that found nothing, a swap that came too late are not.
    value:    what was written, or read;  revision: what was told with it.
    """

    client: int
    begin: float
    end: float
    kind: str
    ok: bool = True
    value: str = ""
    revision: int = ANY
    expected: int = ANY


def after(state: State, op: Operation) -> list[State]:
    """Return what an object may be after an operation that went as it was told; [] if it cannot."""
    if op.end == NEVER:  # That it has no effect is for the search to try.
        if op.kind == "swap" and (state is None or state[1] not in (ANY, op.expected)):
            return []
        if (op.kind == "create" and state is not None) or (op.kind == "change" and state is None):
            return []
        return [None if op.kind == "delete" else (op.value, ANY)]
    match op.kind, op.ok:
        case "get", True:
            if state is None or state[0] not in (UNKNOWN, op.value):
                return []
            return [(op.value, op.revision)] if state[1] in (ANY, op.revision) else []
        case "create", True:
            return [(op.value, op.revision)] if state is None else []
        case "create", False:
            return [] if state is None else [state]
        case "change", True:
            return [] if state is None else [(op.value, op.revision)]
        case "get" | "delete" | "change", False:
            return [None] if state is None else []
        case "delete", True:
            return [] if state is None else [None]
        case "put", True:
            return [(op.value, op.revision)]
        case "swap", True:
            fits = state is not None and state[1] in (ANY, op.expected)
            return [(op.value, op.revision)] if fits else []
        case "swap", False:
            return [state] if state is None or state[1] != op.expected else []
    raise ValueError(f"no operation is {op}")


def linearizable(history: Sequence[Operation]) -> bool:
    """Tell whether operations on one object, which is not there at first, make sense."""
    ops = sorted(history, key=lambda op: op.begin)
    everything = (1 << len(ops)) - 1
    told = sum(1 << number for number, op in enumerate(ops) if op.end != NEVER)
    todo: list[tuple[int, State]] = [(0, None)]
    seen = set(todo)
    while todo:
        done, state = todo.pop()
        if done & told == told:
            return True
        left = [(number, op) for number, op in enumerate(ops) if not done >> number & 1]
        first_end = min(op.end for _, op in left)
        for number, op in left:
            if op.begin > first_end:
                break
            for next_ in after(state, op):
                one = (done | 1 << number, next_)
                if one not in seen:
                    seen.add(one)
                    todo.append(one)
    return not told & everything
