"""`exec`, `attach` and `portforward` of pods: from HTTP to streams into containers.

What can be refused is refused before the connection leaves HTTP; what goes wrong later is told as
a v1.Status on the error channel, which is where clients look for it.

Source: kube-apiserver's registry/core/pod, kubelet's server; KEP-4006.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgpack
from aiohttp import web
from multidict import CIMultiDict

from kubeloop.api.calls import Request
from kubeloop.api.errors import ApiError, BadRequest, MethodNotAllowed, NotImplemented501, error_of
from kubeloop.api.streams import Connection, Session
from kubeloop.net.rest.backend import Backend
from kubeloop.net.rest.handlers import Call
from kubeloop.net.rest.logs import container_of
from kubeloop.net.streaming import channels, commands, ducts, forwarding
from kubeloop.net.streaming.seams import Wishes

_VERSION: Final = "X-Stream-Protocol-Version"
_ACCEPTED: Final = "X-Accepted-Stream-Protocol-Versions"
_FALSE: Final = ("false", "0")


class Remote:
    """Serves the streaming subresources of pods."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    async def handle(
        self, call: Call, request: web.BaseRequest, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        """Serve one client to its end. Raises: ApiError."""
        if call.target.subresource == "proxy":
            raise NotImplemented501(f"{call.target.resource.plural}/proxy is not implemented yet")
        if call.method not in ("GET", "POST"):
            raise MethodNotAllowed
        if not call.upgrades:
            raise BadRequest("Upgrade request required")
        pod = await self._pod(call)
        if call.target.subresource == "portforward":
            return await self._forward(call, request, headers, pod)
        wishes = wishes_of(call, pod)
        if not pod["spec"].get("nodeName"):
            raise BadRequest(f"pod {call.target.name} does not have a host assigned")
        begin = partial(self._begin, pod, wishes)
        if is_websocket(request):
            return await _over_websocket(request, headers, begin, wishes)
        return await _over_spdy(request, headers, begin, wishes)

    async def _begin(self, pod: dict[str, Any], wishes: Wishes) -> Session:
        return await self.backend.fleet.session(pod, wishes)

    async def _pod(self, call: Call) -> dict[str, Any]:
        target = call.target
        asked = Request(
            "get", "pods", target.namespace, target.name,
            user=call.user, agent=call.agent, id=call.id,
        )  # fmt: skip
        outcome = await self.backend.ask(asked)
        pod: dict[str, Any] = msgpack.unpackb(outcome.body)
        if outcome.code >= 400:
            raise error_of(pod)
        return pod

    async def _forward(
        self,
        call: Call,
        request: web.BaseRequest,
        headers: CIMultiDict[str],
        pod: dict[str, Any],
    ) -> web.StreamResponse:
        name = call.target.name
        if not pod["spec"].get("nodeName"):
            raise BadRequest(f"pod {name} does not have a host assigned")

        async def connect(port: int) -> Connection:
            why = f"error forwarding port {port} to pod {pod['metadata']['uid']}, uid : "
            try:
                return await self.backend.fleet.connect(pod, port, local=True)
            except OSError as error:
                told = (error.strerror or str(error)).lower()
                raise OSError(f"{why}dial tcp4 127.0.0.1:{port}: connect: {told}") from error
            except ApiError as error:
                raise OSError(f"{why}{error}") from error

        if not is_websocket(request):
            offered = _listed(request, _VERSION) or [forwarding.PROTOCOL]
            duct = _switch(request, headers, offered, (forwarding.PROTOCOL,))
            if isinstance(duct, web.Response):
                return duct
            await forwarding.SpdyForwarding(duct[0], connect).run()
            return web.Response()  # Which goes nowhere.
        offered = _offered(request)
        chosen = channels.negotiate(offered, (forwarding.TUNNEL, forwarding.CHANNELS))
        if offered and chosen is None:
            raise _unsupported(offered, (forwarding.TUNNEL, forwarding.CHANNELS))
        if chosen == forwarding.TUNNEL:
            socket = await ducts.accept(request, chosen, headers)
            await forwarding.SpdyForwarding(ducts.WebSocketDuct(socket), connect).run()
            return socket
        ports = ports_of(call)
        socket = await ducts.accept(request, chosen or "", headers)
        await forwarding.ChannelForwarding(socket, connect, ports).run()
        return socket


def wishes_of(call: Call, pod: Mapping[str, Any]) -> Wishes:
    """Return what an exec or attach asks for. Raises: BadRequest."""
    container = container_of(pod, call.first("container"))
    command = tuple(value for name, value in call.parameters if name == "command")
    if call.target.subresource == "attach":
        command = ()
        found = next((c for c in _containers(pod) if c["name"] == container), {})
        tty = bool(found.get("tty"))  # It cannot be changed once the container runs.
    else:
        tty = _flag(call, "tty")
        if not any(command):
            raise BadRequest("you must specify at least one command for the container")
    wishes = Wishes(
        container=container,
        command=command,
        stdin=_flag(call, "stdin"),
        stdout=_flag(call, "stdout"),
        stderr=_flag(call, "stderr"),
        tty=tty,
    )
    if not (wishes.stdin or wishes.stdout or wishes.stderr):
        raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    return wishes


def ports_of(call: Call) -> list[int]:
    """Return the ports a WebSocket of channels is for. Raises: BadRequest."""
    told = [value for name, value in call.parameters if name == "ports"]
    if not told:
        raise BadRequest('query parameter "ports" is required')
    ports = []
    for text in (text for value in told for text in value.split(",")):
        if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= 0xFFFF):
            raise BadRequest(f'unable to parse "{text}" as a port')
        if not int(text):
            raise BadRequest(f'port "{text}" must be > 0')
        ports.append(int(text))
    if len(ports) > 64:
        raise BadRequest("at most 64 ports can be forwarded over one WebSocket")
    return ports


def is_websocket(request: web.BaseRequest) -> bool:
    """Tell which of the two upgrades is asked for. Raises: BadRequest if it is another."""
    wanted = request.headers.get("Upgrade", "").lower()
    if wanted not in ("websocket", "spdy/3.1"):
        raise BadRequest(f'unable to upgrade to "{wanted}": only websocket and SPDY/3.1 are known')
    return wanted == "websocket"


async def _over_websocket(
    request: web.BaseRequest, headers: CIMultiDict[str], begin: commands.Open, wishes: Wishes
) -> web.StreamResponse:
    offered = _offered(request)
    chosen = channels.negotiate(offered, channels.PROTOCOLS)
    if offered and chosen is None:
        raise _unsupported(offered, channels.PROTOCOLS)
    socket = await ducts.accept(request, chosen or "", headers)
    wire = commands.WebSocketWire(socket, channels.Protocol(chosen or "channel.k8s.io"))
    await commands.run(wire, begin, wishes)
    return socket


async def _over_spdy(
    request: web.BaseRequest, headers: CIMultiDict[str], begin: commands.Open, wishes: Wishes
) -> web.StreamResponse:
    offered = _listed(request, _VERSION) or ["channel.k8s.io"]
    taken = _switch(request, headers, offered, channels.SPDY_PROTOCOLS)
    if isinstance(taken, web.Response):
        return taken
    duct, chosen = taken
    wire = commands.SpdyWire(duct, channels.Protocol(chosen))
    try:
        await wire.begin(wishes)
        await commands.run(wire, begin, wishes)
    except (channels.ChannelError, ConnectionError, TimeoutError):
        await duct.close()  # It does not speak as it should: there is no channel to tell it by.
    return web.Response()  # Which goes nowhere.


def _switch(
    request: web.BaseRequest,
    headers: CIMultiDict[str],
    offered: list[str],
    known: tuple[str, ...],
) -> tuple[ducts.RawDuct, str] | web.Response:
    """Take the connection over to speak one of the protocols that are known, or refuse."""
    chosen = channels.negotiate(offered, known)
    if chosen is None:
        for name in known:
            headers.add(_ACCEPTED, name)
        why = f"client supports [{' '.join(offered)}], server accepts [{' '.join(known)}]"
        text = f"unable to upgrade: unable to negotiate protocol: {why}\n"
        return web.Response(status=403, text=text, headers=headers)
    told = {**headers, "Connection": "Upgrade", "Upgrade": "SPDY/3.1", _VERSION: chosen}
    return ducts.switch(request, told), chosen


def _offered(request: web.BaseRequest) -> list[str]:
    return _listed(request, "Sec-WebSocket-Protocol")


def _listed(request: web.BaseRequest, header: str) -> list[str]:
    found = request.headers.getall(header, [])
    return [text.strip() for value in found for text in value.split(",") if text.strip()]


def _unsupported(offered: list[str], known: tuple[str, ...]) -> BadRequest:
    return BadRequest(
        f"requested protocol(s) are not supported: [{' '.join(offered)}]; "
        f"supports [{' '.join(known)}]"
    )


def _containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    spec = pod.get("spec") or {}
    kinds = ("containers", "initContainers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind) or ()]


def _flag(call: Call, name: str) -> bool:
    text = next((v for n, v in call.parameters if n == name), "false")
    return text.lower() not in _FALSE
