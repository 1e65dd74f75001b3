"""Where a cluster keeps its objects: in a directory, or in an etcd."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubeloop.store.disk import Disk, RealDisk
from kubeloop.store.history import Retention
from kubeloop.store.recovery import CorruptLog
from kubeloop.store.store import Store, StoreFailed, Sync


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """Where an etcd cluster is, and how to reach it.

    endpoints:     "host:port", or "https://host:port".
    ca, cert, key: PEM.
    prefix:        of all keys; another cluster of this etcd has another.
    """

    endpoints: Sequence[str]
    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None
    prefix: str = "/registry/"


class StartFailed(Exception):
    """The cluster could not start; the message says why and what to do."""


def open_directory(
    path: Path,
    disk: Disk | None,
    *,
    loop: asyncio.AbstractEventLoop,
    fresh_id: bytes,
    retention: Retention | None,
    sync: Sync,
) -> Store:
    """Return the store in a directory, of this machine's disk if none is told.

    Raises: StartFailed.
    """
    if disk is None:
        path.mkdir(parents=True, exist_ok=True)
    try:
        return Store.open(
            disk or RealDisk(),
            str(path),
            threadsafe=None if disk else lambda call: _call_on(loop, call),
            fresh_id=fresh_id,
            retention=retention,
            sync=sync,
            later=loop.call_later,
        )
    except (CorruptLog, OSError) as error:
        raise StartFailed(f"the store in {path} cannot be opened: {error}") from error


def _call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Run `call` on the loop, from another thread; a loop that has closed has no use for it."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


async def connect_etcd(etcd: EtcdAccess, retention: Retention | None) -> Store:
    """Return a store over an etcd. Raises: StartFailed."""
    try:
        from kubeloop.store.etcd.store import EtcdStore, StoreUnavailable
    except ImportError as error:
        raise StartFailed(
            f"a store in etcd needs more: pip install 'kubeloop[etcd]' ({error})"
        ) from error
    try:
        return await EtcdStore.connect(
            etcd.endpoints,
            fresh_id=random.SystemRandom().randbytes(16),  # Also with a seed: never twice.
            ca=etcd.ca,
            cert=etcd.cert,
            key=etcd.key,
            prefix=etcd.prefix,
            retention=retention,
        )
    except (StoreUnavailable, StoreFailed) as error:
        raise StartFailed(str(error)) from error
