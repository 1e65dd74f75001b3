"""The kubelet: the shell round the life of one node's pods.

Facts, answers and notes come in; `pods.life` says what to do, `pod_work` does what takes time, and
`pods.reporting` says what to write. It holds nothing that list + watch and the runtime could not
give back: after a crash it finds its pods again (`pods.recovery`), and whatever runs that the API
does not know of is ended.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.alarms import Alarms
from kubeloop.actors.images import pulls
from kubeloop.actors.images.keeper import ImageKeeper
from kubeloop.actors.messages import (
    API_SERVER,
    Facts,
    Listing,
    Note,
    Outcome,
    Request,
    Subscribe,
    Synced,
    decode,
)
from kubeloop.actors.node_config import NodeConfig
from kubeloop.actors.node_events import NodeEvents
from kubeloop.actors.pod_work import PodWork
from kubeloop.actors.pods import actions as act
from kubeloop.actors.pods import life, notes, pressure, references, rest, tokens
from kubeloop.actors.pods.addresses import Addresses
from kubeloop.actors.pods.admission import Admission
from kubeloop.actors.pods.downward import ConfigError, Host
from kubeloop.actors.pods.environment import container_spec, sandbox_spec
from kubeloop.actors.pods.notes import CONFIG_RETRY_S
from kubeloop.actors.pods.pressure import Pressure, Usage
from kubeloop.actors.pods.recovery import lost_run, orphan, recover
from kubeloop.actors.pods.reporting import Report, Reporter, written
from kubeloop.actors.pods.state import NEVER, Pod, Verdict
from kubeloop.actors.pods.volumes import MountError
from kubeloop.actors.probes import Prober
from kubeloop.actors.registration import EVENTS, Registration
from kubeloop.actors.runtimes.protocol import Exited, ImageRecord, Runtime, SandboxRecord
from kubeloop.actors.signing import ERA_BITS, Signer
from kubeloop.actors.volume_keeper import AGAIN_S, TAG, VolumeKeeper
from kubeloop.api.admission.volumes import VOLUMES
from kubeloop.store.facts import Fact, key_of

__all__ = ["Kubelet", "NodeConfig"]

RESOURCES: Final = ["pods", "nodes", *references.RESOURCES]
ROUNDS_MAX: Final = 8  # How often one pod is looked at in one turn before others get theirs.
LATE_S: Final = 1e-4  # Timers are set so much late: a rounding error must not let them ring early.

Object = Mapping[str, Any]


class Kubelet(AsyncActor):
    """Runs the pods that are bound to one node, and keeps its Node object."""

    def __init__(
        self, scene: Scene, name: str, *, node: NodeConfig, runtime: Runtime, prober: Prober
    ) -> None:
        super().__init__(scene, name)
        self.node, self.runtime = node, runtime
        self.host = Host(name=node.name, ip=node.address, allocatable=node.capacity)
        self.work = PodWork(runtime, prober, clock=self.world.now, wall=self.world.wall)
        self.reporter = Reporter(host_ip=node.address, runtime=runtime.name, settle_s=node.settle_s)
        self.registration = Registration(node, runtime.name)
        self._events, self._alarms = NodeEvents(node.name), Alarms()
        self.admission = Admission(node.capacity)
        self.pulls, self.references = pulls.Pulls(), references.References()
        self.addresses = Addresses(node.pod_cidr)
        self.pods: dict[str, Pod] = {}
        self.reports: dict[str, Report] = {}
        self._uids: dict[str, str] = {}  # Store key → uid, of the pods the API has.
        self._listed: dict[str, Object] | None = {}  # While a list arrives; None afterwards.
        self._missing: dict[str, frozenset[str]] = {}  # Pods that wait for what they refer to.
        self._dirty: dict[str, None] = {}
        self._revision, self._ready, self._timer_at = 0, False, NEVER
        user = f"system:node:{node.name}"
        self._signer = Signer(name, user, self.world.rng.getrandbits(ERA_BITS))
        self.images = ImageKeeper(node, self.pulls, self.registration)
        self.pressure, self.volumes = Pressure(node), VolumeKeeper(node.name)

    def on_start(self) -> None:
        self.runtime.listen(self._on_exit)
        self.runtime.watch_usage(self._on_usage)
        self.images.begin(self.runtime.images(), self.world.now())
        self.send(API_SERVER, Subscribe(self.name, RESOURCES, node=self.node.name).encode())
        self._tell_node("Starting", "Starting kubelet.")

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        now = self.world.now()
        for envelope in envelopes:
            self._hear(decode(envelope.message), now)
        if not self._ready or self._listed is not None:
            return
        self._dirty.update(dict.fromkeys(self._alarms.due(now)))
        while self._dirty:
            uid = next(iter(self._dirty))
            del self._dirty[uid]
            if uid in self.pods:
                self._sync(self.pods[uid], now)
        self._relieve(now)
        for name, path in self.volumes.take_due():
            self.run(self.work.wipe(name, path), f"wipe {name}")
        for request in self.registration.turn(now, self.world.wall()):
            self._ask(request)
        if now >= self.images.collect_at:
            self._collect_images(now)
        self._set_timer(now)

    def busy(self) -> str | None:
        if not self._ready or self._listed is not None:
            return "has not heard its list"
        return rest.busy(self.pods, self.reports, self.world.now()) or super().busy()

    # What is heard.

    def _hear(self, message: object, now: float) -> None:
        match message:
            case Facts():
                for fact in message.facts():
                    self._fold(fact)
                self._revision = max(self._revision, message.revision)
            case Outcome():
                self._answered(message, now)
            case Note():
                self._noted(message, now)
            case Listing():
                self._start_over()
            case Synced():
                self._revision = max(self._revision, message.revision)
                self._take_list()
            case _:
                raise TypeError(f"a kubelet was sent {message!r}")

    def _start_over(self) -> None:
        """A list follows. The API server may have failed: who asked it may never be answered."""
        self._listed = {}
        self._uids.clear()
        self.references.clear()
        self.volumes.clear()
        self.registration.start_over()
        self.reports = {uid: Report() for uid in self.reports}

    def _fold(self, fact: Fact) -> None:
        if fact.resource == "pods":
            self._fold_pod(fact)
        elif fact.resource == "nodes":
            if fact.key == key_of("nodes", "", self.node.name):
                self.registration.observe(fact.object(), fact.revision)
        else:
            self.references.fold(fact)
            if fact.resource == VOLUMES:
                self.volumes.fold(fact)
            for uid in [uid for uid, keys in self._missing.items() if fact.key in keys]:
                del self._missing[uid]
                self.pods[uid].because = fact.revision
                self._retry(uid)

    def _retry(self, uid: str) -> None:
        self._dirty[uid] = None
        for container in self.pods[uid].containers.values():
            container.retry_at = 0.0

    def _fold_pod(self, fact: Fact) -> None:
        obj, before = fact.object(), self._uids.pop(fact.key, "")
        uid = "" if obj is None else str(obj["metadata"]["uid"])
        if uid:
            self._uids[fact.key] = uid
        if self._listed is not None:
            self._listed.pop(before, None)
            if obj is not None:
                self._listed[uid] = obj
            return
        if before != uid:
            self._observe(before, None, fact.revision)
        if obj is not None:
            self._observe(uid, obj, fact.revision)

    def _observe(self, uid: str, obj: Object | None, revision: int) -> None:
        pod = self.pods.get(uid)
        if pod is None:
            if obj is None:
                return
            pod = self._adopt(self._recover(obj, None))
            if not pod.recovered and not pod.ending:
                self._admit(pod)
        life.observe(pod, obj, revision, ours=revision == self.reports[uid].seen)
        self._dirty[uid] = None

    def _recover(self, obj: Object, record: SandboxRecord | None) -> Pod:
        now, wall_s = self.world.now(), self.world.wall()
        return recover(obj, record, now=now, wall_s=wall_s, image_id=self.pulls.image_id)

    def _admit(self, pod: Pod) -> None:
        refusal = self.admission.admit(pod.uid, pod.spec)
        if why := self.pressure.refuses(pod.spec, self.world.now()):
            self.admission.release(pod.uid)
            refusal = Verdict(pressure.EVICTED, why)
        if refusal is not None:
            life.fail(pod, refusal.reason, f"Pod was rejected: {refusal.message}")
            self._tell(pod, act.Tell("Warning", refusal.reason, refusal.message))

    def _adopt(self, pod: Pod) -> Pod:
        self.pods[pod.uid], self.reports[pod.uid] = pod, Report()
        if pod.ip and pod.sandbox == "ready":
            self.addresses.claim(pod.uid, pod.ip)
        return pod

    def _take_list(self) -> None:
        """Compare the list with what is known and with what the runtime has."""
        listed, self._listed = self._listed or {}, None
        sandboxes = {record.pod_uid: record for record in self.runtime.sandboxes()}
        for uid, obj in listed.items():
            if uid not in self.pods:
                pod = self._adopt(self._recover(obj, sandboxes.get(uid)))
                if not pod.ending:
                    self.admission.count(uid, obj)
                if pod.recovered and pod.sandbox == "none" and not pod.ending:
                    text = "Pod sandbox changed, it will be killed and re-created."
                    self._tell(pod, act.Tell("Normal", "SandboxChanged", text))
            self._observe(uid, obj, int(obj["metadata"]["resourceVersion"]))
        for uid in [uid for uid in self.pods if uid not in listed]:
            self._observe(uid, None, 0)  # It went while nobody listened.
        for uid, record in sandboxes.items():
            if uid not in self.pods:
                self._adopt(orphan(record))
                self._dirty[uid] = None
        self._ready = True

    def _on_exit(self, exit: Exited) -> None:
        """Hear from the runtime, at any time, that a process ended."""
        told = [exit.pod_uid, exit.container, exit.attempt, exit.code]
        self.note(Note.of("exited", [*told, exit.reason, exit.message, self.world.wall()]))

    def _answered(self, outcome: Outcome, now: float) -> None:
        kind, _, uid = outcome.tag.partition("/")
        if kind == TAG:
            if self.volumes.answered(uid, outcome):
                self.run(self.work.wipe(uid, "", after_s=AGAIN_S), f"tell of {uid}")
        elif kind == tokens.TAG:
            if (uid := self.references.tokens.answered(uid, outcome)) in self.pods:
                self._retry(uid)
        elif kind != "pod":
            self.registration.answered(outcome, now)
            for reason in EVENTS if outcome.tag == "node" and outcome.code == 201 else ():
                message = f"Node {self.node.name} status is now: {reason}"
                self._tell_node(reason, message, because=self.registration.asked)
        elif uid in self.reports:
            written(self.reports[uid], outcome, now)
            self._dirty[uid] = None

    # One pod.

    def _sync(self, pod: Pod, now: float) -> None:
        """Bring one pod nearer to what it should be, and tell the API how it is."""
        wall_s = self.world.wall()
        for _ in range(ROUNDS_MAX):
            actions = life.advance(pod, now, wall_s)
            if not actions:
                break
            for action in actions:
                self._carry_out(pod, action, now)
        else:
            pod.wake(now)
        if pod.gone or (pod.ending and pod.idle):
            self.admission.release(pod.uid)
        if pod.gone and pod.sandbox == "removed":
            self._forget(pod)
            return
        report = self.reports[pod.uid]
        request = self.reporter.next_write(
            report, pod, revision=self._revision, now=now, wall_s=wall_s
        )
        if request is not None:
            self._ask(request)
        self._alarms.set(pod.uid, min(pod.wake_at, report.wake_at))

    def _forget(self, pod: Pod) -> None:
        del self.pods[pod.uid], self.reports[pod.uid]
        self._alarms.set(pod.uid, NEVER)
        self._missing.pop(pod.uid, None)
        self.addresses.free(pod.uid)
        self.pulls.forget(pod.uid)
        self.references.tokens.forget(pod.uid)

    def _carry_out(self, pod: Pod, action: act.Action, now: float) -> None:
        match action:
            case act.Tell():
                self._tell(pod, action)
            case act.StartSandbox():
                self._start_sandbox(pod, now)
            case act.Start():
                self._see_to_image(pod, action.container, now)
            case act.Stop():
                spec = pod.container_spec(action.container)
                stop = self.work.stop_container(
                    pod.uid, spec, action.attempt, grace_s=action.grace_s, hook=action.hook
                )
                self.run(stop, f"stop {pod.name}/{action.container}")
            case act.Probe():
                spec = pod.container_spec(action.container)
                probe = self.work.probe(pod.uid, spec, action.attempt, action.kind, pod.ip)
                self.run(probe, f"probe {pod.name}/{action.container}")
            case act.StopSandbox():
                self.addresses.free(pod.uid)
                self.run(self.work.stop_sandbox(pod.uid), f"stop {pod.name}")
            case act.RemoveSandbox():
                self.run(self.work.remove_sandbox(pod.uid), f"remove {pod.name}")
            case act.Forget():
                forget = self.work.forget(pod.uid, action.container, action.attempt)
                self.run(forget, f"forget {pod.name}/{action.container}")

    def _start_sandbox(self, pod: Pod, now: float) -> None:
        problem = self.runtime.unsupported(pod.spec)
        address = self.node.address if pod.spec["spec"].get("hostNetwork") else None
        if not problem and address is None:
            address = self.addresses.take(pod.uid)
        if problem or address is None:
            problem = problem or f"no addresses are left in {self.node.pod_cidr}"
            for event in life.sandbox_failed(pod, problem, now):
                self._carry_out(pod, event, now)
            return
        self._ask_tokens(pod)
        self.run(self.work.start_sandbox(sandbox_spec(pod, address)), f"sandbox {pod.name}")

    def _ask_tokens(self, pod: Pod) -> None:
        for request in self.references.tokens.wanted(pod, self.world.wall()):
            self._ask(request)

    def _see_to_image(self, pod: Pod, name: str, now: float) -> None:
        """Start a container whose image is there; have it pulled, or say why it will not be."""
        self._ask_tokens(pod)
        if pod.awaits_token:
            life.not_started(pod, name, "", "", now + CONFIG_RETRY_S)
            return
        spec = pod.container_spec(name)
        image, policy = spec.get("image", ""), spec.get("imagePullPolicy") or "IfNotPresent"
        decision = self.pulls.want(pulls.Waiter(pod.uid, name), image, policy, now)
        if isinstance(decision, pulls.Present):
            self._tell(pod, act.Tell("Normal", "Pulled", pulls.present_text(image), name))
            self._start_container(pod, name, decision.record, now)
        elif isinstance(decision, pulls.Refused):
            if decision.event is not None:
                self._tell(pod, act.Tell(*decision.event, name))
                self._tell(pod, act.Tell("Warning", "Failed", f"Error: {decision.reason}", name))
            life.not_started(pod, name, decision.reason, decision.message, decision.retry_at)
        else:
            self._tell(pod, act.Tell("Normal", "Pulling", f'Pulling image "{image}"', name))
            if decision.begin:
                self.run(self.work.pull(image), f"pull {image}")

    def _start_container(self, pod: Pod, name: str, image: ImageRecord, now: float) -> None:
        container = pod.containers[name]
        try:
            spec = container_spec(pod, name, container.next_attempt, self.references, self.host)
        except ConfigError as error:
            self._misconfigured(pod, name, "CreateContainerConfigError", str(error), now)
            self._tell(pod, act.Tell("Warning", "Failed", f"Error: {error}", name))
            return
        except MountError as error:
            self._misconfigured(pod, name, "", "", now)
            self._tell(pod, act.Tell("Warning", "FailedMount", str(error)))
            return
        life.image_ready(pod, name)
        start = self.work.start_container(
            spec, pulls.image_id(spec.image, image), pod.container_spec(name)
        )
        self.run(start, f"start {pod.name}/{name}")

    def _misconfigured(self, pod: Pod, name: str, reason: str, message: str, now: float) -> None:
        life.not_started(pod, name, reason, message, now + CONFIG_RETRY_S)
        self._missing[pod.uid] = references.named_by(pod.spec)

    # What the work brought.

    def _noted(self, note: Note, now: float) -> None:
        content = note.content()
        if note.topic == "pulled":
            self._pulled(content, now)
        elif note.topic == "collected":
            self._collected(content, now)
        elif note.topic == "wiped":
            if request := self.volumes.wiped(content):
                self._ask(request)
        elif note.topic == "usage":
            self.pressure.usage = Usage(*content)
        elif content[0] in self.pods:
            pod = self.pods[content[0]]
            for event in self._fold_note(pod, note.topic, content, now):
                self._carry_out(pod, event, now)
            self._dirty[pod.uid] = None

    def _fold_note(
        self, pod: Pod, topic: str, content: list[Any], now: float
    ) -> Sequence[act.Action]:
        """Tell the life of a pod what happened; return what follows from it at once."""
        if topic == "stopped":
            self._stopped(pod, content[1], content[2], now)
        if topic == "removed" and not content[1]:
            self.addresses.free(pod.uid)
        return notes.fold(pod, topic, content, now)

    def _stopped(self, pod: Pod, name: str, attempt: int, now: float) -> None:
        """See to it that a container the runtime no longer has does not count as running."""
        lost = lost_run(self.runtime.sandboxes(), pod.uid, name, attempt, self.world.wall)
        if lost is not None:
            life.exited(pod, name, lost, now)

    # Images.

    def _pulled(self, content: list[Any], now: float) -> None:
        image, seconds, found, reason, message = content
        if found is None:
            waiters = self.pulls.failed(image, reason, message, now)
        else:
            record = ImageRecord(found[0], tuple(found[1]), found[2])
            waiters = self.pulls.pulled(image, record, now)
            self.registration.images(self.runtime.images())
        for waiter, since in waiters.items():
            pod = self.pods.get(waiter.pod_uid)
            if pod is None or pod.containers[waiter.container].stage != "pulling":
                continue
            self._dirty[pod.uid] = None
            if found is None:
                self._not_pulled(pod, waiter.container, image, reason, message, now)
                continue
            text = pulls.pulled_text(image, seconds, now - since, record.size_bytes)
            self._tell(pod, act.Tell("Normal", "Pulled", text, waiter.container))
            self._start_container(pod, waiter.container, record, now)

    def _not_pulled(
        self, pod: Pod, name: str, image: str, reason: str, message: str, now: float
    ) -> None:
        for text in (f'Failed to pull image "{image}": {message}', f"Error: {reason}"):
            self._tell(pod, act.Tell("Warning", "Failed", text, name))
        life.not_started(pod, name, reason, message, now + pulls.BACKOFF_SHOWN_S)

    def _collect_images(self, now: float) -> None:
        problem, digests = self.images.collect(self.runtime.images(), self.pods.values(), now)
        if problem:
            self._tell_node("FreeDiskSpaceFailed", problem, type_="Warning")
        if digests:
            self.run(self.work.remove_images(digests), "collect images")

    def _collected(self, problems: list[str], now: float) -> None:
        for problem in problems:
            self._tell_node("ImageGCFailed", problem, type_="Warning")
        self.images.look(self.runtime.images(), now)

    # Pressure.

    def _on_usage(self, usage: Usage) -> None:
        """Hear from the runtime, at any time, that something else is used of the node."""
        self.note(Note.of("usage", [dict(usage.others), dict(usage.pods)]))

    def _relieve(self, now: float) -> None:
        """Have the Node tell what is short; evict a pod, if it is time for that."""
        if self.pressure.quiet:
            return
        alive = [(uid, pod.spec) for uid, pod in self.pods.items() if not pod.ending]
        relief = self.pressure.turn(alive, now)
        for reason, message, type_ in relief.events:
            self._tell_node(reason, message, type_=type_)
        self.registration.press(relief.conditions)
        if relief.victim:
            pod = self.pods[relief.victim]
            pod.grace_s = pressure.GRACE_S
            life.fail(pod, pressure.EVICTED, relief.why)
            self._tell(pod, act.Tell("Warning", pressure.EVICTED, relief.why))
            self._sync(pod, now)

    # Timers, requests, events.

    def _set_timer(self, now: float) -> None:
        at = min(self.registration.next_at, self.images.collect_at, self._alarms.next())
        at = min(at, self.pressure.next_at(now))
        if at != self._timer_at or at <= now:
            self._timer_at = at
            self.wake_in(at - now + LATE_S)

    def _ask(self, request: Request) -> None:
        """Send a request whose outcome is to come back to this actor."""
        self.send(API_SERVER, self._signer.sign(request, request.because, tag=request.tag).encode())

    def _tell(self, pod: Pod, event: act.Tell) -> None:
        request = self._events.of_pod(pod, event, wall_s=self.world.wall())
        self.send(API_SERVER, self._signer.sign(request, pod.because).encode())

    def _tell_node(
        self, reason: str, message: str, *, type_: str = "Normal", because: int = 0
    ) -> None:
        request = self._events.of_node(reason, message, wall_s=self.world.wall(), type_=type_)
        self.send(API_SERVER, self._signer.sign(request, because).encode())
