"""Logs keep every byte a container wrote, in order, within their limit."""

import asyncio
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop.actors.runtimes.process_logs import LINE_BYTES_MAX, Log

chunks = st.lists(st.binary(max_size=40) | st.just(b"\n") | st.just(b"x" * (LINE_BYTES_MAX + 7)))


def collect(log: Log, *, follow: bool = False) -> list[tuple[float, bytes]]:
    async def read() -> list[tuple[float, bytes]]:
        return [line async for line in log.read(follow=follow)]

    return asyncio.run(read())


@settings(max_examples=40)
@given(chunks)
def test_whatever_is_written_is_read(tmp_path_factory, pieces: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    log = Log(tmp_path_factory.mktemp("logs") / "log", lambda: 1.5)
    for piece in pieces:
        log.write("stdout", piece)
    log.end()
    lines = collect(log)
    assert b"".join(text for _, text in lines) == b"".join(pieces)
    assert all(at == 1.5 and len(text) <= LINE_BYTES_MAX + 1 for at, text in lines)


def test_the_file_is_in_the_cri_format(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", lambda: 1475711957.669794)
    log.write("stdout", b"whole\npart")
    log.write("stderr", b"other\n")
    log.end()
    assert (tmp_path / "log").read_text() == (
        "2016-10-05T23:59:17.669794000Z stdout F whole\n"
        "2016-10-05T23:59:17.669794000Z stderr F other\n"
        "2016-10-05T23:59:17.669794000Z stdout P part\n"
    )


def test_old_lines_go_when_the_limit_is_reached(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", lambda: 0.0, bytes_max=10_000)
    for number in range(2_000):
        log.write("stdout", b"%d\n" % number)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    log.end()
    kept = [int(text) for _, text in collect(log)]
    assert kept == list(range(kept[0], 2_000))
    assert len(kept) * 40 > 4_000


async def test_a_follower_sees_all_that_is_still_there_however_slow(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", lambda: 0.0, bytes_max=2_000)
    seen: list[int] = []

    async def follow() -> None:
        async for _, text in log.read(follow=True):
            seen.append(int(text))

    follower = asyncio.create_task(follow())
    for number in range(1_000):
        log.write("stdout", b"%d\n" % number)
        if number % 10 == 0:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    log.end()
    await follower
    assert seen == list(range(1_000))


async def test_a_follower_that_leaves_leaves_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", lambda: 0.0)
    log.write("stdout", b"one\n")
    lines = log.read(follow=True)
    assert await anext(lines) == (0.0, b"one\n")
    await lines.aclose()
    assert not log._waiting
    log.end()
