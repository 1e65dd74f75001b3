"""Write the list of faults into docs/faults.md, from what the faults say of themselves.

Usage: python tools/list_faults.py
"""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from kubeloop.chaos import catalogue
from kubeloop.chaos.values import Happening, OneOf, Real, Whole, domains

PAGE: Final = Path(__file__).parent.parent / "docs" / "faults.md"
BEGIN: Final = "<!-- The list: python tools/list_faults.py -->\n"
LAYERS: Final = {
    "actors": "Actors",
    "nodes": "Nodes",
    "containers": "Containers",
    "images": "Images",
    "api": "What clients see of the API",
    "disk": "The store's disk",
    "network": "The network",
}
"""Modules of `kubeloop.chaos.faults`, in the order of the page."""


def listing() -> str:
    """Return the list: a section for each layer, and in it one for each kind."""
    parts = []
    for module, title in LAYERS.items():
        kinds = [one for one in catalogue.faults() if one.__module__.endswith(f".faults.{module}")]
        assert kinds, f"no fault is of {module}"
        parts += [f"## {title}\n", *map(_section, kinds)]
    return "\n".join(parts)


def _section(kind: type[Happening]) -> str:
    told = {name: domain for name, domain in domains(kind).items() if name != "at_s"}
    rows = [_row(kind, name, domain) for name, domain in told.items()]
    head = "| field | values | by default |\n|---|---|---|\n"
    text = inspect.cleandoc(kind.__doc__ or "")
    named = f"### `{kind.__name__}`, in JSON `{kind.kind}`\n"
    return f"{named}\n{text}\n\n{head}{''.join(rows)}"


def _row(kind: type[Happening], name: str, domain: Any) -> str:
    default = next(one.default for one in fields(kind) if one.name == name)
    return f"| `{name}` | {_values(domain)} | `{default!r}` |\n"


def _values(domain: Any) -> str:
    told = getattr(domain, "told", "")
    if told:
        return str(told)
    match domain:
        case Real() | Whole():
            kind = "a number" if isinstance(domain, Real) else "a whole number"
            return f"{kind} from {domain.low:g} to {domain.high:g}"
        case OneOf():
            return ", ".join(f"`{value!r}`" for value in domain.values)
    raise TypeError(f"nothing tells of {domain!r}")


if __name__ == "__main__":
    head = PAGE.read_text().partition(BEGIN)[0]
    PAGE.write_text(head + BEGIN + "\n" + listing())
