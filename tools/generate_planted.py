"""Make what every cluster has from its start: kubeloop/actors/requests/planted.msgpack.

Output: [key, packed object] of each, with placeholders; see kubeloop/actors/requests/upkeep.py.
        The same code gives the same bytes; a test tells when they are to be made again.
Usage:  python tools/generate_planted.py
"""

from pathlib import Path
from typing import Final

import msgpack

from kubeloop.actors.requests.upkeep import made
from kubeloop.store.facts import key_of

TARGET: Final = (
    Path(__file__).parent.parent / "kubeloop" / "actors" / "requests" / "planted.msgpack"
)


def main() -> None:
    """Write the file."""
    rows = [[key_of(id_, "", name), msgpack.packb(obj)] for id_, name, obj in made()]
    TARGET.write_bytes(msgpack.packb(rows))


if __name__ == "__main__":
    main()
