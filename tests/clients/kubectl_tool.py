"""kubectl as a plain function: for tests that share one cluster, each in a namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEADLINE_S = 60.0


def kubectl_binary() -> str:
    """Return the path of kubectl: the one beside this Python first."""
    beside = Path(sys.executable).parent / "kubectl"
    binary = str(beside) if beside.is_file() else shutil.which("kubectl")
    assert binary is not None
    return binary


class Watch:
    """A command that goes on: what it prints, as it comes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process, self.lines = process, list[str]()

    def until(self, wanted: str) -> list[str]:
        """Read until a line contains `wanted`; return all the lines so far."""
        assert self.process.stdout is not None
        while not self.lines or wanted not in self.lines[-1]:
            line = self.process.stdout.readline()
            assert line, f"it ended before {wanted!r}: {self.lines}"
            self.lines.append(line.rstrip("\n"))
        return self.lines


class Kubectl:
    """Runs kubectl against one cluster, in one namespace."""

    def __init__(self, directory: Path, namespace: str = "default") -> None:
        self.binary, self.directory, self.namespace = kubectl_binary(), directory, namespace
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "KUBECONFIG": str(directory / "config"),
        }

    def run(
        self, line: str, *more: str, stdin: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command line to its end, whatever that is."""
        return subprocess.run(
            [self.binary, "-n", self.namespace, *line.split(), *more],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            cwd=self.directory,
            env={**self.environment, **environment},
        )

    def __call__(self, line: str, *more: str, stdin: str = "", **environment: str) -> str:
        """Run a command line that must succeed; return what it printed."""
        done = self.run(line, *more, stdin=stdin, **environment)
        assert done.returncode == 0, f"kubectl {line}: {done.stderr}{done.stdout}"
        return done.stdout

    def fails(self, line: str, *more: str, stdin: str = "") -> str:
        """Run a command line that must fail; return its complaint."""
        done = self.run(line, *more, stdin=stdin)
        assert done.returncode != 0, f"kubectl {line} should have failed: {done.stdout}"
        return done.stderr

    def json(self, line: str) -> Any:
        """Return what a `get` finds, as an object."""
        return json.loads(self(f"{line} -o json"))

    def path(self, what: str, path: str) -> str:
        """Return one field of an object."""
        return self(f"get {what} -o", f"jsonpath={{{path}}}")

    def file(self, name: str, text: str) -> str:
        """Write a file beside the configuration; return its path."""
        path = self.directory / f"{self.namespace}-{name}"
        path.write_text(text)
        return str(path)

    @contextmanager
    def watch(self, line: str, *more: str) -> Iterator[Watch]:
        """Run a command line that goes on, until the block ends."""
        process = subprocess.Popen(
            [self.binary, "-n", self.namespace, *line.split(), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self.environment,
        )
        try:
            yield Watch(process)
        finally:
            process.terminate()
            process.communicate()


def eventually(holds: "Any", *, deadline_s: float = 20.0) -> Any:
    """Ask again and again until `holds()` is true; return that."""
    ends = time.monotonic() + deadline_s
    while not (found := holds()):
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.05)
    return found
