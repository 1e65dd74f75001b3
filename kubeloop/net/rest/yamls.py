"""YAML as Kubernetes reads it: one document, turned into what JSON could say, within bounds.

The events of the C parser are folded into values here, with a stack of our own: PyYAML's composer
recurses in C, so that 100 kB of brackets would end the process. It also lets times stay strings,
notices fields named twice with their path, and refuses a document that would unfold its aliases
to millions of nodes before it is unfolded. What follows the first document is not read.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

_NODES_MAX: Final = 500_000
_DEPTH_MAX: Final = 200
_TAG: Final = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _MERGE = (_TAG + t for t in ("null", "bool", "int", "float", "merge"))
_TRUE: Final = ("y", "yes", "true", "on")
_MERGE_KEY: Final = object()
_NO_KEY: Final = object()


class YamlError(ValueError):
    """The text is no YAML, or none that JSON could say."""


def parse_yaml(data: bytes) -> tuple[Any, list[str]]:
    """Return the value of a YAML document, and the dotted paths of fields it names twice.

    Times and sexagesimal numbers stay strings, keys become strings, as in Kubernetes' reader.
    Raises: YamlError.
    """
    try:
        loader = yaml.CSafeLoader(data)
        try:
            reader = _Reader(loader)
            return reader.document(), reader.duplicates
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}: " if where is not None else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise YamlError(f"yaml: {line}{problem}") from None


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being read.

    key:    of a mapping: what the next value belongs to; _NO_KEY if a key comes next.
    merged: of a mapping: what `<<` brings, which everything else wins over.
    start:  how many nodes there were before it.
    """

    value: Any
    path: str
    anchor: str | None
    start: int
    key: Any = _NO_KEY
    merged: dict[str, Any] = field(default_factory=dict)

    @property
    def inner_path(self) -> str:
        """The path of the value that comes next."""
        if isinstance(self.value, list):
            return f"{self.path}[{len(self.value)}]"
        if not isinstance(self.key, str):
            return self.path
        return f"{self.path}.{self.key}" if self.path else self.key


class _Reader:
    """Folds events. A value that aliases name is shared, and counted every time."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.duplicates: list[str] = []
        self.nodes = 0
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._result: Any = None

    def document(self) -> Any:
        """Return the value of the first document; None if there is none."""
        while True:
            event = self.loader.get_event()
            if isinstance(event, yaml.ScalarEvent):
                self._count(1)
                self._put(self._scalar(event), event.anchor, 1)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                frame = self._stack.pop()
                if isinstance(frame.value, dict):
                    for key, value in frame.merged.items():
                        frame.value.setdefault(key, value)
                self._put(frame.value, frame.anchor, self.nodes - frame.start)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(str(event.anchor))
            elif isinstance(event, yaml.DocumentEndEvent | yaml.StreamEndEvent):
                return self._result

    def _open(self, event: Any) -> None:
        if len(self._stack) >= _DEPTH_MAX:
            raise YamlError("yaml: exceeded max depth")
        path = ""
        if self._stack:
            top = self._stack[-1]
            if isinstance(top.value, dict) and top.key is _NO_KEY:
                raise YamlError(f"yaml: line {event.start_mark.line + 1}: invalid map key")
            path = top.inner_path
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(value, path, event.anchor, self.nodes))
        self._count(1)

    def _alias(self, anchor: str) -> None:
        known = self._anchors.get(anchor)
        if known is None:
            raise YamlError(f"yaml: unknown anchor '{anchor}' referenced, or it contains itself")
        self._count(known[1])
        self._put(known[0], None, known[1])

    def _put(self, value: Any, anchor: str | None, nodes: int) -> None:
        """Put a finished value where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = (value, nodes)
        if not self._stack:
            self._result = value
            return
        top = self._stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is _NO_KEY:
            if isinstance(value, dict | list):
                raise YamlError("yaml: invalid map key")
            top.key = value if value is _MERGE_KEY else _key(value)
            if top.key in top.value:
                self.duplicates.append(top.inner_path)
        else:
            if top.key is _MERGE_KEY:
                _merge(top.merged, value)
            else:
                top.value[top.key] = value
            top.key = _NO_KEY

    def _scalar(self, event: Any) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag == _MERGE:
            top = self._stack[-1] if self._stack else None
            is_key = top is not None and isinstance(top.value, dict) and top.key is _NO_KEY
            return _MERGE_KEY if is_key else event.value
        return _scalar(tag, event.value)

    def _count(self, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > _NODES_MAX:
            raise YamlError("yaml: document contains excessive aliasing")


def _merge(merged: dict[str, Any], value: Any) -> None:
    for source in value if isinstance(value, list) else [value]:
        if not isinstance(source, dict):
            raise YamlError("yaml: map merge requires map or sequence of maps as the value")
        for key, inner in source.items():
            merged.setdefault(key, inner)


def _key(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _scalar(tag: str, text: str) -> Any:
    if tag == _NULL:
        return None
    if tag == _BOOL:
        return text.lower() in _TRUE
    if tag == _INT and ":" not in text:
        return _yaml_int(text)
    if tag == _FLOAT and ":" not in text:
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
