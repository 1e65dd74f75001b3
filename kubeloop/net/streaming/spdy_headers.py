"""Header blocks of SPDY/3.1: pairs of names and values, compressed along a connection. Pure.

Source: the SPDY protocol, draft 3.1, 2.6.10.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Final

BLOCK_MAX: Final = 64 << 10  # Of a block when it is unpacked [bytes]: a small bomb is none.

_WORDS: Final = """
    options head post put delete trace accept accept-charset accept-encoding accept-language
    accept-ranges age allow authorization cache-control connection content-base content-encoding
    content-language content-length content-location content-md5 content-range content-type date
    etag expect expires from host if-match if-modified-since if-none-match if-range
    if-unmodified-since last-modified location max-forwards pragma proxy-authenticate
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade
    user-agent vary via warning www-authenticate method get status
"""
_MORE: Final = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive")
_TEXT: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00"
    " Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = (
    b"".join(struct.pack(">I", len(w)) + w.encode() for w in (*_WORDS.split(), *_MORE, "origin"))
    + _TEXT.encode()
)
assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2, "the dictionary is the one of the draft"


class SpdyError(Exception):
    """What came is not SPDY/3.1 as it may be: the connection is over."""


class Packer:
    """Packs the header blocks of one direction, in their order."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def pack(self, headers: Mapping[str, str]) -> bytes:
        """Return the block. Names are told in lower case."""
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts += [struct.pack(">I", len(text)), text]
        packed = self._deflate.compress(b"".join(parts))
        return packed + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class Unpacker:
    """Unpacks the header blocks of one direction, in their order."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def unpack(self, block: bytes) -> dict[str, str]:
        """Return names and values; several values of one name are joined by NUL.

        Raises: SpdyError.
        """
        try:
            plain = self._inflate.decompress(block, BLOCK_MAX + 1)
        except zlib.error as error:
            raise SpdyError(f"a header block cannot be unpacked: {error}") from None
        if len(plain) > BLOCK_MAX:
            raise SpdyError(f"a header block has more than {BLOCK_MAX} bytes")
        return _pairs(plain)


def _pairs(plain: bytes) -> dict[str, str]:
    at, texts = 4, list[str]()
    if len(plain) < 4:
        raise SpdyError("a header block ends early")
    (count,) = struct.unpack_from(">I", plain)
    if count > len(plain) // 8:
        raise SpdyError(f"a header block of {len(plain)} bytes cannot hold {count} headers")
    for _ in range(2 * count):
        if at + 4 > len(plain):
            raise SpdyError("a header block ends early")
        (length,) = struct.unpack_from(">I", plain, at)
        at += 4
        if length > len(plain) - at:
            raise SpdyError("a header block ends early")
        try:
            texts.append(plain[at : at + length].decode())
        except UnicodeDecodeError:
            raise SpdyError("a header is not UTF-8") from None
        at += length
    if at != len(plain):
        raise SpdyError(f"{len(plain) - at} bytes follow the headers of a block")
    found = dict(zip(texts[::2], texts[1::2], strict=True))
    if len(found) != count or "" in found or any(name != name.lower() for name in found):
        raise SpdyError("the names of headers must be in lower case, not empty, and told once")
    return found
