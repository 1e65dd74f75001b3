"""The userspace data path: a TCP and UDP load balancer on raw epoll, in pure Python.

`engine` carries the bytes, `sides` says what one end of a connection is, `pipes` moves long streams
within the kernel, `stashes` holds sockets made inside pods. It runs nested in an asyncio loop
(`nested`), or in processes of its own (`worker`, led by `workers`).
"""
