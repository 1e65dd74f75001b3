"""The command line as a user types it, with directories of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Shell:
    """Runs `kubeloop …` with a data directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "XDG_DATA_HOME": str(home / "data"),
            "HOME": str(home),
            "KUBECONFIG": str(home / "own-kubeconfig"),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "kubeloop.cli.main", *arguments]

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True,
            timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def kubectl(self, *arguments: str) -> str:
        return self.run("kubectl", *arguments)

    @contextmanager
    def up(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """Run `kubeloop up` until the block ends; yield when it has told how to use it."""
        with subprocess.Popen(
            self.command("up", *arguments), env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None
                told = ""
                for line in process.stdout:
                    told += line
                    if "Ctrl-C" in line:
                        break
                else:
                    raise AssertionError(f"kubeloop up ended: {told}")
                yield process
            finally:
                process.kill()
