"""All there is in etcd at one revision of it."""

import asyncio
import logging
from dataclasses import dataclass, field

from kubeloop.store.etcd.client import PAUSE_S, Client, Compacted, Refused, Unavailable
from kubeloop.store.etcd.keys import Keys
from kubeloop.store.etcd.records import Record, Value, decode_record
from kubeloop.store.history import History, Retention
from kubeloop.store.store import StoreFailed

logger = logging.getLogger("kubeloop.store.etcd")


@dataclass(slots=True)
class Listing:
    """What there is at a revision of etcd.

    base:   the revision of etcd of the newest group;  record: of that group.
    values: what groups wrote;  mods: the revision of etcd of each.
    others: what came by other means: key -> (revision of etcd, value).
    """

    revision: int
    base: int = 0
    record: Record | None = None
    values: dict[str, Value] = field(default_factory=dict)
    mods: dict[str, int] = field(default_factory=dict)
    others: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The revision of the newest commit."""
        return 0 if self.record is None else self.record.last

    def group_of(self, writer: bytes) -> int:
        """Return the number of the newest group of a writer, 0 if it is not known."""
        return 0 if self.record is None else self.record.recent.get(writer, 0)

    def history(self, retention: Retention | None) -> History:
        """Return the history that begins with this."""
        items = [(key, kept.value, kept.revision) for key, kept in self.values.items()]
        leases = [
            (key, kept.revision, kept.expires)
            for key, kept in self.values.items()
            if kept.expires is not None
        ]
        return History.restored(self.last, items, leases, retention=retention)


async def list_all(client: Client, keys: Keys) -> Listing:
    """Return all there is now. Raises: Unavailable, Refused, Compacted, StoreFailed.

    What came by other means is told from what a group wrote by its place: it was put later than
    the newest group, or than another value whose revision is as new, or newer.
    """
    revision, items = await client.list(keys.first, keys.end)
    listing = Listing(revision)
    found: list[tuple[int, str, bytes]] = []
    for outer, value, mod in items:
        key = keys.inner(outer)
        if key is not None:
            found.append((mod, key, value))
        elif outer == keys.sequence:
            try:
                listing.base, listing.record = mod, decode_record(value, None)
            except ValueError as error:
                raise StoreFailed(f"{outer.decode()} in etcd: {error}") from error
    newest = newest_before = mod_before = 0
    for mod, key, value in sorted(found, key=lambda one: one[0]):
        if mod != mod_before:
            mod_before, newest_before = mod, newest
        kept = Value.decode(value)
        if kept is None or kept.revision <= newest_before or mod > listing.base:
            listing.others[key] = mod, value
        else:
            newest = max(newest, kept.revision)
            listing.values[key], listing.mods[key] = kept, mod
    listing.values = dict(sorted(listing.values.items()))
    return listing


async def list_patiently(client: Client, keys: Keys) -> Listing:
    """List, as often as it takes. Raises: StoreFailed."""
    while True:
        try:
            return await list_all(client, keys)
        except (Unavailable, Compacted) as error:
            logger.info("etcd does not answer yet: %s", error)
            await asyncio.sleep(PAUSE_S[1])
        except Refused as error:
            raise StoreFailed(f"etcd cannot be the store: {error}") from error
