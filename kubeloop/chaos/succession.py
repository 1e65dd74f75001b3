"""A cluster that dies, and another one that goes on with what its disk holds."""

from typing import TYPE_CHECKING, Final

from kubeloop.api.errors import ApiError
from kubeloop.chaos.watching import Broken
from kubeloop.store.recovery import CorruptLog
from kubeloop.stores import StartFailed

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Stage
    from kubeloop.cluster import Cluster

HOST: Final = "localhost"  # Where clusters run, in the simulated network.
TRIES: Final = 100  # It is started again so often, as by systemd with Restart=always,
PAUSE_S: Final = 5.0  # after so long: its disk may still be full.


class Unrecovered(Broken):
    """No cluster could go on with what another has left, or what it told is lost."""


class Death:
    """The end of a stage's cluster, at once; `succeed` has another one take its place.

    power: the machine is gone, too: what was not synced may be lost, torn, or out of order.
    """

    def __init__(self, stage: "Stage", *, power: bool) -> None:
        assert stage.alive and stage.disk is not None
        self._stage, self._old = stage, stage.cluster
        self._told = self._old.store.durable
        self._old.kill()
        stage.alive = False
        stage.gate.sever()
        stage.network.reset(HOST)
        if power:
            crashed = stage.disk.crash(stage.chance)
            crashed.take_after(stage.disk)
            stage.disk = crashed
        self._stopped = stage.spawn(self._old.stop())

    def succeed(self) -> None:
        """Start another cluster in its place."""
        self._stage.spawn(self._succeed())

    async def refused(self) -> str:
        """Try to go on with what there is; return why that cannot be, "" if it can."""
        await self._stopped
        new = self._successor()
        try:
            await new.prepare()
        except StartFailed as error:
            return str(error)
        else:
            return ""
        finally:
            await new.stop()

    async def _succeed(self) -> None:
        await self._stopped
        for _ in range(TRIES):
            try:
                await self._try()
            except (StartFailed, ApiError) as error:
                if isinstance(error.__cause__, CorruptLog):
                    raise Unrecovered(f"what a crash has left is not readable: {error}") from error
                last = error
                self._stage.note(f"the cluster does not start: {error}")
                await self._stage.sleep_until(self._stage.loop.time() + PAUSE_S)
            else:
                self._stage.alive = True
                return
        raise Unrecovered(f"the cluster does not start again: {last}") from last

    async def _try(self) -> None:
        """Start a successor. Raises: StartFailed, ApiError."""
        new = self._successor()
        try:
            await new.prepare()
        except StartFailed:
            await new.stop()
            raise
        if new.store.durable < self._told:
            await new.stop()
            raise Unrecovered(
                f"revision {self._told} was told, and the log ends with {new.store.durable}"
            )
        self._told = new.store.durable
        self._stage.cluster = new
        await new.start()

    def _successor(self) -> "Cluster":
        return self._old.successor(seed=self._stage.chance.getrandbits(64), disk=self._stage.disk)
