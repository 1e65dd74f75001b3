"""All orders in which a small system can run, each that matters once: dynamic partial order
reduction. Pure: it says what to do next, and is told what could be done.

A system is a number of lines, each a queue; a *move* takes what is first on one of them to a place,
which does something with it and puts more on lines. Two moves to different places can be exchanged
and nobody notices; so of all orders that differ by such exchanges only one is run. The system is
run again from its beginning for each order, as often as there are such classes of them (traces, as
Mazurkiewicz calls them).

After a run each race in it is looked for: two moves to one place, of which the later could have
been first. Where the earlier was made the other is made in a later run (source sets). What has
been tried at a point sleeps there, and goes on sleeping until something is done in its place: a run
in which all that is left sleeps would be one that has been, and is cut off.

What this relies on: a move that is possible stays possible until it is made, and a run ends when
none is; each run of the same moves is the same run. Only a move to `EVERYWHERE` may be left over.

Sources: Abdulla, Aronis, Jonsson, Sagonas: Optimal Dynamic Partial Order Reduction, POPL 2014
(source sets, algorithm 1); Godefroid: Partial-Order Methods for the Verification of Concurrent
Systems, 1996 (sleep sets).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

EVERYWHERE: Final = ""  # The place of what nothing can be exchanged with.


@dataclass(frozen=True, slots=True)
class Move:
    """Something that can be done next.

    line:   whose first it is: at any point a line has one next move, or none.
    place:  what it changes.
    what:   for people: its `str` says what it is.
    causes: the numbers of the moves of this run that have made it possible, from 0.
    looks:  whether it only looks: two that do can be exchanged.
    """

    line: str
    place: str
    what: object = ""
    causes: tuple[int, ...] = ()
    looks: bool = False


Choose = Callable[[Sequence[Move]], Move | None]
"""Is told what can be done next, never nothing; says what is to be; None: the run is cut off."""


class NotTheSame(Exception):
    """The same moves have led to something else: what is run is not decided by them alone."""


def collide(one: Move, other: Move) -> bool:
    """Tell whether it matters which of two moves is first."""
    if one.line == other.line:
        return True
    if EVERYWHERE in (one.place, other.place):
        return True
    return one.place == other.place and not (one.looks and other.looks)


def pasts(moves: Sequence[Move], known: Sequence[int] = ()) -> list[int]:
    """Return for each move of a run which ones must come before it, as the bits of a number.

    known: those of the first moves, if they have been found before.
    """
    found = list(known)
    for index in range(len(found), len(moves)):
        found.append(_past(moves, index, found))
    return found


def _past(moves: Sequence[Move], index: int, earlier: Sequence[int]) -> int:
    move, past = moves[index], 0
    for cause in move.causes:
        past |= earlier[cause] | 1 << cause
    for number in range(index - 1, -1, -1):
        if not past >> number & 1 and collide(moves[number], move):
            past |= earlier[number] | 1 << number
    return past


def needed(moves: Sequence[Move]) -> list[Move]:
    """Return those moves of a run that its last one needs, in their order: they are a run, too."""
    if not moves:
        return []
    past = pasts(moves)[-1]
    return [move for number, move in enumerate(moves[:-1]) if past >> number & 1] + [moves[-1]]


@dataclass(slots=True)
class Bounds:
    """What keeps a search small. What is left out because of one makes it incomplete.

    executions: runs, also those that are cut off.
    depth:      so many moves of a run may be other than the oldest first.
    delays:     how many moves of a run are held back: another is made that has not waited for as
                long.
    """

    executions: int = 10_000
    depth: int = 1_000
    delays: int | None = None


@dataclass(slots=True)
class _Point:
    """Where something is chosen.

    moves: what can be done there, by line, what has waited longest first.
    sleep: what need not be done there;  todo: the lines that are to be tried.
    """

    moves: dict[str, Move]
    sleep: dict[str, Move]
    move: Move
    todo: dict[str, None] = field(default_factory=dict)
    past: int = 0


class Search:
    """Says for run after run what to choose.

    while search.more():
        run(search.choose)

    runs:    how many have run to their end;  cut: how many were cut off.
    moves:   how many were made in all runs;  longest: in one.
    bounded: which bounds something was left out for.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.runs = self.cut = self.moves = self.longest = 0
        self.bounded: dict[str, None] = {}
        self._points: list[_Point] = []
        self._known = 0  # Points whose races have been looked for.
        self._at = 0  # Moves of this run.
        self._begun = self._was_cut = False

    def more(self) -> bool:
        """Tell whether there is another run, and begin with it."""
        if self._begun:
            self._learn()
            if not self._go_back():
                return False
        if self.runs + self.cut >= self.bounds.executions:
            self.bounded["executions"] = None
            return False
        self._begun, self._was_cut, self._at = True, False, 0
        return True

    def choose(self, moves: Sequence[Move]) -> Move | None:
        """Say what is next in this run. Raises: NotTheSame."""
        at = self._at
        if at < len(self._points):
            point = self._points[at]
            was = list(point.moves.values())
            if list(map(_kind, moves)) != list(map(_kind, was)):
                raise NotTheSame(f"move {at + 1}: {_texts(was)} were possible, now {_texts(moves)}")
            move = point.moves[point.move.line]
        elif at >= self.bounds.depth:
            if len(moves) > 1:
                self.bounded["depth"] = None
            move = moves[0]
        else:
            found = self._first(moves)
            if found is None:
                self._was_cut = True
                return None
            move = found
        self._at += 1
        return move

    def _first(self, moves: Sequence[Move]) -> Move | None:
        """Choose where nobody has been: the oldest that is awake."""
        last = self._points[-1] if self._points else None
        sleep = {}
        if last is not None:
            sleep = {q: m for q, m in last.sleep.items() if not collide(m, last.move)}
        by_line = {move.line: move for move in moves}
        for move in moves:
            if move.line not in sleep:
                # What goes everywhere is tried everywhere: no race tells of what is left over.
                always = [m.line for m in moves if m.place == EVERYWHERE]
                todo = dict.fromkeys([move.line, *always])
                self._points.append(_Point(by_line, sleep, move, todo))
                return move
        return None

    def _learn(self) -> None:
        """Look for the races of the run that has ended."""
        self.moves += self._at
        self.longest = max(self.longest, self._at)
        if self._was_cut:
            self.cut += 1
        else:
            self.runs += 1
        points = self._points
        moves = [point.move for point in points]
        found = pasts(moves, [point.past for point in points[: self._known]])
        for later in range(self._known, len(points)):
            points[later].past = found[later]
            for earlier in _races(moves, found, later):
                self._have_tried(points[earlier], _first_of(moves, found, earlier, later))

    def _have_tried(self, point: _Point, lines: Sequence[str]) -> None:
        """Have one of these lines be first at a point, unless one is or has been."""
        if not any(line in point.todo or line in point.sleep for line in lines):
            assert lines[0] in point.moves, f"{lines[0]} was not possible after all"
            point.todo[lines[0]] = None

    def _go_back(self) -> bool:
        """Go to the last point where something is left to be tried; tell whether there is one."""
        points = self._points
        while points:
            point = points[-1]
            point.sleep[point.move.line] = point.move
            for line in point.todo:
                if line not in point.sleep and self._may(line):
                    point.move = point.moves[line]
                    self._known = len(points) - 1
                    return True
            points.pop()
        return False

    def _may(self, line: str) -> bool:
        """Tell whether a line may be tried at the last point, as far as the bounds go."""
        most, (*before, point) = self.bounds.delays, self._points
        if most is None or _delays([*((p, p.move.line) for p in before), (point, line)]) <= most:
            return True
        self.bounded["delays"] = None
        return False


def _delays(choices: Sequence[tuple[_Point, str]]) -> int:
    """Return how many moves are held back when these lines are chosen."""
    made: Counter[str] = Counter()
    held: set[tuple[str, int]] = set()
    for point, line in choices:
        for older in point.moves:
            if older == line:
                break
            held.add((older, made[older]))
        made[line] += 1
    return len(held)


def _kind(move: Move) -> tuple[object, ...]:
    """Return what of a move must be the same in all runs; its text is dear."""
    return move.line, move.place, move.causes, move.looks


def _texts(moves: Sequence[Move]) -> str:
    return ", ".join(f"({move.line}: {move.what})" for move in moves)


class Walk:
    """Chooses by chance, and estimates how many orders there are: without bias, and roughly.

    Source: Knuth: Estimating the Efficiency of Backtrack Programs, 1975.
    """

    def __init__(self, below: Callable[[int], int]) -> None:
        """below: returns a number from 0 to one less than what it is given."""
        self.orders, self._below = 1, below

    def __call__(self, moves: Sequence[Move]) -> Move:
        self.orders *= len(moves)
        return moves[self._below(len(moves))]


def _races(moves: Sequence[Move], past: Sequence[int], later: int) -> Iterator[int]:
    """Yield the numbers of the moves that the one called `later` could have been before."""
    move, between = moves[later], 0
    if move.place == EVERYWHERE:
        return  # It has been tried wherever it was possible.
    caused = 0
    for cause in move.causes:
        caused |= past[cause] | 1 << cause
    for number in range(later - 1, -1, -1):
        if between >> number & 1 or not past[later] >> number & 1:
            continue
        between |= past[number]
        if not caused >> number & 1 and moves[number].line != move.line:
            yield number


def _first_of(moves: Sequence[Move], past: Sequence[int], earlier: int, later: int) -> list[str]:
    """Return the lines one of which must be first for the later of two to be before the other."""
    group, found = 0, []
    for number in [*range(earlier + 1, later), later]:
        if number != later and past[number] >> earlier & 1:
            continue
        if not past[number] & group:
            found.append(moves[number].line)
        group |= 1 << number
    return found
