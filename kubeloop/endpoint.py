"""The REST endpoint of a cluster with its token and certificates, which outlive a restart.

So that a kubeconfig stays valid, a cluster with a data directory keeps them there.
"""

import secrets
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

import msgpack

from kubeloop.actors.world import World
from kubeloop.api.calls import Request
from kubeloop.api.errors import error_of
from kubeloop.api.identity import AUTHORITY
from kubeloop.net.certificates import (
    Certificates,
    make_certificates,
    server_context,
    write_private,
)
from kubeloop.net.kubeconfig import kubeconfig
from kubeloop.net.rest.backend import Backend
from kubeloop.net.rest.server import RestServer

_SELF: Final = "system:apiserver"
HOST: Final = "127.0.0.1"
_TOKEN_BYTES: Final = 32
_FILES: Final = ("ca.crt", "server.crt", "server.key", "ca.key")  # As `Certificates` has them.


class Endpoint:
    """A REST endpoint.

    service:   the address by which pods reach it, that of the Service `kubernetes`.
    shares:    whether others serve the same store: then all have one authority.
    directory: where token and certificates are kept; None for this run only.
    before:    one whose token and certificates this one takes over.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        port: int,
        tls: bool,
        service: str,
        shares: bool,
        directory: Path | None,
        world: World,
        before: "Endpoint | None" = None,
    ) -> None:
        self.name, self._world, self._tls = name, world, tls
        self._backend, self._wanted_port, self._service = backend, port, service
        self._shares = shares
        self._directory, self._before = directory, before
        self._server: RestServer | None = None
        self.token = ""
        self._certificates: Certificates | None = None

    async def start(self) -> None:
        """Listen.

        Raises: OSError if the port is taken, or the directory cannot be written; ApiError.
        """
        self.token = self._find_token()
        found = self._certificates = await self._find_certificates() if self._tls else None
        tls = None if found is None else server_context(found)
        for port in self._ports():
            self._server = RestServer(
                self._backend,
                name=self.name,
                host=HOST,
                port=port,
                token=self.token,
                tls=tls,
                wall=self._world.wall,
                bits=self._world.rng.getrandbits,
            )
            try:
                await self._server.start()
            except OSError:
                if port == self._wanted_port:
                    raise
            else:
                break
        self._before = None
        if self._directory is not None:
            (self._directory / "port").write_text(f"{self.port}\n")

    async def stop(self) -> None:
        """Cut every connection."""
        if self._server is not None:
            await self._server.stop()

    @property
    def url(self) -> str:
        """Where it answers."""
        assert self._server is not None, "the endpoint has not been started"
        return self._server.url

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None, "the endpoint has not been started"
        return self._server.port

    @property
    def authority(self) -> tuple[str, str]:
        """PEM of the certificate and the key of who signed for the endpoint; "" for plain HTTP."""
        found = self._certificates
        return (
            ("", "") if found is None else (found.authority.decode(), found.authority_key.decode())
        )

    def kubeconfig(self) -> dict[str, Any]:
        """Return a kubeconfig that is complete in itself."""
        authority = None if self._certificates is None else self._certificates.authority
        return kubeconfig(self.name, url=self.url, token=self.token, authority=authority)

    def _ports(self) -> list[int]:
        """Return the ports to try: a restarted cluster likes to be where it was."""
        path = None if self._directory is None else self._directory / "port"
        if self._wanted_port or path is None or not path.exists():
            return [self._wanted_port]
        return [int(path.read_text()), self._wanted_port]

    def _find_token(self) -> str:
        if self._before is not None:
            return self._before.token
        if self._directory is None:
            return secrets.token_urlsafe(_TOKEN_BYTES)
        path = self._directory / "token"
        if not path.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            write_private(path, secrets.token_urlsafe(_TOKEN_BYTES).encode())
        return path.read_text()

    async def _find_certificates(self) -> Certificates:
        """Return those of the last run, or new ones; kept only if there is a directory."""
        if self._before is not None and self._before._certificates is not None:
            return self._before._certificates
        paths = [] if self._directory is None else [self._directory / name for name in _FILES]
        kept = bool(paths) and all(path.exists() for path in paths)
        found = Certificates(*(p.read_bytes() for p in paths)) if kept else self._certify(None)
        if self._shares:
            offered = found.authority, found.authority_key
            shared = await self._share(offered)
            if shared != offered:
                found, kept = self._certify(shared), False
        if not kept:
            for path, content in zip(paths, astuple(found), strict=False):
                write_private(path, content)
        return found

    async def _share(self, offered: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Return the authority of all who serve this store: ours, if nobody offered one before.

        Raises: ApiError.
        """
        certificate, key = offered
        body = msgpack.packb({"certificate": certificate, "key": key})
        outcome = await self._backend.ask(Request("create", AUTHORITY, body=body, user=_SELF))
        told = msgpack.unpackb(outcome.body)
        if outcome.code >= 400:
            raise error_of(told)
        return told["certificate"], told["key"]

    def _certify(self, by: tuple[bytes, bytes] | None) -> Certificates:
        addresses, now = [HOST, self._service], self._world.wall()
        return make_certificates([], addresses, now=now, bits=secrets.randbits, by=by)
