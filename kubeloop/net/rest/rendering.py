"""Answers out: objects, lists and errors in the language that was negotiated."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import msgpack
import orjson

from kubeloop.api.calls import Outcome
from kubeloop.api.errors import BadRequest, NotAcceptable
from kubeloop.api.partial import partial
from kubeloop.api.resources import Resource
from kubeloop.net.rest import protobuf
from kubeloop.net.rest.encodings import Encodings
from kubeloop.net.rest.negotiation import JSON, MSGPACK, OFFERED, YAML, Media

CHUNK_OBJECTS: Final = 64  # Of a long list, written and awaited together.
_HEAD: Final = ("kind", "apiVersion", "metadata")
PLAIN: Final = Media(JSON)
_INCLUDES: Final = ("Metadata", "Object", "None")


def dumps(value: Any, *, pretty: bool = False) -> bytes:
    """Return JSON with a final newline."""
    indent = orjson.OPT_INDENT_2 if pretty else 0
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | indent)


def ordered(obj: dict[str, Any]) -> dict[str, Any]:
    """Return the object with kind, apiVersion and metadata first, as Kubernetes prints them."""
    if tuple(obj)[:3] == _HEAD:
        return obj
    return {**{name: obj[name] for name in _HEAD if name in obj}, **obj}


def render(value: dict[str, Any], media: Media) -> bytes:
    """Return a whole document in the language of `media`; its form is not looked at.

    Raises: NotAcceptable if it cannot be had in that language.
    """
    if media.type == JSON:
        return dumps(value, pretty=media.pretty)
    if media.type == YAML:
        return _to_yaml(value)
    if media.type == MSGPACK:
        packed: bytes = msgpack.packb(value)
        return packed
    encoded = protobuf.encode(value)
    if encoded is None:
        raise NotAcceptable(OFFERED)
    return encoded


class Answers:
    """Renders the outcomes of one request.

    include: how much of each object rides along in a Table: Metadata, Object, None.
    now:     seconds since 1970, for the ages in a Table.
    """

    def __init__(
        self,
        resource: Resource,
        media: Media,
        *,
        include: str,
        now: float,
        encodings: Encodings | None = None,
    ) -> None:
        if include not in ("", *_INCLUDES):
            raise BadRequest(
                f'includeObject: Invalid value: "{include}": must be "Metadata", "Object", '
                '"None", or omitted'
            )
        self.resource, self.media = resource, media
        self.include, self.now = include or "Metadata", now
        self.encodings = encodings or Encodings()

    def one(self, value: bytes) -> bytes:
        """Return one object, which is packed; a Status is always itself."""
        if self.media == PLAIN:
            return self.encodings.text(value).whole + b"\n"
        if self.media.type == MSGPACK and not self.media.form:
            return value
        obj = msgpack.unpackb(value)
        if obj.get("kind") == "Status" or not self.media.form:
            return render(ordered(obj), self.media)
        if self.media.form == "Table":
            revision = obj["metadata"].get("resourceVersion", "")
            return b"".join(self._rows([value], self.table([], revision)))
        return render(partial(obj, self.media.version), self.media)

    def many(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield the parts of a list, CHUNK_OBJECTS at a time."""
        meta, items = list_meta(outcome), outcome.items
        if self.media.form == "Table":
            yield from self._rows(items, self.table([], str(outcome.revision), meta))
        elif self.media.form:
            version = self.media.version
            head = {
                "kind": "PartialObjectMetadataList",
                "apiVersion": f"meta.k8s.io/{version}",
                "metadata": meta,
            }
            if self.media == replace(PLAIN, form=self.media.form, version=version):
                texts = (self.encodings.partial(item, version) for item in items)
                yield from _joined(head, "items", texts)
            else:
                partials = [partial(msgpack.unpackb(item), version) for item in items]
                yield render({**head, "items": partials}, self.media)
        else:
            yield from self._plain(items, meta)

    def _rows(self, items: Sequence[bytes], table: dict[str, Any]) -> Iterator[bytes]:
        rows = (self.encodings.row(self.resource, i, self.include).text(self.now) for i in items)
        del table["rows"]
        if self.media.type == JSON and not self.media.pretty:
            yield from _joined(table, "rows", rows)
        else:
            yield render({**table, "rows": [orjson.loads(row) for row in rows]}, self.media)

    def table(
        self, objects: Sequence[dict[str, Any]], revision: str, meta: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the Table of some objects, in the version that was asked for."""
        from kubeloop.api.tables import table

        document = table(
            self.resource,
            objects,
            now_unix=self.now,
            revision=revision,
            include_object=self.include,
            list_meta=meta,
        )
        document["apiVersion"] = f"meta.k8s.io/{self.media.version}"
        return document

    def _plain(self, items: Sequence[bytes], meta: dict[str, Any]) -> Iterator[bytes]:
        head = {
            "kind": self.resource.list_kind or f"{self.resource.kind}List",
            "apiVersion": self.resource.api_version,
            "metadata": meta,
        }
        if self.media.type == MSGPACK:
            yield from _packed_list(head, items)
            return
        custom = self.resource.custom is not None  # Each says what it is: a client may not know it.
        if self.media != PLAIN:
            objects = [msgpack.unpackb(item) if custom else _bare(item) for item in items]
            yield render({**head, "items": objects}, self.media)
            return
        texts = map(self.encodings.text, items)
        yield from _joined(head, "items", (t.whole if custom else t.bare for t in texts))


def _joined(head: dict[str, Any], name: str, texts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a document whose last field is an array of what is in JSON already."""
    lead, left = orjson.dumps(head)[:-1] + b',"' + name.encode() + b'":[', iter(texts)
    while chunk := list(islice(left, CHUNK_OBJECTS)):
        yield lead + b",".join(chunk)
        lead = b","
    yield b"]}\n" if lead == b"," else lead + b"]}\n"


def _packed_list(head: dict[str, Any], items: Sequence[bytes]) -> Iterator[bytes]:
    """Yield a list in msgpack: its objects are packed already."""
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(head) + 1)
    for name, value in head.items():
        packer.pack(name)
        packer.pack(value)
    packer.pack("items")
    packer.pack_array_header(len(items))
    yield packer.bytes()
    left = iter(items)
    while chunk := list(islice(left, CHUNK_OBJECTS)):
        yield b"".join(chunk)


def list_meta(outcome: Outcome) -> dict[str, Any]:
    """Return the ListMeta of a list."""
    meta: dict[str, Any] = {"resourceVersion": str(outcome.revision)}
    if outcome.cont:
        meta["continue"] = outcome.cont
        if outcome.remaining:
            meta["remainingItemCount"] = outcome.remaining
    return meta


def warning(text: str) -> str:
    """Return the value of a Warning header."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'


def _bare(item: bytes) -> dict[str, Any]:
    """Return an object as it stands in a list: the list tells what it is."""
    obj: dict[str, Any] = msgpack.unpackb(item)
    obj.pop("kind", None)
    obj.pop("apiVersion", None)
    if next(iter(obj), "metadata") != "metadata":
        return {"metadata": obj["metadata"], **obj}
    return obj


def _to_yaml(value: Any) -> bytes:
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Quotes as Go's writer does, and writes every repetition out."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        plain = dumper.resolve(yaml.ScalarNode, data, (True, False)) == "tag:yaml.org,2002:str"
        style = "|" if "\n" in data else None if plain else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    dumped: bytes = yaml.dump(
        value, Dumper=Dumper, allow_unicode=True, width=1 << 20, encoding="utf-8"
    )
    return dumped
