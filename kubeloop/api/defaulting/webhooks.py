"""Defaults of webhook configurations."""

from typing import Final

from kubeloop.api.defaulting.tools import Json, child, fill, items, maybe

_HOOK: Final = {"failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10}


def mutating(obj: Json) -> None:
    """Fill in a MutatingWebhookConfiguration."""
    validating(obj)
    for hook in items(obj, "webhooks"):
        fill(hook, {"reinvocationPolicy": "Never"})


def validating(obj: Json) -> None:
    """Fill in a ValidatingWebhookConfiguration."""
    for hook in items(obj, "webhooks"):
        fill(hook, _HOOK)
        for name in ("namespaceSelector", "objectSelector"):
            child(hook, name)
        for rule in items(hook, "rules"):
            fill(rule, {"scope": "*"})
        service = maybe(maybe(hook, "clientConfig"), "service")
        if service is not None:
            fill(service, {"port": 443})
