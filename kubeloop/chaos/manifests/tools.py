"""What manifests are made of."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

NAMES: Final = ("a", "b", "web", "db", "x-1")
_KEYS: Final = ("app", "tier", "example.com/part")
_VALUES: Final = ("web", "db", "v1", "")


def object_of(
    fields: Mapping[str, "SearchStrategy[Any]"], required: Collection[str] = ()
) -> "SearchStrategy[dict[str, Any]]":
    """Return objects that have the required fields, and of the others some."""
    from hypothesis import strategies as st

    return st.fixed_dictionaries(
        {field: one for field, one in fields.items() if field in required},
        optional={field: one for field, one in fields.items() if field not in required},
    )


def labels(*, least: int = 0) -> "SearchStrategy[dict[str, str]]":
    """Return labels."""
    from hypothesis import strategies as st

    keys, values = st.sampled_from(_KEYS), st.sampled_from(_VALUES)
    return st.dictionaries(keys, values, min_size=least, max_size=len(_KEYS))


def unique(
    one: "SearchStrategy[dict[str, Any]]", *keys: str, least: int = 0, most: int = 3
) -> "SearchStrategy[list[dict[str, Any]]]":
    """Return lists of objects no two of which agree in all of some fields."""
    from hypothesis import strategies as st

    def key(item: dict[str, Any]) -> str:
        return repr([item.get(name) for name in keys])

    return st.lists(one, min_size=least, max_size=most, unique_by=key)


def metadata(*, name: str, namespace: str, names: Sequence[str] = NAMES) -> "SearchStrategy[Any]":
    """Return ObjectMeta, as users write it."""
    from hypothesis import strategies as st

    named: dict[str, Any] = {"name": st.just(name) if name else st.sampled_from(names)}
    if namespace:
        named["namespace"] = st.just(namespace)
    notes = st.dictionaries(st.sampled_from(["example.com/note", "note"]), st.text(max_size=9))
    return st.fixed_dictionaries(named, optional={"labels": labels(), "annotations": notes})


def headed(
    api_version: str, kind: str, *, name: str, namespace: str, names: Sequence[str] = NAMES
) -> dict[str, Any]:
    """Return apiVersion, kind, and the strategy of the metadata."""
    told = metadata(name=name, namespace=namespace, names=names)
    return {"apiVersion": api_version, "kind": kind, "metadata": told}
