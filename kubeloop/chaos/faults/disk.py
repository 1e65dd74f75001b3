"""What happens to the disk of the store, and to the machine it is in; only of a durable cluster.

What a disk does that fails is in `sim.MemoryDisk`; what the store makes of it in docs/store.md.
"""

import errno
import os
from dataclasses import dataclass
from typing import Final

from kubeloop.chaos.faults.base import Fault, Heal
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.succession import Death, Unrecovered
from kubeloop.chaos.values import FLAG, OneOf, Real, Whole, drawn, kind
from kubeloop.sim.disk import MemoryDisk

_LOG: Final = "/log-"


@dataclass(frozen=True, kw_only=True)
class OfDisk(Fault):
    """A fault of a store that is on a disk."""

    on_disk = True

    def begin(self, stage: Stage) -> Heal | None:
        if stage.disk is None or not stage.alive:
            stage.note(f"{self}: there is no disk in use")
            return None
        return self.strike(stage, stage.disk)

    def strike(self, stage: Stage, disk: MemoryDisk) -> Heal | None:
        """Break it; override."""
        raise NotImplementedError


@kind("disk-full")
@dataclass(frozen=True, kw_only=True)
class DiskFull(OfDisk):
    """The disk has room for some bytes more. What does not fit is refused: ENOSPC."""

    room_bytes: int = drawn(Whole(0, 100_000))

    def strike(self, stage: Stage, disk: MemoryDisk) -> Heal:
        room = sum(map(len, disk.files.values())) + self.room_bytes
        stage.rooms.append(room)
        _apply(stage)

        def heal() -> None:
            stage.rooms.remove(room)
            _apply(stage)

        return heal


@kind("disk-slow")
@dataclass(frozen=True, kw_only=True)
class DiskSlow(OfDisk):
    """Whatever is written is safe only so much later."""

    delay_s: float = drawn(Real(0.0, 5.0))

    def strike(self, stage: Stage, disk: MemoryDisk) -> Heal:
        stage.lags.append(self.delay_s)
        _apply(stage)

        def heal() -> None:
            stage.lags.remove(self.delay_s)
            _apply(stage)

        return heal


_TOLD_S: Final = 1.0  # Within so much of a call's end the store knows of it.


@kind("disk-fails")
@dataclass(frozen=True, kw_only=True)
class DiskFails(OfDisk):
    """Calls end with EIO. A store that was told so takes no more writes until it is opened again:
    at the end the cluster is started again.
    """

    call: str = drawn(OneOf("sync", "write"))

    def strike(self, stage: Stage, disk: MemoryDisk) -> Heal:
        def fault(operation: str, path: str) -> OSError | None:
            wrong = operation == self.call
            return OSError(errno.EIO, os.strerror(errno.EIO), path) if wrong else None

        end = disk.add_fault(fault)

        def begin_again() -> None:
            if stage.alive and stage.cluster.store.failure is not None:
                Death(stage, power=False).succeed()

        async def when_it_is_told(at_s: float) -> None:
            await stage.sleep_until(at_s)
            begin_again()

        def heal() -> None:
            end()
            begin_again()
            if disk.lag_s:  # Of a call that fails now a slow disk tells so much later.
                stage.spawn(when_it_is_told(stage.loop.time() + disk.lag_s + _TOLD_S))

        return heal


@kind("cluster-dies")
@dataclass(frozen=True, kw_only=True)
class ClusterDies(OfDisk):
    """The whole cluster is killed, with all nodes; later one starts that goes on with its disk.

    power: the machine has lost its power: what was not synced may be lost, torn, out of order.
    """

    power: bool = drawn(FLAG)

    def strike(self, stage: Stage, disk: MemoryDisk) -> Heal:
        return Death(stage, power=self.power).succeed


@kind("bit-rot")
@dataclass(frozen=True, kw_only=True)
class BitRot(OfDisk):
    """A bit of the log flips, and the cluster is started again: it must refuse, and say why.

    Then the file is restored from a copy, and a cluster starts.
    place: where, in thousandths of what has been synced before the last frames.
    """

    place: int = drawn(Whole(0, 500))

    def strike(self, stage: Stage, disk: MemoryDisk) -> Heal | None:
        path = max(
            (path for path in disk.files if _LOG in path),
            key=lambda path: (len(disk.files[path]), path),
            default="",
        )
        if not path:
            stage.note(f"{self}: there is no log")
            return None
        death, bit = Death(stage, power=False), len(disk.files[path]) * 8 * self.place // 1000
        disk.flip(path, bit)

        async def restore() -> None:
            why = await death.refused()
            stage.note(f"the cluster does not start: {why}")
            disk.flip(path, bit)
            if "cannot be opened" not in why:
                raise Unrecovered(f"bit {bit} of {path} is wrong, and nobody has noticed")
            death.succeed()

        def heal() -> None:
            stage.spawn(restore())

        return heal


def _apply(stage: Stage) -> None:
    """Have all that slows the disk down, and the least room of all, hold for the one there is."""
    if stage.disk is not None:
        stage.disk.lag_s = sum(stage.lags)
        stage.disk.room = min(stage.rooms, default=None)
