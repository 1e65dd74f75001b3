"""The socket between runtime and sandbox: frames in any pieces, files in order."""

import asyncio
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.runtimes.process_channel import Channel
from kubeloop.actors.runtimes.sandbox import wire

json = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=4)


@given(st.lists(json, max_size=5), st.lists(st.integers(1, 20), min_size=1))
def test_frames_arrive_whole_however_cut(messages: list[wire.Message], cuts: list[int]) -> None:
    data = b"".join(map(wire.encode, messages))
    decoder, at, turn = wire.Decoder(), 0, 0
    found: list[wire.Message] = []
    while at < len(data):
        size = cuts[turn % len(cuts)]
        found += [message for message, _ in decoder.feed(data[at : at + size], [])]
        at, turn = at + size, turn + 1
    assert found == messages


def test_a_stranger_is_refused() -> None:
    with pytest.raises(ValueError, match="does not speak our language"):
        wire.Decoder().feed(b"\xff" * 16, [])


async def test_answers_find_their_askers_in_any_order() -> None:
    ours, theirs = socket.socketpair()
    events: list[object] = []
    closed: list[bool] = []
    channel = Channel(ours, on_event=events.append, on_close=lambda: closed.append(True))
    asked = [asyncio.create_task(channel.ask({"op": name})) for name in ("a", "b", "c")]
    await asyncio.sleep(0)
    requests = [m for m, _ in wire.Decoder().feed(*wire.receive(theirs))]
    reading, writing = os.pipe()
    wire.send(theirs, {"event": "x"})
    wire.send(theirs, {"id": requests[1]["id"]}, [reading])
    wire.send(theirs, {"id": requests[2]["id"], "errno": 111, "error": "refused"})
    wire.send(theirs, {"id": requests[0]["id"]}, [writing])
    (_, first), (_, second) = await asked[0], await asked[1]
    os.write(first[0], b"through")
    assert os.read(second[0], 99) == b"through"
    with pytest.raises(ConnectionRefusedError, match="refused"):
        await asked[2]
    assert events == [{"event": "x"}]
    for fd in (reading, writing, *first, *second):
        os.close(fd)
    late = asyncio.create_task(channel.ask({"op": "d"}))
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(ConnectionResetError):
        await late
    assert closed == [True]


async def test_large_messages_wait_for_room_and_keep_their_files() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, on_event=lambda _: None, on_close=lambda: None)
    reading, writing = os.pipe()
    asked = [
        asyncio.create_task(channel.ask({"pad": "x" * 300_000, "n": n}, [writing]))
        for n in range(3)
    ]
    await asyncio.sleep(0)
    os.close(writing)  # The channel keeps copies for what is still to be sent.
    theirs.setblocking(False)
    loop, decoder, got = asyncio.get_running_loop(), wire.Decoder(), 0
    readable = asyncio.Event()
    loop.add_reader(theirs, readable.set)
    while got < 3:
        readable.clear()
        await readable.wait()
        try:
            arrived = decoder.feed(*wire.receive(theirs))
        except BlockingIOError:
            continue
        for message, files in arrived:
            os.write(files[0], b"%d" % got)
            os.close(files[0])
            got += 1
            wire.send(theirs, {"id": message["id"]})
    loop.remove_reader(theirs)
    await asyncio.gather(*asked)
    assert os.read(reading, 9) == b"012"
    assert os.read(reading, 9) == b""  # No copy was left open.
    os.close(reading)
    channel.close()
    theirs.close()


async def test_files_for_an_asker_who_was_cancelled_are_closed() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, on_event=lambda _: None, on_close=lambda: None)
    asked = asyncio.create_task(channel.ask({"op": "dial"}))
    await asyncio.sleep(0)
    [(request, _)] = wire.Decoder().feed(*wire.receive(theirs))
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    reading, writing = os.pipe()
    wire.send(theirs, {"id": request["id"]}, [writing])
    os.close(writing)
    other = asyncio.create_task(channel.ask({"op": "next"}))
    await asyncio.sleep(0)
    [(request, _)] = wire.Decoder().feed(*wire.receive(theirs))
    wire.send(theirs, {"id": request["id"]})
    await other
    assert os.read(reading, 1) == b""
    os.close(reading)
    channel.close()
    theirs.close()
