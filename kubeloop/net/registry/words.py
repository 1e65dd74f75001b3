"""Words of a Containerfile: quotes, escapes, and variables as in a shell. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACED: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+])((?:[^}\\]|\\.)*))?\}", re.DOTALL)


class WordError(ValueError):
    """The text of an instruction cannot be read."""


def words(text: str, scope: Mapping[str, str]) -> list[str]:
    """Return the words of `text`, expanded; blanks in quotes do not split. Raises: WordError."""
    return [word for word, _ in _read(text, scope, split=True)]


def expand(text: str, scope: Mapping[str, str]) -> str:
    """Return `text` as one word: blanks belong to it. Raises: WordError."""
    return "".join(word for word, _ in _read(text, scope, split=False))


def pairs(text: str, scope: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of `KEY=value KEY="another value"`, or of `KEY the value`.

    name: of the instruction. Raises: WordError.
    """
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise WordError(f"{name} {text}: write {name} {text}=value")
        yield first[0], expand(first[1], scope)
        return
    for word, bare in _read(text, scope, split=True):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise WordError(f"{name} {bare}: write KEY=value, and quote a value that has blanks")
        yield key, value


def _read(text: str, scope: Mapping[str, str], *, split: bool) -> Iterator[tuple[str, str]]:
    """Yield (word, how it was written)."""
    word: list[str] | None = None
    start = at = 0
    quote = ""
    while at < len(text):
        char = text[at]
        if not quote and split and char.isspace():
            if word is not None:
                yield "".join(word), text[start:at]
            word, at = None, at + 1
            continue
        if word is None:
            word, start = [], at
        if quote == "'" and char != "'":
            piece, at = char, at + 1
        elif char in "\"'" and quote in ("", char):
            quote, piece, at = ("" if quote else char), "", at + 1
        elif char == "\\" and at + 1 < len(text):
            kept = quote == '"' and text[at + 1] not in '"$\\'
            piece, at = (char if kept else "") + text[at + 1], at + 2
        elif char == "$":
            piece, at = _variable(text, at + 1, scope)
        else:
            piece, at = char, at + 1
        word.append(piece)
    if quote:
        raise WordError(f"a {quote} is not closed")
    if word is not None:
        yield "".join(word), text[start:]


def _variable(text: str, at: int, scope: Mapping[str, str]) -> tuple[str, int]:
    """Return (the value of the variable named at `at`, where the text goes on)."""
    if text.startswith("{", at):
        match = _BRACED.match(text, at)
        if match is None:
            raise WordError(
                f"${text[at : at + 20]}: only ${{NAME}}, ${{NAME:-…}}, ${{NAME:+…}} work"
            )
        value = scope.get(match[1], "")
        if match[2] == "-" and not value:
            value = expand(match[3], scope)
        elif match[2] == "+":
            value = expand(match[3], scope) if value else ""
        return value, match.end()
    named = _NAME.match(text, at)
    if named is None:
        return "$", at
    return scope.get(named[0], ""), named.end()
