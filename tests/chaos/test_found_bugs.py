"""Plans that chaos found bugs of ours with: nobody objects to them any more."""

from kubeloop.chaos import ActorDown, ActorFreezes, Deploy, NodeClock, Plan, play


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
