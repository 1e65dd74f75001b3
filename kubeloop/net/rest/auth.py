"""Who asks: a bearer token. The administrator's is known here, all others to the API server."""

import hmac
from typing import Final

from kubeloop.api.errors import Unauthorized
from kubeloop.api.identity import ADMIN

OPEN: Final = frozenset({"healthz", "livez", "readyz", "version"})
"""The first segments of the paths that everybody may see."""


class Authenticator:
    """Knows one token, the administrator's; it is compared in constant time."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("the token is empty: every request would be refused")
        self._expected = token.encode()

    def user(self, authorization: str | None) -> str:
        """Return the user an Authorization header stands for. Raises: Unauthorized."""
        found = self.knows(token_in(authorization))
        if not found:
            raise Unauthorized
        return found

    def knows(self, token: str) -> str:
        """Return the user a token stands for, "" if that is not known here."""
        given = token.encode(errors="replace")
        return ADMIN if hmac.compare_digest(given, self._expected) else ""


def token_in(authorization: str | None) -> str:
    """Return the bearer token in an Authorization header, "" if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_signed(token: str) -> bool:
    """Tell whether a token looks as if it were signed: whether it may be of a service account."""
    return token.count(".") == 2
