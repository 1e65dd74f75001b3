"""The addresses of a node's pods, taken from its pod CIDR. Pure."""

from ipaddress import IPv4Network

_FIRST = 2  # The network itself and its gateway are nobody's.


class Addresses:
    """Gives out the addresses of one CIDR, the one that was free longest first."""

    def __init__(self, cidr: str) -> None:
        network = IPv4Network(cidr)
        self._base, self._size = int(network.network_address), network.num_addresses
        self._text = f"{cidr}"
        self._next = _FIRST
        self._taken: dict[str, str] = {}
        self._owners: dict[str, str] = {}

    def take(self, owner: str) -> str | None:
        """Return the address of `owner`, a new one if he has none; None if none is left."""
        if owner in self._owners:
            return self._owners[owner]
        usable = self._size - _FIRST - 1  # The last one is the broadcast address.
        for step in range(max(0, usable)):
            offset = _FIRST + (self._next - _FIRST + step) % usable
            address = str(IPv4Network(self._base + offset).network_address)
            if self.claim(owner, address):
                self._next = offset + 1
                return address
        return None

    def claim(self, owner: str, address: str) -> bool:
        """Give `owner` this very address; tell whether it was free, or his already."""
        if self._taken.setdefault(address, owner) != owner:
            return False
        self._owners[owner] = address
        return True

    def free(self, owner: str) -> None:
        """Take back whatever `owner` has."""
        address = self._owners.pop(owner, None)
        if address is not None:
            del self._taken[address]
