"""System calls that Python 3.11 lacks, by ctypes, raising OSError like the rest of `os`.

Nothing is looked up before it is called: importing this elsewhere than on Linux is harmless.
"""

import ctypes
import errno
import functools
import os
import resource
from typing import Any

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC = 32, 4096, 16384
MS_PRIVATE, MS_SLAVE = 1 << 18, 1 << 19
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36

AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY = 1
NR_MOUNT_SETATTR = 442  # The same on every architecture, as all calls since Linux 5.1.

# What a container of Kubernetes may do by default, by number in <linux/capability.h>: CHOWN,
# DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
# SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP. Not SYS_ADMIN: it could remount the host's /usr writable.
CAPABILITIES_KEPT = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` name for new ones."""
    _check(_libc().unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, flags: int) -> None:
    """Enter namespaces: those of the process behind a pidfd."""
    _check(_libc().setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    result = _libc().mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        os.fsencode(options) or None,
    )
    _check(result, f"mount {kind or 'bind'} {source} on {target}")


def umount(target: str) -> None:
    """Detach a mount and all below it; it goes when nobody uses it any more."""
    _check(_libc().umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH)), f"umount {target}")


def bind(source: str, target: str, *, read_only: bool) -> None:
    """Make what is at `source`, with all that is mounted below, also appear at `target`."""
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        make_read_only(target)


def make_read_only(target: str) -> None:
    """Let nobody write through the mount at `target`; nor below it where the kernel can do that."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    result = _libc().syscall(
        ctypes.c_long(NR_MOUNT_SETATTR),
        ctypes.c_int(AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    if result == 0:
        return
    # Before Linux 5.12. Flags that the host set must be repeated, they are not ours to take off.
    kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("none", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root directory; what was the root appears at `old`."""
    _check(_libc().pivot_root(os.fsencode(new), os.fsencode(old)), "pivot_root")


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    raw = name.encode()
    _check(_libc().sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname")


def prctl(option: int, value: int = 0) -> None:
    """prctl(2) with one argument."""
    zero = ctypes.c_ulong(0)
    result = _libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)
    _check(result, f"prctl {option}")


def set_name(name: str) -> None:
    """Set what `ps` and `top` call this process: at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    zero = ctypes.c_ulong(0)
    result = _libc().prctl(ctypes.c_int(PR_SET_NAME), buffer, zero, zero, zero)
    _check(result, "prctl PR_SET_NAME")


@functools.cache
def _descriptor_limit() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_descriptor_limit() -> None:
    """Allow this process, and what it forks, all the open files it may have."""
    hard = _descriptor_limit()[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def restore_descriptor_limit() -> None:
    """Take that back: programs that use select() break on large descriptors."""
    resource.setrlimit(resource.RLIMIT_NOFILE, _descriptor_limit())


def drop_capabilities() -> None:
    """Make sure that no program started from here has more than CAPABILITIES_KEPT."""
    for capability in range(64):
        if capability in CAPABILITIES_KEPT:
            continue
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return  # This kernel knows no more of them.
