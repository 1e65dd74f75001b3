"""TLS over the network in memory: real OpenSSL, virtual time, and no chance but the seed's."""

import asyncio
import ssl
from collections.abc import Callable
from random import getrandbits
from typing import Any

import pytest

from kubeloop import sim
from kubeloop.net.certificates import Certificates, make_certificates, server_context
from kubeloop.sim import pipe
from kubeloop.sim.links import Link
from kubeloop.sim.loop import EPOCH, SimLoop

DAY_S = 86_400
NARROW = Link(bytes_per_s=3000, latency="constant", latency_s=(0.01, 0.01))


def network() -> Any:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop.network


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return make_certificates([], ["127.0.0.1", "::1"], now=EPOCH, bits=getrandbits)


def client_context(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificates.authority.decode())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(10_000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def talk(certificates: Certificates, context: ssl.SSLContext, body: bytes) -> bytes:
    """Send `body` to an echo server and return what comes back; the connection is then closed."""
    tls = server_context(certificates)
    tickets = tls.num_tickets
    async with await asyncio.start_server(echo, "127.0.0.1", 443, ssl=tls):
        reader, writer = await asyncio.open_connection("127.0.0.1", 443, ssl=context)
        assert writer.get_extra_info("peercert")["subject"]
        assert tls.num_tickets == tickets > 0, "the context is not ours to change"
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.write(body)
        await writer.drain()
        answer = await reader.readexactly(len(body))
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(60)
        assert not network().connections
        return answer


@pytest.mark.parametrize("policy", ["fifo", "random"])
def test_bytes_pass(simulate: Callable[..., Any], certificates: Certificates, policy: str) -> None:
    body = bytes(range(256)) * 2000

    async def main() -> bytes:
        network().link("*", "*", Link(cut=0.5))
        return await talk(certificates, client_context(certificates), body)

    assert simulate(main, policy=policy) == body


def trace_of(*, seed: int = 0) -> list[Any]:
    """Return all that happens when new keys and certificates are used over a narrow link."""
    events: list[Any] = []
    made = make_certificates([], ["127.0.0.1"], now=EPOCH, bits=getrandbits)

    async def main() -> None:
        network().trace = lambda *event: events.append(event)
        network().link("*", "*", NARROW)
        await talk(made, client_context(made), b"x" * 5000)

    sim.run(main, seed=seed)
    return events


def test_openssls_chance_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = [trace_of() for _ in range(20)]
    assert all(trace == traces[0] for trace in traces), "signatures differ in length"
    assert {what for _, what, *_ in traces[0]} == {"connect", "sent", "read", "ended"}
    sizes = [size for _, what, _, _, _, size in traces[0] if what == "sent" and size]
    assert sizes[:3] == [pipe.FLIGHT] * 3, "hello, the server's answer, finished"
    assert sum(sizes[3:-2]) == 2 * (5000 + 22), "no ticket: what was written, and its echo"

    monkeypatch.setattr(pipe, "is_handshake", lambda data: False)
    assert len({str(trace_of()) for _ in range(20)}) > 1, "this test cannot fail"


@pytest.mark.parametrize(
    ("days", "why"),
    [(-1, "not yet valid"), (0, None), (364, None), (366, "has expired"), (7300, None)],
)
def test_certificates_age_in_virtual_time(
    simulate: Callable[..., Any], days: int, why: str | None
) -> None:
    begins = abs(days) if days not in (364, 366) else 0
    made = make_certificates([], ["127.0.0.1"], now=EPOCH + begins * DAY_S, bits=getrandbits)

    async def main() -> None:
        await asyncio.sleep(max(days, 0) * DAY_S)
        context = client_context(made)
        flags = context.verify_flags
        try:
            if why is None:
                assert await talk(made, context, b"ok") == b"ok"
            else:
                with pytest.raises(ssl.SSLCertVerificationError, match=why):
                    await talk(made, context, b"ok")
        finally:
            assert context.verify_flags == flags, "the context is not ours to change"
            assert context.sslobject_class is ssl.SSLObject

    simulate(main)


def test_who_is_not_trusted_is_refused(
    simulate: Callable[..., Any], certificates: Certificates
) -> None:
    async def main() -> None:
        with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get"):
            await talk(certificates, ssl.create_default_context(), b"ok")
        await asyncio.sleep(1)
        tls = server_context(certificates)
        async with await asyncio.start_server(echo, "127.0.0.1", 444, ssl=tls):
            trusting = client_context(certificates)
            with pytest.raises(ssl.SSLCertVerificationError, match=r"doesn't match|mismatch"):
                await asyncio.open_connection(
                    "127.0.0.1", 444, ssl=trusting, server_hostname="other.example"
                )
            with pytest.raises(ValueError, match="server_hostname"):
                await asyncio.open_connection("127.0.0.1", 444, server_hostname="localhost")

    simulate(main)


def test_a_connection_becomes_tls_on_the_way(
    simulate: Callable[..., Any], certificates: Certificates
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go on\n")
        await writer.drain()
        await writer.start_tls(server_context(certificates))
        writer.write(b"secret")
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 25):
            reader, writer = await asyncio.open_connection("127.0.0.1", 25)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go on\n"
            await writer.start_tls(client_context(certificates), server_hostname="localhost")
            assert await reader.read() == b"secret"

    simulate(main)


def test_a_handshake_that_never_ends_is_given_up(
    simulate: Callable[..., Any], certificates: Certificates
) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await asyncio.sleep(1000)

    async def main() -> None:
        async with await asyncio.start_server(silent, "127.0.0.1", 443):
            with pytest.raises(ConnectionAbortedError, match="handshake is taking longer than 5"):
                await asyncio.open_connection(
                    "127.0.0.1",
                    443,
                    ssl=client_context(certificates),
                    ssl_handshake_timeout=5,
                )
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(
                    asyncio.open_connection("127.0.0.1", 443, ssl=client_context(certificates)), 3
                )
            await asyncio.sleep(1)
            assert all(side.lost for side in network().connections.values())

    simulate(main)
