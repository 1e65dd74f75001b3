"""SPDY/3.1: two sides understand each other whatever the pieces; what is malformed is told."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.streaming import spdy
from kubeloop.net.streaming.spdy_headers import BLOCK_MAX, Packer, SpdyError, Unpacker

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
headers = st.dictionaries(names, st.text(max_size=20), max_size=5)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes up; each cut is a distance, and they are used again and again."""
    found, at, n = [], 0, 0
    while at < len(data):
        step = cuts[n % len(cuts)]
        found.append(data[at : at + step])
        at, n = at + step, n + 1
    return found


cuts = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(st.lists(headers, max_size=6))
def test_header_blocks_are_what_they_were(blocks: list[dict[str, str]]) -> None:
    packer, unpacker = Packer(), Unpacker()
    assert [unpacker.unpack(packer.pack(block)) for block in blocks] == blocks


steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), headers),
        st.tuples(st.just("send"), st.integers(0, 5), st.binary(max_size=90), st.booleans()),
        st.tuples(st.just("answer"), st.integers(0, 5), st.binary(max_size=90), st.booleans()),
        st.tuples(st.just("reset"), st.integers(0, 5)),
        st.tuples(st.just("ping"), st.integers(0, 5)),
    ),
    max_size=25,
)


@given(steps, cuts)
def test_both_sides_understand_each_other(plan: list[Any], lengths: list[int]) -> None:
    client, server = spdy.Connection(client=True), spdy.Connection()
    opened: list[int] = []
    told: dict[int, Any] = {}
    sent: dict[tuple[str, int], bytes] = {}
    heard: dict[tuple[str, int], bytes] = {}
    ended: set[tuple[str, int]] = set()
    over: set[tuple[str, int]] = set()

    def carry() -> None:
        for _ in range(3):
            for side, other, who in ((client, server, "server"), (server, client, "client")):
                for piece in pieces(side.take(), lengths):
                    for event in other.receive(piece):
                        note(event, who)

    def note(event: spdy.Event, who: str) -> None:
        match event:
            case spdy.Opened(stream, found):
                told[stream] = found
                server.reply(stream)
            case spdy.Received(stream, data, last):
                heard[who, stream] = heard.get((who, stream), b"") + data
                if last:
                    ended.add((who, stream))
            case _:
                pass

    for what, *rest in plan:
        if what == "open":
            opened.append(client.open(rest[0]))
            assert opened[-1] == 2 * len(opened) - 1
        elif opened:
            stream = opened[rest[0] % len(opened)]
            side, who = (server, "client") if what == "answer" else (client, "server")
            if what in ("send", "answer") and (who, stream) not in over:
                side.send(stream, rest[1], fin=rest[2])
                sent[who, stream] = sent.get((who, stream), b"") + rest[1]
                if rest[2]:
                    over.add((who, stream))
            elif what == "reset":
                client.reset(stream)
                over |= {("client", stream), ("server", stream)}
            elif what == "ping":
                client.ping(rest[0] * 2 + 1)
        carry()
    assert list(told) == opened
    for key, data in sent.items():
        assert heard.get(key, b"") == data, key
    assert ended <= over


@given(st.binary(max_size=300), cuts)
def test_rubbish_is_told_and_never_more(data: bytes, lengths: list[int]) -> None:
    server = spdy.Connection()
    try:
        for piece in pieces(data, lengths):
            server.receive(piece)
    except SpdyError as error:
        assert str(error)
        assert server.take().startswith(b"\x80\x03\x00\x07")  # GOAWAY


@given(headers, st.binary(min_size=1, max_size=60), st.integers(0, 400), st.integers(0, 7))
def test_flipped_bits_are_told_and_never_more(
    told: dict[str, str], data: bytes, at: int, bit: int
) -> None:
    client, server = spdy.Connection(client=True), spdy.Connection()
    stream = client.open(told)
    client.send(stream, data, fin=True)
    wire = bytearray(client.take())
    wire[at % len(wire)] ^= 1 << bit
    try:
        server.receive(bytes(wire))
    except SpdyError as error:
        assert str(error)


def frame(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return spdy.control(kind, payload, flags)


def opening(stream: int, packer: Packer) -> bytes:
    return frame(spdy.SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + packer.pack({"a": "b"}))


BAD = {
    "version 2": (b"\x80\x02\x00\x01\x00\x00\x00\x00", "SPDY version 2"),
    "a long control frame": (b"\x80\x03\x00\x01\x00\xff\xff\xff", "16777215 bytes"),
    "data for stream 0": (spdy.data_frame(0, b"x"), "stream 0"),
    "data before the stream": (spdy.data_frame(7, b"x"), "never opened"),
    "a number of ours": (opening(2, Packer()), "may not be opened"),
    "a short SYN_STREAM": (frame(spdy.SYN_STREAM, b"\0\0\0\1"), "ends early"),
    "a short RST_STREAM": (frame(spdy.RST_STREAM, b"\0\0\0\1"), "ends early"),
    "a short PING": (frame(spdy.PING, b"\0"), "ends early"),
    "no zlib": (frame(spdy.SYN_STREAM, bytes(9) + b"\1" + b"rubbish"), "cannot be unpacked"),
}


@pytest.mark.parametrize(("data", "why"), BAD.values(), ids=BAD)
def test_malformed_frames(data: bytes, why: str) -> None:
    with pytest.raises(SpdyError, match=why):
        spdy.Connection().receive(data)


def test_a_stream_may_not_be_opened_twice() -> None:
    packer, server = Packer(), spdy.Connection()
    server.receive(opening(3, packer))
    with pytest.raises(SpdyError, match="after stream 3"):
        server.receive(opening(1, packer))


def test_a_bomb_of_headers() -> None:
    with pytest.raises(SpdyError, match=f"more than {BLOCK_MAX} bytes"):
        Unpacker().unpack(Packer().pack({"a": "b" * 10_000_000}))


def test_too_many_streams_are_refused_and_the_others_go_on() -> None:
    client, server = spdy.Connection(client=True), spdy.Connection()
    for _ in range(spdy.STREAMS_MAX + 1):
        last = client.open({})
    events = server.receive(client.take())
    assert len(events) == spdy.STREAMS_MAX
    assert client.receive(server.take()) == [spdy.Reset(last, spdy.REFUSED_STREAM)]


def test_pings_are_answered_and_answers_are_not() -> None:
    client, server = spdy.Connection(client=True), spdy.Connection()
    client.ping(5)
    server.receive(client.take())
    answer = server.take()
    assert answer == frame(spdy.PING, struct.pack(">I", 5))
    assert client.receive(answer) == [] and client.take() == b""


def test_a_large_frame_is_passed_on_as_it_comes() -> None:
    """So its sender cannot make us hold 16 MiB."""
    packer, server = Packer(), spdy.Connection()
    server.receive(opening(1, packer))
    wire = spdy.data_frame(1, bytes(100_000), fin=True)
    (first,) = server.receive(wire[:1008])
    assert first == spdy.Received(1, bytes(1000), False)
    (rest,) = server.receive(wire[1008:])
    assert rest == spdy.Received(1, bytes(99_000), True)


def test_windows_and_settings_change_nothing() -> None:
    server = spdy.Connection()
    wire = frame(spdy.WINDOW_UPDATE, struct.pack(">II", 1, 9)) + frame(spdy.SETTINGS, bytes(4))
    assert server.receive(wire) == [] and server.take() == b""
