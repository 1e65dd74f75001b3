"""The synchronous twin of `Cluster`, for plain tests and scripts.

    with SyncCluster(nodes=3) as c:
        c.api.apply("deployment.yaml")
        c.api.wait("deployment/web", "condition=Available")

The cluster lives on an event loop in a thread of its own; every call waits for its answer.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

from kubeloop.cluster import Cluster
from kubeloop.net.client import Change


class SyncClient:
    """`net.client.Client` whose methods wait: create, get, list, update, patch, scale, delete,
    apply, wait; and `watch`, which is a plain iterator."""

    def __init__(self, cluster: "SyncCluster") -> None:
        self._cluster = cluster

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._cluster.cluster.api, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._cluster.run(method(*args, **kwargs))

        call.__name__, call.__doc__ = name, method.__doc__
        return call

    def watch(self, kind: str, **options: Any) -> Iterator[Change]:
        """Yield every change, in order, until the caller stops; see `Client.watch`."""
        changes = self._cluster.cluster.api.watch(kind, **options)
        try:
            while True:
                yield self._cluster.run(anext(changes))
        finally:
            self._cluster.run(changes.aclose())


class SyncCluster:
    """A `Cluster` for code without an event loop. Takes the same arguments.

    Also has its attributes: `url`, `kubeconfig`, `config_yaml()`, `name`, …
    """

    def __init__(self, **options: Any) -> None:
        self.cluster = Cluster(**options)
        self.api = SyncClient(self)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"kubeloop-{self.cluster.name}", daemon=True
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cluster, name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the cluster; return when it is ready. Raises: as `Cluster.start`."""
        self._thread.start()
        try:
            self.run(self.cluster.start())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the cluster and its thread."""
        try:
            self.run(self.cluster.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the cluster's loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
