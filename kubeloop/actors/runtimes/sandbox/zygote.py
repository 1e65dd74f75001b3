"""The zygote of a node: a small Python that forks the init process of every pod.

A fork of a ready interpreter costs a millisecond where a start costs thirty. The zygote also finds
out, once, what the host allows (`probe`); and it is the parent of all pods, so it knows when one
is gone for good: an init is reaped only after everything in its pid namespace has ended.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from . import init, launch, linux, rootfs, wire

NAMESPACES = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
)


class Zygote:
    """The loop of the zygote: probe, spawn and kill for the runtime; tell who is gone."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.selector = selectors.DefaultSelector()
        self.decoder = wire.Decoder()
        self.pods: dict[int, str] = {}  # The pid of an init → the runtime's key for it.
        self.ending = signal.SIGKILL  # What ends an init.
        self.lifeline, self.life = os.pipe()  # We hold the writing end: it closes when we die.

    def serve(self) -> NoReturn:
        """Work until the runtime is gone, then end every pod."""
        init.watch_children(self.selector, self.reap)
        self.selector.register(self.control, selectors.EVENT_READ, self.read)
        while True:
            for key, _ in self.selector.select():
                key.data()

    def read(self) -> None:
        """Take what the runtime sent."""
        try:
            data, files = wire.receive(self.control)
        except OSError:
            data, files = b"", []
        if not data:
            self.end()
        for message, passed in self.decoder.feed(data, files):
            self.handle(message, passed)
            for fd in passed:
                os.close(fd)

    def end(self) -> NoReturn:
        """End every pod, wait until each is gone for good, and end."""
        for pid in self.pods:
            init.kill(pid, self.ending, group=False)
        while self.pods:
            pid, _ = os.waitpid(-1, 0)
            self.pods.pop(pid, None)
        os._exit(0)

    def handle(self, message: dict[str, Any], files: list[int]) -> None:
        """Do one request."""
        answer: wire.Message = {}
        if message["op"] == "kill":
            found = [pid for pid, key in self.pods.items() if key == message["key"]]
            for pid in found:
                init.kill(pid, self.ending, group=False)
            answer["alive"] = bool(found)
        elif message["op"] == "probe":
            answer = self.fork(True, lambda out: probe(message["root"], out))[-1]
        else:
            namespaces = message["namespaces"]
            self.ending = signal.SIGKILL if namespaces else signal.SIGTERM
            answer = self.fork(namespaces, lambda out: self.pod(message, files[0]))[0]
            if "pid" in answer:
                self.pods[int(str(answer["pid"]))] = message["key"]
        self.tell({"id": message["id"], **answer})

    def tell(self, message: wire.Message) -> None:
        """Send to the runtime; if it is gone, so is everything else."""
        try:
            wire.send(self.control, message)
        except OSError:
            self.end()

    def reap(self) -> None:
        """Tell the runtime which pods are gone."""
        for pid, _ in init.ended():
            key = self.pods.pop(pid, None)
            if key is not None:
                self.tell({"event": "gone", "key": key})

    def fork(self, namespaces: bool, body: Callable[[int], None]) -> list[wire.Message]:
        """Run `body` as the first process of fresh namespaces; return its pid and what it says.

        A process between enters the namespaces, because only its child is in the new pid namespace,
        and ends at once. So the child becomes ours (we are its subreaper), and is told to go on
        when that is so: from then on PR_SET_PDEATHSIG means our death.
        """
        reading, writing = os.pipe()
        waiting, go = os.pipe()
        between = os.fork()
        if between == 0:
            os.close(go)
            _forked(writing, lambda: self.enter(namespaces, waiting, writing, body))
        os.close(waiting)
        os.close(writing)
        os.waitpid(between, 0)
        with contextlib.suppress(BrokenPipeError):  # No child: the process between says why.
            os.write(go, b"!")
        os.close(go)
        with open(reading, "rb") as file:
            return [json.loads(line) for line in file]

    def enter(self, namespaces: bool, waiting: int, out: int, body: Callable[[int], None]) -> None:
        """Enter fresh namespaces and fork: the child does `body`, this process tells its pid."""
        if namespaces:
            _isolate()
        pid = os.fork()
        if pid:
            _say(out, {"pid": pid})
            return
        if not os.read(waiting, 1):
            return  # The zygote is gone.
        os.close(self.life)
        linux.prctl(linux.PR_SET_PDEATHSIG, self.ending)
        body(out)

    def pod(self, order: dict[str, Any], control: int) -> None:
        """Become the init of a pod."""
        signal.set_wakeup_fd(-1)
        launch.close_all(keep=(0, 1, 2, control, self.lifeline))
        linux.set_name("kubeloop-pause")
        if not order["namespaces"]:
            linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        init.main(order, socket.socket(fileno=control), self.lifeline)


def _isolate() -> None:
    """Enter namespaces of our own, as their root. Raises: OSError."""
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(NAMESPACES)
    # Without this a user could leave groups that deny him something.
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def probe(root: dict[str, Any], out: int) -> None:
    """Try everything a pod needs, and say whether containers can have overlays. Raises: OSError."""
    init.set_up("", "10.0.0.1", "10.96.0.0/12")
    os.chdir(root["base"])
    # In directories of its own: those of an overlay cannot be used twice.
    upper, work = root["upper"] + "-tried", root["work"] + "-tried"
    try:
        os.mkdir(upper)
        os.mkdir(work)
        rootfs.overlay([root["image"]], root["place"], upper=upper, work=work)
        linux.umount(root["place"])
    except OSError as error:
        root["overlay"] = False
        why = error.strerror
    else:
        root["overlay"], why = True, ""
    rootfs.enter(root)
    _say(out, {"overlay": root["overlay"], "why": why})


def _say(out: int, message: wire.Message) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")


def _forked(out: int, steps: Callable[[], None]) -> NoReturn:
    """Take the steps of a forked process, tell what went wrong, and never return."""
    try:
        steps()
    except OSError as error:
        _say(out, {"errno": error.errno or 0, "error": error.strerror or str(error)})
    finally:
        if isinstance(sys.exc_info()[1], Exception):
            sys.excepthook(*sys.exc_info())
        os._exit(0)


def main() -> NoReturn:
    """Run as `zygote DESCRIPTOR PARENT`: the socket to the runtime, and the runtime's pid."""
    control, parent = int(sys.argv[-2]), int(sys.argv[-1])
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # It died before we asked to be told.
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    linux.set_name("kubeloop-zygote")
    linux.raise_descriptor_limit()
    gc.freeze()  # What is here stays: no collection may touch, and so copy, pages we share.
    Zygote(socket.socket(fileno=control)).serve()
