"""What a fact is to a watcher, and how it is told: pure.

A watcher with a selector sees a part of the world whose border objects cross: one that begins to
match is ADDED, one that no longer does is DELETED, as it was when it still matched. Either way the
event carries the revision of the change, so that the watcher can resume from it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import orjson

from kubeloop.api.errors import ApiError
from kubeloop.api.resources import Resource
from kubeloop.api.selectors import FieldSelector, LabelSelector, parse_fields, parse_labels
from kubeloop.net.rest.negotiation import Media
from kubeloop.net.rest.rendering import Answers, ordered, partial
from kubeloop.store.facts import Fact

_CACHE_MAX: Final = 8 << 20  # Bytes.
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """The part of a resource a watcher wants to see."""

    labels: LabelSelector | None = None
    fields: FieldSelector | None = None

    @classmethod
    def parse(cls, resource: Resource, labels: str, fields: str) -> "Choice":
        """Return the choice two selectors make. Raises: BadRequest."""
        return cls(
            parse_labels(labels) if labels else None,
            parse_fields(fields, resource) if fields else None,
        )

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self.labels is None and self.fields is None

    def matches(self, obj: Object) -> bool:
        """Tell whether an object is in it."""
        if self.labels is not None and not self.labels.matches(obj["metadata"].get("labels") or {}):
            return False
        return self.fields is None or self.fields.matches(obj)

    def requires(self, field: str) -> str:
        """Return the value every chosen object has in `field`; "" if that is not known."""
        return (self.fields.requires(field) or "") if self.fields is not None else ""


def transition(fact: Fact, choice: Choice) -> tuple[str, Object] | None:
    """Return (ADDED, MODIFIED or DELETED, the object) for a watcher; None if it sees nothing."""
    value = None if fact.value is None else msgpack.unpackb(fact.value)
    if choice.everything:
        was, is_ = fact.prev is not None, value is not None
        prev = msgpack.unpackb(fact.prev) if value is None and fact.prev is not None else None
    else:
        prev = None if fact.prev is None else msgpack.unpackb(fact.prev)
        was = prev is not None and choice.matches(prev)
        is_ = value is not None and choice.matches(value)
    if is_ and value is not None:
        return "MODIFIED" if was else "ADDED", value
    if not was or prev is None:
        return None
    prev["metadata"]["resourceVersion"] = str(fact.revision)
    return "DELETED", prev


class JsonCache:
    """The lines of the newest facts: many watchers, one encoding. Bounded; emptied when full."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str], bytes] = {}
        self._size = 0

    def line(self, fact: Fact, change: tuple[str, Object]) -> bytes:
        """Return the event as a line."""
        type_, obj = change
        key = (fact.key, fact.revision, type_)
        line = self._known.get(key)
        if line is None:
            line = event_line(type_, ordered(obj))
            if self._size > _CACHE_MAX:
                self._known.clear()
                self._size = 0
            self._known[key] = line
            self._size += len(line)
        return line

    def known(self, fact: Fact) -> bytes | None:
        """Return the line for a watcher who sees everything, if it has been made already."""
        return self._known.get((fact.key, fact.revision, everything_type(fact)))


def everything_type(fact: Fact) -> str:
    """Return what a fact is to a watcher who sees everything."""
    if fact.value is None:
        return "DELETED"
    return "ADDED" if fact.prev is None else "MODIFIED"


def event_line(type_: str, obj: Object) -> bytes:
    """Return a watch event as a line of JSON."""
    return orjson.dumps({"type": type_, "object": obj}, option=orjson.OPT_APPEND_NEWLINE)


def error_line(error: ApiError) -> bytes:
    """Return the event that tells a watcher why its watch ends."""
    return event_line("ERROR", error.status())


class Teller:
    """Turns facts into lines for one watcher; remembers what a Table has told already.

    cache: shared by all watchers of the server.
    now:   seconds since 1970, asked anew for the ages in each Table.
    """

    def __init__(
        self,
        resource: Resource,
        choice: Choice,
        media: Media,
        *,
        include: str,
        cache: JsonCache,
        now: Callable[[], float],
    ) -> None:
        self.resource, self.choice, self.media = resource, choice, media
        self.cache, self.now, self.include = cache, now, include
        self._columns_told = False
        Answers(resource, media, include=include, now=0)  # Refuses a wrong `include` before 200.

    def facts(self, facts: Iterable[Fact]) -> Iterator[bytes]:
        """Yield a line per fact, b"" for one that is not seen."""
        return map(self._fact, facts)

    def initial(self, items: Iterable[bytes]) -> Iterator[bytes]:
        """Yield an ADDED line per object that is there already."""
        return (self._line("ADDED", msgpack.unpackb(item)) for item in items)

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """Return a BOOKMARK: everything up to `revision` has been told."""
        metadata: Object = {"resourceVersion": str(revision)}
        if initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        kind, api_version = self.resource.kind, self.resource.api_version
        obj: Object = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
        if self.media.form == "Table":
            obj = self._table([{**obj, "metadata": {**metadata}}], str(revision))
        elif self.media.form:
            obj = partial(obj, self.media.version)
        return event_line("BOOKMARK", obj)

    def _fact(self, fact: Fact) -> bytes:
        plain = not self.media.form
        if plain and self.choice.everything:
            known = self.cache.known(fact)
            if known is not None:
                return known
        change = transition(fact, self.choice)
        if change is None:
            return b""
        return self.cache.line(fact, change) if plain else self._line(*change)

    def _line(self, type_: str, obj: Object) -> bytes:
        if self.media.form == "Table":
            version = obj["metadata"].get("resourceVersion", "")
            return event_line(type_, self._table([obj], version))
        if self.media.form:
            return event_line(type_, partial(obj, self.media.version))
        return event_line(type_, ordered(obj))

    def _table(self, objects: list[Object], revision: str) -> Object:
        answers = Answers(self.resource, self.media, include=self.include, now=self.now())
        table = answers.table(objects, revision)
        if self._columns_told:
            table["columnDefinitions"] = None
        self._columns_told = True
        return table
