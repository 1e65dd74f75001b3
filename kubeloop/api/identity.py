"""Users: which groups one is in. Pure.

A user is known by his name: the administrator, a component, or a service account; or by a client
certificate, which tells his groups as well.
"""

from collections.abc import Sequence
from typing import Final

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"  # Of service accounts' tokens.
KEY_SET: Final = "keys"  # What is asked for to get the public keys of the issuer; no resource.
AUTHORITY: Final = "authority"  # What is asked for to share one authority; no resource.
ADMIN: Final = "system:admin"
ANONYMOUS: Final = "system:anonymous"
UNAUTHENTICATED: Final = "system:unauthenticated"
MASTERS: Final = "system:masters"
_AUTHENTICATED: Final = "system:authenticated"
_ACCOUNT: Final = "system:serviceaccount:"
_ACCOUNTS: Final = "system:serviceaccounts"


def account_user(namespace: str, name: str) -> str:
    """Return the user a service account is."""
    return f"{_ACCOUNT}{namespace}:{name}"


def account_of(user: str) -> tuple[str, str] | None:
    """Return namespace and name of the service account a user is; None if he is none."""
    namespace, colon, name = user.removeprefix(_ACCOUNT).partition(":")
    return (namespace, name) if user.startswith(_ACCOUNT) and colon else None


def groups_of(user: str, told: Sequence[str] = ()) -> list[str]:
    """Return the groups of a user. told: those he has by what he showed, if it told any."""
    if told:
        return list(told)
    account = account_of(user)
    if account is not None:
        return [_ACCOUNTS, f"{_ACCOUNTS}:{account[0]}", _AUTHENTICATED]
    return [MASTERS, _AUTHENTICATED] if user == ADMIN else [_AUTHENTICATED]


def groups_with(organizations: Sequence[str]) -> list[str]:
    """Return the groups of who showed a certificate that names these organizations."""
    return [*dict.fromkeys((*organizations, _AUTHENTICATED))]


def may_do_anything(user: str, groups: Sequence[str]) -> bool:
    """Tell whether who is asked about may do it: everybody may who is known at all."""
    return bool(user or groups) and user != ANONYMOUS and UNAUTHENTICATED not in groups
