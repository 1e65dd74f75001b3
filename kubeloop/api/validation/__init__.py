"""Validation: which objects make sense, and what to say of those that do not.

Rules are functions that append to a list of problems, in Kubernetes' order and words. They see
objects whose defaults are filled in and whose types are right: decoding has refused the rest.
"""

from kubeloop.api.defaulting.tools import Json, child
from kubeloop.api.errors import Cause
from kubeloop.api.resources import Resource
from kubeloop.api.validation import metadata
from kubeloop.api.validation.problems import Problems

__all__ = ["validate_create", "validate_status_update", "validate_update"]


def validate_create(resource: Resource, obj: Json) -> list[Cause]:
    """Return what is wrong with a new object; [] if nothing is."""
    problems = Problems()
    metadata.on_create(problems, resource, child(obj, "metadata"))
    return problems


def validate_update(resource: Resource, obj: Json, old: Json) -> list[Cause]:
    """Return what is wrong with turning `old` into `obj`; [] if nothing is."""
    problems = Problems()
    metadata.on_update(problems, child(obj, "metadata"), child(old, "metadata"))
    return problems


def validate_status_update(resource: Resource, obj: Json, old: Json) -> list[Cause]:
    """Return what is wrong with a new status; [] if nothing is."""
    problems = Problems()
    metadata.on_update(problems, child(obj, "metadata"), child(old, "metadata"))
    return problems
