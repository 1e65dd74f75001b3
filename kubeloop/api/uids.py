"""UIDs: what no other object, and no other request, is called. Chance is an argument."""

from collections.abc import Callable


def new_uid(bits: Callable[[int], int]) -> str:
    """Return a fresh version-4 UUID. bits: n → n random bits. Source: RFC 9562, section 5.4."""
    number = bits(128) & ~(0xF000 << 64) | 0x4000 << 64
    text = f"{number & ~(0xC000 << 48) | 0x8000 << 48:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
