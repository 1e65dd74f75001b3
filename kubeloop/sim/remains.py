"""What a loss of power may leave of files whose content, or whose names, were not synced.

A disk writes every sector by itself, whole, when it likes: what is left of one is anything it has
held since the file was synced, and a file has any length between those it had. Until a directory
is synced, a name stands for any file it has stood for since, or for none if it ever stood for none.
But who renames a file loses it under both names never.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import Final

SECTOR: Final = 512
_NEAR: Final = 24  # So many bytes around a length that a file has had are all tried.

Remains = dict[str, bytes]
"""Files by path."""


class Node:
    """A file, whatever its names.

    content: as programs see it;  safe: as it was synced last;  changes: since then, see `change`;
    refused: how many of them the system takes for written, though they are not; see `refuse`.
    """

    __slots__ = ("changes", "content", "refused", "safe")

    def __init__(self, content: bytearray, safe: bytes = b"") -> None:
        self.content, self.safe = content, safe
        self.changes: list[tuple[int, bytes | None]] = []
        self.refused: int | None = None

    def change(self, at: int, data: bytes | None) -> None:
        """Write at a place, or with None for the data cut there; not synced."""
        self.changes.append((at, data))
        _change(self.content, at, data)

    def sync(self) -> None:
        """Make it safe, but for what was refused before and not written again."""
        held = bytearray(self.content)
        if self.refused is not None:
            held = bytearray(self.safe[: len(held)].ljust(len(held), b"\0"))
            for at, data in self.changes[self.refused :]:
                sectors = slice(
                    at // SECTOR * SECTOR, -(-(at + len(data or b"")) // SECTOR) * SECTOR
                )
                held[sectors] = self.content[sectors]
            self.refused = None if held == self.content else 0
        self.safe = bytes(held)
        self.changes.clear()

    def refuse(self) -> None:
        """Fail to sync: the system forgets that there is something to be written.

        It shows what it has not written, and says of the next sync that all went well, as Linux
        does.
        """
        self.refused = len(self.changes)

    def settle(self) -> None:
        """Make it safe as it is."""
        self.refused = None
        self.sync()

    def copy(self) -> "Node":
        """Return another that is the same."""
        same = Node(bytearray(self.content), self.safe)
        same.changes, same.refused = list(self.changes), self.refused
        return same


@dataclass(frozen=True, slots=True)
class Fates:
    """All that may have become of some files.

    nodes: what every name may stand for, the oldest first; None: nothing.
    moved: files that must not be lost, and the safe name each had.
    """

    nodes: Mapping[str, Sequence[Node | None]]
    moved: Mapping[Node, str]

    def one(self, chance: random.Random) -> Remains:
        """Return one of the possible outcomes."""
        pasts: dict[Node, _Past] = {}
        return self._filled(self._named(chance), pasts, chance)

    def some(self, chance: random.Random, most: int) -> Iterator[Remains]:
        """Yield different outcomes: every one if there are not more than `most`.

        If there are, the most telling: nothing was written, or everything, or everything but one
        sector or name; lengths close to those there were; and the rest by chance.
        """
        pasts = {node: _Past.of(node) for nodes in self.nodes.values() for node in nodes if node}
        total = prod([len(nodes) for nodes in self.nodes.values()])
        total *= prod([past.count() for past in pasts.values()])
        found = self._all(pasts) if total <= most else self._telling(pasts, chance, most)
        seen: set[int] = set()
        for files in found:
            mark = hash(frozenset(files.items()))
            if mark not in seen:
                seen.add(mark)
                yield files
            if len(seen) == most:
                return

    def _all(self, pasts: "Mapping[Node, _Past]") -> Iterator[Remains]:
        for picked in product(*self.nodes.values()):
            named = self._kept(dict(zip(self.nodes, picked, strict=True)))
            used = list(dict.fromkeys(filter(None, named.values())))
            for contents in product(*[pasts[node].all() for node in used]):
                held = dict(zip(used, contents, strict=True))
                yield {path: held[node] for path, node in named.items() if node}

    def _telling(
        self, pasts: "dict[Node, _Past]", chance: random.Random, most: int
    ) -> Iterator[Remains]:
        oldest = {path: nodes[0] for path, nodes in self.nodes.items()}
        newest = {path: nodes[-1] for path, nodes in self.nodes.items()}
        old = {node: past.oldest() for node, past in pasts.items()}
        new = {node: bytes(node.content) for node in pasts}
        yield _files(self._kept(oldest), old)
        yield _files(newest, new)
        corners = [
            _files(self._kept(newest | {path: node}), new)
            for path, nodes in self.nodes.items()
            for node in nodes[:-1]
        ]
        for node, past in pasts.items():
            if node in newest.values():
                corners += [_files(newest, new | {node: c}) for c in past.corners()]
        chance.shuffle(corners)
        yield from islice(corners, most // 2)
        for _ in range(3 * most):
            yield self._filled(self._named(chance), pasts, chance)

    def _named(self, chance: random.Random) -> dict[str, Node | None]:
        return self._kept(
            {
                path: nodes[0] if len(nodes) == 1 else chance.choice(nodes)
                for path, nodes in self.nodes.items()
            }
        )

    def _kept(self, named: dict[str, Node | None]) -> dict[str, Node | None]:
        """Have no file lost that is only renamed."""
        for node, path in self.moved.items():
            if node not in named.values():
                named[path] = node
        return named

    def _filled(
        self,
        named: Mapping[str, Node | None],
        pasts: "dict[Node, _Past]",
        chance: random.Random,
    ) -> Remains:
        contents: dict[Node, bytes] = {}
        for node in filter(None, named.values()):
            if node not in contents:
                past = pasts.get(node) or pasts.setdefault(node, _Past.of(node))
                contents[node] = past.one(chance)
        return _files(named, contents)


@dataclass(frozen=True, slots=True)
class _Past:
    """What a file was since it was synced.

    lengths: the oldest first.
    sectors: what each has held, without repetitions, filled up with zeros: when synced comes first.
    newest:  what each holds.
    """

    lengths: Sequence[int]
    sectors: Sequence[Sequence[bytes]]
    newest: Sequence[bytes]

    @classmethod
    def of(cls, node: Node) -> "_Past":
        content, lengths = bytearray(node.safe), [len(node.safe)]
        sectors = [[held] for held in _sectors(content, 0, len(content))]

        def note(start: int, end: int) -> None:
            first = start // SECTOR
            while len(sectors) * SECTOR < end:
                sectors.append([bytes(SECTOR)])  # Where nothing was written there are zeros.
            for options, held in zip(sectors[first:], _sectors(content, start, end), strict=False):
                if held not in options:
                    options.append(held)

        for at, data in node.changes:
            before = len(content)
            _change(content, at, data)
            lengths.append(len(content))
            note(min(at, before), before if data is None else at + len(data))
        if node.refused is None and content != node.content:  # It was changed without a call.
            lengths.append(len(node.content))
            content = node.content
            note(0, max(lengths))
        return cls(lengths, sectors, _sectors(content, 0, SECTOR * len(sectors)))

    def one(self, chance: random.Random) -> bytes:
        """Return one of all it may be."""
        lengths = self.lengths
        if len(lengths) == 1:
            return self.oldest()
        size = chance.choice(lengths)
        if chance.random() < 0.7 and lengths[-1] >= lengths[0]:
            size = chance.randint(min(lengths), max(lengths))
        likely = chance.choice((0.2, 0.5, 0.8))
        sectors = [
            options[0] if len(options) == 1 or chance.random() < likely else chance.choice(options)
            for options in self.sectors
        ]
        return _cut(sectors, size)

    def oldest(self) -> bytes:
        """Return it as it was synced."""
        return _cut([options[0] for options in self.sectors], self.lengths[0])

    def count(self) -> int:
        """Return how many there are in `all`; a few may be the same."""
        return len(self._sizes()) * prod([len(options) for options in self.sectors])

    def all(self) -> Iterator[bytes]:
        """Yield every mixture of sectors, in every telling length."""
        for sectors in product(*self.sectors):
            for size in self._sizes():
                yield _cut(sectors, size)

    def corners(self) -> Iterator[bytes]:
        """Yield it with everything new but one sector, or old, or everything new but the length."""
        newest, oldest = self.newest, [options[0] for options in self.sectors]
        for index, options in enumerate(self.sectors):
            for held in options:
                yield _cut([*newest[:index], held, *newest[index + 1 :]], self.lengths[-1])
                yield _cut([*oldest[:index], held, *oldest[index + 1 :]], self.lengths[-1])
        for size in self._sizes():
            yield _cut(newest, size)

    def _sizes(self) -> Sequence[int]:
        """Return lengths between the least and the most: next to one it had, or to a sector."""
        least, most = min(self.lengths), max(self.lengths)
        near = {n + d for n in set(self.lengths) for d in range(-_NEAR, _NEAR + 1)}
        for place in range(least // SECTOR * SECTOR, most + 1, SECTOR):
            near |= {place - 1, place, place + 1}
        return sorted(n for n in near if least <= n <= most)


def _sectors(content: bytearray, start: int, end: int) -> list[bytes]:
    """Return the sectors that hold anything between two places, filled up with zeros."""
    return [
        bytes(content[place : place + SECTOR]).ljust(SECTOR, b"\0")
        for place in range(start // SECTOR * SECTOR, end, SECTOR)
    ]


def _cut(sectors: Sequence[bytes], size: int) -> bytes:
    return b"".join(sectors)[:size].ljust(size, b"\0")


def _files(named: Mapping[str, Node | None], contents: Mapping[Node, bytes]) -> Remains:
    return {path: contents[node] for path, node in named.items() if node}


def _change(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
    elif data:
        content.extend(bytes(max(0, at - len(content))))
        content[at : at + len(data)] = data
