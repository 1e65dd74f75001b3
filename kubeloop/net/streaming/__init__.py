"""Streams into containers: what `kubectl exec`, `attach` and `port-forward` speak.

`spdy`, `channels` and `http1` are pure; `ducts` carries their bytes, `commands` and `forwarding`
join them to what a container reads and writes.
"""
