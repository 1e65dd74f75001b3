"""The persistent tree: every version stays what it was, however it goes on from there."""

import random

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kubeloop.store import tree as trees
from kubeloop.store.tree import BRANCH_MAX, LEAF_MAX, Branch, Leaf, Node, Tree

KEYS = [f"k{n:04}" for n in range(4000)]
Model = dict[str, tuple[bytes, int]]


def grown(keys: list[str]) -> Tree:
    tree: Tree = None
    for number, key in enumerate(keys):
        tree, _ = trees.put(tree, key, key.encode(), number)
    return tree


def check_shape(tree: Tree) -> None:
    """Leaves at one depth, no node too large or empty, keys between the bounds, counts right."""
    if tree is None:
        return
    depths: set[int] = set()

    def walk(node: Node, low: str, high: str, depth: int) -> int:
        if isinstance(node, Leaf):
            depths.add(depth)
            assert 0 < len(node.keys) <= LEAF_MAX
            assert len(node.keys) == len(node.values) == len(node.revisions)
            assert list(node.keys) == sorted(set(node.keys))
            assert low <= node.keys[0]
            assert node.keys[-1] < high
            return len(node.keys)
        assert isinstance(node, Branch)
        assert 1 <= len(node.children) <= BRANCH_MAX
        assert len(node.bounds) == len(node.children) - 1
        edges = [low, *node.bounds, high]
        counts = [walk(c, edges[n], edges[n + 1], depth + 1) for n, c in enumerate(node.children)]
        assert node.count == sum(counts)
        return node.count

    walk(tree, "", "~", 0)
    assert len(depths) == 1


def check_same(tree: Tree, model: Model) -> None:
    assert list(trees.items(tree)) == [(k, *model[k]) for k in sorted(model)]
    assert trees.count(tree) == len(model)


class Versions(RuleBasedStateMachine):
    """Trees beside dictionaries; any version may be gone on from."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: list[tuple[Tree, Model]] = [(None, {})]
        self.revision = 0

    @rule(
        of=st.integers(0, 2**20),
        seed=st.integers(0, 2**20),
        changes=st.integers(1, 400),
        puts=st.sampled_from([0.1, 0.5, 0.95]),
        span=st.sampled_from([20, 300, 4000]),
        at_once=st.booleans(),
    )
    def go_on(
        self, of: int, seed: int, changes: int, puts: float, span: int, at_once: bool
    ) -> None:
        tree, model = self.versions[of % len(self.versions)]
        model, chance, edit = dict(model), random.Random(seed), object() if at_once else None
        for _ in range(changes):
            self.revision += 1
            if chance.random() < puts or not model:
                key = chance.choice(KEYS[:span])
                value = chance.randbytes(3)
                tree, found = trees.put(tree, key, value, self.revision, edit)
                assert found == model.get(key)
                model[key] = value, self.revision
            else:
                key = chance.choice([*list(model)[:50], "nobody"])
                tree, found = trees.remove(tree, key, edit)
                assert found == model.pop(key, None)
        self.versions.append((tree, model))

    @rule(of=st.integers(0, 2**20))
    def empty(self, of: int) -> None:
        tree, model = self.versions[of % len(self.versions)]
        for key in list(model):
            tree, _ = trees.remove(tree, key)
        assert tree is None

    @rule(
        of=st.integers(0, 2**20),
        first=st.sampled_from(KEYS),
        end=st.sampled_from(KEYS),
        limit=st.integers(0, 100),
    )
    def look(self, of: int, first: str, end: str, limit: int) -> None:
        tree, model = self.versions[of % len(self.versions)]
        wanted = [k for k in sorted(model) if first <= k < end][: limit or None]
        found = trees.between(tree, first, end, limit)
        assert found.keys == wanted
        assert list(zip(found.values, found.revisions, strict=True)) == [model[k] for k in wanted]
        assert trees.rank(tree, first) == sum(k < first for k in model)
        assert trees.get(tree, first) == model.get(first)

    @invariant()
    def every_version_is_what_it_was(self) -> None:
        for tree, model in self.versions[-3:] + self.versions[:2]:
            check_same(tree, model)
        check_shape(self.versions[-1][0])


TestVersions = Versions.TestCase


@given(st.sets(st.sampled_from(KEYS)))
def test_built_at_once_is_as_grown(keys: set[str]) -> None:
    ordered = sorted(keys)
    built = trees.build(ordered, [k.encode() for k in ordered], list(range(len(ordered))))
    check_shape(built)
    assert list(trees.items(built)) == list(trees.items(grown(ordered)))


def test_a_change_shares_all_but_one_path() -> None:
    before = grown(KEYS)
    assert before is not None
    after, _ = trees.put(before, KEYS[1234], b"new", 9999)

    def nodes(node: Tree) -> set[int]:
        below = node.children if isinstance(node, Branch) else ()
        return {id(node)}.union(*map(nodes, below))

    assert len(nodes(after) - nodes(before)) <= 4
    assert trees.get(before, KEYS[1234]) == (KEYS[1234].encode(), 1234)


def test_keys_in_order_fill_their_leaves() -> None:
    leaves = list(trees._leaves(grown(KEYS), ""))
    assert len(leaves) <= len(KEYS) / LEAF_MAX + 1
