"""`kubectl logs`: which lines of a container's log are told, and how. Pure.

Source: core/v1 PodLogOptions and its validation.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubeloop.api.errors import BadRequest, Cause, Invalid
from kubeloop.api.times import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What is asked of a log.

    tail_lines:  only so many of the last lines that are there now; None for all.
    since:       only lines written at this time or later [seconds since 1970].
    limit_bytes: at most so many bytes; None for all.
    """

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float = 0.0
    limit_bytes: int | None = None

    def wanted(self, written: float) -> bool:
        """Tell whether a line of that age is wanted at all."""
        return written >= self.since

    def render(self, written: float, line: bytes) -> bytes:
        """Return a line as it is told."""
        if self.timestamps:
            return timestamp(written).encode() + b" " + line
        return line


class Tail:
    """Takes the lines of a whole log, one by one; keeps those that are wanted.

    count: how many there were, wanted or not.
    """

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._kept: deque[bytes] = deque(maxlen=options.tail_lines)
        self.count = 0

    def add(self, written: float, line: bytes) -> None:
        """Take the next line."""
        self.count += 1
        if self._options.wanted(written):
            self._kept.append(self._options.render(written, line))

    @property
    def text(self) -> bytes:
        """What is told."""
        return b"".join(self._kept)


class Limit:
    """Cuts a stream off after so many bytes."""

    def __init__(self, limit_bytes: int | None) -> None:
        self.left = limit_bytes

    def cut(self, data: bytes) -> bytes:
        """Return what of `data` may still be told."""
        if self.left is None:
            return data
        data = data[: self.left]
        self.left -= len(data)
        return data

    @property
    def reached(self) -> bool:
        """Whether nothing more may be told."""
        return self.left == 0


def parse_log_options(parameters: Iterable[tuple[str, str]], pod: str, now: float) -> LogOptions:
    """Return the options of a log request. Raises: BadRequest, Invalid."""
    given: dict[str, str] = {}
    for name, value in parameters:
        given.setdefault(name, value)
    numbers = {name: _int(given, name) for name in ("tailLines", "sinceSeconds", "limitBytes")}
    causes = []
    if numbers["tailLines"] is not None and numbers["tailLines"] < 0:
        causes.append(_too_small("tailLines", numbers["tailLines"], "greater than or equal to 0"))
    for name in ("limitBytes", "sinceSeconds"):
        number = numbers[name]
        if number is not None and number < 1:
            causes.append(_too_small(name, number, "greater than 0"))
    if "sinceTime" in given and "sinceSeconds" in given:
        text = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(Cause("FieldValueForbidden", text, "sinceSeconds"))
    if causes:
        raise Invalid("PodLogOptions", pod, causes)
    since = 0.0
    if numbers["sinceSeconds"] is not None:
        since = now - numbers["sinceSeconds"]
    elif given.get("sinceTime"):
        since = _time(given["sinceTime"])
    return LogOptions(
        container=given.get("container", ""),
        follow=_bool(given, "follow"),
        previous=_bool(given, "previous"),
        timestamps=_bool(given, "timestamps"),
        tail_lines=numbers["tailLines"],
        since=since,
        limit_bytes=numbers["limitBytes"],
    )


def container_of(pod: Mapping[str, Any], asked: str) -> str:
    """Return the container whose log is meant. Raises: BadRequest as Kubernetes does."""
    name, spec = pod["metadata"]["name"], pod.get("spec") or {}
    names = [c["name"] for c in spec.get("containers") or ()]
    inits = [c["name"] for c in spec.get("initContainers") or ()]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    if not asked:
        if len(names) == 1 and not inits and not ephemeral:
            return str(names[0])
        told = f"choose one of: [{' '.join(names)}]"
        if inits:
            told += f" or one of the init containers: [{' '.join(inits)}]"
        raise BadRequest(f"a container name must be specified for pod {name}, {told}")
    if asked not in (*names, *inits, *ephemeral):
        raise BadRequest(f"container {asked} is not valid for pod {name}")
    return asked


def timestamp(unix_s: float) -> str:
    """Return RFC 3339 with the nine decimals kubelets write."""
    text = datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{text}000Z"


def _int(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "")
    if not text:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _bool(given: Mapping[str, str], name: str) -> bool:
    return name in given and given[name] not in ("false", "0")


def _time(text: str) -> float:
    try:
        return parse(text)
    except ValueError:
        raise BadRequest(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"'
        ) from None


def _too_small(field: str, value: int, wanted: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {value}: must be {wanted}", field)
