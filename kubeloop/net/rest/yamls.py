"""YAML as Kubernetes reads it: one document, turned into what JSON could say, within bounds.

The nodes of the C parser are turned into values here, rather than by PyYAML's constructors: so
times stay strings, keys become strings, fields named twice are noticed with their path, and a
document that unfolds its aliases to millions of nodes is refused before it is unfolded.
"""

from typing import Any, Final

import yaml

_NODES_MAX: Final = 500_000
_DEPTH_MAX: Final = 500
_TAG: Final = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _MERGE = (_TAG + t for t in ("null", "bool", "int", "float", "merge"))
_TRUE: Final = ("y", "yes", "true", "on")


class YamlError(ValueError):
    """The text is no YAML, or none that JSON could say."""


def parse_yaml(data: bytes) -> tuple[Any, list[str]]:
    """Return the value of one YAML document, and the dotted paths of fields it names twice.

    Times and sexagesimal numbers stay strings, keys become strings, as in Kubernetes' reader.
    Raises: YamlError.
    """
    try:
        loader = yaml.CSafeLoader(data)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}: " if where is not None else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise YamlError(f"yaml: {line}{problem}") from None
    reader = _YamlReader()
    return None if node is None else reader.value(node, "", 0), reader.duplicates


class _YamlReader:
    """Turns nodes into values. A node that aliases name again is turned once and counted often."""

    def __init__(self) -> None:
        self.duplicates: list[str] = []
        self.nodes = 0
        self._known: dict[int, tuple[Any, int]] = {}

    def value(self, node: Any, path: str, depth: int) -> Any:
        known = self._known.get(id(node))
        if known is not None:
            self._count(known[1])
            return known[0]
        if depth > _DEPTH_MAX:
            raise YamlError("yaml: exceeded max depth")
        before = self.nodes
        self._count(1)
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node, path, depth)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.value(n, f"{path}[{i}]", depth + 1) for i, n in enumerate(node.value)]
        else:
            value = _scalar(node)
        self._known[id(node)] = (value, self.nodes - before)
        return value

    def _mapping(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                self._merge(merged, self.value(value_node, path, depth + 1))
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError("yaml: invalid map key")
            key = _key(_scalar(key_node))
            inner = f"{path}.{key}" if path else key
            if key in out:
                self.duplicates.append(inner)
            out[key] = self.value(value_node, inner, depth + 1)
        return {**merged, **out}

    def _merge(self, merged: dict[str, Any], value: Any) -> None:
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict):
                raise YamlError("yaml: map merge requires map or sequence of maps as the value")
            for key, inner in source.items():
                merged.setdefault(key, inner)

    def _count(self, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > _NODES_MAX:
            raise YamlError("yaml: document contains excessive aliasing")


def _key(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _scalar(node: Any) -> Any:
    text: str = node.value
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() in _TRUE
    if node.tag == _INT and ":" not in text:
        return _yaml_int(text)
    if node.tag == _FLOAT and ":" not in text:
        return _yaml_float(text)
    return text


def _yaml_int(text: str) -> int | float:
    plain = text.replace("_", "").lower()
    sign = -1 if plain.startswith("-") else 1
    digits = plain.lstrip("+-")
    try:
        if digits.startswith("0") and digits.isdigit() and len(digits) > 1:
            number = int(digits, 8)
        else:
            number = int(digits, 0)
    except ValueError:
        raise YamlError(f"yaml: cannot read {text!r}") from None
    return sign * number if number < 1 << 63 else float(sign * number)


def _yaml_float(text: str) -> float:
    plain = text.replace("_", "").lower()
    if plain.lstrip("+-") in (".inf", ".nan"):
        raise YamlError(f"json: unsupported value: {text}")
    try:
        return float(plain)
    except ValueError:
        raise YamlError(f"yaml: cannot read {text!r}") from None
