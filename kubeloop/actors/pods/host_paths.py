"""What must be at a path of the node for it to be a volume. Pure.

Source: Kubernetes, "Volumes: hostPath volume types", "local".
"""

from typing import Final, Literal

from kubeloop.actors.runtimes.protocol import Mount

Found = Literal["", "directory", "file", "socket file", "character device", "block device", "other"]
"""What is at a path; "": nothing."""

LOCAL: Final = "Local"  # The kind of a `local` volume: it must be there.
MADE: Final = {"": "directory", "DirectoryOrCreate": "directory", "FileOrCreate": "file"}
"""What is made of a kind if nothing is there."""

_MUST_BE: Final = {
    "DirectoryOrCreate": "directory",
    "Directory": "directory",
    "FileOrCreate": "file",
    "File": "file",
    "Socket": "socket file",
    "CharDevice": "character device",
    "BlockDevice": "block device",
}


def why_not(mount: Mount, found: Found) -> str:
    """Return why a path is not the volume it should be, in the words of a FailedMount event."""
    if mount.kind == LOCAL:
        if found:
            return ""
        return (
            f'MountVolume.NewMounter initialization failed for volume "{mount.volume}" : path'
            f' "{mount.host}" does not exist'
        )
    wanted = _MUST_BE.get(mount.kind, found)
    if wanted == found:
        return ""
    why = f"hostPath type check failed: {mount.host} is not a {wanted}"
    return failed(mount.volume, why)


def failed(volume: str, why: str) -> str:
    """Return the words of a FailedMount event."""
    return f'MountVolume.SetUp failed for volume "{volume}" : {why}'
