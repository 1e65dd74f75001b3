"""Which versions of a custom kind have been stored: a definition's status remembers them.

Source: Kubernetes, "Versions in CustomResourceDefinitions: Upgrade existing objects to a new stored
version".
"""

from kubeloop.actors.requests.state import Object


def remember(definition: Object) -> None:
    """Add the version that is stored from now on, in place."""
    stores = [v["name"] for v in definition["spec"].get("versions") or () if v.get("storage")]
    status = definition.setdefault("status", {})
    known = status.get("storedVersions") or []
    status["storedVersions"] = [*known, *(name for name in stores if name not in known)]
