"""A persistent ordered map from keys to values and their revisions: a B+tree. Pure.

Writing makes new nodes along one path from the root and shares all others with the tree before. So
a tree of the past costs no more than the paths that changed since; a fork is a reference, going
back is forgetting a root, and another thread may read a tree while the next one grows. Branches
count what is below them: how many keys lie between two others is known without visiting them.

Whoever makes many changes and needs only the last tree gives them all the same *edit*, any object
of his own: nodes he has made are then changed in place. Once he gives the tree away he takes a new
one, and the tree never changes again.

A tree is its root; None is the empty one. Leaves hold lists of strings, bytes and numbers and no
object per key: that is the least memory there can be, and next to nothing for the garbage
collector. They are small, because to copy a list is to touch all that it refers to.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

LEAF_MAX: Final = 16  # Keys of a leaf.
BRANCH_MAX: Final = 32


class Leaf:
    """Some keys in order, their values and the revisions these were written at.

    edit: in which it was made. `keys` may be another leaf's, too, and is never changed.
    """

    __slots__ = ("edit", "keys", "revisions", "values")

    def __init__(
        self, edit: object, keys: list[str], values: list[bytes], revisions: list[int]
    ) -> None:
        self.edit, self.keys, self.values, self.revisions = edit, keys, values, revisions

    @property
    def count(self) -> int:
        """How many keys there are."""
        return len(self.keys)


class Branch:
    """Some trees in order. bounds: the least key of each but the first;  count: of all keys.

    edit: in which it was made. `bounds` may be another branch's, too, and is never changed.
    """

    __slots__ = ("bounds", "children", "count", "edit")

    def __init__(self, edit: object, bounds: list[str], children: "list[Node]", count: int) -> None:
        self.edit, self.bounds, self.children, self.count = edit, bounds, children, count


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


def put(
    tree: Tree, key: str, value: bytes, revision: int, edit: object = None
) -> tuple[Node, Found]:
    """Return the tree in which `key` has this value, and what it had before.

    edit: None: `tree` stays as it is.
    Cost: O(log n), in time and in new memory.
    """
    edit = edit or object()
    if tree is None:
        return Leaf(edit, [key], [value], [revision]), None
    root, leaf = _own_path(tree, key, edit)
    keys = leaf.keys
    index = bisect_left(keys, key)
    if index < len(keys) and keys[index] == key:
        found = leaf.values[index], leaf.revisions[index]
        leaf.values[index], leaf.revisions[index] = value, revision
        return root, found
    path, _ = _descend(root, key)
    leaf.keys = keys = [*keys[:index], key, *keys[index:]]
    leaf.values.insert(index, value)
    leaf.revisions.insert(index, revision)
    for branch, _ in path:
        branch.count += 1
    if len(keys) <= LEAF_MAX:
        return root, None
    # Keys that come in order leave full leaves behind; others leave halves, with room to grow.
    cut = LEAF_MAX if index == LEAF_MAX else len(keys) // 2
    right = Leaf(edit, keys[cut:], leaf.values[cut:], leaf.revisions[cut:])
    leaf.keys = keys[:cut]
    del leaf.values[cut:], leaf.revisions[cut:]
    return _insert(root, path, right, keys[cut], edit), None


def remove(tree: Tree, key: str, edit: object = None) -> tuple[Tree, Found]:
    """Return the tree without `key`, and what it had: None if it is the same. Cost: O(log n)."""
    found = get(tree, key)
    if tree is None or found is None:
        return tree, None
    edit = edit or object()
    root, leaf = _own_path(tree, key, edit)
    path, _ = _descend(root, key)
    index = bisect_left(leaf.keys, key)
    leaf.keys = leaf.keys[:index] + leaf.keys[index + 1 :]
    del leaf.values[index], leaf.revisions[index]
    for branch, position in reversed(path):
        branch.count -= 1
        _mend(branch, position, edit)
    while isinstance(root, Branch) and len(root.children) == 1:
        root = root.children[0]
    return (root if root.count else None), found


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
    edit = object()
    for start in range(0, len(keys), LEAF_MAX):
        part = slice(start, start + LEAF_MAX)
        leaf = Leaf(edit, keys[part], values[part], revisions[part])
        level.append((leaf.keys[0], leaf))
    while len(level) > 1:
        upper: list[tuple[str, Node]] = []
        for start in range(0, len(level), BRANCH_MAX):
            group = level[start : start + BRANCH_MAX]
            upper.append((group[0][0], _branch(group, edit)))
        level = upper
    return level[0][1] if level else None


def _own_path(tree: Node, key: str, edit: object) -> tuple[Node, Leaf]:
    """Return the root and the leaf of `key`, these and what is in between made in this edit."""
    root = node = tree if tree.edit is edit else _copy(tree, edit)
    while isinstance(node, Branch):
        children = node.children
        index = bisect_right(node.bounds, key)
        node = children[index]
        if node.edit is not edit:
            node = children[index] = _copy(node, edit)
    return root, node


def _copy(node: Node, edit: object) -> Node:
    if isinstance(node, Leaf):
        return Leaf(edit, node.keys, node.values[:], node.revisions[:])
    return Branch(edit, node.bounds, node.children[:], node.count)


def _insert(
    root: Node, path: list[tuple[Branch, int]], extra: Node, bound: str, edit: object
) -> Node:
    """Put a node that begins at `bound` behind the one the path leads to; return the root."""
    for branch, index in reversed(path):
        children, bounds = branch.children, branch.bounds
        children.insert(index + 1, extra)
        bounds = branch.bounds = [*bounds[:index], bound, *bounds[index:]]
        if len(children) <= BRANCH_MAX:
            return root
        cut = BRANCH_MAX if index == BRANCH_MAX - 1 else len(children) // 2
        extra = Branch(edit, bounds[cut:], children[cut:], _sum(children[cut:]))
        bound = bounds[cut - 1]
        branch.bounds = bounds[: cut - 1]
        del children[cut:]
        branch.count -= extra.count
    return Branch(edit, [bound], [root, extra], root.count + extra.count)


def _mend(branch: Branch, index: int, edit: object) -> None:
    """Take away a child that has become empty, or join it to a neighbour if both are small."""
    children, bounds = branch.children, branch.bounds
    if children[index].count == 0:
        if len(children) > 1:
            del children[index]
            at = max(0, index - 1)
            branch.bounds = bounds[:at] + bounds[at + 1 :]
        return
    for left in (index - 1, index):
        if 0 <= left < len(children) - 1:
            joined = _joined(children[left], children[left + 1], bounds[left], edit)
            if joined is not None:
                children[left : left + 2] = [joined]
                branch.bounds = bounds[:left] + bounds[left + 1 :]
                return


def _joined(left: Node, right: Node, bound: str, edit: object) -> Node | None:
    """Return two neighbours as one, None if they would not be at home in half a node."""
    if isinstance(left, Leaf) and isinstance(right, Leaf):
        if len(left.keys) + len(right.keys) > LEAF_MAX // 2:
            return None
        return Leaf(
            edit,
            left.keys + right.keys,
            left.values + right.values,
            left.revisions + right.revisions,
        )
    assert isinstance(left, Branch), "all leaves are at one depth"
    assert isinstance(right, Branch), "all leaves are at one depth"
    if len(left.children) + len(right.children) > BRANCH_MAX // 2:
        return None
    bounds = [*left.bounds, bound, *right.bounds]
    return Branch(edit, bounds, left.children + right.children, left.count + right.count)


def _descend(tree: Node, key: str) -> tuple[list[tuple[Branch, int]], Leaf]:
    """Return the leaf where `key` belongs, and the branches above it, each with the way taken."""
    path: list[tuple[Branch, int]] = []
    while isinstance(tree, Branch):
        index = bisect_right(tree.bounds, key)
        path.append((tree, index))
        tree = tree.children[index]
    return path, tree


def _leaves(tree: Tree, first: str) -> Iterator[Leaf]:
    """Yield the leaves in order, from the one where `first` belongs."""
    if tree is None:
        return
    path, leaf = _descend(tree, first)
    yield leaf
    for branch, index in reversed(path):
        for child in branch.children[index + 1 :]:
            yield from _leaves(child, "")


def _branch(group: list[tuple[str, Node]], edit: object) -> Branch:
    children = [node for _, node in group]
    return Branch(edit, [bound for bound, _ in group[1:]], children, _sum(children))


def _sum(children: list[Node]) -> int:
    return sum([child.count for child in children])
