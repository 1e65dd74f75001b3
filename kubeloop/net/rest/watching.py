"""How facts are told to a watcher: as lines of JSON; pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgpack
import orjson

from kubeloop.api.errors import ApiError
from kubeloop.api.partial import partial
from kubeloop.api.resources import Resource
from kubeloop.net.choice import Choice, Object, transition
from kubeloop.net.rest.encodings import Encodings, Text, encode
from kubeloop.net.rest.negotiation import Media
from kubeloop.net.rest.rendering import Answers
from kubeloop.store.facts import Fact

_CACHE_MAX: Final = 8 << 20  # Bytes.
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"


class JsonCache:
    """The lines of the newest facts: many watchers, one encoding. Bounded; emptied when full."""

    def __init__(self, encodings: Encodings) -> None:
        self.encodings = encodings
        self._known: dict[tuple[str, int, str], bytes] = {}
        self._size = 0

    def line(self, fact: Fact, change: tuple[str, Object]) -> bytes:
        """Return the event as a line."""
        type_, obj = change
        key = (fact.key, fact.revision, type_)
        line = self._known.get(key)
        if line is None:
            value = None if type_ == "DELETED" else fact.value
            line = text_line(type_, encode(obj) if value is None else self.encodings.text(value))
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


def text_line(type_: str, text: Text) -> bytes:
    """Return a watch event about an object that is in JSON already."""
    return b'{"type":"%b","object":%b%b}\n' % (type_.encode(), text.head, text.rest)


def error_line(error: ApiError) -> bytes:
    """Return the event that tells a watcher why its watch ends."""
    return event_line("ERROR", error.status())


def _place(fact: Fact, type_: str) -> tuple[str, int]:
    """Return what tells the object of an event: of one that goes it is what was before."""
    return f"{'-' if type_ == 'DELETED' else '+'}{fact.key}", fact.revision


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
        self._converted: dict[tuple[str, int], Object] = {}
        Answers(resource, media, include=include, now=0)  # Refuses a wrong `include` before 200.

    def facts(self, facts: Iterable[Fact]) -> Iterator[bytes]:
        """Yield a line per fact, b"" for one that is not seen."""
        return map(self._fact, facts)

    def to_convert(self, facts: Iterable[Fact]) -> dict[tuple[str, int], Object]:
        """Return the objects in facts that a webhook has to convert, each with where it was."""
        kind = self.resource.custom
        if kind is None or kind.webhook is None:
            return {}
        found = {}
        for fact in facts:
            change = transition(fact, self.choice)
            if change is not None and change[1]["apiVersion"] != kind.api_version:
                found[_place(fact, change[0])] = change[1]
        return found

    def learn(self, converted: dict[tuple[str, int], Object]) -> None:
        """Hear what became of the objects of the facts that are told next."""
        self._converted = converted

    def initial(self, items: Iterable[bytes]) -> Iterator[bytes]:
        """Yield an ADDED line per object that is there already."""
        if not self.media.form:
            text = self.cache.encodings.text
            return (text_line("ADDED", text(item)) for item in items)
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
        plain = not self.media.form and not self._differs(fact.revision)
        if plain and self.choice.everything:
            known = self.cache.known(fact)
            if known is not None:
                return known
        change = transition(fact, self.choice)
        if change is None:
            return b""
        if plain:
            return self.cache.line(fact, change)
        type_, obj = change
        versioned = self.resource.versioned
        made = self._converted.get(_place(fact, type_))
        if made is not None:
            return self._line(type_, made)
        return self._line(type_, obj if versioned is None else versioned.served(obj, fact.revision))

    def _differs(self, revision: int) -> bool:
        """Tell whether what was written at a revision is told otherwise than it is stored."""
        versioned = self.resource.versioned
        return versioned is not None and (
            versioned.storage != versioned.api_version or revision < versioned.revision
        )

    def _line(self, type_: str, obj: Object) -> bytes:
        if self.media.form == "Table":
            version = obj["metadata"].get("resourceVersion", "")
            return event_line(type_, self._table([obj], version))
        if self.media.form:
            return event_line(type_, partial(obj, self.media.version))
        return text_line(type_, encode(obj))

    def _table(self, objects: list[Object], revision: str) -> Object:
        answers = Answers(self.resource, self.media, include=self.include, now=self.now())
        table = answers.table(objects, revision)
        if self._columns_told:
            table["columnDefinitions"] = None
        self._columns_told = True
        return table
