"""Image definitions: the subset of the Containerfile (Dockerfile) language that needs no container.

Nothing runs while an image is built, so there is no RUN: an image is files and settings laid over a
base. `parse` finds the instructions, `evaluate` gives them their meaning; both are pure. What is
outside of the subset is refused by file, line and name, with what could be used instead.
"""

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from kubeloop.net.registry.words import WordError, expand, pairs, words

SUPPORTED: Final = (
    "FROM", "ARG", "COPY", "ENV", "WORKDIR", "ENTRYPOINT", "CMD", "EXPOSE", "LABEL", "USER",
)  # fmt: skip
_HINTS: Final = {
    "RUN": "nothing runs during a build; prepare the files beforehand and COPY them",
    "ADD": "use COPY",
    "VOLUME": "mount an emptyDir in the Pod instead",
    "HEALTHCHECK": "use a livenessProbe in the Pod instead",
    "MAINTAINER": 'use LABEL org.opencontainers.image.authors="…"',
    "SHELL": "use the exec form of CMD and ENTRYPOINT",
    "STOPSIGNAL": "containers are sent TERM",
    "ONBUILD": "write the instruction where it is needed",
}
_DIRECTIVE: Final = re.compile(r"#\s*([a-zA-Z]+)\s*=\s*(\S+)\s*")
_INSTRUCTION: Final = re.compile(r"([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
_PORT: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(/tcp|/udp|/sctp)?", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class DefinitionError(ValueError):
    """An image definition cannot be understood; the text names file and line."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: where it begins, its name in capitals, and the rest, lines joined."""

    line: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY: what of the build directory goes where. target: absolute; "/" at its end says into."""

    line: int
    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an image. entrypoint, command: None if not set here."""

    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """What a definition says. base: "scratch", "host", or the name of an image."""

    file: str
    base: str
    copies: tuple[Copy, ...]
    settings: Settings


def parse(text: str, file: str) -> list[Instruction]:
    """Return the instructions of a definition. Raises: DefinitionError."""
    found: list[Instruction] = []
    begun: tuple[int, list[str]] | None = None
    directives = True
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = raw.strip() if begun is None else raw.rstrip()
        if line.lstrip().startswith("#"):
            directives = directives and _directive(line, file, number)
            continue
        directives = False
        if not line.strip():
            continue
        start, parts = begun or (number, [])
        goes_on = line.endswith("\\")
        parts.append(line[:-1] if goes_on else line)
        begun = (start, parts) if goes_on else None
        if not goes_on:
            found.append(_instruction("".join(parts), file, start))
    if begun is not None:
        raise DefinitionError(
            f"{file}:{begun[0]}: the last line ends with \\: something is missing"
        )
    return found


def _directive(line: str, file: str, number: int) -> bool:
    """Read a comment at the top; tell whether it was a directive, so that more may follow."""
    match = _DIRECTIVE.fullmatch(line)
    if match is None:
        return False
    if match[1].lower() == "escape" and match[2] != "\\":
        raise DefinitionError(f"{file}:{number}: only \\ can continue a line, not {match[2]}")
    return True


def _instruction(text: str, file: str, line: int) -> Instruction:
    match = _INSTRUCTION.fullmatch(text.strip())
    if match is None:
        raise DefinitionError(f"{file}:{line}: {text.split()[0]!r} is no instruction")
    name, rest = match[1].upper(), (match[2] or "").strip()
    if name not in SUPPORTED:
        hint = f" ({_HINTS[name]})" if name in _HINTS else ""
        raise DefinitionError(
            f"{file}:{line}: {name} is not supported{hint}; supported: {', '.join(SUPPORTED)}"
        )
    if not rest:
        raise DefinitionError(f"{file}:{line}: {name} needs an argument")
    if re.search(r"<<-?['\"]?[A-Za-z_]", rest) and name == "COPY":
        raise DefinitionError(f"{file}:{line}: here-documents are not supported: COPY a file")
    return Instruction(line, name, rest)


def evaluate(
    instructions: Sequence[Instruction], file: str, *, arguments: Mapping[str, str] | None = None
) -> Definition:
    """Return what the instructions say. arguments: values for ARG. Raises: DefinitionError."""
    reader = _Reader(file, dict(arguments or {}))
    for instruction in instructions:
        try:
            reader.take(instruction)
        except WordError as error:
            raise DefinitionError(f"{file}:{instruction.line}: {error}") from error
    if not reader.base:
        raise DefinitionError(f"{file}: there is no FROM: begin with FROM host, or FROM scratch")
    unknown = sorted(set(reader.given) - reader.declared)
    if unknown:
        raise DefinitionError(f"{file}: no ARG declares {', '.join(unknown)}")
    return Definition(file, reader.base, tuple(reader.copies), reader.settings)


class _Reader:
    """What is known after the instructions read so far."""

    def __init__(self, file: str, given: dict[str, str]) -> None:
        self.file, self.given = file, given
        self.base = ""
        self.declared: set[str] = set()
        self.arguments: dict[str, str] = {}
        self.copies: list[Copy] = []
        self.settings = Settings()

    def take(self, instruction: Instruction) -> None:
        """Read one instruction. Raises: DefinitionError, WordError."""
        if not self.base and instruction.name not in ("FROM", "ARG"):
            raise WordError(f"{instruction.name} stands before FROM, which must come first")
        if instruction.name != "COPY" and instruction.text.startswith("--"):
            flag = instruction.text.split()[0]
            raise WordError(f"the option {flag} of {instruction.name} is not supported")
        readers: dict[str, Callable[[Instruction], None]] = {
            "FROM": self._from, "ARG": self._arg, "COPY": self._copy, "ENV": self._env,
            "WORKDIR": self._workdir, "ENTRYPOINT": self._entrypoint, "CMD": self._cmd,
            "EXPOSE": self._expose, "LABEL": self._label, "USER": self._user,
        }  # fmt: skip
        readers[instruction.name](instruction)

    @property
    def scope(self) -> dict[str, str]:
        """The variables that can be used: ENV wins over ARG."""
        return {**self.arguments, **self.settings.environment}

    def _from(self, instruction: Instruction) -> None:
        if self.base:
            raise WordError("a second FROM: an image is built in one stage")
        found = words(instruction.text, self.scope)
        if len(found) != 1 or not found[0]:
            raise WordError("FROM takes one name: scratch, host, or an image of the store")
        self.base = found[0]
        self.arguments.clear()  # Arguments before FROM are for FROM.

    def _arg(self, instruction: Instruction) -> None:
        for word in words(instruction.text, self.scope):
            name, _, default = word.partition("=")
            if not _VARIABLE.fullmatch(name):
                raise WordError(f"{name!r} is no name for an argument")
            self.declared.add(name)
            self.arguments[name] = self.given.get(name, default)

    def _copy(self, instruction: Instruction) -> None:
        if instruction.text.startswith("--"):
            flag = instruction.text.split()[0]
            raise WordError(
                f"the option {flag} of COPY is not supported: everything belongs to root"
            )
        listed = _json_list(instruction)
        found = (
            [expand(word, self.scope) for word in listed]
            if listed is not None
            else words(instruction.text, self.scope)
        )
        if len(found) < 2:
            raise WordError("COPY needs one source at least, and a target")
        *sources, target = found
        for source in sources:
            if ".." in source.split("/"):
                raise WordError(f"COPY {source}: sources lie inside the build directory")
        into = target in (".", "..") or target.endswith(("/", "/.", "/.."))
        if len(sources) > 1 and not into:
            raise WordError("COPY of several sources needs a directory as target: end it with /")
        place = _absolute(self.settings.working_dir, target)
        self.copies.append(
            Copy(instruction.line, tuple(sources), place + "/" if into and place != "/" else place)
        )

    def _env(self, instruction: Instruction) -> None:
        new = dict(pairs(instruction.text, self.scope, instruction.name))
        merged = {**self.settings.environment, **new}
        self.settings = replace(self.settings, environment=merged)

    def _label(self, instruction: Instruction) -> None:
        new = dict(pairs(instruction.text, self.scope, instruction.name))
        self.settings = replace(self.settings, labels={**self.settings.labels, **new})

    def _workdir(self, instruction: Instruction) -> None:
        place = _absolute(self.settings.working_dir, expand(instruction.text, self.scope))
        self.settings = replace(self.settings, working_dir=place)

    def _user(self, instruction: Instruction) -> None:
        found = words(instruction.text, self.scope)
        if len(found) != 1:
            raise WordError("USER takes one name or number, and a group after a colon")
        self.settings = replace(self.settings, user=found[0])

    def _expose(self, instruction: Instruction) -> None:
        ports = list(self.settings.ports)
        for word in words(instruction.text, self.scope):
            match = _PORT.fullmatch(word)
            low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if match is None or not 1 <= low <= high <= 65535:
                raise WordError(f"EXPOSE {word}: a port is a number up to 65535, then /tcp or /udp")
            ports += [f"{port}{(match[3] or '/tcp').lower()}" for port in range(low, high + 1)]
        self.settings = replace(self.settings, ports=tuple(dict.fromkeys(ports)))

    def _entrypoint(self, instruction: Instruction) -> None:
        self.settings = replace(self.settings, entrypoint=_command(instruction))

    def _cmd(self, instruction: Instruction) -> None:
        self.settings = replace(self.settings, command=_command(instruction))


def _command(instruction: Instruction) -> tuple[str, ...]:
    listed = _json_list(instruction)
    return ("/bin/sh", "-c", instruction.text) if listed is None else tuple(listed)


def _json_list(instruction: Instruction) -> list[str] | None:
    """Return the strings of the exec form; None if it is not that form. Raises: WordError."""
    if not instruction.text.startswith("["):
        return None
    try:
        found = json.loads(instruction.text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise WordError(
            f'{instruction.name} {instruction.text}: this form is a JSON list: ["a", "b"], with '
            "double quotes"
        )
    return found


def _absolute(directory: str, path: str) -> str:
    """Return `path` as seen from `directory`, without leaving the root."""
    joined = posixpath.normpath(posixpath.join("/", directory, path))
    return "/" + joined.lstrip("/")
