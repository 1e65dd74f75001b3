"""Problems: what is wrong with an object, collected in the order Kubernetes reports it.

A rule never stops at the first thing it dislikes: the user shall see everything at once. So rules
take the list, a path and a value, and append. The texts of the values are those of Go's printers.

Source: k8s.io/apimachinery/pkg/util/validation/field.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kubeloop.api.errors import Cause

_GO_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_HTML: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})

IMMUTABLE: Final = "field is immutable"
NOT_NEGATIVE: Final = "must be greater than or equal to 0"


class Problems(list[Cause]):
    """The causes found so far; one method per reason."""

    def invalid(self, field: str, value: Any, detail: str) -> None:
        """Add: the value is malformed or out of range."""
        self.append(Cause("FieldValueInvalid", f"Invalid value: {show(value)}: {detail}", field))

    def invalid_each(self, field: str, value: Any, details: Iterable[str]) -> None:
        """Add one `invalid` per detail."""
        for detail in details:
            self.invalid(field, value, detail)

    def wrong_type(self, field: str, value: Any, detail: str) -> None:
        """Add: the value is of another type than it should be."""
        cause = "FieldValueTypeInvalid"
        self.append(Cause(cause, f"Invalid value: {show(value)}: {detail}", field))

    def required(self, field: str, detail: str = "") -> None:
        """Add: there must be a value."""
        text = f"Required value: {detail}" if detail else "Required value"
        self.append(Cause("FieldValueRequired", text, field))

    def duplicate(self, field: str, value: Any) -> None:
        """Add: another one has this value."""
        self.append(Cause("FieldValueDuplicate", f"Duplicate value: {show(value)}", field))

    def unsupported(self, field: str, value: Any, supported: Sequence[str]) -> None:
        """Add: the value is none of those there are."""
        text = f"Unsupported value: {show(value)}"
        if supported:
            text += f": supported values: {', '.join(quote(s) for s in supported)}"
        self.append(Cause("FieldValueNotSupported", text, field))

    def forbidden(self, field: str, detail: str) -> None:
        """Add: fine by itself, but not here."""
        self.append(Cause("FieldValueForbidden", f"Forbidden: {detail}", field))

    def not_found(self, field: str, value: Any) -> None:
        """Add: what the value names is not there."""
        self.append(Cause("FieldValueNotFound", f"Not found: {show(value)}", field))

    def too_long(self, field: str, length_max: int) -> None:
        """Add: more than `length_max` bytes."""
        text = f"Too long: may not be more than {length_max} bytes"
        self.append(Cause("FieldValueTooLong", text, field))

    def too_many(self, field: str, count: int, count_max: int) -> None:
        """Add: more than `count_max` items."""
        text = f"Too many: {count}: must have at most {count_max} items"
        self.append(Cause("FieldValueTooMany", text, field))

    def immutable(self, field: str, new: Any, old: Any) -> None:
        """Add an `invalid` if the value has changed."""
        if new != old:
            self.invalid(field, new, IMMUTABLE)

    def not_negative(self, field: str, value: Any) -> None:
        """Add an `invalid` if the number is below zero."""
        if isinstance(value, int) and value < 0:
            self.invalid(field, value, NOT_NEGATIVE)

    def one_of(self, field: str, value: Any, supported: Sequence[str]) -> None:
        """Add an `unsupported` if the value is none of `supported`."""
        if value not in supported:
            self.unsupported(field, value, supported)


def show(value: Any) -> str:
    """Return the value as Kubernetes prints it in a message."""
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.translate(_HTML)


def quote(text: str) -> str:
    """Return `text` as Go's %q prints it."""
    return '"' + "".join(_escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    if char in _GO_ESCAPES:
        return _GO_ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def diff(new: Any, old: Any) -> str:
    """Return the lines in which two parts of objects differ, with a few round them."""
    after, before = (json.dumps(s, indent=2, sort_keys=True).splitlines() for s in (new, old))
    lines = list(difflib.unified_diff(after, before, n=3, lineterm=""))[2:]  # No names of files.
    return "\n".join([*lines, ""])
