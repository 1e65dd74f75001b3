"""Which images to delete when they take too much of the disk. Pure.

Above the high threshold, images nobody uses go, the one unused longest first, until the low
threshold is reached; an image younger than the minimum age stays.
"""

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field

from kubeloop.actors.runtimes.protocol import ImageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to collect; thresholds in percent of the capacity. The defaults are Kubernetes' own."""

    capacity_bytes: int
    high_percent: int = 85
    low_percent: int = 80
    minimum_age_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Collection:
    """What to delete. problem: why that is not enough, "" if it is."""

    digests: list[str] = field(default_factory=list)
    problem: str = ""


def collect(
    images: Iterable[ImageRecord],
    *,
    in_use: Set[str],
    last_used: Callable[[str], float],
    first_seen: Callable[[str], float],
    limits: Limits,
    now: float,
) -> Collection:
    """Return the digests of the images to delete, in order. in_use: digests."""
    there = list(images)
    used_bytes = sum(image.size_bytes for image in there)
    if used_bytes * 100 < limits.capacity_bytes * limits.high_percent:
        return Collection()
    excess = used_bytes - limits.capacity_bytes * limits.low_percent // 100
    digests, freed = [], 0
    for image in sorted(there, key=lambda i: (last_used(i.digest), i.digest)):
        if freed >= excess:
            break
        if image.digest in in_use or now - first_seen(image.digest) < limits.minimum_age_s:
            continue
        digests.append(image.digest)
        freed += image.size_bytes
    if freed >= excess:
        return Collection(digests)
    return Collection(
        digests,
        "Failed to garbage collect required amount of images. Attempted to free "
        f"{excess} bytes, but only found {freed} bytes eligible to free.",
    )
