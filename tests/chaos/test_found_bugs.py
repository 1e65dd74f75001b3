"""Plans that chaos found bugs of ours with: nobody objects to them any more."""

from kubeloop.chaos import (
    ActorDown,
    ActorFreezes,
    ActorSlow,
    ClusterDies,
    Deploy,
    DiskFails,
    DiskSlow,
    NodeClock,
    NodeCut,
    Plan,
    play,
)


def test_bindings_that_wait_in_front_of_a_list_take_room() -> None:
    """The API server listed the pods as they were before bindings that it did next."""
    frozen = ActorFreezes(for_s=0.001)
    down = ActorDown(at_s=0.001, actor="apiserver")
    play(
        Plan(
            seed=162, policy="fifo", nodes=1, happenings=(frozen, Deploy(replicas=3, cpu="3"), down)
        )
    )


def test_a_node_that_signs_with_the_time_of_an_earlier_sign_is_alive() -> None:
    """Its clock stood still, and was set back: what it wrote was taken for what it had written."""
    clock = NodeClock(at_s=0.934, for_s=56.542, node=2, ahead_s=60.0, rate=0.0)
    play(Plan(seed=358, nodes=2, happenings=(Deploy(replicas=4), clock)))


def test_a_slow_turn_that_comes_to_an_actor_after_its_freeze_is_not_lost() -> None:
    """It was held back by a fault that was over: the API server never had a turn again."""
    slow = ActorSlow(at_s=2.6, for_s=48.6, actor="apiserver", delay_s=7.327)
    freeze = ActorFreezes(at_s=3.567, for_s=11.397, actor="apiserver")
    play(Plan(seed=391, policy="pct", nodes=1, happenings=(slow, Deploy(at_s=3.43), freeze)))


def test_a_link_that_heals_when_the_cluster_is_dead_has_nobody_to_ask() -> None:
    """There was no API server to ask for a list: the healing failed."""
    cut = NodeCut(at_s=0.5, for_s=5.0, node=1, how="severed")
    dies = ClusterDies(at_s=1.0, for_s=60.0)
    play(Plan(seed=1985, nodes=2, durable=True, happenings=(cut, dies, Deploy(at_s=2.0))))


def test_a_slow_disk_that_fails_is_told_of_later_and_the_cluster_begins_again() -> None:
    """The disk was well before the store knew that it had failed: nobody opened it again."""
    slow = DiskSlow(at_s=0.0, for_s=60.0, delay_s=4.9)
    fails = DiskFails(at_s=4.0, for_s=3.0)
    play(Plan(seed=2761, nodes=2, durable=True, happenings=(slow, Deploy(at_s=1.0), fails)))
