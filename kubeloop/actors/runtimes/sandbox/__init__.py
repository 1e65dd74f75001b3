"""What runs in the pod: a zygote per node, and per pod an init process, which it forks.

This package is a program of its own. It runs as `python -I -S` without kubeloop, its dependencies
or even site-packages, because every pod carries one of its processes: a start must cost
milliseconds and a copy of it a megabyte. So nothing in here imports anything outside but the
standard library, and modules name each other relatively.

    runtime (asyncio) ──► zygote ──fork──► init of pod A (pid 1 in its namespaces) ──► containers
           │                      ──fork──► init of pod B
           └─────── one framed Unix socket to each of them: messages and open files (`wire`)

Who dies takes his children along: an init is killed when the zygote dies, the zygote when the
runtime dies (PR_SET_PDEATHSIG, and the end of file on their sockets), and the kernel kills
everything in a pid namespace whose init died. So nothing outlives a kill -9 of the runtime.
"""
