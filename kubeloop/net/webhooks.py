"""Calling admission webhooks: HTTPS, by URL or through a Service.

A Service's webhook is called at the address of one of its pods: whoever calls is outside of the pod
network, so this works where pods have addresses that can be dialled, as simulated ones have not.

Source: Kubernetes, "Dynamic Admission Control: Contacting the webhook".
"""

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import aiohttp
import orjson

from kubeloop.api.admission.webhooks import CallFailed

ANSWER_MAX: Final = 3 * 1024 * 1024
Find = Callable[[str, str, int], tuple[str, int] | None]
"""(namespace, service, port) → where a pod of it listens; None if none is ready."""


class WebhookCaller:
    """Calls webhooks. `close` ends it."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self, config: Mapping[str, Any], review: Mapping[str, Any], timeout_s: int
    ) -> Any:
        """Send a review; return the answer, decoded. Raises: CallFailed."""
        url, host, shown = self._where(config, timeout_s)
        if self._session is None:
            self._session = aiohttp.ClientSession()
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        if host is not None:
            headers["Host"] = host
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.post(
                    url,
                    data=orjson.dumps(review),
                    headers=headers,
                    ssl=_context(config.get("caBundle")),
                    server_hostname=host,
                    allow_redirects=False,
                ) as answer,
            ):
                body = await answer.content.read(ANSWER_MAX)
                status = answer.status
        except TimeoutError:
            raise CallFailed(f'failed to call webhook: Post "{shown}": {_LATE}') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(f'failed to call webhook: Post "{shown}": {_why(error)}') from None
        return _decoded(status, body)

    def _where(self, config: Mapping[str, Any], timeout_s: int) -> tuple[str, str | None, str]:
        """Return the URL, the name to be called if it is not in that, and the URL as it is told.

        Raises: CallFailed.
        """
        service = config.get("service")
        if not service:
            url = str(config["url"])
            told = f"{url}?timeout={timeout_s}s"
            return told, None, told
        namespace, name = service["namespace"], service["name"]
        port = int(service.get("port") or 443)
        host, path = f"{name}.{namespace}.svc", str(service.get("path") or "/").lstrip("/")
        told = f"https://{host}:{port}/{path}?timeout={timeout_s}s"
        found = self._find(namespace, name, port)
        if found is None:
            why = f'no endpoints available for service "{name}"'
            raise CallFailed(f'failed to call webhook: Post "{told}": {why}')
        address, target = found
        return f"https://{address}:{target}/{path}?timeout={timeout_s}s", host, told


def endpoint(
    service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]], port: int
) -> tuple[str, int] | None:
    """Return where a ready pod of a Service listens for one of its ports; None if nowhere.

    slices: the EndpointSlices of the Service.
    """
    ports = (service.get("spec") or {}).get("ports") or ()
    wanted = next((one.get("name") or "" for one in ports if one["port"] == port), None)
    for each in slices:
        numbers = [p["port"] for p in each.get("ports") or () if (p.get("name") or "") == wanted]
        for one in each.get("endpoints") or ():
            if numbers and (one.get("conditions") or {}).get("ready") is not False:
                return one["addresses"][0], numbers[0]
    return None


_LATE: Final = "context deadline exceeded"


def _context(bundle: Any) -> ssl.SSLContext:
    """Return what trusts a caBundle, or the system's authorities if there is none.

    Raises: ValueError.
    """
    context = ssl.create_default_context()
    if bundle:
        try:
            context.load_verify_locations(cadata=base64.b64decode(bundle).decode("ascii"))
        except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
            raise ValueError(f"unable to load root certificates: {error}") from None
    return context


def _why(error: Exception) -> str:
    """Say what went wrong as Go's client does."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"tls: failed to verify certificate: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            reason = error.strerror or str(error)
            return f"dial tcp {error.host}:{error.port}: connect: {reason.lower()}"
        case aiohttp.ServerDisconnectedError():
            return "EOF"
    return str(error)


def _decoded(status: int, body: bytes) -> Any:
    if status != 200:
        text = body.decode(errors="replace").strip()
        raise CallFailed(
            f"failed to call webhook: an error on the server "
            f'("{text[:200] or f"status {status}"}") has prevented the request from succeeding'
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CallFailed(f"failed to call webhook: couldn't decode the answer: {error}") from None
