"""Hypothesis' strategies for manifests: objects that the API server takes as they are.

    @given(chaos.manifests("Deployment"))
    @given(chaos.manifests(definition))          # a CustomResourceDefinition: of its kind

Which fields there are, and of what types, the schemas tell; what values make sense is a table, one
row a field. They shrink to the least manifest of the kind.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kubeloop.api.resources import find
from kubeloop.chaos.manifests.builtin import built_in
from kubeloop.chaos.manifests.custom import of_definition

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["manifests"]


def manifests(
    kind: str | Mapping[str, Any], *, name: str = "", namespace: str = ""
) -> "SearchStrategy[dict[str, Any]]":
    """Return manifests of a kind.

    kind:      as in kubectl: "pods", "po", "Deployment", "jobs.batch"; or the definition of a
               custom kind, drawn in the version that is stored.
    name:      of all of them; "" draws one.
    namespace: "" leaves it away.
    Raises:    LookupError if there is no such kind; ValueError for a definition without a schema.
    """
    if isinstance(kind, str):
        return built_in(find(kind), name=name, namespace=namespace)
    return of_definition(kind, name=name, namespace=namespace)
