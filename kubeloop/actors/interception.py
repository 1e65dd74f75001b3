"""What may be put in the way of an actor, to see whether it and the others endure it.

    end = supervisor.intercept("kubelet/node-1", Late(world, delay_s=3))

An interceptor sees every message that others send to an actor and every one it sends to others,
when its turns are due, and its turns. It passes them on: at once, later, twice or never. What an
actor's own tasks and its runtime tell it does not come by. Several stand one behind another, the
first put up is the outermost. Where none is put up nothing is in the way.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pykka._envelope import Envelope

from kubeloop.actors.actor import Handle, Inbox, MailboxFull, Pace, Reach

Deliver = Callable[[Envelope[Any]], None]
"""Passes a message on. May be called later, and more than once; it never fails."""


class Interceptor:
    """Passes everything on. Override what shall be otherwise.

    over: whether it stands in the way no more: what another has held back since before passes.
    """

    over = False

    def heard(self, envelope: Envelope[Any], deliver: Deliver) -> None:
        """Take a message to the actor."""
        deliver(envelope)

    def said(self, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        """Take a message of the actor to the one called `to`."""
        deliver(envelope)

    def due(self, turn: Callable[[], None], soon: Pace) -> None:
        """Have a turn begin, by `soon(turn)`."""
        soon(turn)

    def turn(self, envelopes: Sequence[Envelope[Any]], handle: Handle) -> None:
        """Have a turn, by `handle(envelopes)`; what is raised here the actor fails with."""
        handle(envelopes)

    def ended(self) -> None:
        """Hear that it stands in the way no more: what it has held back is to be passed on."""


class Interceptors:
    """Those of one actor, as one: the first is the outermost."""

    def __init__(self, chain: Sequence[Interceptor]) -> None:
        self._chain = tuple(chain)

    def door(self, inbox: Inbox) -> Inbox:
        """Return what others are to take for the actor's mailbox."""
        return _Door(inbox, self._heard)

    def reach(self, reach: Reach) -> Reach:
        """Return what the actor is to find the mailboxes of others with."""

        def find(name: str) -> Inbox | None:
            inbox = reach(name)
            return None if inbox is None else _Door(inbox, partial(self._said, name))

        return find

    def pace(self, soon: Pace, turn: Callable[[], None]) -> None:
        """Have a turn begin."""
        for one in reversed(self._chain):
            soon = partial(_pace, one, soon)
        soon(turn)

    def around(self, envelopes: Sequence[Envelope[Any]], handle: Handle) -> None:
        """Have a turn."""
        for one in reversed(self._chain):
            handle = partial(_turn, one, handle)
        handle(envelopes)

    def _heard(self, envelope: Envelope[Any], deliver: Deliver) -> None:
        for one in reversed(self._chain):
            deliver = partial(_heard, one, deliver)
        deliver(envelope)

    def _said(self, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        for one in self._chain:  # What an actor says meets the innermost first.
            deliver = partial(_said, one, to, deliver)
        deliver(envelope)


def _heard(one: Interceptor, deliver: Deliver, envelope: Envelope[Any]) -> None:
    if one.over:
        deliver(envelope)
    else:
        one.heard(envelope, deliver)


def _said(one: Interceptor, to: str, deliver: Deliver, envelope: Envelope[Any]) -> None:
    if one.over:
        deliver(envelope)
    else:
        one.said(to, envelope, deliver)


def _pace(one: Interceptor, soon: Pace, turn: Callable[[], None]) -> None:
    if one.over:
        soon(turn)
    else:
        one.due(turn, soon)


def _turn(one: Interceptor, handle: Handle, envelopes: Sequence[Envelope[Any]]) -> None:
    one.turn(envelopes, handle)


class _Door(Inbox):
    """A mailbox, as somebody sees it for whom all messages to it are intercepted."""

    def __init__(self, inbox: Inbox, take: Callable[[Envelope[Any], Deliver], None]) -> None:
        super().__init__(capacity=inbox.capacity)
        self.envelopes = inbox.envelopes  # So there is as much room.
        self._inbox, self._take = inbox, take

    def put(self, envelope: Envelope[Any], /) -> None:
        if self.room() <= 0:
            raise MailboxFull(f"{self.capacity} messages wait already")
        self._pass_on(envelope)

    def put_answer(self, message: bytes) -> None:
        self._pass_on(Envelope(message))

    def when_drained(self, call: Callable[[], None]) -> None:
        self._inbox.when_drained(call)

    def _pass_on(self, envelope: Envelope[Any]) -> None:
        inner = self._inbox
        deliver = inner._pass_on if isinstance(inner, _Door) else partial(_deliver, inner)
        self._take(envelope, deliver)


def _deliver(inbox: Inbox, envelope: Envelope[Any]) -> None:
    inbox.envelopes.append(envelope)
    inbox.wake()
