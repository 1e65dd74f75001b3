"""What a row of the table of kinds is: a kind as discovery tells of it, with its subresources."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from kubeloop.api.custom import CustomKind

_ALL: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Versioned(Protocol):
    """How a version of a kind differs from what is stored.

    api_version: of this version;  storage: of what is stored.
    revision:    what was written before it may need another look.
    """

    @property
    def api_version(self) -> str: ...

    @property
    def storage(self) -> str: ...

    @property
    def revision(self) -> int: ...

    def served(self, stored: dict[str, Any], revision: int = 0) -> dict[str, Any]:
        """Return what is stored as this version has it."""

    def stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Return an object of this version as it is stored."""


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource: the verbs it takes, and the kind it speaks if that is not its parent's.

    connects: it leads out of the API, into a pod or a node; `kind` is that of its options.
    """

    name: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""
    kind: str = ""
    connects: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind, as discovery tells of it.

    fields:    the field selectors it supports beside metadata.name and metadata.namespace.
    list_kind: the kind of its lists, if that is not the kind with "List" behind.
    custom:    of a custom kind, what its definition says; None for what is built in.
    other:     of a built-in kind in another version than the stored one, how they differ.
    kept_as:   the id its objects are stored under, if that is another kind's; "" if it is its own.
    computed:  its objects are made when they are asked for, and not kept.
    kept:      of such a kind, a field it can be selected by → where that is stored.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _ALL
    subresources: tuple[Subresource, ...] = ()
    fields: tuple[str, ...] = ()
    list_kind: str = ""
    custom: "CustomKind | None" = field(default=None, compare=False, repr=False)
    other: Versioned | None = field(default=None, compare=False, repr=False)
    kept_as: str = ""
    computed: bool = False
    kept: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The name used in keys and errors: "pods", "deployments.apps"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored_id(self) -> str:
        """The id its objects are stored under."""
        return self.kept_as or self.id

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def stored(self) -> bool:
        """Whether its objects are stored; others are questions, which are answered."""
        return "list" in self.verbs and not self.computed

    @property
    def versioned(self) -> "CustomKind | Versioned | None":
        """How its objects differ from what is stored; None if they do not."""
        return self.custom if self.custom is not None else self.other

    def kept_form(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Return an object as it is selected by: as it is kept, if that is another kind's form."""
        return self.other.stored(obj) if self.kept_as and self.other is not None else obj

    def told_form(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Invert `kept_form`."""
        return self.other.served(kept) if self.kept_as and self.other is not None else kept

    def subresource(self, name: str) -> Subresource | None:
        """Return the subresource called `name`, None if there is none."""
        return next((s for s in self.subresources if s.name == name), None)


QUESTION: Final = ("create",)  # The verbs of what is answered, and not kept.
GET_AND_CHANGE: Final = ("get", "patch", "update")
STATUS: Final = Subresource("status", GET_AND_CHANGE)
SCALE: Final = Subresource("scale", GET_AND_CHANGE, "autoscaling", "v1", "Scale")
WORKLOAD: Final = (STATUS, SCALE)
