"""Starting a process in a container: the steps between fork and exec.

What goes wrong after a fork is written to the status pipe, as text for the user. The pipe closes by
itself when exec succeeds: so an end of file without a word means that the program runs.
"""

import contextlib
import errno
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from . import linux, rootfs

STATUS, PIDS = 3, 4  # Descriptors of the pipes, in a process on its way to exec.
NOT_STARTED = 127
Order = Mapping[str, Any]


def start(order: Order, files: Sequence[int], *, namespaces: bool) -> tuple[int, int]:
    """Fork the first process of a container; return (pid, reading end of its status pipe).

    files: what becomes standard input, output and error.
    The pid is 0 if there was no process; the pipe then tells why.
    """
    reading, writing = os.pipe()
    if not namespaces:
        return _fork([*files, writing], lambda: _plain(order)), reading
    pids_reading, pids_writing = os.pipe()
    between = _fork([*files, writing, pids_writing], lambda: _isolated(order))
    # The process between ends at once, so that init becomes the parent, and will reap.
    os.waitpid(between, 0)
    pid = int(os.read(pids_reading, 32) or b"0")
    os.close(pids_reading)
    return pid, reading


def execute(order: Order, files: Sequence[int], *, pid: int, namespaces: bool) -> tuple[int, int]:
    """Fork a further process into the container whose first process is `pid`, as `start` does.

    The process returned stands for the new one: it ends when that ends, in the same way.
    """
    reading, writing = os.pipe()
    return _fork([*files, writing], lambda: _join(order, pid if namespaces else 0)), reading


def _fork(files: Sequence[int], steps: Callable[[], None]) -> int:
    """Fork a process with `files` as its descriptors 0, 1, 2 …; close those from 3 on here."""
    pid = os.fork()
    if pid == 0:
        _run(files, steps)
    for fd in files[STATUS:]:
        os.close(fd)
    return pid


def _run(files: Sequence[int], steps: Callable[[], None]) -> NoReturn:
    """Take the steps; they end in exec, in exit, or here, with the reason in the status pipe."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # First out of the way: one file may have the number of another one's destination.
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in files]
        for destination, fd in enumerate(moved):
            os.dup2(fd, destination, inheritable=destination < STATUS)
        close_all(keep=range(len(files)))
        steps()
    except OSError as error:
        os.write(STATUS, (error.strerror or str(error)).encode())
    finally:
        if isinstance(sys.exc_info()[1], Exception):
            sys.excepthook(*sys.exc_info())
        os._exit(NOT_STARTED)


def _plain(order: Order) -> None:
    """Start without namespaces: what would end with them must be asked to end with init."""
    os.setsid()
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    _exec(order, isolated=False)


def _isolated(order: Order) -> None:
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        os.write(PIDS, str(pid).encode())
        os._exit(0)
    os.close(PIDS)
    os.setsid()
    rootfs.enter(order["root"])
    _exec(order, isolated=True)


def _join(order: Order, pid: int) -> None:
    """Enter the namespaces of process `pid` (0: none), fork, and stand for the child."""
    if pid:
        pidfd = os.pidfd_open(pid)
        linux.setns(pidfd, linux.CLONE_NEWNS | linux.CLONE_NEWPID)
        os.close(pidfd)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = os.fork()  # Only children enter a pid namespace.
    if child:
        _stand_for(child)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    _exec(order, isolated=pid != 0)


def _stand_for(child: int) -> NoReturn:
    """End as the child does. TERM ends it, and all it has started that stayed in its group."""

    def end(*_: object) -> None:
        for kill in (os.killpg, os.kill):  # It may not have a group of its own yet.
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.closerange(0, STATUS + 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _exec(order: Order, *, isolated: bool) -> NoReturn:
    """Become the program. Raises: OSError with a text for the user."""
    environment: dict[str, str] = order["env"]
    argv: list[str] = order["argv"]
    if order["tty"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        if isolated:
            os.makedirs(order["cwd"], exist_ok=True)
        os.chdir(order["cwd"])
    except OSError as error:
        raise OSError(error.errno, f'chdir to cwd ("{order["cwd"]}"): {error.strerror}') from None
    program = find(argv[0], environment.get("PATH", ""))
    os.umask(0o022)
    linux.restore_descriptor_limit()
    if isolated:
        linux.drop_capabilities()
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):  # Python's own settings.
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(program, argv, environment)
    except OSError as error:
        told = f"exec {program}: {(error.strerror or '').lower()}"
        if error.errno == errno.ENOENT:
            told += " (its interpreter or loader is not in the image)"
        raise OSError(error.errno, told) from None
    except ValueError as error:  # A NUL in an argument or a variable.
        raise OSError(errno.EINVAL, f"exec {program}: {error}") from None


def find(name: str, path: str) -> str:
    """Return the file that `name` means in $PATH. Raises: OSError, in the words of runc."""
    if "/" in name:
        try:
            mode = os.stat(name).st_mode
        except OSError as error:
            told = f'exec: "{name}": stat {name}: {(error.strerror or "").lower()}'
            raise OSError(error.errno, told) from None
        if os.path.isdir(name) or not mode & 0o111:
            raise OSError(errno.EACCES, f'exec: "{name}": permission denied')
        return name
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise OSError(errno.ENOENT, f'exec: "{name}": executable file not found in $PATH')


def close_all(*, keep: Sequence[int] | range) -> None:
    """Close every descriptor but those in `keep`."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:  # That of the listing itself.
                continue
