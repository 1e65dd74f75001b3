"""Probes over the pod network: HTTP and TCP through a dialled socket, in the kubelet's words.

A pod's address exists inside its namespaces only, so a probe gets its connection from whoever can
make one there: `dial`.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

REDIRECTS_MAX: Final = 10
HEAD_MAX: Final = 64 * 1024
BODY_MAX: Final = 10 * 1024  # Of what a failing probe answers, as the kubelet reads it.
AGENT: Final = "kube-probe/1.37"

Dial = Callable[[str, int], Awaitable[socket.socket | None]]


class SocketProber:
    """Asks pods as a kubelet does.

    dial: returns a connected socket, None if the address is none of a pod's; raises OSError.
    """

    def __init__(self, dial: Dial) -> None:
        self.dial = dial
        self._context: ssl.SSLContext | None = None

    async def http(
        self,
        ip: str,
        port: int,
        *,
        scheme: str,
        path: str,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[bool, str]:
        """GET; return (whether the status was 200..399, what went wrong)."""
        url = f"{scheme.lower()}://{_bracketed(ip)}:{port}{path if path[:1] == '/' else '/' + path}"
        try:
            async with asyncio.timeout(timeout_s):
                return await self._follow(url, headers)
        except TimeoutError:
            awaiting = "(Client.Timeout exceeded while awaiting headers)"
            return False, f'Get "{url}": context deadline exceeded {awaiting}'
        except ssl.SSLError as error:
            return False, f'Get "{url}": tls: {error.reason or error}'
        except OSError as error:
            return False, f'Get "{url}": {_why(error)}'
        except _BadAnswer as error:
            return False, f'Get "{url}": {error}'

    async def tcp(self, ip: str, port: int, *, timeout_s: float) -> tuple[bool, str]:
        """Connect; return (whether it could, what went wrong)."""
        try:
            async with asyncio.timeout(timeout_s):
                sock = await self._connect(ip, port)
        except TimeoutError:
            return False, f"dial tcp {ip}:{port}: i/o timeout"
        except OSError as error:
            return False, f"dial tcp {ip}:{port}: connect: {_why(error)}"
        sock.close()
        return True, ""

    async def _connect(self, host: str, port: int) -> socket.socket:
        """Return a connected socket: to a pod, or, if the probe names another host, to that."""
        sock = await self.dial(host, port)
        if sock is not None:
            return sock
        loop = asyncio.get_running_loop()
        family, kind, protocol, _, address = (
            await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _follow(self, url: str, headers: Mapping[str, str]) -> tuple[bool, str]:
        """GET, and follow redirects as long as they stay on the host."""
        first = urlsplit(url).hostname
        for _ in range(REDIRECTS_MAX):
            status, location, body = await self._get(url, headers)
            if not 300 <= status < 400 or not location:
                break
            target = urljoin(url, location)
            if urlsplit(target).hostname != first:
                return True, f"Probe terminated redirects, Response body: {body}"
            url = target
        else:
            return False, f'Get "{url}": stopped after {REDIRECTS_MAX} redirects'
        if 200 <= status < 400:
            return True, ""
        return False, f"HTTP probe failed with statuscode: {status}"

    async def _get(self, url: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
        """Return (status, Location, the beginning of the body). Raises: OSError, _BadAnswer."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            sock = await self._connect(parts.hostname, port)
        except TimeoutError:
            raise
        except OSError as error:
            why = f"dial tcp {parts.hostname}:{port}: connect: {_why(error)}"
            raise _BadAnswer(why) from error
        secure = self._tls() if parts.scheme == "https" else None
        try:
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=secure, server_hostname="" if secure else None, limit=HEAD_MAX
            )
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(_request(parts.netloc, parts.path or "/", parts.query, headers))
            status, location = await _head(reader)
            body = await reader.read(BODY_MAX) if 300 <= status < 400 else b""
            return status, location, body.decode(errors="replace")
        finally:
            writer.close()

    def _tls(self) -> ssl.SSLContext:
        """Return a context that believes every certificate: a probe asks for health only."""
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        return self._context


class _BadAnswer(Exception):
    """There was no connection, or what came is not HTTP."""


def _request(host: str, path: str, query: str, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a GET; headers of the probe win over ours."""
    wanted = {"Host": host, "User-Agent": AGENT, "Accept": "*/*", "Connection": "close"}
    given = {name.lower(): (name, value) for name, value in headers.items()}
    lines = [f"GET {path}{'?' + query if query else ''} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in wanted.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in given.values()]
    if any(char in line for line in lines for char in "\r\n"):
        raise _BadAnswer("net/http: invalid header field value")
    return "\r\n".join([*lines, "", ""]).encode()


async def _head(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Return (status, Location) of an answer. Raises: _BadAnswer, OSError."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            version, _, rest = first.partition(" ")
            if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
                raise _BadAnswer(f'malformed HTTP response "{first[:80]}"')
            status = int(rest[:3])
            if status >= 200 or status == 101:
                break  # Before it there may be any number of 1xx.
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise _BadAnswer("EOF") from error
        raise _BadAnswer("unexpected EOF") from error
    except asyncio.LimitOverrunError as error:
        raise _BadAnswer(f"server response headers exceeded {HEAD_MAX} bytes") from error
    fields = (line.partition(":") for line in lines)
    location = next((value for name, _, value in fields if name.lower() == "location"), "")
    return status, location.strip()


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
