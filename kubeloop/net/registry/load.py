"""Images from a tar file: an OCI image layout, or what `docker save` writes.

The archive is read by the names of its members; nothing is unpacked to disk but blobs, and those
get their content's name.
"""

import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeloop.net.registry.build import architecture
from kubeloop.net.registry.reference import Reference
from kubeloop.net.registry.store import (
    INDEX_TYPES,
    MANIFEST_BYTES_MAX,
    NAME,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    StoreError,
)

if TYPE_CHECKING:
    from kubeloop.net.registry.store import ImageStore

Found = list[tuple[Reference, dict[str, Any]]]


def load(store: "ImageStore", path: Path) -> Found:
    """Keep the blobs of an archive; return each name in it and its manifest's descriptor.

    Raises: StoreError, OSError.
    """
    try:
        with tarfile.open(path) as archive:
            source = _Archive(store, archive, path)
            if "index.json" in source.members:
                return source.layout()
            if "manifest.json" in source.members:
                return source.docker()
    except (tarfile.TarError, EOFError) as error:
        raise StoreError(f"{path} is no tar file: {error}") from error
    raise StoreError(f"{path} holds no images: neither index.json nor manifest.json is in it")


class _Archive:
    """An open archive. members: by name."""

    def __init__(self, store: "ImageStore", archive: tarfile.TarFile, path: Path) -> None:
        self.store, self.archive, self.path = store, archive, path
        self.members = {m.name.removeprefix("./"): m for m in archive.getmembers()}

    def layout(self) -> Found:
        """Take an OCI layout."""
        found: Found = []
        index = self._json("index.json")
        names = self._docker_names()
        for entry in _listed(index, "manifests"):
            notes = entry.get("annotations") or {}
            name = notes.get(NAME) or notes.get("org.opencontainers.image.ref.name") or ""
            tags = [name] if name else names
            if not tags:
                raise StoreError(f"{self.path} names no image: save it with its tag")
            descriptor = self._manifest(entry)
            found += [(self._reference(tag), descriptor) for tag in tags]
        return found

    def docker(self) -> Found:
        """Take what an older `docker save` wrote: layers by path, no manifest."""
        found: Found = []
        for entry in self._json("manifest.json"):
            config = self._keep(entry["Config"], OCI_CONFIG)
            layers = [self._keep(layer, OCI_LAYER) for layer in entry["Layers"]]
            document = {
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers,
            }  # fmt: skip
            content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
            manifest = self.store.put(content, OCI_MANIFEST)
            tags = entry.get("RepoTags") or ()
            if not tags:
                raise StoreError(f"{self.path} names no image: save it with its tag")
            found += [(self._reference(tag), manifest) for tag in tags]
        return found

    def _docker_names(self) -> list[str]:
        """Return the tags that a newer `docker save` writes beside its layout."""
        if "manifest.json" not in self.members:
            return []
        entries = self._json("manifest.json")
        return [tag for entry in entries for tag in entry.get("RepoTags") or ()]

    def _manifest(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a manifest and all it needs; of an index, the part for this machine."""
        document = self._json(_blob(entry["digest"]))
        if document.get("mediaType", entry.get("mediaType")) in INDEX_TYPES:
            ours = [
                e for e in _listed(document, "manifests")
                if (e.get("platform") or {}).get("architecture") in (None, architecture())
                and _blob(e["digest"]) in self.members
            ]  # fmt: skip
            if not ours:
                raise StoreError(f"{self.path} has no image for {architecture()}")
            return self._manifest(ours[0])
        for part in (document["config"], *_listed(document, "layers")):
            kept = self._keep(_blob(part["digest"]), part["mediaType"])
            if kept["digest"] != part["digest"]:
                raise StoreError(f"{self.path} is damaged: {part['digest']} is {kept['digest']}")
        kept = self._keep(_blob(entry["digest"]), document.get("mediaType") or OCI_MANIFEST)
        if kept["digest"] != entry["digest"]:
            raise StoreError(f"{self.path} is damaged: {entry['digest']} is {kept['digest']}")
        return kept

    def _keep(self, name: str, media_type: str) -> dict[str, Any]:
        """Keep a member as a blob; return its descriptor."""
        file = self._open(name)
        with self.store.writing() as (out, finish):
            shutil.copyfileobj(file, out, 1 << 20)
            return finish(media_type)

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._open(name).read(MANIFEST_BYTES_MAX))
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{self.path}: {name} is no JSON: {error}") from error

    def _open(self, name: str) -> Any:
        member = self.members.get(name)
        try:  # A link leads to another member, never out of the archive.
            file = self.archive.extractfile(member) if member is not None else None
        except KeyError:
            file = None
        if file is None:
            raise StoreError(f"{self.path} is incomplete: {name} is missing")
        return file

    def _reference(self, tag: str) -> Reference:
        try:
            return Reference.parse(tag)
        except ValueError as error:
            raise StoreError(f"{self.path}: {error}") from error


def _listed(document: Any, key: str) -> list[dict[str, Any]]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise StoreError(f"the archive's {key!r} is no list")
    return found


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
