"""Who asks: by a client certificate, or by a bearer token.

Of tokens the administrator's is known here, all others to the API server.
"""

import hmac
import ssl
from collections.abc import Mapping
from typing import Any, Final

from kubeloop.api.errors import Unauthorized
from kubeloop.api.identity import ADMIN, groups_with

OPEN: Final = frozenset({"healthz", "livez", "readyz", "version"})
"""The first segments of the paths that everybody may see."""


def shown_by(certificate: Mapping[str, Any] | None, now_s: float) -> tuple[str, list[str]] | None:
    """Return user and groups of a client certificate, None if it names nobody.

    certificate: as `ssl.SSLObject.getpeercert` tells it: one that our authority signed.
    now_s:       seconds since 1970: a connection may last longer than its certificate.
    Raises: Unauthorized if it has expired.
    Source: Kubernetes, "Authenticating: X.509 client certificates".
    """
    if not certificate:
        return None
    subject = [pair for names in certificate.get("subject", ()) for pair in names]
    users = [value for name, value in subject if name == "commonName"]
    if not users or not users[-1]:
        return None
    if now_s > ssl.cert_time_to_seconds(str(certificate["notAfter"])):
        raise Unauthorized
    return users[-1], groups_with([value for name, value in subject if name == "organizationName"])


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
