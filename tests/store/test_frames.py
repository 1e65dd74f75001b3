"""The bytes of the log: one flipped bit is told from a torn write, quickly, by arithmetic."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.store.frames import (
    END,
    HEAD_SIZE,
    HEADER_SIZE,
    LOG,
    SECTOR,
    SNAPSHOT,
    BadHeader,
    Flaw,
    Frame,
    checksum,
    frame,
    frames,
    header,
    is_one_bit,
    read_header,
)

ID = bytes(range(16))


def flipped(data: bytes, *bits: int) -> bytes:
    number = int.from_bytes(data, "little")
    for bit in bits:
        number ^= 1 << bit
    return number.to_bytes(len(data), "little")


@given(st.lists(st.binary(max_size=300)))
def test_frames_come_back_as_they_were(payloads: list[bytes]) -> None:
    data = header(LOG, ID) + b"".join(frame(payload) for payload in payloads)
    found = list(frames(data))
    assert [f.payload for f in found if isinstance(f, Frame)] == payloads
    ends = [HEADER_SIZE, *(f.end for f in found if isinstance(f, Frame))]
    assert [f.offset for f in found] == ends[:-1]
    assert ends[-1] == len(data)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 257])
def test_every_flipped_bit_is_known_by_its_checksum(length: int) -> None:
    data = random.Random(length).randbytes(length)
    for bit in range(8 * length):
        assert is_one_bit(checksum(flipped(data, bit)) ^ checksum(data), length)


@given(st.binary(min_size=2, max_size=300), st.data())
def test_two_flipped_bits_are_not_one(data: bytes, draw: st.DataObject) -> None:
    positions = st.integers(0, 8 * len(data) - 1)
    two = draw.draw(st.lists(positions, min_size=2, max_size=2, unique=True))
    assert not is_one_bit(checksum(flipped(data, *two)) ^ checksum(data), len(data))


def test_a_bit_beyond_the_payload_does_not_count() -> None:
    longer = bytes(33)
    first_byte = checksum(flipped(longer, 7)) ^ checksum(longer)
    assert is_one_bit(first_byte, 33)
    assert not is_one_bit(first_byte, 32)
    assert not is_one_bit(first_byte, 0)


def test_a_large_torn_group_is_known_at_once() -> None:
    whole = header(LOG, ID) + frame(random.Random(1).randbytes(8 * 2**20))
    start = 5000 * SECTOR
    torn = whole[:start] + bytes(SECTOR) + whole[start + SECTOR :]
    began = time.process_time()
    (flaw,) = frames(torn)
    assert time.process_time() - began < 2, "a search bit by bit takes ten times as long"
    assert isinstance(flaw, Flaw)
    assert (flaw.kind, flaw.offset) == ("torn", HEADER_SIZE)
    (flaw,) = frames(flipped(whole, 8 * start))
    assert isinstance(flaw, Flaw)
    assert flaw.kind == "corrupt"


def test_a_head_that_was_not_written_is_torn() -> None:
    data = header(LOG, ID) + frame(b"first")
    (found,) = frames(data + bytes(2000))
    assert isinstance(found, Frame), "room for more"
    (_, flaw) = frames(data + bytes(600) + b"later sectors" + bytes(600))
    assert isinstance(flaw, Flaw)
    assert (flaw.kind, flaw.offset) == ("torn", len(data))
    (_, flaw) = frames(data + b"x" * HEAD_SIZE)
    assert isinstance(flaw, Flaw)
    assert flaw.kind == "corrupt"


@pytest.mark.parametrize("lost", [b"\x10", b"\0\x01", b"\x80\0\0\0"])
def test_a_write_that_lacks_one_bit_and_the_end_is_torn(lost: bytes) -> None:
    first, second = header(LOG, ID) + frame(b"first"), frame(b"p" * 100 + lost)
    written = first + second[: -len(lost + END)]
    (_, flaw) = frames(written + bytes(2000))
    assert isinstance(flaw, Flaw)
    assert (flaw.kind, flaw.offset) == ("torn", len(first))
    (_, flaw) = frames(written + bytes(len(lost)) + END + bytes(2000))
    assert isinstance(flaw, Flaw)
    assert flaw.kind == "corrupt", "with its end it was whole once"


def test_a_head_that_lacks_one_bit_and_its_payload_is_torn() -> None:
    first = header(LOG, ID) + frame(b"first")
    tried = 0
    for number in range(2000):
        head = frame(b"second %d" % number)[:HEAD_SIZE]
        if head[-1].bit_count() != 1:
            continue
        tried += 1
        (_, flaw) = frames(first + head[:-1] + bytes(2000))
        assert isinstance(flaw, Flaw)
        assert flaw.kind == "torn"
    assert tried > 20


@pytest.mark.parametrize(
    "data, why",
    [
        (b"", "0 bytes long instead of 36"),
        (b"#!/bin/sh" + bytes(40), "it begins with"),
        (flipped(header(LOG, ID), 100), "the checksum of the header"),
        (header(SNAPSHOT, ID), "format 2, kind 2; expected 2, kind 1"),
    ],
)
def test_a_header_that_is_none_says_why(data: bytes, why: str) -> None:
    with pytest.raises(BadHeader, match=why):
        read_header(data, LOG)
    assert read_header(header(LOG, ID), LOG) == ID
