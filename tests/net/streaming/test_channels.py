"""The WebSocket channels of exec and attach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.streaming import channels
from kubeloop.net.streaming.channels import (
    PROTOCOLS,
    ChannelError,
    Input,
    InputEnded,
    Protocol,
    Resize,
)

protocols = st.sampled_from(PROTOCOLS).map(Protocol)


@given(protocols, st.binary(min_size=1, max_size=200))
def test_what_a_client_sends_is_what_comes(protocol: Protocol, data: bytes) -> None:
    assert protocol.decode(protocol.encode(0, data)) == Input(data)


@given(protocols, st.binary(max_size=50) | st.text(max_size=50))
def test_any_message_means_something_or_is_refused(
    protocol: Protocol, message: bytes | str
) -> None:
    try:
        told = protocol.decode(message)
    except ChannelError as error:
        assert str(error)
    else:
        assert told is None or isinstance(told, Input | InputEnded | Resize)


@given(protocols, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_sizes(protocol: Protocol, width: int, height: int) -> None:
    text = f'{{"Width":{width},"Height":{height}}}'.encode()
    assert protocol.decode(protocol.encode(4, text)) == Resize(width, height)


def test_only_version_5_can_end_input() -> None:
    assert Protocol("v5.channel.k8s.io").decode(b"\xff\0") == InputEnded()
    with pytest.raises(ChannelError, match="only channel 0"):
        Protocol("v5.channel.k8s.io").decode(b"\xff\1")
    with pytest.raises(ChannelError, match="channel 255"):
        Protocol("v4.channel.k8s.io").decode(b"\xff\0")


BAD = {
    "nothing": (b"", "no channel"),
    "output": (b"\1hi", "channel 1 takes nothing"),
    "no JSON": (b"\4hi", "no JSON"),
    "no object": (b"\4[]", "Width and Height"),
    "too wide": (b'\4{"Width":70000,"Height":1}', "up to 65535"),
    "no number": (b'\4{"Width":true,"Height":1}', "up to 65535"),
}


@pytest.mark.parametrize(("message", "why"), BAD.values(), ids=BAD)
def test_what_means_nothing(message: bytes, why: str) -> None:
    with pytest.raises(ChannelError, match=why):
        Protocol("v4.channel.k8s.io").decode(message)


def test_base64() -> None:
    protocol = Protocol("v4.base64.channel.k8s.io")
    assert protocol.encode(1, b"hi") == "1aGk="
    assert protocol.decode("0aGk=") == Input(b"hi")
    for message in ("xaGk=", "0a!", "0aGk"):
        with pytest.raises(ChannelError):
            protocol.decode(message)


def test_statuses() -> None:
    done, failed = channels.exit_status(0, ["ls"]), channels.exit_status(3, ["sh", "-c", "x"])
    assert done == {"metadata": {}, "status": "Success"}
    assert failed["reason"] == "NonZeroExitCode"
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert channels.told_status(3, done) == b""
    assert b"exit code 3" in channels.told_status(1, failed)


def test_the_client_chooses() -> None:
    offered = ["v9.channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"]
    assert channels.negotiate(offered, PROTOCOLS) == "v4.channel.k8s.io"
    assert channels.negotiate(["x"], PROTOCOLS) is None
