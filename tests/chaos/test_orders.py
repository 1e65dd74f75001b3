"""The search for all orders, against running every single one, on systems drawn by chance."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import every_order

from kubeloop.chaos.orders import (
    EVERYWHERE,
    Bounds,
    Choose,
    Move,
    NotTheSame,
    Search,
    Walk,
    collide,
    needed,
)

PLACES = ("a", "b", "c", EVERYWHERE)
SENDS_MAX = 2  # Of each place, or there would be too many orders to try each.


@dataclass(frozen=True)
class Rule:
    """Whom a place sends a message, and whether that only looks."""

    to: str
    looks: bool


@dataclass
class Toy:
    """A system of places that log what they hear; what they send depends on their logs.

    first: (line, place, looks) of what waits at the beginning.
    rules: of each place, of which one is followed whenever it is changed.
    later: what time brings, one by one, when nothing else can be done.
    """

    first: tuple[tuple[str, str, bool], ...]
    rules: dict[str, tuple[Rule | None, ...]]
    later: tuple[tuple[str, str, bool], ...] = ()

    def run(self, choose: Choose) -> tuple[Move, ...] | None:
        """Return the moves of one run; None if it was cut off."""
        lines: dict[str, list[Move]] = {}
        logs: dict[str, list[str]] = {place: [] for place in self.rules}
        counts: Counter[str] = Counter()
        sent: Counter[str] = Counter()

        def send(line: str, place: str, looks: bool, causes: tuple[int, ...]) -> None:
            counts[line] += 1
            move = Move(line, place, f"{line}#{counts[line]}", causes, looks)
            lines.setdefault(line, []).append(move)

        for line, place, looks in self.first:
            send(line, place, looks, ())
        made: list[Move] = []
        later = list(self.later)
        while True:
            waiting = [queue[0] for queue in lines.values() if queue]
            if not waiting and not later:
                return tuple(made)
            move = choose(waiting or [Move("time", EVERYWHERE, f"time {len(later)}")])
            if move is None:
                return None
            if move.line == "time":
                made.append(move)
                send(*later.pop(), (len(made) - 1,))
                continue
            lines[move.line].pop(0)
            made.append(move)
            if move.looks:
                continue
            log, rules = logs[move.place], self.rules[move.place]
            log.append(str(move.what))
            # Whom it sends something depends on who came first.
            rule = rules[(len(log[0]) + ord(log[0][0]) + len(log)) % len(rules)] if rules else None
            if rule is not None and sent[move.place] < SENDS_MAX:
                sent[move.place] += 1
                send(f"{move.place}>{rule.to}", rule.to, rule.looks, (len(made) - 1,))


def trace_of(moves: Sequence[Move]) -> frozenset[tuple[str, str]]:
    """Return what makes an order another one: who of two that collide was first."""
    return frozenset(
        (str(one.what), str(other.what))
        for number, one in enumerate(moves)
        for other in moves[number + 1 :]
        if collide(one, other)
    )


flags = st.booleans()
rules = st.one_of(st.none(), st.builds(Rule, st.sampled_from(PLACES), flags))
toys = st.builds(
    Toy,
    st.lists(
        st.tuples(st.sampled_from(("u", "v", "w")), st.sampled_from(PLACES), flags),
        min_size=1,
        max_size=5,
    ).map(tuple),
    st.fixed_dictionaries({place: st.lists(rules, max_size=3).map(tuple) for place in PLACES}),
    st.lists(
        st.tuples(st.sampled_from(("u", "y")), st.sampled_from(PLACES), flags), max_size=2
    ).map(tuple),
)


@given(toys)
@settings(max_examples=150, deadline=None)
def test_each_order_that_matters_is_run_once_and_no_other(toy: Toy) -> None:
    wanted = {trace_of(moves) for moves in every_order(toy.run)}
    search, found = Search(), []
    while search.more():
        moves = toy.run(search.choose)
        if moves is not None:
            found.append(trace_of(moves))
    assert len(found) == len(set(found)) == search.runs
    assert set(found) == wanted
    assert not search.bounded


def independent(places: int, each: int) -> Toy:
    first = tuple((f"{n}{place}", place, False) for place in PLACES[:places] for n in range(each))
    return Toy(first, dict.fromkeys(PLACES, ()))


def echo(later: int) -> Toy:
    """Return two places that answer each other, while others talk to them, too; then time does."""
    first = (("u", "a", False), ("v", "b", False))
    answers = {"a": (Rule("b", False),), "b": (Rule("a", False),), "c": (), EVERYWHERE: ()}
    return Toy(first, answers, (("u", "a", False),) * later)


@pytest.mark.parametrize(
    ("toy", "runs"),
    [
        (independent(2, 1), 1),
        (independent(1, 4), 24),
        (independent(2, 3), 36),
        (echo(0), 5),
        (echo(1), 5),
    ],
)
def test_the_number_of_runs_is_that_of_the_traces(toy: Toy, runs: int) -> None:
    search = Search()
    while search.more():
        toy.run(search.choose)
    assert (search.runs, search.cut) == (runs, 0)


@pytest.mark.parametrize("readers", [1, 2, 3, 4])
def test_each_reader_is_before_or_after_the_writer(readers: int) -> None:
    """The example of the paper: readers that first look at something of their own."""
    first = [("writer", "x", False)]
    for number in range(readers):
        first += [(f"reader {number}", f"own {number}", True), (f"reader {number}", "x", True)]
    places = ["x", *(f"own {number}" for number in range(readers))]
    toy, search, found = Toy(tuple(first), dict.fromkeys(places, ())), Search(), []
    while search.more():
        if (moves := toy.run(search.choose)) is not None:
            found.append(trace_of(moves))
    assert len(found) == len(set(found)) == 2**readers


@pytest.mark.parametrize(("delays", "runs"), [(0, 1), (1, 4), (2, 6), (3, 6)])
def test_a_delay_is_a_move_that_is_held_back(delays: int, runs: int) -> None:
    toy, search = independent(1, 3), Search(Bounds(delays=delays))
    while search.more():
        toy.run(search.choose)
    assert search.runs == runs


def test_a_walk_by_chance_estimates_how_many_orders_there_are() -> None:
    toy, chance, found = echo(1), random.Random(1), list[int]()
    for _ in range(1000):
        walk = Walk(chance.randrange)
        toy.run(walk)
        found.append(walk.orders)
    assert sum(found) / len(found) == pytest.approx(sum(1 for _ in every_order(toy.run)), rel=0.1)


def test_two_that_only_look_need_one_order() -> None:
    toy = Toy((("u", "a", True), ("v", "a", True)), dict.fromkeys(PLACES, ()))
    search = Search()
    while search.more():
        toy.run(search.choose)
    assert (search.runs, search.cut) == (1, 0)


@pytest.mark.parametrize(
    ("bounds", "name"),
    [
        (Bounds(executions=3), "executions"),
        (Bounds(depth=1), "depth"),
        (Bounds(delays=1), "delays"),
    ],
)
def test_a_bound_that_leaves_something_out_is_told(bounds: Bounds, name: str) -> None:
    search, toy = Search(bounds), independent(1, 4)
    while search.more():
        toy.run(search.choose)
    assert list(search.bounded) == [name]
    assert 0 < search.runs < 24


def test_a_run_that_differs_by_itself_is_noticed() -> None:
    search = Search()
    assert search.more()
    search.choose([Move("u", "a"), Move("v", "a")])
    search.choose([Move("v", "a")])
    assert search.more()
    with pytest.raises(NotTheSame, match=r"now \(w: "):
        search.choose([Move("w", "a")])


def test_what_the_last_move_needs_is_a_run_of_its_own() -> None:
    moves = [Move("u", "a"), Move("v", "b"), Move("a>c", "c", causes=(0,)), Move("w", "b")]
    assert needed(moves[:3]) == [moves[0], moves[2]]
    assert needed(moves) == [moves[1], moves[3]]
    assert needed([]) == []
