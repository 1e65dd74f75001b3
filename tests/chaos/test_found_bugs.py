"""Plans that chaos found bugs of ours with: nobody objects to them any more."""

from kubeloop.chaos import ActorDown, ActorFreezes, Deploy, Plan, play


def test_bindings_that_wait_in_front_of_a_list_take_room() -> None:
    """The API server listed the pods as they were before bindings that it did next."""
    frozen = ActorFreezes(for_s=0.001)
    down = ActorDown(at_s=0.001, actor="apiserver")
    play(
        Plan(
            seed=162, policy="fifo", nodes=1, happenings=(frozen, Deploy(replicas=3, cpu="3"), down)
        )
    )
