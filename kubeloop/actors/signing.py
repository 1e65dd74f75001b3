"""Signing requests: who asks, as whom, and under which id. Pure.

The store keeps it with all that a request writes; see `store.facts.Cause`.
"""

from kubeloop.api.calls import Request

ERA_BITS = 48  # So few actors of one name ever live that none draws another's era.


class Signer:
    """Signs the requests of one actor, each under an id of its own.

    sender: the actor's name;  user: as whom it asks.
    era:    ERA_BITS random bits, which no actor of this name before it had.
    """

    def __init__(self, sender: str, user: str, era: int) -> None:
        self.sender, self.user = sender, user
        self._era, self._count = f"{era:x}", 0

    def next_id(self) -> str:
        """Return an id that is not given twice."""
        self._count += 1
        return f"{self._era}-{self._count}"

    def sign(
        self, request: Request, because: int, *, id: str = "", tag: str = "", user: str = ""
    ) -> Request:
        """Return `request`, signed.

        because: the revision of the fact that made the actor ask; 0 if it was its clock.
        id:      one of `next_id`; "" for the next.
        tag:     what its Outcome is called; "" if nobody waits for it.
        user:    as whom it asks, if not as the usual one.
        """
        # By position: `dataclasses.replace` takes three times as long.
        return Request(
            request.verb,
            request.resource,
            request.namespace,
            request.name,
            request.subresource,
            request.body,
            request.options,
            user or self.user,
            self.sender,
            tag,
            because,
            id=id or self.next_id(),
            version=request.version,
            groups=request.groups,
        )
