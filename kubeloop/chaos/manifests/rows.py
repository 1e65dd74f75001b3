"""Rows of the tables of manifests: what values a field has.

A row is a function that makes a strategy: the tables are read without hypothesis.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kubeloop.chaos.manifests.tools import object_of, unique

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Row = Callable[[], "SearchStrategy[Any]"]


def one_of(*values: Any) -> Row:
    """Return the row of a field that is one of some values."""

    def make() -> "SearchStrategy[Any]":
        from hypothesis import strategies as st

        return st.sampled_from(values)

    return make


def whole(low: int, high: int) -> Row:
    """Return the row of a field that is a whole number."""

    def make() -> "SearchStrategy[Any]":
        from hypothesis import strategies as st

        return st.integers(low, high)

    return make


def list_of(row: Row, most: int = 3) -> Row:
    """Return the row of a field that is a list, whose items differ."""

    def make() -> "SearchStrategy[Any]":
        from hypothesis import strategies as st

        return st.lists(row(), max_size=most, unique_by=repr)

    return make


def map_of(keys: Sequence[str], row: Row) -> Row:
    """Return the row of a field that is a map."""

    def make() -> "SearchStrategy[Any]":
        from hypothesis import strategies as st

        return st.dictionaries(st.sampled_from(keys), row(), max_size=3)

    return make


def made_of(*required: str, **fields: Row) -> Row:
    """Return the row of a field that is an object."""
    return lambda: object_of({name: row() for name, row in fields.items()}, required)


def either(**fields: Row) -> Row:
    """Return the row of an object that has just one of some fields."""

    def make() -> "SearchStrategy[Any]":
        from hypothesis import strategies as st

        return st.one_of([object_of({name: row()}, [name]) for name, row in fields.items()])

    return make


def several(type_: str, *keys: str, least: int = 0, most: int = 3) -> Row:
    """Return the row of a list of a type of this table, whose items differ in some fields."""

    def make() -> "SearchStrategy[Any]":
        from hypothesis import strategies as st

        from kubeloop.api.typetable import schema
        from kubeloop.chaos.manifests.builtin import _of

        end = f".{type_}" if "." in type_ else f".v1.{type_}"
        name = next(one for one in schema().raw if one.endswith(end))
        return unique(st.deferred(lambda: _of(name)), *keys, least=least, most=most)

    return make
