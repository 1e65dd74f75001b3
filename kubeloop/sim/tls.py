"""TLS in virtual time.

The bytes are OpenSSL's, and it is honest about everything but two things. It looks at the real
clock when it checks a certificate: here validity is checked against the simulation's instead. And
it sends tickets whose lengths are up to chance: here a server sends none. All TLS of a simulation
passes through `SSLContext.wrap_bio`, whoever calls it; contexts are left as they were.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_NO_CHECK_TIME: Final = 0x200000  # OpenSSL: X509_V_FLAG_NO_CHECK_TIME.
_NOT_YET_VALID: Final = 9  # OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED.
_EXPIRED: Final = 10


class Checked(ssl.SSLObject):
    """One side of a TLS connection that knows the time of its simulation only."""

    wall: Callable[[], float]  # Seconds since 1970.

    def do_handshake(self) -> None:
        """Shake hands. Raises: SSLCertVerificationError if what the peer showed is not valid now.

        Only the peer's own certificate is looked at, not those of authorities.
        """
        super().do_handshake()
        shown = self.getpeercert()
        if not shown:  # The peer needs none.
            return
        now = self.wall()
        if now < ssl.cert_time_to_seconds(str(shown["notBefore"])):
            raise _invalid(_NOT_YET_VALID, "certificate is not yet valid")
        if now > ssl.cert_time_to_seconds(str(shown["notAfter"])):
            raise _invalid(_EXPIRED, "certificate has expired")


@contextmanager
def virtual_tls(loop: asyncio.AbstractEventLoop, wall: Callable[[], float]) -> Iterator[None]:
    """Have all TLS on `loop` live in its time while the body runs."""
    real = ssl.SSLContext.wrap_bio

    class Ours(Checked):
        pass

    Ours.wall = staticmethod(wall)

    def wrap_bio(context: ssl.SSLContext, *arguments: Any, **options: Any) -> ssl.SSLObject:
        if asyncio._get_running_loop() is not loop:
            return real(context, *arguments, **options)
        with _changed(context, Ours):
            return real(context, *arguments, **options)

    ssl.SSLContext.wrap_bio = wrap_bio  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ssl.SSLContext.wrap_bio = real  # type: ignore[method-assign]


@contextmanager
def _changed(context: ssl.SSLContext, ours: type[Checked]) -> Iterator[None]:
    """Have what `context` makes in the body be ours; OpenSSL copies its settings then."""
    flags, kind = context.verify_flags, context.sslobject_class
    server = context.protocol == ssl.PROTOCOL_TLS_SERVER
    tickets = context.num_tickets if server else 0
    context.verify_flags = ssl.VerifyFlags(flags | _NO_CHECK_TIME)
    if kind is ssl.SSLObject:
        context.sslobject_class = ours
    if server:
        context.num_tickets = 0
    try:
        yield
    finally:
        context.verify_flags, context.sslobject_class = flags, kind
        if server:
            context.num_tickets = tickets


def _invalid(code: int, why: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(
        1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {why}"
    )
    error.verify_code, error.verify_message = code, why
    return error
