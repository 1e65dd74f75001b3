"""A small web application: it answers the name of its pod, so that one sees who answered.

Listens on 0.0.0.0:8080, as every replica does: each has a network of its own. Written on sockets
alone because it should start in milliseconds; a real application would use a framework.
"""

import os
import selectors
import signal
import socket
import sys

PORT = int(os.environ.get("PORT", "8080"))
NAME = os.environ.get("HOSTNAME", "unknown")
REQUEST_MAX = 16 * 1024
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}

selector = selectors.DefaultSelector()


class Connection:
    """A client, who may ask many times (keep-alive)."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock, self.received, self.unsent = sock, b"", b""
        self.last = False  # Whether to hang up once all is sent.
        selector.register(sock, selectors.EVENT_READ, self.ready)

    def ready(self, events: int) -> None:
        """Read and write what can be."""
        try:
            if events & selectors.EVENT_READ:
                self.read()
            if self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.last, self.unsent = True, b""
        if self.last and not self.unsent:
            selector.unregister(self.sock)
            self.sock.close()
        else:
            wanted = selectors.EVENT_WRITE if self.unsent else selectors.EVENT_READ
            selector.modify(self.sock, wanted, self.ready)

    def read(self) -> None:
        """Take what came, and answer every request that is whole."""
        data = self.sock.recv(REQUEST_MAX)
        self.received += data
        self.last = self.last or not data
        while b"\r\n\r\n" in self.received and not self.last:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            self.answer(head.decode("latin-1"))
        if len(self.received) > REQUEST_MAX:
            self.last = True
            self.respond(400, "", "-")

    def answer(self, head: str) -> None:
        """Answer one request."""
        line, *headers = head.split("\r\n")
        fields = {
            n.strip().lower(): v.strip().lower() for n, _, v in (h.partition(":") for h in headers)
        }
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            self.last = True
            self.respond(400, "", line)
            return
        method, target, version = parts
        # A body would have to be read before the next request; we hang up instead.
        has_body = "transfer-encoding" in fields or fields.get("content-length", "0") != "0"
        connection = fields.get("connection", "keep-alive" if version == "HTTP/1.1" else "close")
        self.last = has_body or "close" in connection
        if method not in ("GET", "HEAD"):
            status = 405
        else:
            status = 200 if target.partition("?")[0] in ("/", "/healthz") else 404
        self.respond(status, method, f"{method} {target}")

    def respond(self, status: int, method: str, what: str) -> None:
        """Queue an answer, and print a line about it."""
        body = f"{NAME}\n" if status == 200 else f"{REASONS[status]}\n"
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body.encode())}\r\n"
            f"Connection: {'close' if self.last else 'keep-alive'}\r\n\r\n"
        )
        self.unsent += (head + ("" if method == "HEAD" else body)).encode()
        print(f'"{what}" {status}', flush=True)


def main() -> None:
    """Serve until TERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    listener = socket.create_server(("0.0.0.0", PORT), backlog=1024)
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ, lambda _: Connection(listener.accept()[0]))
    print(f"{NAME} listens on port {PORT}", flush=True)
    while True:
        for key, events in selector.select():
            key.data(events)


if __name__ == "__main__":
    main()
