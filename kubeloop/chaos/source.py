"""Values as Python source, with the imports it needs."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final

_DOORS: Final = ("kubeloop.chaos", "kubeloop")  # Where users import from what is ours.
_PLAIN: Final = (bool, int, float, str, bytes, type(None))


class Source:
    """Tells values as Python, and remembers what must be imported for that.

    unknown: what to do about names that no import gives, a line each: of functions within others,
             and of what a script of its own defines.
    """

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = defaultdict(set)
        self.unknown: list[str] = []

    def imports(self) -> list[str]:
        """Return the lines that import what was told so far."""
        return [
            f"from {module} import {', '.join(sorted(names))}"
            for module, names in sorted(self._names.items())
        ]

    def need(self, module: str, *names: str) -> None:
        """Import names of a module."""
        self._names[module].update(names)

    def of(self, value: Any) -> str:
        """Return a value: plain ones, collections, dataclasses, what a module defines, partials."""
        match value:
            case _ if isinstance(value, _PLAIN):
                return repr(value)
            case list():
                return f"[{', '.join(map(self.of, value))}]"
            case tuple() if type(value) is tuple:
                return f"({', '.join(map(self.of, value))}{',' * (len(value) == 1)})"
            case Mapping():
                return f"{{{', '.join(f'{self.of(k)}: {self.of(v)}' for k, v in value.items())}}}"
            case partial():
                told = [value.func, *value.args]
                named = [f"{key}={self.of(one)}" for key, one in value.keywords.items()]
                self.need("functools", "partial")
                return f"partial({', '.join([*map(self.of, told), *named])})"
            case _ if is_dataclass(value) and not isinstance(value, type):
                return self._dataclass(value)
        return self._named(value)

    def _dataclass(self, value: Any) -> str:
        told = []
        for one in fields(value):
            has = getattr(value, one.name)
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if one.init and has != default:
                told.append(f"{one.name}={self.of(has)}")
        return f"{self._named(type(value))}({', '.join(told)})"

    def _named(self, value: Any) -> str:
        """Return the name of what a module defines."""
        module = getattr(value, "__module__", "")
        name = getattr(value, "__qualname__", "") or getattr(value, "__name__", "")
        first = name.partition(".")[0]
        if module and module != "__main__" and _found(module, name) is value:
            ours = [door for door in _DOORS if module.startswith("kubeloop.")]
            doors = [door for door in ours if _found(door, name) is value]
            self.need([*doors, module][0], first)
            return str(name)
        bare = name.rpartition(".")[2].strip("<>") or type(value).__name__
        self.unknown.append(f"# {bare}: define it at the top of a module, and import it here.")
        return str(bare)


def _found(module: str, name: str) -> Any:
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
