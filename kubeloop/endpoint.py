"""The REST endpoint of a cluster with its token and certificates, which outlive a restart.

So that a kubeconfig stays valid, a cluster with a data directory keeps them there.
"""

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from kubeloop.actors.world import World
from kubeloop.net.certificates import make_certificates, write_private
from kubeloop.net.kubeconfig import kubeconfig
from kubeloop.net.rest.backend import Backend, TlsFiles
from kubeloop.net.rest.server import RestServer

HOST: Final = "127.0.0.1"
_TOKEN_BYTES: Final = 32


class Endpoint:
    """A REST endpoint. directory: where token and certificates are kept; None for this run only."""

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        port: int,
        tls: bool,
        directory: Path | None,
        world: World,
    ) -> None:
        self.name, self._world, self._tls = name, world, tls
        self._backend, self._wanted_port = backend, port
        self._kept = directory is not None
        self._directory = directory
        self._server: RestServer | None = None
        self.token = ""
        self._authority: bytes | None = None

    async def start(self) -> None:
        """Listen. Raises: OSError if the port is taken, or the directory cannot be written."""
        self.token = self._find_token()
        tls = self._find_certificates() if self._tls else None
        for port in self._ports():
            self._server = RestServer(
                self._backend,
                name=self.name,
                host=HOST,
                port=port,
                token=self.token,
                tls=tls,
                wall=self._world.wall,
            )
            try:
                await self._server.start()
            except OSError:
                if port == self._wanted_port:
                    raise
            else:
                break
        if self._kept and self._directory is not None:
            (self._directory / "port").write_text(f"{self.port}\n")

    async def stop(self) -> None:
        """Cut every connection; forget what was for this run only."""
        if self._server is not None:
            await self._server.stop()
        if not self._kept and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

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

    def kubeconfig(self) -> dict[str, Any]:
        """Return a kubeconfig that is complete in itself."""
        return kubeconfig(self.name, url=self.url, token=self.token, authority=self._authority)

    def _ports(self) -> list[int]:
        """Return the ports to try: a restarted cluster likes to be where it was."""
        path = None if self._directory is None else self._directory / "port"
        if self._wanted_port or path is None or not path.exists():
            return [self._wanted_port]
        return [int(path.read_text()), self._wanted_port]

    def _find_token(self) -> str:
        if self._directory is None:
            return secrets.token_urlsafe(_TOKEN_BYTES)
        path = self._directory / "token"
        if not path.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            write_private(path, secrets.token_urlsafe(_TOKEN_BYTES).encode())
        return path.read_text()

    def _find_certificates(self) -> TlsFiles:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="kubeloop-tls-"))
        files = TlsFiles(
            certificate=self._directory / "server.crt",
            key=self._directory / "server.key",
            authority=self._directory / "ca.crt",
        )
        if not files.authority.exists():
            made = make_certificates([], [HOST], now=self._world.wall())
            write_private(files.key, made.key)
            files.certificate.write_bytes(made.certificate)
            files.authority.write_bytes(made.authority)
        self._authority = files.authority.read_bytes()
        return files
