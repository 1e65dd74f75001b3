"""The kinds of authentication.k8s.io: questions that are answered, and not kept."""

from typing import Final

from kubeloop.api.kinds.row import QUESTION, Resource

_GROUP: Final = "authentication.k8s.io"

ROWS: Final = tuple(
    Resource(_GROUP, "v1", kind, f"{kind.lower()}s", kind.lower(), namespaced=False, verbs=QUESTION)
    for kind in ("SelfSubjectReview", "TokenReview")
)
