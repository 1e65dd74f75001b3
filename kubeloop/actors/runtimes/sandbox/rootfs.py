"""A container's root file system: mounted in its own mount namespace, entered by pivot_root.

The order is the safety. First the new root is mounted and entered, with the old one put away under
a name no image can guess; only then is anything mounted inside. So a symbolic link in an image,
say /proc → /etc, is followed inside the container, where it can only harm itself.

An image is laid under a writable layer by overlayfs, or was copied for this container where the
kernel does not let users mount overlays. An image built FROM host borrows from the machine: its
/usr, its loader, its Python, bound read-only, and the few files of /etc that programs look up.
"""

import os
from collections.abc import Iterable
from typing import Any

from . import beneath, linux

QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}
# As container engines do it. /proc/sys matters most: as root, its files are ours to write.
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
          "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware")  # fmt: skip
DIRECTORIES = ("/proc", "/dev", "/sys", "/etc", "/tmp", "/root", "/var/tmp")
ETC = ("hosts", "hostname", "resolv.conf")  # What tells a pod who it is.
HOST_ETC = ("alternatives", "ca-certificates", "crypto-policies", "fonts", "group", "gai.conf",
            "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf",
            "os-release", "passwd", "pki/ca-trust", "pki/tls/certs", "pki/tls/cert.pem",
            "protocols", "services", "ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf",
            "timezone")  # fmt: skip


def enter(root: dict[str, Any]) -> None:
    """Make `root` the root directory of this process, which has its own mount namespace.

    root: as `process_launch.root_of` builds it. The process must be in the container's pid
    namespace already, since /proc shows the namespace of whoever mounts it. Raises: OSError.
    """
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    os.chdir(root["base"])
    # The place of the root is in memory and nobody else's. A directory on disk that was a mount
    # point costs whoever deletes it a wait for the whole kernel, 30 ms for each container.
    linux.mount("tmpfs", root["place"], "tmpfs", QUIET, "mode=700,size=64k")
    target = root["place"] + "/root"
    os.mkdir(target, 0o755)
    if root["overlay"]:
        overlay(root["layers"], target, upper=root["upper"], work=root["work"])
    else:
        linux.mount(root["copy"], target, "", linux.MS_BIND | linux.MS_REC)
    old = "/" + root["old"]
    os.mkdir(target + old, 0o700)
    linux.pivot_root(target, target + old)
    os.chdir("/")
    for name in DIRECTORIES:
        os.makedirs(name, exist_ok=True)
    _mount_kernel(old)
    if root["host"]:
        _borrow(root, old)
    for name in ETC if root["etc"] else ():
        _replace(f"{old}{root['etc']}/{name}", f"/etc/{name}")
    for wanted in root["mounts"]:
        _mount_volume(old, wanted)
    os.chdir("/")
    linux.umount(old)
    os.rmdir(old)
    for name in ("/tmp", "/var/tmp"):
        if os.stat(name).st_mode & 0o7777 != 0o1777:
            _try(os.chmod, name, 0o1777)


def overlay(lower: Iterable[str], target: str, *, upper: str = "", work: str = "") -> None:
    """Mount the directories `lower`, the first on top, at `target`. Raises: OSError.

    upper, work: where changes go; without them the mount is read-only (and needs two directories).
    """
    options = "lowerdir=" + ":".join(map(_escaped, lower))
    if upper:
        options += f",upperdir={_escaped(upper)},workdir={_escaped(work)}"
    # volatile: nobody reads the changes after a crash, so nothing need be synced at the end.
    # userxattr: the only place where a user may keep the marks; older kernels know neither.
    flags = 0 if upper else linux.MS_RDONLY
    for extra in (",userxattr,volatile", ",userxattr", ""):
        try:
            linux.mount("overlay", target, "overlay", flags, options + extra)
        except OSError as error:
            failure = error
        else:
            return
    raise failure


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _mount_kernel(old: str) -> None:
    """Mount /proc, /sys and a small /dev, and hide what a container must not touch."""
    try:
        linux.mount("proc", "/proc", "proc", QUIET)
    except PermissionError:  # Part of the host's own /proc is hidden: we are in a container.
        linux.bind(old + "/proc", "/proc", read_only=True)
    _try(linux.mount, "sysfs", "/sys", "sysfs", QUIET | linux.MS_RDONLY)
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID, "mode=755,size=65536k")
    for name in DEVICES:
        if os.path.exists(f"{old}/dev/{name}"):
            _touch(f"/dev/{name}")
            linux.bind(f"{old}/dev/{name}", f"/dev/{name}", read_only=False)
    for name, destination in LINKS.items():
        os.symlink(destination, name)
    os.mkdir("/dev/pts")
    os.mkdir("/dev/shm")
    no_exec = linux.MS_NOSUID | linux.MS_NOEXEC
    _try(linux.mount, "devpts", "/dev/pts", "devpts", no_exec, "newinstance,ptmxmode=0666,mode=620")
    linux.mount("shm", "/dev/shm", "tmpfs", QUIET, "mode=1777,size=65536k")
    for name in READ_ONLY:
        if os.path.exists(name):
            _try(linux.bind, name, name, read_only=True)
    for name in MASKED:
        if os.path.isdir(name):
            _try(linux.mount, "tmpfs", name, "tmpfs", QUIET | linux.MS_RDONLY, "size=0")
        elif os.path.exists(name):
            _try(linux.bind, "/dev/null", name, read_only=True)


def _borrow(root: dict[str, Any], old: str) -> None:
    """Let the host's programs and libraries appear, read-only, with the image's files on top."""
    image = f"{old}{root['base']}/{root['image']}"
    for path in root["host"]:
        if os.path.islink(old + path) and not os.path.lexists(image + path):
            if not os.path.lexists(path):
                os.symlink(os.readlink(old + path), path)
            continue
        real = old + root["host"][path]
        os.makedirs(path, exist_ok=True)
        if not os.path.isdir(image + path) or not os.listdir(image + path):
            linux.bind(real, path, read_only=True)
        elif root["overlay"]:
            overlay([image + path, real], path)
        else:
            raise OSError(
                f"the image has files under {path}, which belongs to the host, and this kernel "
                "lets no user mount an overlay: put them elsewhere, /app for example"
            )
    for name in HOST_ETC:
        if not os.path.lexists(f"{image}/etc/{name}"):  # Else the image has its own.
            _borrow_file(f"{old}/etc/{name}", f"/etc/{name}")
    if not os.path.lexists(root["bin"] + "/python3"):
        os.makedirs(root["bin"], exist_ok=True)
        os.symlink(root["python"], root["bin"] + "/python3")


def _borrow_file(source: str, target: str) -> None:
    if not os.path.lexists(source) or os.path.islink(target):
        return
    if os.path.islink(source):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(source), target)
        return
    _mount_point(target, directory=os.path.isdir(source))
    linux.bind(source, target, read_only=True)


def _mount_volume(old: str, wanted: dict[str, Any]) -> None:
    source, target = old + wanted["source"], wanted["target"]
    try:
        if wanted["beneath"]:
            at = beneath.walk(source, wanted["beneath"], make=False)
            source = f"/proc/self/fd/{at}"
        _mount_point(target, directory=os.path.isdir(source))
        linux.bind(source, target, read_only=wanted["read_only"])
    except OSError as error:
        raise OSError(error.errno, f"cannot mount a volume at {target}: {error.strerror}") from None


def _mount_point(target: str, *, directory: bool) -> None:
    if directory:
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.lexists(target):
        _touch(target)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _replace(source: str, target: str) -> None:
    """Mount a file over another; if that is a link, over the link and not what it leads to."""
    if os.path.islink(target):
        os.unlink(target)
    _mount_point(target, directory=False)
    linux.bind(source, target, read_only=False)


def _try(call: Any, *arguments: Any, **named: Any) -> None:
    """Do what is good to have; not every kernel and every outer container allows it."""
    try:
        call(*arguments, **named)
    except OSError:
        return
