"""What each kind of actor is made with, to be put on a tape and had from it again. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, cast

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.api_server import ApiServer, Subscriptions
from kubeloop.actors.controller_manager import ControllerManager
from kubeloop.actors.controller_manager import Settings as ControllerSettings
from kubeloop.actors.kube_proxy import KubeProxy
from kubeloop.actors.kubelet import Kubelet, NodeConfig
from kubeloop.actors.messages import Subscribe, decode
from kubeloop.actors.probes import Prober
from kubeloop.actors.requests.state import Settings
from kubeloop.actors.runtimes.protocol import Runtime
from kubeloop.actors.scheduler import Scheduler
from kubeloop.actors.tapes.seams import TapedDataPath, Tell, ToldRuntime
from kubeloop.store import tree
from kubeloop.store.history import History, leases_of
from kubeloop.store.store import Store


def setup_of(actor: AsyncActor) -> tuple[str, dict[str, Any]]:
    """Return the kind of an actor, and what it was made with. Raises: TypeError."""
    match actor:
        case ApiServer():
            return "apiserver", _of_api_server(actor)
        case ControllerManager():
            return "controller-manager", {"settings": asdict(actor.settings)}
        case Scheduler():
            return "scheduler", {}
        case Kubelet():
            node = {field: getattr(actor.node, field) for field in NodeConfig.__slots__}
            mappings = ("capacity", "labels", "eviction_hard")
            node |= {field: dict(node[field]) for field in mappings}
            return "kubelet", {"node": node, "runtime": actor.runtime.name}
        case KubeProxy():
            return "kube-proxy", {"node": actor.node}
    raise TypeError(f"{type(actor).__name__} cannot be recorded")


def make(
    kind: str,
    setup: Mapping[str, Any],
    scene: Scene,
    name: str,
    tell: Tell,
    said: Callable[[str, bytes], None],
) -> AsyncActor:
    """Return an actor made as one was. Raises: KeyError, TypeError, ValueError if it cannot be."""
    match kind:
        case "apiserver":
            return _api_server(setup, scene, name)
        case "controller-manager":
            return ControllerManager(scene, name, settings=ControllerSettings(**setup["settings"]))
        case "scheduler":
            return Scheduler(scene, name)
        case "kubelet":
            runtime = cast("Runtime", ToldRuntime(setup["runtime"], tell))
            node = NodeConfig(**setup["node"])
            return Kubelet(scene, name, node=node, runtime=runtime, prober=cast("Prober", runtime))
        case "kube-proxy":
            return KubeProxy(scene, name, node=setup["node"], data_path=TapedDataPath(said, None))
    raise ValueError(f"no actor is a {kind!r}")


def _of_api_server(actor: ApiServer) -> dict[str, Any]:
    """Return its settings, who watches what, and all that the store holds: no older revisions."""
    version = actor.store.history.version()
    wishes = [wish.encode() for wish in actor.subscriptions.by_name.values()]
    return {
        "settings": asdict(actor.settings),
        "subscriptions": wishes,
        "revision": version.revision,
        "items": list(tree.items(version.tree)),
        "leases": list(leases_of(version)),
    }


def _api_server(setup: Mapping[str, Any], scene: Scene, name: str) -> ApiServer:
    settings = Settings(
        **{**setup["settings"], "node_ports": tuple(setup["settings"]["node_ports"])}
    )
    history = History.restored(
        setup["revision"],
        [(key, value, revision) for key, value, revision in setup["items"]],
        [(key, revision, expires) for key, revision, expires in setup["leases"]],
    )
    wishes = [decode(wish) for wish in setup["subscriptions"]]
    by_name = {wish.sender: wish for wish in wishes if isinstance(wish, Subscribe)}
    store, watched = Store(history), Subscriptions(by_name)
    return ApiServer(scene, name, store=store, subscriptions=watched, settings=settings)
