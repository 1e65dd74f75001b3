"""Where a cluster keeps its objects if not on a disk of its own: an etcd."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from kubeloop.store.history import Retention
from kubeloop.store.store import Store, StoreFailed


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
