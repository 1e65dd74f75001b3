"""Who asks: a bearer token, compared in constant time."""

import hmac
from typing import Final

from kubeloop.api.errors import Unauthorized

ADMIN: Final = "system:admin"
OPEN: Final = frozenset({"healthz", "livez", "readyz", "version"})
"""The first segments of the paths that everybody may see."""


class Authenticator:
    """Knows one token, the administrator's."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("the token is empty: every request would be refused")
        self._expected = token.encode()

    def user(self, authorization: str | None) -> str:
        """Return the user an Authorization header stands for. Raises: Unauthorized."""
        scheme, _, token = (authorization or "").partition(" ")
        given = token.strip().encode(errors="replace")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._expected):
            raise Unauthorized
        return ADMIN
