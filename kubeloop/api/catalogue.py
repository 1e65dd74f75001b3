"""The catalogue: every kind that is served, built in or defined by users. Pure.

    catalogue = Catalogue.of(definitions)       # CustomResourceDefinitions, as objects
    catalogue.find("foos.rec.io", "v1")         # a Resource like any other

Built-in kinds are a table; a definition adds a row for each version it serves, as soon as it is
established. A catalogue never changes: whoever writes definitions makes another.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Final

from kubeloop.api.custom import resources_of
from kubeloop.api.resources import ROWS, Resource

DEFINITIONS: Final = "customresourcedefinitions.apiextensions.k8s.io"
_VERSION: Final = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?")
_STAGES: Final = {"alpha": 0, "beta": 1, None: 2}


class Catalogue:
    """What is served.

    resources: every Resource, one for each version; of a kind the preferred version comes first.
    """

    def __init__(self, custom: Iterable[Resource] = ()) -> None:
        made = sorted(custom, key=lambda one: (one.group, one.plural, _age(one.version)))
        self.resources: tuple[Resource, ...] = (*ROWS, *made)

    @classmethod
    def of(cls, definitions: Iterable[Mapping[str, Any]]) -> "Catalogue":
        """Return the catalogue of the built-in kinds, and of definitions that are established."""
        custom = [one for definition in definitions for one in resources_of(definition)]
        return cls(custom) if custom else BUILT_IN

    @cached_property
    def by_plural(self) -> Mapping[tuple[str, str, str], Resource]:
        """By group, version and plural."""
        return {(one.group, one.version, one.plural): one for one in self.resources}

    @cached_property
    def by_kind(self) -> Mapping[tuple[str, str], Resource]:
        """By apiVersion and kind."""
        return {(one.api_version, one.kind): one for one in self.resources}

    @cached_property
    def by_id(self) -> Mapping[str, Resource]:
        """What is stored, by id, each in its preferred version."""
        return {one.id: one for one in reversed(self.resources) if one.stored}

    @cached_property
    def _questions(self) -> Mapping[str, Resource]:
        return {one.id: one for one in self.resources if not one.stored}

    @cached_property
    def group_versions(self) -> tuple[tuple[str, str], ...]:
        """Every group and version, of a group the preferred one first."""
        found = dict.fromkeys((one.group, one.version) for one in self.resources)
        groups = dict.fromkeys(group for group, _ in found)
        return tuple(
            (group, version)
            for group in groups
            for version in sorted((v for g, v in found if g == group), key=_age)
        )

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Every group but the core's."""
        return tuple(dict.fromkeys(group for group, _ in self.group_versions if group))

    def find(self, id: str, version: str = "") -> Resource | None:
        """Return a resource in a version, "" for the preferred one; None if there is none."""
        found = self.by_id.get(id) or self._questions.get(id)
        if found is None or version in ("", found.version):
            return found
        return self.by_plural.get((found.group, version, found.plural))

    def stored_as(self, obj: Mapping[str, Any]) -> str:
        """Return the id of the resource of an object in a version that is stored, but not served.

        Raises: LookupError.
        """
        group = str(obj["apiVersion"]).rpartition("/")[0]
        for one in self.resources:
            if (one.group, one.kind) == (group, obj["kind"]):
                return one.id
        raise LookupError(f"no matches for kind {obj['kind']!r} in group {group!r}")

    def named(self, name: str) -> Resource:
        """Return the resource a user means by "pods", "pod", "po", "Pod" or "deployments.apps".

        Raises: LookupError, which says what there is.
        """
        wanted = name.lower()
        for one in self.resources:
            if wanted in (one.id, one.plural, one.singular, one.kind.lower(), *one.short_names):
                return one
        known = ", ".join(sorted(self.by_id))
        raise LookupError(f"the server doesn't have a resource type {name!r}; it has {known}")


def _age(version: str) -> tuple[int, int, int, int, str]:
    """Sort v2, v1, v1beta2, v1beta1, v1alpha1, and then all others by name.

    Source: Kubernetes, "Versions in CustomResourceDefinitions: Version priority".
    """
    found = _VERSION.fullmatch(version)
    if found is None:
        return 1, 0, 0, 0, version
    major, stage, minor = found.groups()
    return 0, -_STAGES[stage], -int(major), -int(minor or 0), ""


BUILT_IN: Final = Catalogue()
