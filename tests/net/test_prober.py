"""Probes: what counts as healthy, and the kubelet's words for what does not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from kubeloop.net.prober import SocketProber

IP = "10.244.1.5"


class Pod:
    """A listener that answers each request with the next of `answers`."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.requests: list[bytes] = []
        self.port = 0
        self.silent = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        if self.answers:
            writer.write(self.answers.pop(0))
        else:
            await self.silent.wait()
        writer.close()

    async def dial(self, ip: str, port: int) -> socket.socket:
        assert ip == IP
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return sock


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    found = Pod()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    found.silent.set()
    server.close()
    await server.wait_closed()


async def get(pod: Pod, path: str = "/healthz", **options: object) -> tuple[bool, str]:
    wanted = {"scheme": "HTTP", "headers": {}, "timeout_s": 5.0, **options}
    return await SocketProber(pod.dial).http(IP, 8080, path=path, **wanted)  # type: ignore[arg-type]


def answer(status: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", body]).encode()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (answer("200 OK"), (True, "")),
        (answer("204"), (True, "")),
        (answer("399 Odd"), (True, "")),
        (answer("404 Not Found"), (False, "HTTP probe failed with statuscode: 404")),
        (answer("503 No"), (False, "HTTP probe failed with statuscode: 503")),
        (answer("100 Continue") + answer("200 OK"), (True, "")),
        (b"", (False, 'Get "http://10.244.1.5:8080/healthz": EOF')),
        (b"HTTP/1.1 200", (False, 'Get "http://10.244.1.5:8080/healthz": unexpected EOF')),
        (b"SSH-2.0\r\n\r\n",
         (False, 'Get "http://10.244.1.5:8080/healthz": malformed HTTP response "SSH-2.0"')),
    ],
)  # fmt: skip
async def test_the_status_decides(pod: Pod, sent: bytes, expected: tuple[bool, str]) -> None:
    pod.answers = [sent]
    assert await get(pod) == expected


async def test_the_request_is_a_kubelets(pod: Pod) -> None:
    pod.answers = [answer("200 OK")]
    await get(pod, "x?y=z", headers={"Host": "other", "X-A": "b"})
    assert pod.requests == [
        b"GET /x?y=z HTTP/1.1\r\nUser-Agent: kube-probe/1.37\r\nAccept: */*\r\n"
        b"Connection: close\r\nHost: other\r\nX-A: b\r\n\r\n"
    ]
    ok, why = await get(pod, headers={"X": "a\r\nInjected: b"})
    assert (ok, "invalid header" in why) == (False, True)


async def test_redirects_are_followed_on_the_host_only(pod: Pod) -> None:
    pod.answers = [answer("302 Found", "Location: /other"), answer("500 No")]
    assert await get(pod) == (False, "HTTP probe failed with statuscode: 500")
    pod.answers = [answer("302 Found", "Location: http://elsewhere/", body="bye")]
    assert await get(pod) == (True, "Probe terminated redirects, Response body: bye")
    pod.answers = [answer("302 Found", "Location: /again")] * 10
    assert (await get(pod))[1].endswith("stopped after 10 redirects")


async def test_silence_is_a_failure(pod: Pod) -> None:
    assert await get(pod, timeout_s=0.05) == (
        False,
        'Get "http://10.244.1.5:8080/healthz": context deadline exceeded '
        "(Client.Timeout exceeded while awaiting headers)",
    )


def failing(error: Exception) -> Callable[[str, int], object]:
    async def dial(_: str, __: int) -> socket.socket:
        raise error

    return dial


async def test_a_refusal_is_told_as_go_tells_it() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    prober = SocketProber(failing(refused))  # type: ignore[arg-type]
    text = "dial tcp 10.244.1.5:8080: connect: connection refused"
    assert await prober.tcp(IP, 8080, timeout_s=1) == (False, text)
    assert await prober.http(
        IP, 8080, scheme="HTTPS", path="/", headers={}, timeout_s=1
    ) == (False, f'Get "https://10.244.1.5:8080/": {text}')  # fmt: skip


async def test_tcp_connects_or_runs_out_of_time(pod: Pod) -> None:
    assert await SocketProber(pod.dial).tcp(IP, 8080, timeout_s=5) == (True, "")

    async def never(_: str, __: int) -> socket.socket:
        await pod.silent.wait()
        raise AssertionError

    slow = await SocketProber(never).tcp(IP, 8080, timeout_s=0.01)
    assert slow == (False, "dial tcp 10.244.1.5:8080: i/o timeout")


async def test_a_host_that_is_no_pod_is_asked_directly(pod: Pod) -> None:
    async def nobody(_: str, __: int) -> None:
        return None

    assert await SocketProber(nobody).tcp("127.0.0.1", pod.port, timeout_s=5) == (True, "")
