"""What is on a tape, in words for people. Pure."""

from collections.abc import Sequence
from typing import Any

import msgpack

from kubeloop.actors.messages import Facts, Note, Outcome, Request, Subscribe, Synced, decode
from kubeloop.actors.tapes.seams import DATA_PATH
from kubeloop.store.facts import Fact

_SHOWN = 3


def words(to: str, message: bytes) -> str:
    """Return what was said, and to whom: "to apiserver: patch pods default/web-1 status"."""
    if to == "store":
        return f"writes {_keys([Fact.decode(frame) for frame in msgpack.unpackb(message)])}"
    if to == DATA_PATH:
        what, rows = msgpack.unpackb(message)
        return f"to its data path: {what} {len(rows)} rules"
    return f"to {to}: {heard(message)}"


def heard(message: bytes) -> str:
    """Return a message in words."""
    match decode(message):
        case Request() as request:
            place = "/".join(filter(None, (request.namespace, request.name)))
            parts = (request.verb, request.resource, place, request.subresource, request.tag)
            return " ".join(filter(None, (*parts, _body(request.body))))
        case Outcome() as outcome:
            told = "" if outcome.code < 400 else f" {_body(outcome.body)}"
            return f"outcome {outcome.tag or '-'} {outcome.code} at {outcome.revision}{told}"
        case Facts() as facts:
            return f"facts {_keys(facts.facts())}"
        case Subscribe() as wish:
            return f"subscribe {wish.sender} to {', '.join(wish.resources)}"
        case Synced() as synced:
            return f"the list is complete at {synced.revision}"
        case Note() as note:
            return f"note {note.topic} {_short(note.content())}"
        case other:
            return f"{type(other).__name__.lower()} at {getattr(other, 'revision', '?')}"


def _keys(facts: Sequence[Fact]) -> str:
    told = [
        f"{fact.key.removeprefix('/registry/')}{'' if fact.value is not None else ' (deleted)'}"
        for fact in facts
    ]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return f"{', '.join(told[:_SHOWN])}{more} at {facts[-1].revision if facts else '-'}"


def _body(body: bytes) -> str:
    return _short(msgpack.unpackb(body)) if body else ""


def _short(content: Any) -> str:
    if isinstance(content, dict) and content.get("kind") == "Status":
        return str(content.get("message", ""))
    return f"{content!r:.120}"
