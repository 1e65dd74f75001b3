"""A persistent ordered map from keys to values and their revisions: a B+tree whose nodes never
change. Pure.

Writing makes new nodes along one path from the root and shares all others with the tree before. So
every revision keeps a tree of its own for the price of one path; a fork is a reference, going back
is forgetting a root, and another thread may read a tree while the next one grows. Branches count
what is below them: how many keys lie between two others is known without visiting them.

A tree is its root; None is the empty one. Leaves hold lists of strings, bytes and numbers and no
object per key: that is the least memory there can be, and next to nothing for the garbage
collector. Lists, for they are copied three times as fast as tuples; none is changed once it is in
a node.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

LEAF_MAX: Final = 32  # Keys of a leaf: more are cheaper to list, fewer are cheaper to change.
BRANCH_MAX: Final = 32


class Leaf:
    """Some keys in order, their values and the revisions these were written at."""

    __slots__ = ("keys", "revisions", "values")

    def __init__(self, keys: list[str], values: list[bytes], revisions: list[int]) -> None:
        self.keys, self.values, self.revisions = keys, values, revisions

    @property
    def count(self) -> int:
        """How many keys there are."""
        return len(self.keys)


class Branch:
    """Some trees in order. bounds: the least key of each but the first;  count: of all keys."""

    __slots__ = ("bounds", "children", "count")

    def __init__(self, bounds: list[str], children: "list[Node]", count: int) -> None:
        self.bounds, self.children, self.count = bounds, children, count


Node = Leaf | Branch
Tree = Node | None
Found = tuple[bytes, int] | None
"""The value of a key and its revision, None if it has none."""


class Slice(NamedTuple):
    """Neighbouring keys, with what belongs to each."""

    keys: list[str]
    values: list[bytes]
    revisions: list[int]


def get(tree: Tree, key: str) -> Found:
    """Return the value of a key and its revision, None if it has none. Cost: O(log n)."""
    if tree is None:
        return None
    while isinstance(tree, Branch):
        tree = tree.children[bisect_right(tree.bounds, key)]
    index = bisect_left(tree.keys, key)
    if index < len(tree.keys) and tree.keys[index] == key:
        return tree.values[index], tree.revisions[index]
    return None


def put(tree: Tree, key: str, value: bytes, revision: int) -> tuple[Node, Found]:
    """Return the tree in which `key` has this value, and what it had before.

    Cost: O(log n), in time and in new memory.
    """
    if tree is None:
        return Leaf([key], [value], [revision]), None
    path, leaf = _descend(tree, key)
    keys, values, revisions = leaf.keys, leaf.values.copy(), leaf.revisions.copy()
    index = bisect_left(keys, key)
    if index < len(keys) and keys[index] == key:
        found = values[index], revisions[index]
        values[index], revisions[index] = value, revision
        return _replaced(path, Leaf(keys, values, revisions), 0), found
    keys = keys.copy()
    keys.insert(index, key)
    values.insert(index, value)
    revisions.insert(index, revision)
    if len(keys) <= LEAF_MAX:
        return _replaced(path, Leaf(keys, values, revisions), 1), None
    # Keys that come in order leave full leaves behind; others leave halves, with room to grow.
    cut = LEAF_MAX if index == LEAF_MAX else len(keys) // 2
    left = Leaf(keys[:cut], values[:cut], revisions[:cut])
    right = Leaf(keys[cut:], values[cut:], revisions[cut:])
    return _split(path, left, right, keys[cut]), None


def remove(tree: Tree, key: str) -> tuple[Tree, Found]:
    """Return the tree without `key`, and what it had: None if it is the same. Cost: O(log n)."""
    if tree is None:
        return None, None
    path, leaf = _descend(tree, key)
    keys = leaf.keys
    index = bisect_left(keys, key)
    if index == len(keys) or keys[index] != key:
        return tree, None
    found = leaf.values[index], leaf.revisions[index]
    node: Node = Leaf(
        keys[:index] + keys[index + 1 :],
        leaf.values[:index] + leaf.values[index + 1 :],
        leaf.revisions[:index] + leaf.revisions[index + 1 :],
    )
    for branch, position in reversed(path):
        node = _shrunk(branch, position, node)
    while isinstance(node, Branch) and len(node.children) == 1:
        node = node.children[0]
    return (node if node.count else None), found


def rank(tree: Tree, key: str) -> int:
    """Return how many keys are less than `key`. Cost: O(log n)."""
    if tree is None:
        return 0
    before = 0
    while isinstance(tree, Branch):
        index = bisect_right(tree.bounds, key)
        before += sum([child.count for child in tree.children[:index]])
        tree = tree.children[index]
    return before + bisect_left(tree.keys, key)


def between(tree: Tree, first: str, end: str, limit: int = 0) -> Slice:
    """Return the keys from `first` on and before `end`, at most `limit` of them if it is not 0.

    Cost: O(log n + what is returned).
    """
    found = Slice([], [], [])
    left = limit or count(tree)
    for leaf in _leaves(tree, first):
        start = bisect_left(leaf.keys, first) if not found.keys else 0
        stop = min(bisect_left(leaf.keys, end), start + left)
        if start < stop:
            found.keys.extend(leaf.keys[start:stop])
            found.values.extend(leaf.values[start:stop])
            found.revisions.extend(leaf.revisions[start:stop])
            left -= stop - start
        if stop < len(leaf.keys) or not left:
            break
    return found


def items(tree: Tree) -> Iterator[tuple[str, bytes, int]]:
    """Yield every (key, value, revision), in the order of the keys."""
    for leaf in _leaves(tree, ""):
        yield from zip(leaf.keys, leaf.values, leaf.revisions, strict=True)


def count(tree: Tree) -> int:
    """Return how many keys there are."""
    return 0 if tree is None else tree.count


def build(keys: list[str], values: list[bytes], revisions: list[int]) -> Tree:
    """Return the tree of these, whose keys must be in order, without repetition. Cost: O(n)."""
    level: list[tuple[str, Node]] = []
    for start in range(0, len(keys), LEAF_MAX):
        part = slice(start, start + LEAF_MAX)
        leaf = Leaf(keys[part], values[part], revisions[part])
        level.append((leaf.keys[0], leaf))
    while len(level) > 1:
        upper: list[tuple[str, Node]] = []
        for start in range(0, len(level), BRANCH_MAX):
            group = level[start : start + BRANCH_MAX]
            upper.append((group[0][0], _branch(group)))
        level = upper
    return level[0][1] if level else None


def _descend(tree: Node, key: str) -> tuple[list[tuple[Branch, int]], Leaf]:
    """Return the leaf where `key` belongs, and the branches above it, each with the way taken."""
    path: list[tuple[Branch, int]] = []
    while isinstance(tree, Branch):
        index = bisect_right(tree.bounds, key)
        path.append((tree, index))
        tree = tree.children[index]
    return path, tree


def _replaced(path: list[tuple[Branch, int]], node: Node, more: int) -> Node:
    """Return the root above a node in place of the one that was there, with `more` keys."""
    for branch, index in reversed(path):
        children = branch.children.copy()
        children[index] = node
        node = Branch(branch.bounds, children, branch.count + more)
    return node


def _split(path: list[tuple[Branch, int]], node: Node, extra: Node, bound: str) -> Node:
    """Return the root above two nodes in place of one, with a key more; one begins at `bound`."""
    for depth in range(len(path) - 1, -1, -1):
        branch, index = path[depth]
        children, bounds = branch.children.copy(), branch.bounds.copy()
        children[index] = node
        children.insert(index + 1, extra)
        bounds.insert(index, bound)
        if len(children) <= BRANCH_MAX:
            return _replaced(path[:depth], Branch(bounds, children, branch.count + 1), 1)
        cut = BRANCH_MAX if index == BRANCH_MAX - 1 else len(children) // 2
        node = Branch(bounds[: cut - 1], children[:cut], _sum(children[:cut]))
        extra = Branch(bounds[cut:], children[cut:], _sum(children[cut:]))
        bound = bounds[cut - 1]
    return Branch([bound], [node, extra], node.count + extra.count)


def _shrunk(branch: Branch, index: int, node: Node) -> Node:
    """Return a branch with a child that has become smaller: perhaps gone, or joined to another."""
    children, bounds = branch.children.copy(), branch.bounds.copy()
    children[index] = node
    if node.count == 0:
        if len(children) == 1:
            return node
        del children[index]
        del bounds[max(0, index - 1)]
        return Branch(bounds, children, branch.count - 1)
    for left in (index - 1, index):
        if 0 <= left < len(children) - 1:
            joined = _joined(children[left], children[left + 1], bounds[left])
            if joined is not None:
                children[left : left + 2] = [joined]
                del bounds[left]
                break
    return Branch(bounds, children, branch.count - 1)


def _joined(left: Node, right: Node, bound: str) -> Node | None:
    """Return two neighbours as one, None if they would not be at home in half a node."""
    if isinstance(left, Leaf) and isinstance(right, Leaf):
        if len(left.keys) + len(right.keys) > LEAF_MAX // 2:
            return None
        return Leaf(
            left.keys + right.keys, left.values + right.values, left.revisions + right.revisions
        )
    assert isinstance(left, Branch), "all leaves are at one depth"
    assert isinstance(right, Branch), "all leaves are at one depth"
    if len(left.children) + len(right.children) > BRANCH_MAX // 2:
        return None
    bounds = [*left.bounds, bound, *right.bounds]
    return Branch(bounds, left.children + right.children, left.count + right.count)


def _leaves(tree: Tree, first: str) -> Iterator[Leaf]:
    """Yield the leaves in order, from the one where `first` belongs."""
    if tree is None:
        return
    path, leaf = _descend(tree, first)
    yield leaf
    for branch, index in reversed(path):
        for child in branch.children[index + 1 :]:
            yield from _leaves(child, "")


def _branch(group: list[tuple[str, Node]]) -> Branch:
    children = [node for _, node in group]
    return Branch([bound for bound, _ in group[1:]], children, _sum(children))


def _sum(children: list[Node]) -> int:
    return sum([child.count for child in children])
