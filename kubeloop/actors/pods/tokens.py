"""Tokens of service accounts that projected volumes hold, asked of the API server pod by pod. Pure.

A token is bound to its pod: it is good for nothing once that has gone. One that has lived most of
its life is asked for anew when a container starts.

Source: Kubernetes, "Projected Volumes: serviceAccountToken".
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgpack

from kubeloop.actors.messages import Outcome, Request
from kubeloop.actors.pods.downward import ConfigError
from kubeloop.actors.pods.state import Object, Pod
from kubeloop.api.times import parse

TAG: Final = "token"
SECONDS: Final = 3600
_SPENT: Final = 0.8  # Of its life.


class Want(NamedTuple):
    """A token a pod wants. audience: "" is the API server's."""

    uid: str
    seconds: int
    audience: str


class Tokens:
    """Those of the pods of one node."""

    def __init__(self) -> None:
        self._known: dict[Want, tuple[str, float]] = {}  # The token, and until when it will do.
        self._asked: dict[Want, float] = {}  # When, Unix time.
        self._problems: dict[Want, str] = {}

    def clear(self) -> None:
        """Ask again: an answer may have been lost."""
        self._asked.clear()

    def forget(self, uid: str) -> None:
        """A pod has gone."""
        for known in (self._known, self._asked, self._problems):
            for want in [want for want in known if want.uid == uid]:
                del known[want]

    def wanted(self, pod: Pod, wall_s: float) -> list[Request]:
        """Return what is to be asked now for a pod's volumes; note whether it awaits any answer."""
        missing = [
            want
            for want in wanted_by(pod)
            if want not in self._problems and self._known.get(want, ("", 0.0))[1] <= wall_s
        ]
        pod.awaits_token = bool(missing)
        fresh = [want for want in missing if want not in self._asked]
        self._asked.update(dict.fromkeys(fresh, wall_s))
        return [_request(pod, want) for want in fresh]

    def answered(self, tag: str, outcome: Outcome) -> str:
        """Take an answer; return the uid of the pod it is for. tag: as told, without `TAG`."""
        uid, seconds, audience = tag.split("/", 2)
        want = Want(uid, int(seconds), audience)
        asked_s, body = self._asked.pop(want, None), msgpack.unpackb(outcome.body or b"\x80")
        if asked_s is None:
            return ""
        if outcome.code >= 300:
            self._problems[want] = str(body.get("message", ""))
        else:
            ends_s = parse(body["status"]["expirationTimestamp"])
            until_s = asked_s + _SPENT * (ends_s - asked_s)
            self._known[want] = body["status"]["token"], until_s
        return uid

    def text(self, pod: Pod, source: Object) -> str:
        """Return the token of a projection. Raises: ConfigError, once for each refusal."""
        want = _want(pod, source)
        if problem := self._problems.pop(want, ""):
            raise ConfigError(f"failed to fetch token: {problem}")
        return self._known[want][0]


def wanted_by(pod: Pod) -> Iterator[Want]:
    """Yield the tokens a pod's volumes hold."""
    for volume in pod.spec["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if (token := source.get("serviceAccountToken")) is not None:
                yield _want(pod, token)


def _want(pod: Pod, token: Object) -> Want:
    seconds = int(token.get("expirationSeconds") or SECONDS)
    return Want(pod.uid, seconds, token.get("audience") or "")


def _request(pod: Pod, want: Want) -> Request:
    bound = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
    spec = {
        "audiences": [want.audience] if want.audience else [],
        "expirationSeconds": want.seconds,
        "boundObjectRef": bound,
    }
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    return Request(
        "create",
        "serviceaccounts",
        pod.namespace,
        pod.spec["spec"].get("serviceAccountName") or "default",
        "token",
        msgpack.packb({**kind, "spec": spec}),
        tag=f"{TAG}/{want.uid}/{want.seconds}/{want.audience}",
        because=pod.because,
    )
