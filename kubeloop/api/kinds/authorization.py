"""The kinds of authorization.k8s.io: questions that are answered, and not kept."""

from typing import Final

from kubeloop.api.kinds.row import QUESTION, Resource

_GROUP: Final = "authorization.k8s.io"
_LOCAL: Final = "LocalSubjectAccessReview"

ROWS: Final = tuple(
    Resource(
        _GROUP,
        "v1",
        kind,
        f"{kind.lower()}s",
        kind.lower(),
        namespaced=kind == _LOCAL,
        verbs=QUESTION,
    )
    for kind in (
        _LOCAL,
        "SelfSubjectAccessReview",
        "SelfSubjectRulesReview",
        "SubjectAccessReview",
    )
)
