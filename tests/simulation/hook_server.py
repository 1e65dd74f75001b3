"""A webhook server for simulations: HTTPS, with the handlers a test gives it."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from random import getrandbits
from typing import Any

from aiohttp import web

from kubeloop.net.certificates import Certificates, make_certificates, server_context

Answer = dict[str, Any]
Handler = Callable[[dict[str, Any]], Answer | Awaitable[Answer]]
"""(request of the review) → response, without its uid."""

HOST, PORT = "127.0.0.1", 8443


@cache
def certificates() -> Certificates:
    return make_certificates(
        [], [HOST], now=datetime(2026, 1, 1, tzinfo=UTC).timestamp(), bits=getrandbits
    )


def allowed(*operations: dict[str, Any], **more: Any) -> Answer:
    """Return a response that allows, and changes."""
    if operations:
        patch = base64.b64encode(json.dumps(operations).encode()).decode()
        more |= {"patch": patch, "patchType": "JSONPatch"}
    return {"allowed": True, **more}


def denied(message: str = "", **status: Any) -> Answer:
    """Return a response that does not allow."""
    return {"allowed": False, "status": {"message": message, **status}}


def add(path: str, value: Any) -> dict[str, Any]:
    """Return an operation of a JSON patch."""
    return {"op": "add", "path": path, "value": value}


@asynccontextmanager
async def hooks(**handlers: Handler) -> AsyncIterator[list[dict[str, Any]]]:
    """Serve handlers at /NAME; yield what they were asked."""
    asked: list[dict[str, Any]] = []

    async def serve(request: web.Request) -> web.Response:
        review = await request.json()
        asked.append(review["request"])
        response = handlers[request.match_info["name"]](review["request"])
        if not isinstance(response, dict):
            response = await response
        told = {"uid": review["request"]["uid"], **response}
        return web.json_response({**review, "request": None, "response": told})

    app = web.Application()
    app.router.add_post("/{name}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, PORT, ssl_context=context()).start()
    try:
        yield asked
    finally:
        await runner.cleanup()


def context() -> ssl.SSLContext:
    return server_context(certificates())


def client(name: str) -> dict[str, Any]:
    """Return the clientConfig of a handler."""
    bundle = base64.b64encode(certificates().authority).decode()
    return {"url": f"https://{HOST}:{PORT}/{name}", "caBundle": bundle}


def configuration(kind: str, *names: str, **more: Any) -> dict[str, Any]:
    """Return a configuration that asks handlers about every write of a ConfigMap."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["*"],
        "resources": ["configmaps"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": kind.lower()},
        "webhooks": [
            {
                "name": f"{name}.hooks.example",
                "clientConfig": client(name),
                "rules": [rule],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                **more,
            }
            for name in names
        ],
    }


async def never(_: dict[str, Any]) -> Answer:
    """Answer when it is too late."""
    await asyncio.sleep(3600)
    return allowed()
