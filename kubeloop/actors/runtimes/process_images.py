"""The images on a node: fetched from a registry, unpacked once, shared read-only by containers."""

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from kubeloop.actors.images.names import full_name, repository
from kubeloop.actors.runtimes.process_launch import ImageConfig
from kubeloop.actors.runtimes.process_layers import (
    UNPACKED_BYTES_MAX,
    remove_tree,
    unpack,
)
from kubeloop.actors.runtimes.protocol import ImageRecord, RuntimeFailure


class Layer(Protocol):
    """A layer of an image, by name. digest: of the compressed archive; diff_id: of the plain."""

    @property
    def digest(self) -> str: ...
    @property
    def diff_id(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...


class FetchedImage(Protocol):
    """What a registry says about an image."""

    @property
    def name(self) -> str:
        """The whole name: docker.io/library/nginx:latest."""

    @property
    def digest(self) -> str:
        """The digest it was asked or found by: that of the manifest, or of the index."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The OCI image configuration."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Lowest first."""


class ImageSource(Protocol):
    """Where images come from. What is wrong is an OSError with a text for the user."""

    async def fetch(self, reference: str) -> FetchedImage:
        """Return what `reference` means now, without the layers' content. Raises: OSError."""

    async def download(self, name: str, layer: Any, to: IO[bytes]) -> None:
        """Write a layer of the image `name`, verified, to a file. Raises: OSError.

        layer: one of those that `fetch` told of.
        """


@dataclass(frozen=True, slots=True)
class NodeImage:
    """An image on the node, ready to run."""

    record: ImageRecord
    config: ImageConfig
    root: Path


class NodeImages:
    """The images under one directory. What is in the index is whole; the rest is rubbish."""

    def __init__(self, directory: Path, source: ImageSource) -> None:
        self.directory, self.source = directory, source
        self._images: dict[str, NodeImage] = {}  # By digest.
        self._pulls: dict[str, asyncio.Lock] = {}
        self._index = directory / "index.json"

    def load(self) -> None:
        """Read the index of an earlier run, and delete what it does not name."""
        self.directory.mkdir(parents=True, exist_ok=True)
        known = json.loads(self._index.read_text()) if self._index.is_file() else {}
        for digest, entry in known.items():
            root = self._root(digest)
            if root.is_dir():
                record = ImageRecord(digest, tuple(entry["names"]), entry["size_bytes"])
                self._images[digest] = NodeImage(record, ImageConfig.of(entry["config"]), root)
        kept = {self._index, *(image.root for image in self._images.values())}
        for path in self.directory.iterdir():
            if path not in kept:
                _discard(path)
        self._documents = {d: known[d]["config"] for d in self._images}

    def records(self) -> list[ImageRecord]:
        """Return what is here."""
        return [image.record for image in self._images.values()]

    def find(self, reference: str) -> NodeImage | None:
        """Return the image that a pod calls `reference`, None if it is not here."""
        try:
            name = full_name(reference)
        except ValueError:
            return self._images.get(reference)
        for image in self._images.values():
            if name in image.record.names:
                return image
        return None

    async def pull(self, reference: str) -> ImageRecord:
        """Fetch an image, or learn that it is here. Raises: RuntimeFailure."""
        try:
            name = full_name(reference)
        except ValueError as error:
            why = f'couldn\'t parse image name "{reference}": {error}'
            raise RuntimeFailure("InvalidImageName", why) from error
        async with self._pulls.setdefault(name, asyncio.Lock()):
            try:
                fetched = await self.source.fetch(name)
                if fetched.digest not in self._images:
                    await self._unpack(fetched)
            except (OSError, ValueError) as error:  # The latter: an image that is none.
                why = f'failed to pull and unpack image "{name}": {error}'
                raise RuntimeFailure("ErrImagePull", why) from error
            return self._name(fetched, name)

    def remove(self, digest: str) -> None:
        """Delete an image; harmless if it is not here."""
        image = self._images.pop(digest, None)
        if image is not None:
            self._documents.pop(digest, None)
            self._save()
            _discard(image.root)

    async def _unpack(self, fetched: FetchedImage) -> None:
        """Download the layers and unpack them, aside; only a whole image gets its place."""
        config = ImageConfig.of(fetched.config)
        aside = Path(tempfile.mkdtemp(dir=self.directory, prefix=".unpacking-"))
        try:
            tree, left, size = aside / "root", UNPACKED_BYTES_MAX, 0
            tree.mkdir(mode=0o755)
            for layer in fetched.layers:
                with tempfile.TemporaryFile(dir=aside) as file:
                    await self.source.download(fetched.name, layer, file)
                    file.seek(0)
                    left -= await asyncio.to_thread(
                        unpack, file, tree, diff_id=layer.diff_id, bytes_max=left
                    )
                size += layer.size_bytes
            root = self._root(fetched.digest)
            if not root.exists():  # Another name's pull may have been faster.
                os.rename(tree, root)
        finally:
            await asyncio.to_thread(remove_tree, aside)
        record = ImageRecord(fetched.digest, (), size)
        self._images[fetched.digest] = NodeImage(record, config, root)
        self._documents[fetched.digest] = dict(fetched.config)

    def _name(self, fetched: FetchedImage, name: str) -> ImageRecord:
        """Let `name` mean this image, and no other."""
        for digest, image in self._images.items():
            names = list(image.record.names)
            if digest == fetched.digest:
                wanted = (name, f"{repository(name)}@{digest}")
                names += [n for n in dict.fromkeys(wanted) if n not in names]
            elif name in names:
                names.remove(name)
            if tuple(names) != image.record.names:
                record = replace(image.record, names=tuple(names))
                self._images[digest] = replace(image, record=record)
        self._save()
        return self._images[fetched.digest].record

    def _root(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        if not (algorithm.isalnum() and value.isalnum()):
            raise OSError(f"{digest!r} is no digest")
        return self.directory / f"{algorithm}-{value}"

    def _save(self) -> None:
        entries = {
            digest: {
                "names": image.record.names,
                "size_bytes": image.record.size_bytes,
                "config": self._documents[digest],
            }
            for digest, image in self._images.items()
        }
        aside = self._index.with_suffix(".new")
        aside.write_text(json.dumps(entries))
        os.replace(aside, self._index)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
