"""What the wire needs of containers: stated here, implemented by whoever runs them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a client wants of a container's streams. command: empty to attach."""

    container: str
    command: tuple[str, ...] = ()
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    def wants(self, stream: int) -> bool:
        """Whether an output stream is to be told: 1 stdout, 2 stderr."""
        return self.stdout if stream == 1 else self.stderr and not self.tty
