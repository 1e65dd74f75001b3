"""Images on disk: an OCI image layout, so that other tools read it, and changes are atomic.

    blobs/sha256/<digest>   manifests, configurations and layers, named by their content
    index.json              which name means which manifest
    lock                    held by whoever changes something; readers need no lock

A blob never changes once it has its name, and the index is replaced as a whole: so a registry may
serve the store while another process builds into it.
"""

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from kubeloop.net.registry.reference import Reference

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES: Final = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
NAME: Final = "io.containerd.image.name"  # The annotation for a whole name, as containerd has it.
MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
ORPHAN_AGE_S: Final = 3600.0  # A push writes blobs first and names them last.

_DIGEST: Final = re.compile(r"sha256:[a-f0-9]{64}")


class StoreError(ValueError):
    """The store cannot do it; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of the store. name: the whole name; size_bytes: of its layers, compressed."""

    name: str
    digest: str
    size_bytes: int

    @property
    def familiar(self) -> str:
        """The name as people write it."""
        return Reference.parse(self.name).familiar


class ImageStore:
    """The images below a directory, which is made when the first one comes."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._named: dict[str, dict[str, Any]] = {}

    # What people do.

    def build(
        self,
        directory: Path | str,
        tag: str,
        *,
        file: str = "",
        arguments: Mapping[str, str] | None = None,
    ) -> StoredImage:
        """Build the image that a directory defines, and name it `tag`.

        file: the definition, "Containerfile" or "Dockerfile" if not given. arguments: for ARG.
        Raises: DefinitionError, StoreError, OSError.
        """
        from kubeloop.net.registry.build import build

        reference = _named(tag)
        with self.changing():
            descriptor = build(self, Path(directory), file=file, arguments=arguments or {})
            self.tag(reference, descriptor)
            return self._image(str(reference), descriptor)

    def load(self, archive: Path | str) -> list[StoredImage]:
        """Take the images of a tar file: an OCI layout, or what `docker save` wrote.

        Raises: StoreError, OSError.
        """
        from kubeloop.net.registry.load import load

        with self.changing():
            found = load(self, Path(archive))
            for reference, descriptor in found:
                self.tag(reference, descriptor)
            return [self._image(str(name), descriptor) for name, descriptor in found]

    def list(self) -> "list[StoredImage]":
        """Return every name in the store and what it means, sorted."""
        return [self._image(name, entry) for name, entry in sorted(self._names().items())]

    def remove(self, name: str) -> StoredImage:
        """Remove a name, and what no other name needs. Raises: StoreError if there is none."""
        reference = _named(name)
        with self.changing():
            names = dict(self._names())
            entry = names.pop(str(reference), None)
            if entry is None:
                known = ", ".join(image.familiar for image in self.list()) or "nothing"
                raise StoreError(f"there is no image {reference.familiar}; the store has: {known}")
            image = self._image(str(reference), entry)
            doomed = set(self._reached(entry["digest"]))
            self._save(names)
            self._collect(names, doomed)
            return image

    # What servers and builders do.

    def find(self, reference: Reference) -> dict[str, Any] | None:
        """Return the descriptor of what a name means, or of a manifest by its digest."""
        if not reference.digest:
            return self._names().get(str(reference))
        for name, entry in self._names().items():
            if Reference.parse(name).name == reference.name:
                for digest in self._reached(entry["digest"]):
                    if digest == reference.digest:
                        return self._described(digest)
        return None

    def tags(self, name: str) -> Sequence[str]:
        """Return the tags of a repository, sorted; none if it is not known."""
        found = (Reference.parse(known) for known in self._names())
        return sorted(reference.tag for reference in found if reference.name == name)

    def repositories(self) -> Sequence[str]:
        """Return the names without tags, sorted."""
        return sorted({Reference.parse(name).name for name in self._names()})

    def blob(self, digest: str) -> Path | None:
        """Return the file of a blob, None if there is none."""
        if not _DIGEST.fullmatch(digest):
            return None
        path = self._blobs / digest.removeprefix("sha256:")
        return path if path.is_file() else None

    def read(self, digest: str) -> bytes:
        """Return a small blob: a manifest or a configuration. Raises: StoreError."""
        path = self.blob(digest)
        if path is None:
            raise StoreError(f"{digest} is missing in {self.path}: build or load the image again")
        if path.stat().st_size > MANIFEST_BYTES_MAX:
            raise StoreError(f"{digest} is too large for a manifest")
        return path.read_bytes()

    def read_json(self, digest: str) -> dict[str, Any]:
        """Return a small blob that is a JSON object. Raises: StoreError."""
        try:
            document = json.loads(self.read(digest))
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{digest} is no JSON: {error}") from error
        if not isinstance(document, dict):
            raise StoreError(f"{digest} is no JSON object")
        return document

    def put(self, content: bytes, media_type: str) -> dict[str, Any]:
        """Keep a blob; return its descriptor."""
        with self.writing() as (file, finish):
            file.write(content)
            return finish(media_type)

    @contextmanager
    def writing(self) -> Iterator[tuple[IO[bytes], Callable[[str], dict[str, Any]]]]:
        """Yield a file for a new blob, and what makes it one: it returns the descriptor."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._blobs, prefix=".new-", delete=False) as file:
            try:
                yield file, lambda media_type: self._adopt(file, media_type)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(file.name)

    def tag(self, reference: Reference, descriptor: Mapping[str, Any]) -> None:
        """Let a name mean a manifest; the caller holds `changing`."""
        self._save({**self._names(), str(reference): dict(descriptor)})

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the store's lock: one change at a time, in whatever process."""
        self.path.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @property
    def _blobs(self) -> Path:
        return self.path / "blobs" / "sha256"

    def _adopt(self, file: Any, media_type: str) -> dict[str, Any]:
        """Give a finished file its name."""
        file.flush()
        os.fsync(file.fileno())
        with open(file.name, "rb") as written:
            value = hashlib.file_digest(written, "sha256").hexdigest()
        size = os.path.getsize(file.name)
        os.chmod(file.name, 0o644)
        os.replace(file.name, self._blobs / value)
        return {"mediaType": media_type, "digest": f"sha256:{value}", "size": size}

    def _names(self) -> Mapping[str, dict[str, Any]]:
        """Return name → descriptor, read again whenever the index has changed."""
        try:
            found = os.stat(self.path / "index.json")
        except FileNotFoundError:
            self._seen, self._named = None, {}
            return self._named
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            index = json.loads((self.path / "index.json").read_bytes())
            entries = ((e, (e.get("annotations") or {}).get(NAME)) for e in index["manifests"])
            self._named = {name: entry for entry, name in entries if name}
            self._seen = seen
        return self._named

    def _save(self, names: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the index as a whole, durably."""
        manifests = [
            {**entry, "annotations": {NAME: name, "org.opencontainers.image.ref.name": name}}
            for name, entry in sorted(names.items())
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        aside = self.path / "index.json.new"
        with open(aside, "w", encoding="utf-8") as file:
            json.dump(index, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self.path / "index.json")
        self._seen = None

    def _image(self, name: str, descriptor: Mapping[str, Any]) -> StoredImage:
        digest = descriptor["digest"]
        manifest = self.read_json(digest)
        layers = manifest.get("layers") or ()
        return StoredImage(name, digest, sum(layer["size"] for layer in layers))

    def _described(self, digest: str) -> dict[str, Any]:
        document = self.read_json(digest)
        kind = document.get("mediaType") or (OCI_INDEX if "manifests" in document else OCI_MANIFEST)
        return {"mediaType": kind, "digest": digest, "size": len(self.read(digest))}

    def _reached(self, digest: str) -> Iterator[str]:
        """Yield a manifest's digest, and those of all that it needs and we have."""
        yield digest
        with suppress(StoreError):
            document = self.read_json(digest)
            for entry in document.get("manifests") or ():
                yield from self._reached(entry["digest"])
            if "config" in document:
                yield document["config"]["digest"]
            for layer in document.get("layers") or ():
                yield layer["digest"]

    def _collect(self, names: Mapping[str, Mapping[str, Any]], doomed: set[str]) -> None:
        """Delete what no name needs: the `doomed`, and what was forgotten long ago."""
        needed = {digest for entry in names.values() for digest in self._reached(entry["digest"])}
        newest = os.stat(self.path / "index.json").st_mtime
        for path in self._blobs.iterdir():
            digest = f"sha256:{path.name}"
            if digest in needed:
                continue
            if digest in doomed or newest - path.stat().st_mtime > ORPHAN_AGE_S:
                path.unlink()


def _named(text: str) -> Reference:
    try:
        reference = Reference.parse(text)
    except ValueError as error:
        raise StoreError(str(error)) from error
    if reference.digest:
        raise StoreError(f"{text} names a digest: give the image a tag, as in name:1.0")
    return reference
