"""What the endpoint needs of a cluster: stated here, implemented by whoever serves one."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import Catalogue
from kubeloop.api.custom import CustomKind
from kubeloop.api.streams import Connection, Session
from kubeloop.net.gate import Feed, Wake, Wanted
from kubeloop.net.streaming.seams import Wishes

Object = dict[str, Any]
Place = tuple[str, int]


class Fleet(Protocol):
    """The nodes of a cluster, as far as streams into their pods go."""

    async def session(self, pod: Mapping[str, Any], wishes: Wishes) -> Session:
        """Start a command in a container of a pod, or attach to it. Raises: ApiError."""

    async def connect(self, pod: Mapping[str, Any], port: int, *, local: bool) -> Connection:
        """Connect to a port of a pod: on its loopback if `local`, else on its IP.

        Raises: OSError; ApiError if its node does not answer.
        """


class Backend(Protocol):
    """A cluster, as the REST endpoint sees it."""

    async def ask(self, request: Request) -> Outcome:
        """Have the API server handle a request; a refusal is an outcome with a v1.Status.

        Raises: as `Gate.ask`, if there is one.
        """

    def read(self, request: Request) -> Outcome | None:
        """Answer a get or a list at once, as `ask` would; None if it has to be asked."""

    async def open(self, wanted: Wanted, wake: Wake) -> Feed:
        """Return what a watch reads. wake: as of `Hub.open`. Raises: Expired; as `Gate.open`."""

    async def convert(self, kind: CustomKind, objects: Mapping[Place, Object]) -> list[Object]:
        """Return custom objects in the version of a kind, which a webhook converts.

        objects: each with where it was: what a fact tells, at its revision.
        Raises: ConversionFailed.
        """

    def catalogue(self) -> Catalogue:
        """Return the kinds there are."""

    def failing(self) -> Mapping[str, str]:
        """Return the health checks that fail now, by name, and why: see `health`."""

    def counts(self) -> Mapping[str, int]:
        """Return how many objects of each resource there are, by its id."""

    def revision(self) -> int:
        """Return the newest durable revision."""

    def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool, follow: bool
    ) -> AsyncIterator[tuple[float, bytes]]:
        """Yield (seconds since 1970, line with its newline) of a container's log, oldest first.

        follow: go on with what is written until the container ends.
        Raises: ApiError, before the first line, if there is no such log.
        """

    @property
    def fleet(self) -> Fleet:
        """The nodes there are."""


@dataclass(frozen=True, slots=True)
class Version:
    """The Kubernetes version the endpoint speaks; shown by `kubectl version`."""

    major: str = "1"
    minor: str = "37"
    git_version: str = "v1.37.0"

    def document(self) -> dict[str, str]:
        """Return what /version says."""
        minor_before = str(int(self.minor) - 1)
        return {
            "major": self.major,
            "minor": self.minor,
            "emulationMajor": self.major,
            "emulationMinor": self.minor,
            "minCompatibilityMajor": self.major,
            "minCompatibilityMinor": minor_before,
            "gitVersion": f"{self.git_version}+kubeloop",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "python",
            "platform": "linux/amd64",
        }
