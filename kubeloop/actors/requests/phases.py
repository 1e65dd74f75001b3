"""When a PersistentVolume last changed its phase: a time the system keeps.

Source: the registry of core/v1 in behaviour.
"""

from typing import Final

from kubeloop.actors.requests.state import Object

_TIME: Final = "lastPhaseTransitionTime"


def count(volume: Object, old: Object | None, now: str) -> None:
    """Write the time into the status of a volume whose phase is new, unless its writer did."""
    status = volume["status"] = dict(volume.get("status") or {})
    was = (old or {}).get("status") or {}
    if status.get("phase") != was.get("phase") and status.get(_TIME) in (None, was.get(_TIME)):
        status[_TIME] = now
