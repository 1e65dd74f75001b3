"""The line between kube-proxy and a worker: whole messages, with their files, however it is cut."""

import os
import socket

from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.userspace.line import FILES_MAX, Line

messages = st.lists(
    st.tuples(
        st.sampled_from(["apply", "listen", "want"]),
        st.lists(st.integers(0, 1 << 60) | st.text(max_size=2_000) | st.binary(max_size=40_000)),
        st.integers(0, FILES_MAX),
    ),
    max_size=12,
)


@given(messages)
def test_what_is_sent_arrives(sent: list[tuple[str, list[object], int]]) -> None:
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # So that messages go in pieces.
    here, there = Line(left), Line(right)
    arrived = []
    pairs = []
    for about, content, count in sent:
        files = [os.memfd_create(f"{len(pairs)}-{n}") for n in range(count)]
        pairs.append([os.fstat(fd).st_ino for fd in files])
        here.send(about, content, files)
    for _ in range(100_000):
        got = there.receive()
        assert got is not None
        arrived += got
        here.flush()
        if len(arrived) == len(sent) and not here.waiting:
            break
    assert [(about, content) for about, content, _ in arrived] == [m[:2] for m in sent]
    assert [[os.fstat(fd).st_ino for fd in files] for *_, files in arrived] == pairs
    for *_, files in arrived:
        for fd in files:
            os.close(fd)
    here.close()
    assert there.receive() is None
    there.close()


def test_files_nobody_fetched_are_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    here, there = Line(left), Line(right)
    for _ in range(20):
        here.send("listen", [bytes(30_000)], [os.memfd_create("x")])
    assert here.waiting
    assert there.receive() == []  # Part of the first, with its file.
    here.close()
    there.close()
    assert len(os.listdir("/proc/self/fd")) == before
