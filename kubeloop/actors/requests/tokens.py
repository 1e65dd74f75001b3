"""Tokens of service accounts: JWTs, signed with a key that is in the store beside the objects.

So they are good for all API servers that share a store, after a restart, and in a fork. The key is
made when the first token is asked for. ES256, with nonces as RFC 6979 has them: a token follows
from the key and from what it says, and the same seed gives the same tokens.

Source: RFC 7515, RFC 7519; Kubernetes, "Managing Service Accounts: Bound service account tokens".
"""

import base64
import binascii
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgpack

from kubeloop.actors.messages import API_SERVER
from kubeloop.actors.requests.state import State
from kubeloop.api.errors import ServiceUnavailable
from kubeloop.store.facts import Cause
from kubeloop.store.history import CompareFailed, Write
from kubeloop.store.store import StoreFailed, StoreFull

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

KEY: Final = "/registry/signingkeys/tokens"
_USER: Final = "system:apiserver"
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # Of P-256.
_SIZE: Final = 32  # Bytes of a number of P-256.


class BadToken(ValueError):
    """A token that nobody signed here, or that says nothing."""


def sign(state: State, claims: Mapping[str, Any]) -> str:
    """Return the token that says `claims`. Raises: ServiceUnavailable."""
    from cryptography.hazmat.primitives.asymmetric import utils

    key = _private(_secret(state) or _made(state))
    head = {"alg": "ES256", "kid": _name_of(key)}
    signed = f"{_encoded(_dumped(head))}.{_encoded(_dumped(claims))}"
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), _algorithm()))
    return f"{signed}.{_encoded(r.to_bytes(_SIZE, 'big') + s.to_bytes(_SIZE, 'big'))}"


def read(state: State, token: str) -> dict[str, Any]:
    """Return what a token says that was signed here. Raises: BadToken."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import utils

    secret = _secret(state)
    parts = token.split(".")
    if secret is None or len(parts) != 3:
        raise BadToken("invalid bearer token")
    try:
        head, claims = (json.loads(_decoded(part)) for part in parts[:2])
        raw = _decoded(parts[2])
    except (ValueError, binascii.Error):
        raise BadToken("invalid bearer token") from None
    if not isinstance(head, dict) or head.get("alg") != "ES256" or len(raw) != 2 * _SIZE:
        raise BadToken("invalid bearer token")
    r, s = int.from_bytes(raw[:_SIZE], "big"), int.from_bytes(raw[_SIZE:], "big")
    signature = utils.encode_dss_signature(r, s)
    public = _private(secret).public_key()
    try:
        public.verify(signature, f"{parts[0]}.{parts[1]}".encode(), _algorithm())
    except InvalidSignature:
        raise BadToken("invalid bearer token") from None
    if not isinstance(claims, dict):
        raise BadToken("invalid bearer token")
    return claims


def key_set(state: State) -> dict[str, Any]:
    """Return the public key, by which others tell that a token was signed here: a JWK set.

    Raises: ServiceUnavailable.
    Source: RFC 7517; RFC 7518, 6.2.
    """
    key = _private(_secret(state) or _made(state))
    numbers = key.public_key().public_numbers()
    public = {
        "use": "sig",
        "kty": "EC",
        "kid": _name_of(key),
        "crv": "P-256",
        "alg": "ES256",
        "x": _encoded(numbers.x.to_bytes(_SIZE, "big")),
        "y": _encoded(numbers.y.to_bytes(_SIZE, "big")),
    }
    return {"keys": [public]}


def _algorithm() -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def _secret(state: State) -> int | None:
    """Return the number that is the key; None if there is none yet."""
    stored = state.store.get(KEY)
    return None if stored is None else int(msgpack.unpackb(stored.value)["secret"], 16)


def _made(state: State) -> int:
    """Make a key, and return it. Raises: ServiceUnavailable."""
    secret = _number(state.bits)
    metadata = {"name": "tokens", "resourceVersion": str(state.store.revision + 1)}
    value = msgpack.packb({"metadata": metadata, "secret": f"{secret:x}"})
    try:
        cause = Cause(API_SERVER, "", 0, _USER)
        state.store.commit([Write(KEY, value, 0)], cause, at=state.wall())
    except (StoreFailed, StoreFull, CompareFailed) as error:
        raise ServiceUnavailable(f"the store takes no key to sign with: {error}") from error
    return secret


def _number(bits: Callable[[int], int]) -> int:
    """Return a secret number of P-256."""
    return 1 + bits(384) % (_ORDER - 1)  # So many bits, that all are as likely.


@functools.lru_cache(maxsize=8)  # It costs as much as a signature.
def _private(secret: int) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.derive_private_key(secret, ec.SECP256R1())


def _name_of(key: "EllipticCurvePrivateKey") -> str:
    """Return what a key is called: the hash of its public part, as Kubernetes does."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _encoded(hashlib.sha256(public).digest())


def _dumped(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
