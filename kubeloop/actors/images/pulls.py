"""Which images to pull, and when to try again. Pure: time is an argument.

An image is pulled once at a time: whoever wants it meanwhile waits for the same pull. Failures back
off per pod and image, as in Kubernetes, so a new pod need not wait for the failures of an old one.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

from kubeloop.actors.images.collection import Collection, Limits, collect
from kubeloop.actors.images.names import full_name, repository
from kubeloop.actors.pods.backoff import Backoff, go_duration
from kubeloop.actors.runtimes.protocol import ImageRecord

BACKOFF_SHOWN_S: Final = 1.0  # How long the error itself is shown before the back-off is.


@dataclass(frozen=True, slots=True)
class Waiter:
    """A container that wants an image."""

    pod_uid: str
    container: str


@dataclass(frozen=True, slots=True)
class Present:
    """The image is on the node already."""

    record: ImageRecord


@dataclass(frozen=True, slots=True)
class Wait:
    """The image is being pulled. begin: by the caller, now."""

    begin: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """There will be no image before `retry_at`. event: the type and reason to tell, if any."""

    reason: str
    message: str
    retry_at: float
    event: tuple[str, str, str] | None


@dataclass(slots=True)
class _Failure:
    backoff: Backoff
    message: str
    shown: bool = False


class Pulls:
    """The images of one node: what is there, what is being fetched, what failed."""

    def __init__(self) -> None:
        self._present: dict[str, ImageRecord] = {}
        self._used: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._waiting: dict[str, dict[Waiter, float]] = {}
        self._failures: dict[tuple[str, str], _Failure] = {}

    def learn(self, records: Iterable[ImageRecord], now: float) -> None:
        """Take what the runtime says is on the node."""
        self._present.clear()
        for record in records:
            self._present[record.digest] = record
            self._seen.setdefault(record.digest, now)
            for name in record.names:
                self._present[_known_as(name)] = record
        there = {record.digest for record in self._present.values()}
        for times in (self._used, self._seen):
            for digest in [d for d in times if d not in there]:
                del times[digest]

    def present(self, image: str) -> ImageRecord | None:
        """Return the image of that name if it is on the node."""
        return self._present.get(image) or self._present.get(_known_as(image))

    def image_id(self, image: str) -> str:
        """Return the imageID of an image on the node, "" if it is not there."""
        record = self.present(image)
        return "" if record is None else image_id(image, record)

    def want(self, waiter: Waiter, image: str, policy: str, now: float) -> Present | Wait | Refused:
        """Decide how a container comes by its image. policy: its imagePullPolicy."""
        try:
            name = full_name(image)
        except ValueError as error:
            text = f'Failed to apply default image tag "{image}": couldn\'t parse image name '
            text += f'"{image}": {error}'
            again = now + BACKOFF_SHOWN_S * 10
            return Refused("InvalidImageName", text, again, ("Warning", "InspectFailed", text))
        record = self.present(image)
        if record is not None and policy != "Always":
            self._used[record.digest] = now
            return Present(record)
        if policy == "Never":
            text = f'Container image "{image}" is not present with pull policy of Never'
            event = ("Warning", "ErrImageNeverPull", text)
            return Refused("ErrImageNeverPull", text, now + BACKOFF_SHOWN_S * 10, event)
        failure = self._failures.get((waiter.pod_uid, name))
        if failure is not None:
            until = failure.backoff.until(failure.backoff.updated_at)
            if now < until:
                return self._still(failure, image, until)
        begin = name not in self._waiting
        self._waiting.setdefault(name, {}).setdefault(waiter, now)
        return Wait(begin)

    @staticmethod
    def _still(failure: _Failure, image: str, until: float) -> Refused:
        text = f'Back-off pulling image "{image}"'
        event = None if failure.shown else ("Normal", "BackOff", text)
        failure.shown = True
        return Refused("ImagePullBackOff", f"{text}: {failure.message}", until, event)

    def pulled(self, image: str, record: ImageRecord, now: float) -> dict[Waiter, float]:
        """A pull succeeded: return who waited, and since when."""
        name = full_name(image)
        waiters = self._waiting.pop(name, {})
        for waiter in waiters:
            self._failures.pop((waiter.pod_uid, name), None)
        self._present[record.digest] = self._present[name] = record
        for other in record.names:
            self._present[_known_as(other)] = record
        self._seen.setdefault(record.digest, now)
        self._used[record.digest] = now
        return waiters

    def failed(self, image: str, reason: str, message: str, now: float) -> dict[Waiter, float]:
        """A pull failed: return who waited, and since when."""
        name = full_name(image)
        waiters = self._waiting.pop(name, {})
        for uid in {waiter.pod_uid for waiter in waiters}:
            failure = self._failures.setdefault((uid, name), _Failure(Backoff(), ""))
            failure.backoff.next(now, now)
            failure.message, failure.shown = f"{reason}: {message}", False
        return waiters

    def forget(self, pod_uid: str) -> None:
        """A pod is gone: nothing is remembered of it."""
        for key in [key for key in self._failures if key[0] == pod_uid]:
            del self._failures[key]
        for waiting in self._waiting.values():
            for waiter in [w for w in waiting if w.pod_uid == pod_uid]:
                del waiting[waiter]

    def collect(
        self, records: Iterable[ImageRecord], names: Set[str], limits: Limits, now: float
    ) -> Collection:
        """Return which images to delete. names: what the pods on the node want."""
        in_use = {record.digest for name in names if (record := self.present(name))}
        return collect(
            records,
            in_use=in_use,
            last_used=lambda digest: self._used.get(digest, self._seen.get(digest, 0.0)),
            first_seen=lambda digest: self._seen.get(digest, 0.0),
            limits=limits,
            now=now,
        )


def present_text(image: str) -> str:
    """Return what the event Pulled says of an image that was there."""
    return f'Container image "{image}" already present on machine and can be accessed by the pod'


def pulled_text(image: str, pull_s: float, waited_s: float, size_bytes: int) -> str:
    """Return what the event Pulled says of an image that was fetched."""
    return (
        f'Successfully pulled image "{image}" in {go_duration(pull_s)} '
        f"({go_duration(waited_s)} including waiting). Image size: {size_bytes} bytes."
    )


def image_id(image: str, record: ImageRecord) -> str:
    """Return the imageID of a container status: "docker.io/library/nginx@sha256:…"."""
    return f"{repository(image)}@{record.digest}"


def _known_as(name: str) -> str:
    try:
        return full_name(name)
    except ValueError:
        return name
